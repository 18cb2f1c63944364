// The ranking table, with intervals as bars.
import { make } from "./dom.js";
import { count, say } from "./words.js";

const COUNTS = [
  ["battles", "num_battles"],
  ["wins", "num_wins"],
  ["losses", "num_losses"],
  ["ties", "num_ties"],
  ["both_bads", "num_both_bad"],
];
const PAIR_COUNTS = [
  ["pair_a", "a_wins"],
  ["pair_b", "b_wins"],
  ["ties", "ties"],
  ["both_bads", "both_bad"],
];

/** Draw the response to GET /arena/table. */
export function drawTable(root, { num_votes: numVotes, rows, pairs, note }) {
  const head = make(
    "div",
    { class: "row" },
    make("h1", { class: "grow" }, say("table")),
    make("p", { class: "quiet" }, say("num_votes", { n: count(numVotes) })),
  );
  if (rows.length === 0) {
    root.replaceChildren(head, make("p", { class: "quiet" }, say("no_votes")));
    return;
  }
  const noteLine = note ? make("p", { class: "hint" }, say(`note_${note}`)) : null;
  const parts = [
    head,
    noteLine,
    drawRatings(rows),
    pairs.length > 0 ? make("h2", {}, say("pairs")) : null,
    pairs.length > 0 ? drawPairs(pairs) : null,
  ];
  root.replaceChildren(...parts.filter((part) => part !== null));
}

function drawRatings(rows) {
  const range = findRange(rows);
  const lines = rows.map((row) => {
    const name = make("th", { scope: "row" }, row.model);
    return make(
      "tr",
      {},
      make("td", { class: "number" }, count(row.rank)),
      name,
      drawRating(row, range),
      ...drawCounts(row, COUNTS),
    );
  });
  const words = ["rank", "model", "rating", ...COUNTS.map(([word]) => word)];
  return drawFrame(words, 3, lines);
}

function drawPairs(pairs) {
  const lines = pairs.map((pair) =>
    make("tr", {}, make("th", { scope: "row" }, say("pair", pair)), ...drawCounts(pair, PAIR_COUNTS)),
  );
  return drawFrame(["model", ...PAIR_COUNTS.map(([word]) => word)], 1, lines);
}

/** A table that scrolls sideways; the columns from `numTexts` on are numbers. */
function drawFrame(words, numTexts, lines) {
  const heads = words.map((word, i) =>
    make("th", { scope: "col", class: i >= numTexts || word === "rank" ? "number" : null }, say(word)),
  );
  return make(
    "div",
    { class: "wide", tabindex: "0" },
    make("table", {}, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...lines)),
  );
}

function drawCounts(row, counts) {
  return counts.map(([, field]) => make("td", { class: "number" }, count(row[field])));
}

/** The lowest and highest value of the bars, with some margin. */
function findRange(rows) {
  const values = rows.flatMap(({ low, rating, high }) => [low, rating, high]).filter((value) => value !== null);
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const air = Math.max((most - least) * 0.05, 1);
  return { least: least - air, width: most - least + 2 * air };
}

function drawRating({ rating, low, high }, { least, width }) {
  if (rating === null) return make("td", { class: "quiet" }, say("undetermined"));
  const share = (value) => `${((value - least) / width) * 100}%`;
  const bar = make("span", { class: "track", "aria-hidden": "true" });
  if (low !== null && high !== null) {
    const span = make("span", { class: "span" });
    // Set through the DOM, which the Content-Security-Policy allows; style attributes are forbidden.
    span.style.left = share(low);
    span.style.width = `${((high - low) / width) * 100}%`;
    bar.append(span);
  }
  const dot = make("span", { class: "dot" });
  dot.style.left = share(rating);
  bar.append(dot);
  const interval = low !== null && high !== null ? say("interval", { low: count(low), high: count(high) }) : "";
  return make(
    "td",
    {},
    make("span", { class: "rating" }, make("b", {}, count(rating)), bar, make("small", {}, interval)),
  );
}
