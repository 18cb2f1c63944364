// The conversation list: search, open, rename, delete.
import { icon, iconButton, isComposing, make } from "./dom.js";
import { search, titleOf } from "./store.js";
import { say } from "./words.js";

const DAY_MS = 86_400_000;

export class Sidebar {
  /** `actions`: open(id), rename(id, title), remove(id). */
  constructor({ list, box }, store, actions) {
    this.list = list;
    this.box = box;
    this.store = store;
    this.actions = actions;
    this.open = null; // id of the open conversation
    box.addEventListener("input", () => this.draw());
  }

  /** Draw the list; `open` is the id of the open conversation. */
  draw(open = this.open) {
    this.open = open;
    const all = this.store.list();
    const found = search(all, this.box.value);
    if (found.length === 0) {
      this.list.replaceChildren(
        make("p", { class: "quiet pad" }, say(all.length > 0 ? "nothing_found" : "no_conversations")),
      );
      return;
    }
    const groups = groupBy(found, age);
    this.list.replaceChildren(...[...groups].flatMap(([word, some]) => this.drawGroup(word, some)));
  }

  drawGroup(word, conversations) {
    const rows = conversations.map((one) => this.drawRow(one));
    return [make("h3", { class: "group" }, say(word)), make("ul", { class: "chats" }, ...rows)];
  }

  drawRow(conversation) {
    const { id } = conversation;
    const title = titleOf(conversation) || say("untitled");
    const isOpen = id === this.open;
    const name = make(
      "button",
      {
        type: "button",
        class: "chat-name",
        title,
        "aria-current": isOpen ? "true" : null,
        on: { click: () => this.actions.open(id) },
      },
      title,
    );
    const row = make(
      "li",
      { class: isOpen ? "chat open" : "chat" },
      name,
      iconButton("pencil", "rename", () => this.rename(row, conversation)),
      iconButton("bin", "delete", () => this.actions.remove(id)),
    );
    return row;
  }

  rename(row, conversation) {
    const input = make("input", {
      class: "chat-rename",
      "aria-label": say("rename"),
      value: titleOf(conversation),
      maxlength: 200,
    });
    let isOver = false;
    const end = (isKept) => {
      if (isOver) return;
      isOver = true;
      if (isKept) this.actions.rename(conversation.id, input.value.trim());
      this.draw();
      this.list.querySelector(".open .chat-name")?.focus();
    };
    input.addEventListener("keydown", (event) => {
      if (isComposing(event) || (event.key !== "Enter" && event.key !== "Escape")) return;
      event.preventDefault();
      event.stopPropagation(); // Escape would also stop an answer
      end(event.key === "Enter");
    });
    input.addEventListener("blur", () => end(true));
    row.replaceChildren(input);
    input.select();
  }
}

/** The heading for conversations of this age. */
function age(conversation) {
  const midnight = new Date().setHours(0, 0, 0, 0);
  if (conversation.updated >= midnight) return "today";
  return conversation.updated >= midnight - 6 * DAY_MS ? "week" : "older";
}

function groupBy(items, wordOf) {
  const groups = new Map();
  for (const item of items) groups.set(wordOf(item), [...(groups.get(wordOf(item)) ?? []), item]);
  return groups;
}

/** The toggle button of the list, for wide and narrow windows. */
export function drawNewButton(button) {
  button.replaceChildren(icon("plus"), make("span", {}, say("new_chat")));
}
