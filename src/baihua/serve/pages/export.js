// Conversations as files.
import { say } from "./words.js";
import { titleOf, toRequest } from "./store.js";

const UNFIT = /[\\/:*?"<>|\p{Cc}]/gu;
const NAME_CHARS = 60;

/** One row of Baihua's conversation format. */
export function toJsonRow(conversation) {
  return `${JSON.stringify({ messages: toRequest(conversation, conversation.messages) })}\n`;
}

/** A conversation to read; what the model wrote is Markdown already. */
export function toMarkdown(conversation) {
  const parts = [`# ${titleOf(conversation) || say("untitled")}`];
  if (conversation.settings.system.trim()) parts.push(`## ${say("system")}`, conversation.settings.system.trim());
  for (const { role, content, model } of conversation.messages) {
    parts.push(`## ${role === "user" ? say("you") : (model ?? say("model"))}`, content);
  }
  return `${parts.join("\n\n")}\n`;
}

/** Let the browser save a text as a file. */
export function download(text, name, type) {
  const address = URL.createObjectURL(new Blob([text], { type: `${type};charset=utf-8` }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** A file name of a conversation that every system takes. */
export function fileName(conversation, ending) {
  const title = (titleOf(conversation) || say("untitled")).replace(UNFIT, " ").trim();
  return `${Array.from(title).slice(0, NAME_CHARS).join("").trim() || "baihua"}.${ending}`;
}
