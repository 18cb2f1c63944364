// The arena page: two anonymous models, a vote, then their names.
import { announce } from "./announce.js";
import { explain, askJson, Problem } from "./api.js";
import { Battle } from "./battle.js";
import { Composer } from "./composer.js";
import { byId, make } from "./dom.js";
import { Notice } from "./notice.js";
import { followKeyboard, usePreferences } from "./preferences.js";
import { drawTable } from "./ranking.js";
import { Rounds } from "./rounds.js";
import { Follower } from "./scroll.js";
import { showShortcuts, useShortcuts } from "./shortcuts.js";
import { drawVerdict } from "./verdict.js";
import { count, say } from "./words.js";

const KEYS = [
  [["Enter"], "keys_send"],
  [["Shift+Enter"], "keys_line"],
  [["Esc"], "keys_stop"],
  [["1", "2", "3", "4"], "keys_votes"],
  [["A", "B", "T", "N"], "keys_votes"],
  [["→"], "keys_next"],
  [["R"], "keys_table"],
  [["/"], "keys_box"],
  [["?"], "keys_help"],
];
const REFRESH_MS = 10_000;
const VOTES = { 1: "a", 2: "b", 3: "tie", 4: "both_bad", a: "a", b: "b", t: "tie", n: "both_bad" };

class ArenaPage {
  constructor() {
    this.state = null; // the server's last response to GET /arena/state
    this.battle = new Battle();
    this.notice = new Notice(byId("notice"));
    this.follower = new Follower(byId("scroll"), byId("latest"));
    this.rounds = new Rounds(byId("rounds"), () => this.follower.grow());
    this.composer = new Composer(byId("composer"), {
      onSend: (text) => this.ask(text),
      onStop: () => this.battle.stop(),
    });
    usePreferences(byId("language"), byId("scheme"), () => this.draw());
    followKeyboard();
    byId("keys").addEventListener("click", () => showShortcuts(KEYS));
    addEventListener("hashchange", () => this.draw());
    const votes = Object.entries(VOTES).flatMap(([key, vote]) =>
      [key, key.toUpperCase()].map((one) => ({ key: one, run: () => this.vote(vote) })),
    );
    useShortcuts([
      ...votes,
      { key: "Escape", isEverywhere: true, run: () => this.battle.stop() },
      { key: "/", run: () => this.composer.box.focus() },
      { key: "?", run: () => showShortcuts(KEYS) },
      { key: "ArrowRight", run: () => this.battle.names && this.next() },
      { code: "KeyR", run: () => (location.hash = this.showsTable() ? "battle" : "table") },
    ]);
  }

  async start() {
    this.draw();
    await this.guard(
      async () => {
        this.state = await askJson("/arena/state");
      },
      () => this.start(),
    );
    this.draw();
    this.composer.focus();
  }

  // Drawing

  showsTable() {
    return location.hash === "#table";
  }

  draw() {
    const showsTable = this.showsTable();
    byId("battle-view").hidden = showsTable;
    byId("table-view").hidden = !showsTable;
    byId("tab-battle").toggleAttribute("aria-current", !showsTable);
    byId("tab-table").toggleAttribute("aria-current", showsTable);
    byId("num-votes").textContent = this.state ? say("num_votes", { n: count(this.state.num_votes) }) : "";
    if (showsTable) this.drawRanking();
    else this.drawBattle();
  }

  drawBattle() {
    const { battle, state } = this;
    byId("hello").hidden = battle.turns.length > 0;
    byId("hello-text").textContent = state ? say("arena_text", { n: state.num_models }) : "";
    this.drawTask();
    this.composer.setRunning(battle.isRunning);
    this.composer.box.placeholder = say(battle.canVote && !battle.names ? "arena_more" : "arena_write");
    this.rounds.show(battle);
    this.drawVerdict();
    this.follower.grow();
  }

  drawTask() {
    const questions = this.state?.questions;
    const box = byId("task");
    box.hidden = !questions || this.battle.turns.length > 0;
    if (box.hidden) return;
    if (!questions.next) {
      box.replaceChildren(make("p", {}, say("question_done", { n: questions.num })));
      return;
    }
    const { id, category, text } = questions.next;
    const place = say("question_of", { i: questions.num_done + 1, n: questions.num });
    const send = make(
      "button",
      { type: "button", class: "primary", on: { click: () => this.ask(text, id) } },
      say("question_send"),
    );
    const head = make("p", { class: "quiet" }, place, " ", make("span", { class: "category" }, category));
    box.replaceChildren(head, make("p", { class: "task-text" }, text), send);
  }

  drawVerdict() {
    const hasMore = Boolean(this.state?.questions?.next);
    const actions = { vote: (vote) => this.vote(vote), next: () => this.next() };
    drawVerdict(byId("verdict"), this.battle, hasMore, actions);
  }

  async drawRanking() {
    await this.guard(
      async () => drawTable(byId("table-view"), await askJson("/arena/table")),
      () => this.draw(),
      byId("table-view"),
    );
    // Others may have voted meanwhile.
    clearTimeout(this.refreshing);
    this.refreshing = setTimeout(() => this.showsTable() && this.drawRanking(), REFRESH_MS);
  }

  // Actions

  async ask(text, questionId = null) {
    if (this.battle.isRunning) return;
    if (this.battle.names) this.battle = new Battle();
    const { battle } = this;
    // A given question that is typed by hand does not count as done; only its button does.
    const asking = battle.ask(text, questionId, () => this.grow(battle));
    this.draw();
    this.follower.toEnd();
    const isDone = await this.guard(
      () => asking,
      () => this.ask(text, questionId),
    );
    this.draw();
    if (isDone && battle.canVote) announce(say("both_answered"));
  }

  grow(battle) {
    if (battle === this.battle && !this.showsTable()) this.rounds.update(battle);
  }

  async vote(vote) {
    const { battle } = this;
    if (!battle.canVote || battle.names || this.showsTable()) return;
    await this.guard(
      async () => {
        const votes = await battle.vote(vote);
        this.state = { ...this.state, num_votes: votes };
      },
      () => this.vote(vote),
    );
    this.draw();
    if (battle.names) announce(`A: ${battle.names.a}, B: ${battle.names.b}`);
    byId("verdict").querySelector(".primary")?.focus();
  }

  async next() {
    this.battle = new Battle();
    await this.start();
    byId("task").querySelector("button")?.focus();
  }

  /** What to do after a problem: a battle that expired on the server, or already has its vote, is over. */
  wayOut({ status }, again) {
    const isOver = status === 404 || status === 409;
    return isOver ? { word: say("new_battle"), run: () => this.next() } : { word: say("retry"), run: again };
  }

  /** Do something that the server may reject; then show why and offer to retry. Returns whether it succeeded. */
  async guard(work, again, place = null) {
    try {
      await work();
      return true;
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      const text = explain(error);
      if (place) place.replaceChildren(make("p", { class: "problem" }, text));
      else this.notice.show(text, { action: this.wayOut(error, again), isLasting: true });
      return false;
    }
  }
}

new ArenaPage().start();
