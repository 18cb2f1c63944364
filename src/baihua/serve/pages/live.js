// An answer that is still growing: finished blocks are drawn once, the last one again and again.
import { parseBlocks, renderBlock } from "./markdown.js";
import { languageOf } from "./dom.js";

export class LiveText {
  /** Draws into `root`, which it owns from now on. */
  constructor(root) {
    this.root = root;
    this.clear();
  }

  /** Show a text that begins as the one before; drawn at the next frame. */
  update(text) {
    this.text = text;
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.draw(withoutHalfRule(this.text));
    });
  }

  /** Draw at once, and for good. */
  finish(text) {
    if (this.frame !== null) cancelAnimationFrame(this.frame);
    this.frame = null;
    this.text = text;
    // An address may be defined below the link that uses it; then the blocks above it were drawn without.
    if (Object.keys(this.env.references ?? {}).length > 0) this.clear(text);
    this.draw();
  }

  /** What to do after each drawing; replaced by whoever keeps the end in view. */
  onDraw() {}

  clear(text = "") {
    this.text = text;
    this.numDone = 0; // characters of the text whose blocks are drawn for good
    this.env = {};
    this.frame = null;
    this.tail = null;
    this.root.replaceChildren();
  }

  draw(text = this.text) {
    const rest = text.slice(this.numDone);
    const blocks = parseBlocks(rest, this.env);
    const last = blocks.pop();
    if (blocks.length > 0) {
      this.tail?.remove();
      this.tail = null;
      for (const block of blocks) this.root.append(renderBlock(block, this.env));
    }
    if (last) {
      this.drawTail(last);
      this.numDone += offsetOfLine(rest, last.lines?.[0] ?? 0);
    }
    this.root.lang = languageOf(text);
    this.onDraw();
  }

  /** The unfinished block. Code only grows, so its frame stays: a reader may be about to press its button. */
  drawTail(block) {
    const code =
      block.kind === "fence" && this.tail?.dataset.info === block.tokens[0].info
        ? this.tail.querySelector("code")
        : null;
    if (code) {
      code.textContent = block.tokens[0].content;
      return;
    }
    const tail = document.createElement("div");
    tail.className = "tail";
    if (block.kind === "fence") tail.dataset.info = block.tokens[0].info;
    tail.append(renderBlock(block, this.env));
    if (this.tail) this.tail.replaceWith(tail);
    else this.root.append(tail);
    this.tail = tail;
  }
}

function offsetOfLine(text, line) {
  let offset = 0;
  for (let i = 0; i < line; i++) offset = text.indexOf("\n", offset) + 1;
  return offset;
}

/** A line of dashes may become a list; until more of it is there it would turn the line above into a heading. */
function withoutHalfRule(text) {
  return text.replace(/\n[-=]+[ \t]*$/, "");
}
