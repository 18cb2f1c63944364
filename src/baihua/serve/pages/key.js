// The form that asks for the server's API key.
import { make } from "./dom.js";
import { say } from "./words.js";

let asking = null;

/** The key that the reader enters, or null if they cancel. Concurrent callers share one form. */
export function askForKey(isWrong) {
  asking ??= open(isWrong).finally(() => {
    asking = null;
  });
  return asking;
}

function open(isWrong) {
  const input = make("input", {
    id: "key",
    type: "password",
    autocomplete: "off",
    required: true,
    spellcheck: "false",
  });
  const form = make(
    "form",
    { class: "stack" },
    make("h2", { id: "key-title" }, say("key_title")),
    make("p", { class: "quiet" }, say("key_text")),
    isWrong ? make("p", { class: "problem", role: "alert" }, say("key_wrong")) : null,
    make("label", { class: "field", for: "key" }, make("span", {}, say("key_label")), input),
    make("div", { class: "row end" }, make("button", { type: "submit", class: "primary" }, say("key_send"))),
  );
  const dialog = make("dialog", { class: "small-dialog", "aria-labelledby": "key-title" }, form);
  document.body.append(dialog);
  return new Promise((resolve) => {
    form.addEventListener("submit", (event) => {
      event.preventDefault(); // the Content-Security-Policy forbids form submission
      dialog.close(input.value.trim());
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue || null);
    });
    dialog.showModal();
    input.focus();
  });
}
