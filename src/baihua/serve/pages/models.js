// The models of the server, and which one answers.
import { askJson } from "./api.js";
import { make } from "./dom.js";

export class Models {
  /** `onPick` gets the id that the reader chooses. */
  constructor(select, onPick) {
    this.select = select;
    this.all = [];
    select.addEventListener("change", () => onPick(select.value));
  }

  /** Ask the server; throws a Problem. */
  async load() {
    this.all = (await askJson("/v1/models")).data;
    this.select.replaceChildren(...this.all.map(({ id }) => make("option", { value: id }, id)));
  }

  /** The model to use for one that was wished for: itself, or the first where the server has it no longer. */
  choose(wished) {
    const found = this.all.find(({ id }) => id === wished) ?? this.all[0] ?? null;
    return found?.id ?? null;
  }

  /** Show which one answers. */
  show(id) {
    this.select.hidden = id === null;
    this.select.value = id ?? "";
  }

  contextLength(id) {
    return this.all.find((model) => model.id === id)?.context_length ?? null;
  }
}
