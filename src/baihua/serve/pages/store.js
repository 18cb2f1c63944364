// Conversations in the browser's storage, each under its own key, so that two tabs do not overwrite each other.
const PLACE = "baihua.chat.";
const DEFAULTS = "baihua.defaults";
export const PLAIN_SETTINGS = { system: "", temperature: null, top_p: null, max_tokens: null, seed: null, stop: [] };
const TITLE_CHARS = 40;

/**
 * All conversations: `{id, title, created, updated, model, settings, messages, asides}`. A message is
 * `{role, content}`; an answer also has `model`, `finish` (null until it ends), `usage`, `seconds`, `error`.
 * `asides` are what edits and regenerated answers have replaced (versions.js).
 */
export class Store {
  /** `storage` is a Storage, or null if the browser blocks it; then nothing outlives the page. */
  constructor(storage) {
    this.storage = storage;
    this.found = new Map();
    for (const place of storage ? Object.keys(storage) : []) this.read(place);
  }

  /** Conversations, newest first. */
  list() {
    return [...this.found.values()].sort((a, b) => b.updated - a.updated || a.id.localeCompare(b.id));
  }

  get(id) {
    return this.found.get(id) ?? null;
  }

  /** Store a conversation; false if the storage is full, then it does not outlive the page. */
  save(conversation) {
    this.found.set(conversation.id, conversation);
    return this.write(PLACE + conversation.id, conversation);
  }

  remove(id) {
    this.found.delete(id);
    this.storage?.removeItem(PLACE + id);
  }

  /** Apply what another tab wrote or removed. True if the key is that of a conversation. */
  refresh(place) {
    if (!place?.startsWith(PLACE)) return false;
    if (!this.read(place)) this.found.delete(place.slice(PLACE.length));
    return true;
  }

  /** The default settings and model of new conversations. */
  defaults() {
    return { model: null, settings: PLAIN_SETTINGS, ...parse(this.storage?.getItem(DEFAULTS) ?? "null") };
  }

  saveDefaults(changes) {
    return this.write(DEFAULTS, { ...this.defaults(), ...changes });
  }

  read(place) {
    if (!place.startsWith(PLACE)) return false;
    const found = parse(this.storage.getItem(place) ?? "null");
    // Entries that this version cannot read are left alone.
    if (!Array.isArray(found?.messages) || PLACE + found.id !== place) return false;
    this.found.set(found.id, { ...newConversation(), ...found });
    return true;
  }

  write(place, value) {
    try {
      this.storage?.setItem(place, JSON.stringify(value));
      return true;
    } catch (error) {
      if (error.name !== "QuotaExceededError" && error.name !== "NS_ERROR_DOM_QUOTA_REACHED") throw error;
      return false;
    }
  }
}

/** The browser's storage, or null if it is blocked. */
export function openStorage() {
  try {
    localStorage.getItem(DEFAULTS);
    return localStorage;
  } catch {
    return null;
  }
}

/** An empty conversation; it is stored from its first question on. */
export function newConversation({ model = null, settings = PLAIN_SETTINGS } = {}) {
  const now = Date.now();
  const id = Array.from(crypto.getRandomValues(new Uint8Array(9)), (byte) => byte.toString(36).padStart(2, "0")).join(
    "",
  );
  const copy = { ...PLAIN_SETTINGS, ...structuredClone(settings) };
  return { id, title: "", created: now, updated: now, model, settings: copy, messages: [], asides: [] };
}

/** The given title, otherwise the beginning of the first question; empty without either. */
export function titleOf(conversation) {
  if (conversation.title) return conversation.title;
  const first = conversation.messages.find((message) => message.role === "user")?.content ?? "";
  const line = Array.from(first.trim().split("\n")[0]);
  return line.length > TITLE_CHARS ? `${line.slice(0, TITLE_CHARS).join("")}…` : line.join("");
}

/** Conversations with a text in title or messages, ignoring case and width. */
export function search(conversations, text) {
  const wanted = fold(text.trim());
  const holds = (conversation) =>
    [titleOf(conversation), ...conversation.messages.map((message) => message.content)].some((one) =>
      fold(one).includes(wanted),
    );
  return wanted ? conversations.filter(holds) : conversations;
}

/** The messages to send: the system prompt and every non-empty turn; questions without an answer are joined. */
export function toRequest(conversation, messages) {
  const turns = conversation.settings.system.trim() ? [{ role: "system", content: conversation.settings.system }] : [];
  for (const { role, content } of messages) {
    if (!content) continue;
    const last = turns.at(-1);
    if (last?.role === role) last.content += `\n\n${content}`;
    else turns.push({ role, content });
  }
  return turns;
}

function fold(text) {
  return text.normalize("NFKC").toLowerCase();
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
