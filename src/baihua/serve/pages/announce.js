// What a screen reader is told: when an answer begins and when it is there, nothing between.
import { make } from "./dom.js";

const LONGEST = 600;

/** Read a text out, politely; a long one only as far as a listener wants it without asking. */
export function announce(text) {
  const region = document.querySelector(".announcer") ?? addRegion();
  // The same text twice is no change and would stay unread.
  region.textContent = "";
  setTimeout(() => {
    region.textContent = text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
  }, 50);
}

function addRegion() {
  const region = make("div", { class: "announcer hidden-text", role: "status", "aria-live": "polite" });
  document.body.append(region);
  return region;
}
