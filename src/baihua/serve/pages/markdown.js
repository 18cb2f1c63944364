// Renders the Markdown of an answer as sanitized elements.
import { iconButton, make } from "./dom.js";
import { copyText } from "./copy.js";
import { useChineseEmphasis, useImagesAsText, useMathAsText } from "./markdown_rules.js";
import { say } from "./words.js";

// The vendored libraries are plain scripts, loaded before this module.
const { markdownit, DOMPurify } = window;
const SAFE_LINK = /^(?:https?:|mailto:)/i;
const ALLOWED = {
  ALLOWED_TAGS:
    "p br hr h1 h2 h3 h4 h5 h6 ul ol li blockquote pre code em strong s a span table thead tbody tr th td".split(" "),
  ALLOWED_ATTR: ["href", "title", "class", "start"],
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  ALLOWED_URI_REGEXP: SAFE_LINK,
  RETURN_DOM_FRAGMENT: true,
};

const md = makeParser();

/** The top-level blocks of a text, each with its tokens and line range; a table or a list is one block. */
export function parseBlocks(text, env) {
  const blocks = [];
  for (const token of md.parse(text, env)) {
    if (token.level === 0 && token.nesting >= 0) blocks.push({ tokens: [], kind: token.type, lines: token.map });
    blocks.at(-1).tokens.push(token);
  }
  return blocks;
}

/** The elements of one block. */
export function renderBlock(block, env) {
  const html = md.renderer.render(block.tokens, md.options, env);
  const fragment = DOMPurify.sanitize(html, ALLOWED);
  for (const link of fragment.querySelectorAll("a")) guardLink(link);
  for (const pre of fragment.querySelectorAll("pre")) frameCode(pre);
  for (const em of fragment.querySelectorAll("em")) em.classList.toggle("han", /\p{Script=Han}/u.test(em.textContent));
  for (const table of fragment.querySelectorAll("table")) frameTable(table);
  return fragment;
}

/** The elements of a whole text. */
export function renderMarkdown(text) {
  const env = {};
  const fragment = document.createDocumentFragment();
  for (const block of parseBlocks(text, env)) fragment.append(renderBlock(block, env));
  return fragment;
}

function makeParser() {
  // No HTML from the model, and no automatic links: Chinese text may follow an address without a space.
  const parser = new markdownit({ html: false, linkify: false, typographer: false, breaks: true });
  useChineseEmphasis(parser);
  useMathAsText(parser);
  useImagesAsText(parser);
  parser.renderer.rules.th_open = parser.renderer.rules.td_open = alignByClass;
  return parser;
}

/** The Content-Security-Policy forbids the style attributes with which markdown-it aligns table cells. */
function alignByClass(tokens, i, options, env, renderer) {
  const token = tokens[i];
  const side = /text-align:(\w+)/.exec(token.attrGet("style") ?? "")?.[1];
  return side ? `<${token.tag} class="align-${side}">` : `<${token.tag}>`;
}

function guardLink(link) {
  if (!SAFE_LINK.test(link.getAttribute("href") ?? "")) link.removeAttribute("href");
  link.target = "_blank";
  link.rel = "noopener noreferrer";
}

function frameCode(pre) {
  const code = pre.querySelector("code");
  const name = /language-([\w+#.-]+)/.exec(code?.className ?? "")?.[1];
  const button = iconButton("copy", "copy", () => copyText(pre.textContent, button));
  const head = make("div", { class: "code-head" }, make("span", {}, name ?? say("code")), button);
  pre.tabIndex = 0; // so that the arrow keys can move long lines
  const frame = make("div", { class: "code" }, head);
  pre.replaceWith(frame);
  frame.append(pre);
}

function frameTable(table) {
  const frame = make("div", { class: "wide", tabindex: "0" });
  table.replaceWith(frame);
  frame.append(table);
}
