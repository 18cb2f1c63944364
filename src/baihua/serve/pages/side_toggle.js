// The list of conversations beside the page, or over it where the window is narrow.
const isNarrow = window.matchMedia("(max-width: 760px)");

export class SideToggle {
  constructor(button, veil) {
    this.button = button;
    button.addEventListener("click", () => this.toggle());
    veil.addEventListener("click", () => this.hide());
    isNarrow.addEventListener("change", () => this.set(!isNarrow.matches));
    this.set(!isNarrow.matches);
  }

  /** Whether it lies over the page now. */
  isOver() {
    return isNarrow.matches && this.isShown;
  }

  toggle() {
    this.set(!this.isShown);
  }

  hide() {
    this.set(false);
  }

  /** Show it, and put the focus on an element of it. */
  show(element) {
    this.set(true);
    element.focus();
  }

  /** Something in it was chosen; where it covers the page it goes. */
  leave() {
    if (this.isOver()) this.hide();
  }

  set(isShown) {
    this.isShown = isShown;
    document.body.classList.toggle("no-side", !isShown);
    this.button.setAttribute("aria-expanded", String(isShown));
  }
}
