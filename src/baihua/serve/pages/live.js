// A growing answer: finished blocks are drawn once, the last one is redrawn.
import { parseBlocks, renderBlock } from "./markdown.js";
import { languageOf } from "./dom.js";

export class LiveText {
  /** Draws into `root`, which must not be changed by anything else. */
  constructor(root) {
    this.root = root;
    this.clear();
  }

  /** Show a text that extends the previous one; drawn at the next frame. */
  update(text) {
    this.text = text;
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.draw(withoutHalfRule(this.text));
    });
  }

  /** Draw the final text at once. */
  finish(text) {
    if (this.frame !== null) cancelAnimationFrame(this.frame);
    this.frame = null;
    this.text = text;
    // A link may be defined below its use; then the blocks above were drawn without it.
    if (Object.keys(this.env.references ?? {}).length > 0) this.clear(text);
    this.draw();
  }

  /** Called after each drawing; replaced by the code that keeps the end in view. */
  onDraw() {}

  clear(text = "") {
    this.text = text;
    this.numDone = 0; // characters of the text whose blocks are final
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

  /** The unfinished block. Code only grows, so its frame is kept: the reader may be about to press its button. */
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

/** A line of dashes may become a list; until then it would turn the line above into a heading. */
function withoutHalfRule(text) {
  return text.replace(/\n[-=]+[ \t]*$/, "");
}
