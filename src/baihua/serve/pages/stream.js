// Server-sent events over fetch: EventSource can neither POST nor send a key.
import { Problem } from "./api.js";

const END = "[DONE]";

/** The JSON of each event until the end; an interrupted stream or an error event is thrown as a Problem. */
export async function* readEvents(response) {
  for await (const text of readData(response.body)) {
    if (text === END) return;
    const event = JSON.parse(text);
    if (event.error?.message)
      throw new Problem(response.status, event.error.message, { code: event.error.code ?? null });
    yield event;
  }
  throw new Problem(response.status, "the stream ended early", { code: "broken" });
}

/** The data of each event; a line may arrive in any number of chunks, cut even within a character. */
export async function* readData(body) {
  let data = [];
  for await (const line of readLines(body)) {
    if (line.startsWith("data:")) {
      data.push(line.slice(line[5] === " " ? 6 : 5));
    } else if (line === "" && data.length > 0) {
      yield data.join("\n");
      data = [];
    }
    // Keep-alive comments and other fields are ignored.
  }
  if (data.length > 0) yield data.join("\n");
}

async function* readLines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (let part = await next(reader); part !== null; part = await next(reader)) {
      // A carriage return at the end may be half of a line break, so wait for more.
      const lines = (rest + part).split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop();
      yield* lines;
    }
    if (rest !== "") yield rest.replace(/\r$/, "");
  } finally {
    reader.cancel().catch(() => {}); // stopping to read lets the server stop, too
  }
}

async function next(reader) {
  try {
    const { done, value } = await reader.read();
    return done ? null : value;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, String(error.message), { code: "broken" });
  }
}
