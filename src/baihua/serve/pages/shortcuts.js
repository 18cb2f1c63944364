// Keyboard shortcuts, and the table that lists them.
import { iconButton, isComposing, make } from "./dom.js";
import { say } from "./words.js";

const FIELDS = "input, textarea, select, [contenteditable]";

/**
 * Listen for `keys`: each `{code | key, alt, run, isEverywhere}`. A key without Alt works only outside of input fields,
 * unless `isEverywhere`. None works while a dialog is open or an input method is composing.
 */
export function useShortcuts(keys) {
  document.addEventListener("keydown", (event) => {
    if (isComposing(event) || event.ctrlKey || event.metaKey || document.querySelector("dialog[open]")) return;
    const isWriting = event.target.closest?.(FIELDS) !== null;
    const found = keys.find((one) => {
      const isKey = one.code ? event.code === one.code : event.key === one.key;
      return isKey && event.altKey === Boolean(one.alt) && (one.alt || one.isEverywhere || !isWriting);
    });
    if (!found) return;
    event.preventDefault();
    found.run();
  });
}

/** Show the table of shortcuts: rows of `[keys, word]`; keys pressed together are joined by "+". */
export function showShortcuts(rows) {
  const close = () => dialog.close();
  const list = rows.map(([keys, word]) =>
    make("tr", {}, make("td", {}, ...keys.map(drawKeys)), make("td", {}, say(word))),
  );
  const head = make(
    "div",
    { class: "row" },
    make("h2", { class: "grow", id: "keys-title" }, say("shortcuts")),
    iconButton("cross", "close", close),
  );
  const dialog = make(
    "dialog",
    { class: "small-dialog", "aria-labelledby": "keys-title" },
    head,
    make("table", { class: "keys" }, make("tbody", {}, ...list)),
  );
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

function drawKeys(keys) {
  return make("span", { class: "key-group" }, ...keys.split("+").map((key) => make("kbd", {}, key)));
}
