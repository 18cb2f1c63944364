// Requests to the server, with the API key if it requires one.
import { askForKey } from "./key.js";
import { say } from "./words.js";

const KEY = "baihua.key";

/** Why a request failed; `retryAfter` in seconds. `status` is 0 if there was no response. */
export class Problem extends Error {
  constructor(status, message, { code = null, retryAfter = null } = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

/** The server's response; anything but success is thrown as a Problem. Asks for the key if one is required. */
export async function ask(path, { body, signal } = {}) {
  for (let isWrong = false; ; isWrong = true) {
    const key = sessionStorage.getItem(KEY);
    const response = await send(path, body, signal, key);
    if (response.ok) return response;
    if (response.status !== 401) throw await read(response);
    if (!(await findKey(isWrong || key !== null, key))) throw await read(response);
  }
}

/** The JSON of the server's response. */
export async function askJson(path, options) {
  return (await ask(path, options)).json();
}

/** A Problem in the reader's language, with what to do about it. */
export function explain(problem) {
  const { status, code, message } = problem;
  if (code === "context_length_exceeded") return say("error_context");
  if (code === "network") return say("error_network");
  if (code === "broken") return say("error_broken");
  return [401, 404, 413, 429, 503].includes(status)
    ? say(`error_${status}`, { message })
    : say("error_other", { message });
}

async function send(path, body, signal, key) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (key !== null) headers.Authorization = `Bearer ${key}`;
  const options = { headers, signal, method: body === undefined ? "GET" : "POST" };
  if (body !== undefined) options.body = JSON.stringify(body);
  try {
    return await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, String(error.message), { code: "network" });
  }
}

async function read(response) {
  const retry = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  const retryAfter = Number.isFinite(retry) ? retry : null;
  try {
    const { error } = await response.json();
    return new Problem(response.status, String(error.message), { code: error.code ?? null, retryAfter });
  } catch {
    // A proxy may respond with its own HTML page.
    return new Problem(response.status, `HTTP ${response.status}`, { retryAfter });
  }
}

/** Whether the reader gave another key than the rejected one. Calls that fail together share one form. */
async function findKey(isWrong, refused) {
  if (sessionStorage.getItem(KEY) !== refused) return true;
  const key = await askForKey(isWrong);
  if (key === null) return false;
  sessionStorage.setItem(KEY, key);
  return true;
}
