// One battle: the same questions to two models, and their answers.
import { ask, askJson } from "./api.js";
import { readEvents } from "./stream.js";

const SIDES = ["a", "b"];

export class Battle {
  constructor() {
    this.id = null;
    this.turns = []; // {question, a, b}; a side is {text, finish, error}
    this.names = null;
    this.voted = null;
    this.leaving = null;
  }

  get isRunning() {
    return this.leaving !== null;
  }

  /** Whether both have answered everything, or were stopped by the reader. */
  get canVote() {
    const isAnswered = (turn) => SIDES.every((side) => turn[side].text !== "" && turn[side].error === null);
    return !this.isRunning && this.turns.length > 0 && this.turns.every(isAnswered);
  }

  /** Whether a model failed; such a battle cannot be voted on. */
  get hasFailed() {
    return !this.isRunning && this.turns.length > 0 && !this.canVote;
  }

  /** Ask both; `onChange` is called whenever an answer grows. A question that reached no model is removed. */
  async ask(question, questionId, onChange) {
    const turn = { question, a: newSide(), b: newSide() };
    this.leaving = new AbortController();
    this.turns.push(turn);
    try {
      this.id ??= (await askJson("/arena/battles", { body: { question_id: questionId } })).battle;
      const response = await ask(this.path("ask"), { body: { text: question }, signal: this.leaving.signal });
      for await (const event of readEvents(response)) {
        take(turn, event);
        onChange();
      }
    } catch (error) {
      if (error.name !== "AbortError") {
        if (!turn.a.text && !turn.b.text) this.turns.pop();
        throw error;
      }
    } finally {
      for (const side of SIDES) turn[side].finish ??= "stopped";
      this.leaving = null;
    }
  }

  stop() {
    this.leaving?.abort();
  }

  /** Vote and learn the names; returns the number of all votes. */
  async vote(vote) {
    const { a, b, num_votes: numVotes } = await askJson(this.path("vote"), { body: { vote } });
    this.names = { a, b };
    this.voted = vote;
    return numVotes;
  }

  path(what) {
    return `/arena/battles/${encodeURIComponent(this.id)}/${what}`;
  }
}

function newSide() {
  return { text: "", finish: null, error: null };
}

function take(turn, event) {
  const side = turn[event.side];
  if (event.delta) side.text += event.delta;
  if (event.finish_reason) side.finish = event.finish_reason;
  if (event.error) {
    side.error = event.error;
    side.finish = "error";
  }
}
