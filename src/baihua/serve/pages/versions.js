// Earlier versions of a conversation's end: an edit or a regenerated answer replaces what follows without losing it.
//
// An aside is `{at, messages, asides}`: the messages from `at` on, with the asides among them.

/** Set aside everything from a message on; a single empty answer is dropped. */
export function putAside(conversation, at) {
  const messages = conversation.messages.slice(at);
  conversation.messages = conversation.messages.slice(0, at);
  const isWorthy = messages.some((message) => message.content);
  const kept = conversation.asides.filter((aside) => aside.at <= at);
  const deeper = conversation.asides.filter((aside) => aside.at > at);
  conversation.asides = isWorthy ? [...kept, { at, messages, asides: deeper }] : [...kept, ...deeper];
}

/** Restore an aside; the current messages are set aside instead, as the newest one. */
export function bringBack(conversation, aside) {
  conversation.asides = conversation.asides.filter((one) => one !== aside);
  putAside(conversation, aside.at);
  conversation.messages = [...conversation.messages, ...aside.messages];
  conversation.asides = [...conversation.asides, ...aside.asides];
}

/** The asides at a message, oldest first. */
export function asidesAt(conversation, at) {
  return conversation.asides.filter((aside) => aside.at === at);
}
