// Texts of the pages, Chinese and English side by side.
import { ARENA_WORDS } from "./words_arena.js";
import { CHAT_WORDS } from "./words_chat.js";

const SHARED = {
  language: ["English", "中文"],
  language_label: ["Switch to English", "换成中文"],
  scheme_auto: ["外观：跟随系统", "Appearance: follow the system"],
  scheme_light: ["外观：浅色", "Appearance: light"],
  scheme_dark: ["外观：深色", "Appearance: dark"],
  close: ["关闭", "Close"],
  cancel: ["取消", "Cancel"],
  copy: ["复制", "Copy"],
  copied: ["已复制", "Copied"],
  copy_failed: ["浏览器不允许复制", "The browser blocked copying"],
  code: ["代码", "code"],
  image: ["图片（未载入）：{alt} {address}", "Image (not loaded): {alt} {address}"],
  stop: ["停止", "Stop"],
  send: ["发送", "Send"],
  latest: ["回到最新", "Jump to the latest"],
  retry: ["重试", "Try again"],
  shortcuts: ["键盘快捷键", "Keyboard shortcuts"],
  key_title: ["需要密钥", "API key required"],
  key_text: [
    "访问这台服务器需要密钥。密钥只保存在当前标签页，关闭后不会保留。",
    "This server requires an API key. The key is kept in this tab only and is gone once you close it.",
  ],
  key_wrong: ["密钥不正确。", "The server rejected this key."],
  key_label: ["API 密钥", "API key"],
  key_send: ["继续", "Continue"],
  in_seconds: ["约 {n} 秒后可以再试。", "Try again in about {n} s."],
  now: ["现在可以再试。", "Try again now."],
  error_401: ["没有有效的密钥，服务器拒绝了请求。", "The server requires a valid API key."],
  error_404: ["服务器上找不到：{message}", "Not found on the server: {message}"],
  error_413: ["内容太长，服务器拒绝接收。", "This is too large for the server."],
  error_429: [
    "现在提问的人太多，队列已满。",
    "Too many requests right now; the queue is full.",
  ],
  error_503: ["服务器正忙或正在停止。", "The server is busy or shutting down."],
  error_context: [
    "这段对话超出了模型的上下文长度。请新建对话，或缩短前面的问题。",
    "This conversation exceeds the model's context. Start a new chat, or shorten an earlier question.",
  ],
  error_network: [
    "无法连接服务器。服务器可能已停止，或网络已断开。",
    "Cannot reach the server. It may have stopped, or the network may be down.",
  ],
  error_broken: ["回答中途断开，已收到的内容保留在上面。", "The answer was cut off; what arrived is kept above."],
  error_other: ["服务器返回错误：{message}", "The server returned an error: {message}"],
};

const WORDS = { ...SHARED, ...CHAT_WORDS, ...ARENA_WORDS };

/** Whether the page is in Chinese. */
export function speaksChinese() {
  return document.documentElement.lang.startsWith("zh");
}

/** A text in the language of the page; `{name}` is replaced by the value with that name. */
export function say(word, values = {}) {
  const pair = WORDS[word];
  if (!pair) throw new Error(`no text for ${word}`);
  return pair[speaksChinese() ? 0 : 1].replace(/\{(\w+)\}/g, (whole, name) =>
    name in values ? String(values[name]) : whole,
  );
}

/** Fill in the texts of all marked elements of the HTML. */
export function sayAll(root = document) {
  for (const element of root.querySelectorAll("[data-say]")) element.textContent = say(element.dataset.say);
  for (const element of root.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", say(element.dataset.label));
    element.title = say(element.dataset.label);
  }
  for (const element of root.querySelectorAll("[data-hint]")) element.placeholder = say(element.dataset.hint);
}

/** A number formatted for the page's language. */
export function count(number, digits = 0) {
  const options = { maximumFractionDigits: digits, minimumFractionDigits: digits };
  return new Intl.NumberFormat(speaksChinese() ? "zh-CN" : "en", options).format(number);
}

/** Texts that lack one of the languages; for the tests. */
export function findHoles() {
  return Object.entries(WORDS)
    .filter(([, pair]) => pair.length !== 2 || !pair[0] || !pair[1])
    .map(([word]) => word);
}
