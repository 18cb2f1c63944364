"""Merge adapters into their base model, one after the other, and prove that each result says the same."""

import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from baihua.core.config import Base
from baihua.core.stage import Input
from baihua.core.system import release_memory

if TYPE_CHECKING:
    from baihua.chat.types import Message
    from baihua.model.parity import Parity

VERSION = 2
ADAPTERS = ("adapter", "adapter_2", "adapter_3")
INPUTS = {
    "model": Input(("model",)),
    "adapter": Input(("adapter",)),
    "adapter_2": Input(("adapter",), is_needed=False),
    "adapter_3": Input(("adapter",), is_needed=False),
    "data": Input(("conversations",), is_needed=False),
}
OUTPUT = ("model",)
SCRATCH = "scratch"


class Config(Base):
    """How to write and to check the merged model. `adapter_2` is merged into the result of `adapter`, and so on."""

    num_texts: int = Field(default=50, ge=1)
    """Conversations of `data`, from its first, on which each merged model is compared with its base and adapter."""
    dtype: Literal["base", "float32", "bfloat16", "float16"] = "base"
    """Type of the written weights; `base` keeps the base's. Weights are merged in float32; rounding them to bfloat16
    (3 digits) or float16 (4 digits) moves the distribution of the next token, which `mean_kl` then says."""


def run(config: Config, inputs: Mapping[str, Path], out: Path) -> dict[str, Any]:
    """Merge, read back, compare; the last merged model goes to `out`, the figures are those of the worst step."""
    from baihua.data.rows import read_rows
    from baihua.model.adapter import check_order

    rows = read_rows(inputs["data"])[: config.num_texts] if "data" in inputs else []
    adapters = {role: inputs[role] for role in ADAPTERS if role in inputs}
    scratch = out / SCRATCH
    shutil.rmtree(scratch, ignore_errors=True)
    base, parities = inputs["model"], list["Parity"]()
    try:
        while adapters:
            check_order(base, adapters)
            role = next(iter(adapters))
            merged = scratch / f"merged-with-{role}"
            parities.append(_merge_one(merged, base, adapters.pop(role), config, [row.messages for row in rows]))
            if base.parent == scratch:
                shutil.rmtree(base)
            base = merged
        for file in sorted(base.iterdir()):
            file.rename(out / file.name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    worst = max(parities, key=lambda parity: parity.mean_kl)
    return asdict(worst) | {"num_adapters": len(parities)}


def _merge_one(folder: Path, base: Path, adapter: Path, config: Config, talks: "list[tuple[Message, ...]]") -> "Parity":
    """Write the merged model and compare it with what it was made of; a RunError where they differ."""
    from baihua.model.load import TEMPLATE_FILE
    from baihua.model.merge import merge_into, open_adapted
    from baihua.model.parity import check_parity, compare_pairs
    from baihua.model.parity_texts import encode_texts
    from baihua.model.streamed import log_probs_of_all, open_streamed
    from baihua.model.weights import WeightFiles

    template_file = adapter / TEMPLATE_FILE
    jinja = template_file.read_text(encoding="utf-8") if template_file.is_file() else None
    merge_into(folder, base, adapter, dtype=config.dtype, jinja=jinja)
    release_memory()
    texts = encode_texts(folder, talks)
    # One after the other for each few texts: never two output layers in memory at once.
    apart, together = open_adapted(base, adapter), open_streamed(folder)
    pairs = zip(log_probs_of_all(apart, texts), log_probs_of_all(together, texts), strict=True)
    parity = compare_pairs(pairs)
    is_rounded = any(place.dtype not in ("F32", "F64") for place in WeightFiles(folder).places.values())
    check_parity(parity, what="the merged model differs from base and adapter", is_rounded=is_rounded)
    return parity
