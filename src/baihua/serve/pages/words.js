// What the pages say, Chinese and English side by side.
import { ARENA_WORDS } from "./words_arena.js";
import { CHAT_WORDS } from "./words_chat.js";

const SHARED = {
  language: ["English", "中文"],
  language_label: ["Switch to English", "换成中文"],
  scheme_auto: ["外观：跟随系统", "Appearance: as the system"],
  scheme_light: ["外观：浅色", "Appearance: light"],
  scheme_dark: ["外观：深色", "Appearance: dark"],
  close: ["关闭", "Close"],
  cancel: ["取消", "Cancel"],
  copy: ["复制", "Copy"],
  copied: ["已复制", "Copied"],
  copy_failed: ["浏览器不允许复制", "The browser does not allow copying"],
  code: ["代码", "code"],
  image: ["图片（未载入）：{alt} {address}", "Image (not loaded): {alt} {address}"],
  stop: ["停止", "Stop"],
  send: ["发送", "Send"],
  latest: ["回到最新", "To the latest"],
  retry: ["重试", "Try again"],
  shortcuts: ["键盘快捷键", "Keyboard shortcuts"],
  key_title: ["需要密钥", "A key is needed"],
  key_text: [
    "这台服务器只回答持有密钥的人。密钥只留在这个标签页里，关掉就忘。",
    "This server answers only those who have its key. The key stays in this tab and is forgotten when it closes.",
  ],
  key_wrong: ["服务器不认这个密钥。", "The server did not accept this key."],
  key_label: ["API 密钥", "API key"],
  key_send: ["继续", "Go on"],
  in_seconds: ["约 {n} 秒后可以再试。", "You can try again in about {n} s."],
  now: ["现在可以再试。", "You can try again now."],
  error_401: ["没有有效的密钥，服务器不回答。", "Without a valid key the server does not answer."],
  error_404: ["服务器上没有这个：{message}", "The server does not have this: {message}"],
  error_413: ["发送的内容太大，服务器不收。", "This is larger than the server takes."],
  error_429: [
    "现在提问的人太多，服务器暂时排不过来。",
    "Too many are asking at the moment; the server cannot queue more.",
  ],
  error_503: ["服务器正忙或正在停止。", "The server is busy or about to stop."],
  error_context: [
    "这段对话超过了模型能读的长度。可以新建对话，或者改短前面的问题。",
    "This conversation is longer than the model can read. Start a new one, or shorten an earlier question.",
  ],
  error_network: [
    "连不上服务器。它也许停了，也许网络断了。",
    "The server cannot be reached. It may have stopped, or the network is down.",
  ],
  error_broken: ["回答到一半断了，已收到的部分都在上面。", "The answer broke off; what has arrived is kept above."],
  error_other: ["服务器没有给出回答：{message}", "The server gave no answer: {message}"],
};

const WORDS = { ...SHARED, ...CHAT_WORDS, ...ARENA_WORDS };

/** Whether the page speaks Chinese now. */
export function speaksChinese() {
  return document.documentElement.lang.startsWith("zh");
}

/** A text in the language of the page; `{name}` is replaced by the value of that name. */
export function say(word, values = {}) {
  const pair = WORDS[word];
  if (!pair) throw new Error(`no text for ${word}`);
  return pair[speaksChinese() ? 0 : 1].replace(/\{(\w+)\}/g, (whole, name) =>
    name in values ? String(values[name]) : whole,
  );
}

/** Write the texts of everything that is marked in the HTML. */
export function sayAll(root = document) {
  for (const element of root.querySelectorAll("[data-say]")) element.textContent = say(element.dataset.say);
  for (const element of root.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", say(element.dataset.label));
    element.title = say(element.dataset.label);
  }
  for (const element of root.querySelectorAll("[data-hint]")) element.placeholder = say(element.dataset.hint);
}

/** A number as people of the page's language write it. */
export function count(number, digits = 0) {
  const options = { maximumFractionDigits: digits, minimumFractionDigits: digits };
  return new Intl.NumberFormat(speaksChinese() ? "zh-CN" : "en", options).format(number);
}

/** Every word that lacks one of the languages; for the tests. */
export function findHoles() {
  return Object.entries(WORDS)
    .filter(([, pair]) => pair.length !== 2 || !pair[0] || !pair[1])
    .map(([word]) => word);
}
