// The turns of a battle: each question with two columns of answers.
import { copyText } from "./copy.js";
import { iconButton, languageOf, make } from "./dom.js";
import { LiveText } from "./live.js";
import { say } from "./words.js";

const SIDES = ["a", "b"];
const ENDS = { length: "arena_cut", stopped: "arena_stopped" };

export class Rounds {
  /** `onGrow` is called after each drawing. */
  constructor(root, onGrow) {
    this.root = root;
    this.onGrow = onGrow;
  }

  /** Draw a battle. */
  show(battle) {
    this.cells = [];
    this.root.replaceChildren(...battle.turns.map((turn, i) => this.drawTurn(battle, turn, i)));
  }

  /** Draw the new text of the last turn. */
  update(battle) {
    const turn = battle.turns.at(-1);
    for (const [i, side] of SIDES.entries()) {
      const { live, cell, foot } = this.cells.at(i - SIDES.length);
      const isRunning = turn[side].finish === null;
      if (isRunning) live.update(turn[side].text);
      else if (cell.classList.contains("running")) live.finish(turn[side].text);
      cell.classList.toggle("running", isRunning);
      if (!isRunning && foot.childElementCount === 0) foot.append(...drawFoot(turn[side], side));
    }
  }

  drawTurn(battle, turn, i) {
    const question = make("p", { class: "bubble", lang: languageOf(turn.question) }, turn.question);
    const cells = SIDES.map((side) => this.drawCell(battle, turn[side], side));
    return make(
      "section",
      { class: "round", "aria-label": say("question_of", { i: i + 1, n: battle.turns.length }) },
      question,
      make("div", { class: "columns" }, ...cells),
    );
  }

  drawCell(battle, answer, side) {
    const letter = side.toUpperCase();
    const isRunning = answer.finish === null;
    const name = battle.names
      ? make("span", { class: "name" }, battle.names[side])
      : make("span", { class: "hidden-text" }, say("side", { side: letter }));
    const head = make(
      "header",
      { class: "row" },
      make("span", { class: "letter", "aria-hidden": battle.names ? null : "true" }, letter),
      name,
    );
    const text = make("div", { class: "text" });
    const foot = make("footer", {}, ...(isRunning ? [] : drawFoot(answer, side)));
    const isChosen = battle.voted === side;
    const cell = make(
      "article",
      {
        class: `cell${isRunning ? " running" : ""}${isChosen ? " chosen" : ""}`,
        "aria-label": say("side", { side: letter }),
      },
      head,
      text,
      foot,
    );
    const live = new LiveText(text);
    live.finish(answer.text);
    live.onDraw = this.onGrow;
    this.cells.push({ live, cell, foot });
    return cell;
  }
}

function drawFoot({ text, finish, error }, side) {
  if (error !== null)
    return [make("p", { class: "problem" }, say("side_failed", { side: side.toUpperCase(), message: error }))];
  const copy = iconButton("copy", "copy", () => copyText(text, copy));
  const end = ENDS[finish] ? make("span", { class: "quiet" }, say(ENDS[finish])) : null;
  return [make("div", { class: "row" }, text ? copy : null, end)];
}
