// Announcements for screen readers: the beginning and the end of an answer, nothing in between.
import { make } from "./dom.js";

const LONGEST = 600;

/** Announce a text politely; a long one is shortened. */
export function announce(text) {
  const region = document.querySelector(".announcer") ?? addRegion();
  // The same text twice is not a change and would not be announced.
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
