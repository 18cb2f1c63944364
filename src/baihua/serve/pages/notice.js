// A one-line notice above the question box, with an optional action.
import { iconButton, make } from "./dom.js";

const SHOWN_MS = 12_000;

export class Notice {
  constructor(root) {
    this.root = root;
    this.timer = null;
  }

  /** Show a text, with a button if `action` is `{word, run}`; `isLasting` keeps it until it is closed. */
  show(text, { action = null, isLasting = false } = {}) {
    clearTimeout(this.timer);
    const run = () => {
      this.hide();
      action.run();
    };
    const button = action ? make("button", { type: "button", class: "plain", on: { click: run } }, action.word) : null;
    const close = iconButton("cross", "close", () => this.hide());
    this.root.replaceChildren(make("span", { class: "grow" }, text), ...(button ? [button] : []), close);
    this.root.hidden = false;
    if (!isLasting) this.timer = setTimeout(() => this.hide(), SHOWN_MS);
  }

  hide() {
    clearTimeout(this.timer);
    this.root.hidden = true;
    this.root.replaceChildren();
  }
}
