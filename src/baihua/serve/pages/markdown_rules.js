// Three rules of our own for markdown-it: emphasis beside Chinese marks, formulas as text, images as text.
import { say } from "./words.js";

const SCRIPTS = ["Han", "Hiragana", "Katakana", "Hangul", "Bopomofo"].map((name) => `\\p{Script=${name}}`).join("");
const CHINESE = new RegExp(`[${SCRIPTS}\\u3000-\\u303f\\uff01-\\uff60\\uffe0-\\uffe6]`, "u");
const MARK = /[\p{P}\p{S}]/u;
const OPENING = /[\p{Ps}\p{Pi}]/u;
const DOLLAR = 0x24;
const BACKSLASH = 0x5c;
const ENDS = { "(": "\\)", "[": "\\]" };

/**
 * Let `**“文字”**中文` be bold. CommonMark tells opening from closing marks by the blanks and the punctuation
 * around them; Chinese is written without blanks, so there `**` after a quotation mark opens something and never closes it.
 * Beside Chinese, a mark that punctuation keeps to one side may serve on both, and its partner decides. What cannot be
 * the other side stays: nothing bold ends after an opening bracket or begins with a comma.
 */
export function useChineseEmphasis(md) {
  const Plain = md.inline.State;
  md.inline.State = class extends Plain {
    scanDelims(start, canSplitWord) {
      const found = super.scanDelims(start, canSplitWord);
      const [before, after] = neighbours(this.src, start, start + found.length, this.posMax);
      // Underscores keep the rule of CommonMark: they are parts of names.
      if (!canSplitWord || /^\s?$/u.test(before) || /^\s?$/u.test(after) || !CHINESE.test(before + after)) return found;
      const mayClose = MARK.test(before) && !OPENING.test(before);
      const mayOpen = OPENING.test(after) || /["']/.test(after);
      return mayClose || mayOpen ? { ...found, can_open: true, can_close: true } : found;
    }
  };
}

/** Keep formulas as they are written: markdown would take their underscores and backslashes for its own. */
export function useMathAsText(md) {
  md.inline.ruler.before("escape", "math", (state, silent) => {
    const end = findMathEnd(state.src, state.pos, state.posMax);
    if (end === null) return false;
    if (!silent) state.push("math", "", 0).content = state.src.slice(state.pos, end);
    state.pos = end;
    return true;
  });
  md.renderer.rules.math = (tokens, i) => `<span class="math">${md.utils.escapeHtml(tokens[i].content)}</span>`;
}

/** Show images as their words and address: to load one would tell somebody else that it was read. */
export function useImagesAsText(md) {
  md.renderer.rules.image = (tokens, i, options, env) => {
    const alt = md.renderer.renderInlineAsText(tokens[i].children ?? [], options, env);
    const text = say("image", { alt, address: tokens[i].attrGet("src") ?? "" });
    return `<span class="image-text">${md.utils.escapeHtml(text)}</span>`;
  };
}

function neighbours(text, start, end, max) {
  const before = Array.from(text.slice(Math.max(0, start - 2), start)).at(-1) ?? "";
  const after = end < max ? String.fromCodePoint(text.codePointAt(end)) : "";
  return [before, after];
}

/** Where a formula that begins here ends, or null. A dollar opens none before a blank, closes none before a digit. */
function findMathEnd(text, start, max) {
  const first = text.charCodeAt(start);
  if (first === BACKSLASH) {
    const close = ENDS[text[start + 1]];
    const at = close ? text.indexOf(close, start + 2) : -1;
    return at >= 0 && at + 2 <= max ? at + 2 : null;
  }
  if (first !== DOLLAR) return null;
  if (text[start + 1] === "$") {
    const at = text.indexOf("$$", start + 2);
    return at > start + 2 && at + 2 <= max ? at + 2 : null;
  }
  const found = /^\$(?=\S)[^$\n]*[^\s$\\]\$(?!\d)/.exec(text.slice(start, max));
  return found ? start + found[0].length : null;
}
