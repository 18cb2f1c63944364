// The start screen of an empty conversation.
import { byId, make } from "./dom.js";
import { say } from "./words.js";

const TRIES = ["try_1", "try_2", "try_3"];

/** Show a greeting and example questions; `onTry` gets the one that is picked. */
export function drawHello(isShown, model, onTry) {
  byId("hello").hidden = !isShown;
  byId("hello-model").textContent = model ? say("hello_model", { model }) : "";
  const draw = (text) => make("button", { type: "button", class: "try", on: { click: () => onTry(text) } }, text);
  byId("tries").replaceChildren(...TRIES.map((word) => draw(say(word))));
}
