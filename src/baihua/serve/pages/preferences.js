// Language and colour scheme: two buttons, the same on every page.
import { icon } from "./dom.js";
import { say, sayAll, speaksChinese } from "./words.js";

const SCHEMES = ["auto", "light", "dark"];
const DRAWINGS = { auto: "half", light: "sun", dark: "moon" };

/** Set up the two buttons; `onLanguage` redraws what the page built itself. */
export function usePreferences(languageButton, schemeButton, onLanguage) {
  const draw = () => {
    sayAll();
    languageButton.textContent = say("language");
    languageButton.title = say("language_label");
    languageButton.setAttribute("aria-label", say("language_label"));
    languageButton.lang = speaksChinese() ? "en" : "zh-CN";
    drawScheme(schemeButton);
  };
  languageButton.addEventListener("click", () => {
    document.documentElement.lang = speaksChinese() ? "en" : "zh-CN";
    keep("baihua.language", document.documentElement.lang);
    draw();
    onLanguage();
  });
  schemeButton.addEventListener("click", () => {
    const next = SCHEMES[(SCHEMES.indexOf(scheme()) + 1) % SCHEMES.length];
    if (next === "auto") delete document.documentElement.dataset.scheme;
    else document.documentElement.dataset.scheme = next;
    keep("baihua.scheme", next);
    drawScheme(schemeButton);
  });
  draw();
}

/** Keep the page above the on-screen keyboard in browsers that do not do so themselves. */
export function followKeyboard() {
  const view = window.visualViewport;
  if (!view) return;
  const fit = () => document.documentElement.style.setProperty("--height", `${view.height}px`);
  view.addEventListener("resize", fit);
  fit();
}

function scheme() {
  return document.documentElement.dataset.scheme ?? "auto";
}

function drawScheme(button) {
  const label = say(`scheme_${scheme()}`);
  button.replaceChildren(icon(DRAWINGS[scheme()]));
  button.title = label;
  button.setAttribute("aria-label", label);
}

function keep(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // Storage is blocked or full; then the choice lasts until the page is closed.
  }
}
