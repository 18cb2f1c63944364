// The vote buttons, and the result after a vote.
import { icon, make } from "./dom.js";
import { say } from "./words.js";

const VOTES = ["a", "b", "tie", "both_bad"]; // the order of their keys, 1 to 4

/** Draw the buttons, the names after a vote, or the next step if a model failed; nothing before the first question. */
export function drawVerdict(box, battle, hasMore, actions) {
  box.hidden = battle.turns.length === 0;
  if (battle.names) box.replaceChildren(...drawNames(battle, hasMore, actions.next));
  else if (battle.hasFailed) box.replaceChildren(drawNext(say("new_battle"), actions.next));
  else box.replaceChildren(drawVotes(battle.canVote, actions.vote));
}

function drawVotes(canVote, onVote) {
  const buttons = VOTES.map((vote, i) => {
    const key = make("kbd", { "aria-hidden": "true" }, String(i + 1));
    const button = make(
      "button",
      {
        type: "button",
        class: `vote vote-${vote}`,
        "aria-keyshortcuts": String(i + 1),
        on: { click: () => onVote(vote) },
      },
      say(`vote_${vote}`),
      key,
    );
    button.disabled = !canVote;
    return button;
  });
  return make("div", { class: "votes", role: "group", "aria-label": say("vote_question") }, ...buttons);
}

function drawNames({ names, voted }, hasMore, onNext) {
  const name = (side) =>
    make(
      "span",
      { class: voted === side ? "revealed chosen" : "revealed" },
      make("b", { class: "letter" }, side.toUpperCase()),
      names[side],
    );
  const told = make(
    "p",
    { class: "told" },
    name("a"),
    name("b"),
    make("span", { class: "quiet" }, say(`voted_${voted}`)),
  );
  return [told, drawNext(say(hasMore ? "next_question" : "next"), onNext)];
}

function drawNext(word, onNext) {
  return make("button", { type: "button", class: "primary next", on: { click: onNext } }, word, icon("next"));
}
