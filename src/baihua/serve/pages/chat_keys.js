// The shortcuts of the chat page.
import { byId, isComposing } from "./dom.js";
import { showShortcuts, useShortcuts } from "./shortcuts.js";

// As the table shows them: keys, and the text for what they do.
const KEYS = [
  [["Enter"], "keys_send"],
  [["Shift+Enter"], "keys_line"],
  [["Esc"], "keys_stop"],
  [["/"], "keys_box"],
  [["↑"], "keys_last"],
  [["Alt+N"], "keys_new"],
  [["Alt+R"], "keys_again"],
  [["Alt+K"], "keys_search"],
  [["Alt+S"], "keys_settings"],
  [["Alt+B"], "keys_sidebar"],
  [["?"], "keys_help"],
];

/** Listen for the shortcuts of the page. */
export function useChatKeys(page) {
  const help = () => showShortcuts(KEYS);
  byId("keys").addEventListener("click", help);
  page.composer.box.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowUp" || page.composer.text || isComposing(event)) return;
    event.preventDefault(); // otherwise the key would move the cursor in the box that opens
    page.thread.editLast();
  });
  useShortcuts([
    { key: "Escape", isEverywhere: true, run: () => (page.side.isOver() ? page.side.hide() : page.stop()) },
    { key: "/", run: () => page.composer.box.focus() },
    { key: "?", run: help },
    { code: "KeyN", alt: true, run: () => page.goTo("") },
    { code: "KeyR", alt: true, run: () => page.again() },
    { code: "KeyS", alt: true, run: () => page.openSettings() },
    { code: "KeyB", alt: true, run: () => page.side.toggle() },
    { code: "KeyK", alt: true, run: () => page.side.show(byId("search")) },
  ]);
}
