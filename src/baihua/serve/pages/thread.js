// The messages of the open conversation.
import { copyText } from "./copy.js";
import { fitHeight, iconButton, isComposing, languageOf, make } from "./dom.js";
import { LiveText } from "./live.js";
import { problemBox } from "./problem.js";
import { count, say } from "./words.js";
import { asidesAt } from "./versions.js";

export class Thread {
  /** `actions`: edit(index, text), again(), goOn(), swap(aside), grown(). */
  constructor(root, actions) {
    this.root = root;
    this.actions = actions;
  }

  /** Draw a conversation. `look`: isRunning, numModels, contextLength. */
  show(conversation, look) {
    this.conversation = conversation;
    this.last = null;
    const drawn = conversation.messages.map((message, i) => this.drawTurn(message, i, look));
    this.root.replaceChildren(...drawn.flat());
    this.actions.grown();
  }

  /** Draw the new text of the last answer at the next frame; the rest is unchanged. */
  update(look) {
    const { message, live } = this.last;
    this.last.look = look;
    if (look.isRunning) live.update(message.content);
    else live.finish(message.content);
  }

  drawLast({ message, foot, turn, look }) {
    turn.setAttribute("aria-busy", String(look.isRunning));
    turn.classList.toggle("running", look.isRunning);
    foot.replaceChildren(...this.drawFoot(message, true, look));
    this.actions.grown();
  }

  /** Open the last question for editing. */
  editLast() {
    const at = this.conversation.messages.findLastIndex((message) => message.role === "user");
    if (at >= 0) this.edit(this.root.querySelector(`[data-at="${at}"]`), at);
  }

  drawTurn(message, at, look) {
    const turn = message.role === "user" ? this.drawQuestion(message, at) : this.drawAnswer(message, at, look);
    const asides = asidesAt(this.conversation, at);
    return asides.length > 0 ? [this.drawVersions(asides), turn] : [turn];
  }

  drawVersions(asides) {
    const swap = () => this.actions.swap(asides[0]);
    const button = make("button", { type: "button", class: "plain", on: { click: swap } }, say("swap"));
    return make("div", { class: "versions" }, make("span", {}, say("versions", { n: asides.length })), button);
  }

  drawQuestion({ content }, at) {
    const bubble = make("div", { class: "bubble", lang: languageOf(content) }, content);
    const copy = iconButton("copy", "copy", () => copyText(content, copy));
    const edit = iconButton("pencil", "edit", () => this.edit(turn, at));
    const turn = make(
      "article",
      { class: "turn question", "aria-label": say("you"), data: { at } },
      bubble,
      make("div", { class: "actions" }, copy, edit),
    );
    return turn;
  }

  drawAnswer(message, at, look) {
    const isLast = at === this.conversation.messages.length - 1;
    const isRunning = isLast && look.isRunning;
    const text = make("div", { class: "text" });
    const foot = make("div", { class: "foot" });
    const name = look.numModels > 1 ? make("p", { class: "model-name" }, message.model) : null;
    const label = say("answer_of", { model: message.model });
    const turn = make(
      "article",
      { class: isRunning ? "turn answer running" : "turn answer", "aria-label": label, "aria-busy": String(isRunning) },
      name,
      text,
      foot,
    );
    const live = new LiveText(text);
    live.finish(message.content);
    foot.append(...this.drawFoot(message, isLast, look));
    if (isLast) {
      const last = { message, live, foot, turn, look };
      live.onDraw = () => this.drawLast(last);
      this.last = last;
    }
    return turn;
  }

  /** The line below an answer: how it ended, its figures, and its actions. */
  drawFoot(message, isLast, look) {
    if (isLast && look.isRunning)
      return [drawMeta([say(message.content ? "answering" : "thinking"), ...speeds(message)])];
    const parts = [];
    const again = () => this.actions.again();
    if (message.error) parts.push(problemBox(message.error, isLast ? again : null));
    if (message.finish === "length") parts.push(this.drawCut(isLast));
    if (!message.content && message.finish === "stop") parts.push(make("p", { class: "quiet" }, say("empty_answer")));
    const ends = { stopped: say("stopped"), left: say("left") };
    const end = ends[message.finish ?? "left"] ?? null;
    const copy = iconButton("copy", "copy", () => copyText(message.content, copy));
    const buttons = [message.content ? copy : null, isLast ? iconButton("again", "regenerate", again) : null];
    const numbers = [end, ...speeds(message), ...context(message, look)].filter((one) => one !== null);
    parts.push(make("div", { class: "row" }, make("div", { class: "actions" }, ...buttons), drawMeta(numbers)));
    return parts;
  }

  drawCut(isLast) {
    const button = make(
      "button",
      { type: "button", class: "plain", on: { click: () => this.actions.goOn() } },
      say("go_on"),
    );
    return make("div", { class: "hint" }, make("span", {}, say("cut")), isLast ? button : null);
  }

  /** Turn a question into a text box; Escape cancels. */
  edit(turn, at) {
    const { content } = this.conversation.messages[at];
    const box = make("textarea", { class: "edit-box", rows: 1, "aria-label": say("edit"), lang: languageOf(content) });
    box.value = content;
    const cancel = () => turn.replaceWith(this.drawQuestion({ content }, at));
    const send = () => box.value.trim() && this.actions.edit(at, box.value.trim());
    box.addEventListener("input", () => fitHeight(box));
    box.addEventListener("keydown", (event) => {
      if (isComposing(event)) return;
      if (event.key === "Escape") cancel();
      else if (event.key === "Enter" && !event.shiftKey) send();
      else return;
      event.preventDefault();
      event.stopPropagation(); // Escape would also stop an answer
    });
    const buttons = make(
      "div",
      { class: "row end" },
      make("button", { type: "button", class: "plain", on: { click: cancel } }, say("cancel")),
      make("button", { type: "button", class: "primary", on: { click: send } }, say("edit_send")),
    );
    turn.classList.add("editing");
    turn.replaceChildren(box, buttons);
    fitHeight(box);
    box.focus();
    box.setSelectionRange(content.length, content.length);
  }
}

function speeds({ content, seconds, usage }) {
  const num = Array.from(content).length;
  // The rate of a single chunk is meaningless.
  const rate = (n) => (seconds > 0.05 ? count(n / seconds, n / seconds < 10 ? 1 : 0) : null);
  const tokens = usage?.completion_tokens;
  const [tokenRate, charRate] = [tokens ? rate(tokens) : null, rate(num)];
  return [
    num > 0 ? say("chars", { n: count(num) }) : null,
    charRate && say("chars_speed", { n: charRate }),
    tokens ? say("tokens", { n: count(tokens) }) : null,
    tokenRate && say("tokens_speed", { n: tokenRate }),
  ].filter((one) => one !== null);
}

function context({ usage }, { contextLength }) {
  if (!usage || !contextLength) return [];
  return [say("context", { used: count(usage.total_tokens), all: count(contextLength) })];
}

/** Facts in a row; the stylesheet separates them by dots and breaks lines only there. */
function drawMeta(facts) {
  return make("p", { class: "meta" }, ...facts.flatMap((fact) => [make("span", {}, fact), " "]));
}
