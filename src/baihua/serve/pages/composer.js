// The question box.
import { fitHeight, icon, isComposing } from "./dom.js";
import { say } from "./words.js";

// On touch keyboards the Enter key is too easy to hit; there it starts a new line and the button sends.
const isTouch = window.matchMedia("(hover: none) and (pointer: coarse)");

export class Composer {
  /** `onSend` gets the text; `onStop` stops the running answer. */
  constructor(form, { onSend, onStop }) {
    this.box = form.querySelector("textarea");
    this.button = form.querySelector("button");
    this.isRunning = false;
    const submit = () => (this.isRunning ? onStop() : this.send(onSend));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      submit();
    });
    this.box.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || isComposing(event) || isTouch.matches) return;
      event.preventDefault();
      if (!this.isRunning) submit();
    });
    this.box.addEventListener("input", () => this.draw());
    this.draw();
  }

  get text() {
    return this.box.value;
  }

  set text(text) {
    this.box.value = text;
    this.draw();
  }

  focus() {
    // On a phone the keyboard would cover half of the answer.
    if (!isTouch.matches) this.box.focus();
  }

  /** Show the stop button while an answer runs, otherwise the send button. */
  setRunning(isRunning) {
    this.isRunning = isRunning;
    this.draw();
  }

  send(onSend) {
    const text = this.text.trim();
    if (!text) return;
    this.text = "";
    onSend(text);
  }

  draw() {
    fitHeight(this.box);
    const word = this.isRunning ? "stop" : "send";
    this.button.disabled = !this.isRunning && !this.text.trim();
    if (this.button.dataset.shown === word + document.documentElement.lang) return;
    this.button.dataset.shown = word + document.documentElement.lang;
    this.button.replaceChildren(icon(word));
    this.button.title = say(word);
    this.button.setAttribute("aria-label", say(word));
  }
}
