"""Merge an adapter into its base model, and prove that the saved result says the same."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import Field

from baihua.core.config import Base
from baihua.core.stage import Input

VERSION = 1
INPUTS = {
    "model": Input(("model",)),
    "adapter": Input(("adapter",)),
    "data": Input(("conversations",), is_needed=False),
}
OUTPUT = ("model",)


class Config(Base):
    """How to check the merged model."""

    num_texts: int = Field(default=50, ge=1)
    """Conversations of `data`, from its first, on which the merged model is compared with base and adapter."""


def run(config: Config, inputs: Mapping[str, Path], out: Path) -> dict[str, Any]:
    """Merge, save, reload from disk, compare; the merged model goes to `out`."""
    from baihua.data.rows import read_rows
    from baihua.model.load import TEMPLATE_FILE, load_model, save_model
    from baihua.model.merge import check_same_weights, load_adapted, merge
    from baihua.model.parity import check_parity, compare, log_probs_of
    from baihua.model.parity_texts import encode_texts

    merged = merge(inputs["model"], inputs["adapter"])
    template_file = inputs["adapter"] / TEMPLATE_FILE
    jinja = template_file.read_text(encoding="utf-8") if template_file.is_file() else None
    save_model(merged, out, tokenizer_from=inputs["model"], jinja=jinja)
    reloaded = load_model(out)
    check_same_weights(merged, reloaded)
    del merged

    rows = read_rows(inputs["data"])[: config.num_texts] if "data" in inputs else []
    texts = encode_texts(out, [row.messages for row in rows])
    adapted = load_adapted(inputs["model"], inputs["adapter"])
    parity = compare(log_probs_of(adapted), log_probs_of(reloaded), texts)
    check_parity(parity, what="the merged model differs from base and adapter")
    return asdict(parity)
