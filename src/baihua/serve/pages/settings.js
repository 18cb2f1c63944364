// The settings panel of a conversation; changes apply at once.
import { announce } from "./announce.js";
import { byId } from "./dom.js";
import { PLAIN_SETTINGS } from "./store.js";
import { say } from "./words.js";

const NUMBERS = ["temperature", "top_p", "max_tokens", "seed"];

export class SettingsPanel {
  /** `onChange` gets the new settings, `onDefaults` those for new conversations. */
  constructor({ onChange, onDefaults }) {
    this.dialog = byId("settings");
    this.onChange = onChange;
    this.field = (name) => byId(`set-${name}`);
    this.dialog.addEventListener("input", () => this.read());
    this.dialog.addEventListener("click", (event) => event.target === this.dialog && this.dialog.close());
    byId("settings-close").addEventListener("click", () => this.dialog.close());
    byId("settings-form").addEventListener("submit", (event) => event.preventDefault());
    byId("settings-clear").addEventListener("click", () => {
      this.write(PLAIN_SETTINGS);
      this.read();
    });
    byId("settings-defaults").addEventListener("click", () => {
      onDefaults(this.settings);
      byId("settings-told").textContent = say("as_defaults_done");
      announce(say("as_defaults_done"));
    });
  }

  show(settings) {
    byId("settings-told").textContent = "";
    this.write(settings);
    this.dialog.showModal();
  }

  write(settings) {
    this.settings = settings;
    this.field("system").value = settings.system;
    this.field("stop").value = settings.stop
      .map((one) => one.replaceAll("\\", "\\\\").replaceAll("\n", "\\n"))
      .join("\n");
    for (const name of NUMBERS) this.field(name).value = settings[name] ?? "";
  }

  /** Take the valid values; one out of range is marked by the stylesheet and left out. */
  read() {
    const settings = {
      ...this.settings,
      system: this.field("system").value,
      stop: readStops(this.field("stop").value),
    };
    for (const name of NUMBERS) {
      const field = this.field(name);
      settings[name] = field.validity.valid && field.value !== "" ? field.valueAsNumber : null;
    }
    this.settings = settings;
    this.onChange(settings);
  }
}

function readStops(text) {
  const unescape = (line) => line.replace(/\\([n\\])/g, (_, sign) => (sign === "n" ? "\n" : "\\"));
  return text
    .split("\n")
    .map(unescape)
    .filter((line) => line !== "");
}
