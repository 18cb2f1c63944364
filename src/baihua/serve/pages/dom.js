// Building elements without HTML strings: text stays text and cannot turn into markup.
import { say } from "./words.js";

// A Chinese word has one or two characters, an English one about five letters.
const LATIN_PER_HAN = 5;
const SVG = "http://www.w3.org/2000/svg";

/** A new element. `on` holds listeners, `data` the data-* values; every other property is an attribute. */
export function make(tag, { on = {}, data = {}, ...attributes } = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false)
      element.setAttribute(name, value === true ? "" : value);
  }
  for (const [name, listener] of Object.entries(on)) element.addEventListener(name, listener);
  Object.assign(element.dataset, data);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** An icon from icons.svg. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `/pages/icons.svg#${name}`);
  svg.append(use);
  return svg;
}

/** A button with only an icon, named by an accessible label and a tooltip. */
export function iconButton(name, word, onClick, extra = {}) {
  const label = say(word);
  return make(
    "button",
    { type: "button", class: "icon-button", "aria-label": label, title: label, on: { click: onClick }, ...extra },
    icon(name),
  );
}

/** The element with this id; a missing one is a bug. */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found;
}

/** Whether a key press belongs to an input method that is composing; Safari reports this only in the key code. */
export function isComposing(event) {
  return event.isComposing || event.keyCode === 229;
}

/** Fit the height of a text box to its text; the stylesheet limits it. */
export function fitHeight(box) {
  box.style.height = "auto";
  box.style.height = `${box.scrollHeight}px`;
}

/** The language of a text, for choosing fonts: the same Han character looks different in Chinese and Japanese. */
export function languageOf(text) {
  if (/[\p{Script=Hiragana}\p{Script=Katakana}]/u.test(text)) return "ja";
  if (/\p{Script=Hangul}/u.test(text)) return "ko";
  // English that quotes a Chinese word stays English: Chinese fonts have full-width quotation marks.
  const [numHan, numOthers] = [/\p{Script=Han}/gu, /\p{Script=Latin}/gu].map((kind) => text.match(kind)?.length ?? 0);
  return numHan > 0 && numHan >= numOthers / LATIN_PER_HAN ? "zh-CN" : "";
}
