// Copying to the clipboard, with feedback.
import { icon } from "./dom.js";
import { announce } from "./announce.js";
import { say } from "./words.js";

const SHOWN_MS = 1600;

/** Copy a text to the clipboard; the pressed button shows a tick for a moment. */
export async function copyText(text, button) {
  try {
    await write(text);
  } catch {
    announce(say("copy_failed"));
    return;
  }
  announce(say("copied"));
  button.replaceChildren(icon("tick"));
  setTimeout(() => button.replaceChildren(icon("copy")), SHOWN_MS);
}

/** Browsers allow the clipboard API only over HTTPS and on localhost; the older way works elsewhere too. */
async function write(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const listener = (event) => {
    event.preventDefault();
    event.clipboardData.setData("text/plain", text);
  };
  document.addEventListener("copy", listener, { once: true });
  const isDone = document.execCommand("copy");
  document.removeEventListener("copy", listener);
  if (!isDone) throw new Error("copying was refused");
}
