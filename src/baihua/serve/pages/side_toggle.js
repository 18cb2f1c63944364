// Showing and hiding the conversation list: next to the page, or over it in a narrow window.
const isNarrow = window.matchMedia("(max-width: 760px)");

export class SideToggle {
  constructor(button, veil) {
    this.button = button;
    button.addEventListener("click", () => this.toggle());
    veil.addEventListener("click", () => this.hide());
    isNarrow.addEventListener("change", () => this.set(!isNarrow.matches));
    this.set(!isNarrow.matches);
  }

  /** Whether it covers the page. */
  isOver() {
    return isNarrow.matches && this.isShown;
  }

  toggle() {
    this.set(!this.isShown);
  }

  hide() {
    this.set(false);
  }

  /** Show it and focus one of its elements. */
  show(element) {
    this.set(true);
    element.focus();
  }

  /** Something in it was chosen: hide it if it covers the page. */
  leave() {
    if (this.isOver()) this.hide();
  }

  set(isShown) {
    this.isShown = isShown;
    document.body.classList.toggle("no-side", !isShown);
    this.button.setAttribute("aria-expanded", String(isShown));
  }
}
