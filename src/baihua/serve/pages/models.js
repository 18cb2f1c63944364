// The model menu.
import { askJson } from "./api.js";
import { make } from "./dom.js";

export class Models {
  /** `onPick` gets the id of the chosen model. */
  constructor(select, onPick) {
    this.select = select;
    this.all = [];
    select.addEventListener("change", () => onPick(select.value));
  }

  /** Load the list; throws a Problem. */
  async load() {
    this.all = (await askJson("/v1/models")).data;
    this.select.replaceChildren(...this.all.map(({ id }) => make("option", { value: id }, id)));
  }

  /** The wanted model, or the first one if the server no longer has it. */
  choose(wished) {
    const found = this.all.find(({ id }) => id === wished) ?? this.all[0] ?? null;
    return found?.id ?? null;
  }

  /** Show the selected model. */
  show(id) {
    this.select.hidden = id === null;
    this.select.value = id ?? "";
  }

  contextLength(id) {
    return this.all.find((model) => model.id === id)?.context_length ?? null;
  }
}
