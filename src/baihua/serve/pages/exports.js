// The export menu.
import { byId } from "./dom.js";
import { download, fileName, toJsonRow, toMarkdown } from "./export.js";

const JSONL = "application/jsonl";

/** `current` returns the open conversation, `all` all of them. */
export function useExports({ current, all }) {
  const choices = {
    "export-markdown": () => download(toMarkdown(current()), fileName(current(), "md"), "text/markdown"),
    "export-jsonl": () => download(toJsonRow(current()), fileName(current(), "jsonl"), JSONL),
    "export-all": () => download(all().map(toJsonRow).join(""), "baihua-conversations.jsonl", JSONL),
  };
  for (const [id, run] of Object.entries(choices)) {
    byId(id).addEventListener("click", () => {
      byId("exports").hidePopover();
      run();
    });
  }
}
