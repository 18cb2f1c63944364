// The box that explains why an answer failed.
import { explain } from "./api.js";
import { make } from "./dom.js";
import { say } from "./words.js";

/** The box; `problem` is `{status, code, message, retryAt}`, `onRetry` repeats the request. */
export function problemBox(problem, onRetry) {
  const when = make("span", { class: "quiet" });
  const box = make(
    "div",
    { class: "problem", role: "alert" },
    make("p", {}, explain(problem), " ", when),
    onRetry ? make("button", { type: "button", class: "plain", on: { click: onRetry } }, say("retry")) : null,
  );
  if (problem.retryAt) count(when, problem.retryAt);
  return box;
}

/** Count the seconds down while the box is shown; screen readers do not announce each second. */
function count(place, until) {
  place.setAttribute("aria-live", "off");
  const tick = () => {
    const seconds = Math.ceil((until - Date.now()) / 1000);
    place.textContent = seconds > 0 ? say("in_seconds", { n: seconds }) : say("now");
    if (seconds > 0) setTimeout(() => place.isConnected && tick(), 1000);
  };
  tick();
}
