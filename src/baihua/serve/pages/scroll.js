// Keeps the end in view while the reader is at the end.
const NEAR_PX = 48;

export class Follower {
  /** Watches a scrolling box; the button jumps to its end. */
  constructor(box, button) {
    this.box = box;
    this.button = button;
    this.isAtEnd = true;
    box.addEventListener("scroll", () => this.look(), { passive: true });
    new ResizeObserver(() => this.grow()).observe(box);
    button.addEventListener("click", () => this.toEnd());
    this.look();
  }

  /** Call after content was added. */
  grow() {
    if (this.isAtEnd) this.box.scrollTop = this.box.scrollHeight;
    else this.look();
  }

  toEnd() {
    this.isAtEnd = true;
    this.box.scrollTop = this.box.scrollHeight;
    this.look();
  }

  look() {
    this.isAtEnd = this.box.scrollHeight - this.box.scrollTop - this.box.clientHeight < NEAR_PX;
    this.button.hidden = this.isAtEnd;
  }
}
