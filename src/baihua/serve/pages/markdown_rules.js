// Three additional rules for markdown-it: emphasis next to Chinese punctuation, formulas as text, images as text.
import { say } from "./words.js";

const SCRIPTS = ["Han", "Hiragana", "Katakana", "Hangul", "Bopomofo"].map((name) => `\\p{Script=${name}}`).join("");
const CHINESE = new RegExp(`[${SCRIPTS}\\u3000-\\u303f\\uff01-\\uff60\\uffe0-\\uffe6]`, "u");
const MARK = /[\p{P}\p{S}]/u;
const OPENING = /[\p{Ps}\p{Pi}]/u;
const DOLLAR = 0x24;
const BACKSLASH = 0x5c;
const ENDS = { "(": "\\)", "[": "\\]" };

/**
 * Make `**“文字”**中文` bold. CommonMark distinguishes opening from closing marks by the spaces and punctuation
 * around them; Chinese has no spaces, so there `**` after a quotation mark can only open emphasis, never close it.
 * Next to Chinese, a mark that punctuation limits to one side may serve as both, and its partner decides. Impossible
 * sides stay excluded: nothing bold ends after an opening bracket or begins with a comma.
 */
export function useChineseEmphasis(md) {
  const Plain = md.inline.State;
  md.inline.State = class extends Plain {
    scanDelims(start, canSplitWord) {
      const found = super.scanDelims(start, canSplitWord);
      const [before, after] = neighbours(this.src, start, start + found.length, this.posMax);
      // Underscores keep CommonMark's rule, because they occur in names.
      if (!canSplitWord || /^\s?$/u.test(before) || /^\s?$/u.test(after) || !CHINESE.test(before + after)) return found;
      const mayClose = MARK.test(before) && !OPENING.test(before);
      const mayOpen = OPENING.test(after) || /["']/.test(after);
      return mayClose || mayOpen ? { ...found, can_open: true, can_close: true } : found;
    }
  };
}

/** Keep formulas as written: Markdown would interpret their underscores and backslashes. */
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

/** Show images as their alternative text and address: loading one would reveal to its server that it was read. */
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

/** The end of a formula that begins here, or null. A dollar before a space opens none, before a digit closes none. */
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
