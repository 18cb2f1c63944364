// Earlier versions of a conversation's end: an edit or a new answer replaces what follows, and nothing is lost.
//
// An aside is `{at, messages, asides}`: what stood from message `at` on, with the asides that lay deeper in it.

/** Put everything from a message on aside; a lone answer without a word is dropped. */
export function putAside(conversation, at) {
  const messages = conversation.messages.slice(at);
  conversation.messages = conversation.messages.slice(0, at);
  const isWorthy = messages.some((message) => message.content);
  const kept = conversation.asides.filter((aside) => aside.at <= at);
  const deeper = conversation.asides.filter((aside) => aside.at > at);
  conversation.asides = isWorthy ? [...kept, { at, messages, asides: deeper }] : [...kept, ...deeper];
}

/** Bring an aside back; what stands there now is put aside instead, as the latest one. */
export function bringBack(conversation, aside) {
  conversation.asides = conversation.asides.filter((one) => one !== aside);
  putAside(conversation, aside.at);
  conversation.messages = [...conversation.messages, ...aside.messages];
  conversation.asides = [...conversation.asides, ...aside.asides];
}

/** The asides at a message, the oldest first. */
export function asidesAt(conversation, at) {
  return conversation.asides.filter((aside) => aside.at === at);
}
