// Exporting conversations to files.
import { say } from "./words.js";
import { titleOf, toRequest } from "./store.js";

const UNFIT = /[\\/:*?"<>|\p{Cc}]/gu;
const NAME_CHARS = 60;

/** One row of Baihua's conversation format. */
export function toJsonRow(conversation) {
  return `${JSON.stringify({ messages: toRequest(conversation, conversation.messages) })}\n`;
}

/** A conversation as Markdown, which answers already are. */
export function toMarkdown(conversation) {
  const parts = [`# ${titleOf(conversation) || say("untitled")}`];
  if (conversation.settings.system.trim()) parts.push(`## ${say("system")}`, conversation.settings.system.trim());
  for (const { role, content, model } of conversation.messages) {
    parts.push(`## ${role === "user" ? say("you") : (model ?? say("model"))}`, content);
  }
  return `${parts.join("\n\n")}\n`;
}

/** Download a text as a file. */
export function download(text, name, type) {
  const address = URL.createObjectURL(new Blob([text], { type: `${type};charset=utf-8` }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** A file name for a conversation that is valid on every system. */
export function fileName(conversation, ending) {
  const title = (titleOf(conversation) || say("untitled")).replace(UNFIT, " ").trim();
  return `${Array.from(title).slice(0, NAME_CHARS).join("").trim() || "baihua"}.${ending}`;
}
