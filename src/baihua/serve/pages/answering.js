// One answer, from the request to its last character.
import { Problem, ask } from "./api.js";
import { toRequest } from "./store.js";
import { readEvents } from "./stream.js";

const ENDS = ["stop", "length"];

export class Answering {
  /** `answer` is the message that grows; `onChange` is called after each change. */
  constructor(conversation, answer, onChange) {
    this.conversation = conversation;
    this.answer = answer;
    this.onChange = onChange;
    this.leaving = new AbortController();
    this.isLeft = false;
    this.savedAt = 0; // set by the page when it saves the answer
  }

  /** Fill the answer. Errors on the way are not thrown but recorded in the answer. */
  async run() {
    const { answer } = this;
    try {
      const response = await ask("/v1/chat/completions", { body: this.request(), signal: this.leaving.signal });
      for await (const event of readEvents(response)) this.take(event);
      answer.finish ??= "stop";
    } catch (error) {
      if (this.isLeft) answer.finish = "left";
      else if (error.name === "AbortError") answer.finish = "stopped";
      else if (error instanceof Problem) this.fail(error);
      else throw error;
    }
    this.onChange();
  }

  stop() {
    this.leaving.abort();
  }

  /** The page is closing, and the request with it; that is not a failure. */
  leave() {
    this.isLeft = true;
    this.stop();
  }

  request() {
    const { conversation, answer } = this;
    const { system, stop, ...numbers } = conversation.settings;
    const before = conversation.messages.slice(0, conversation.messages.indexOf(answer));
    const given = Object.fromEntries(Object.entries(numbers).filter(([, value]) => value !== null));
    const body = {
      model: answer.model,
      messages: toRequest(conversation, before),
      stream: true,
      stream_options: { include_usage: true },
      ...given,
    };
    return stop.length > 0 ? { ...body, stop } : body;
  }

  take(event) {
    const { answer } = this;
    const choice = event.choices?.[0];
    const text = choice?.delta?.content ?? "";
    if (text) {
      const now = performance.now();
      this.began ??= now;
      answer.content += text;
      answer.seconds = (now - this.began) / 1000;
    }
    if (ENDS.includes(choice?.finish_reason)) answer.finish = choice.finish_reason;
    if (event.usage) answer.usage = event.usage;
    this.onChange();
  }

  fail(problem) {
    const { status, code, message, retryAfter } = problem;
    const retryAt = retryAfter === null ? null : Date.now() + retryAfter * 1000;
    this.answer.error = { status, code, message, retryAt };
    this.answer.finish = "error";
  }
}

/** A new, empty answer. */
export function newAnswer(model) {
  return { role: "assistant", content: "", model, finish: null, usage: null, seconds: 0, error: null };
}
