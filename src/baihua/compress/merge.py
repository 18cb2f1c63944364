"""Adapters merged into their base model one after another, each result compared with base and adapter."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from baihua.chat.types import Message
from baihua.core.system import release_memory
from baihua.model.adapter import check_order
from baihua.model.compare import MAX_MEAN_KL, Parity, check_parity, compare_pairs, encode_texts
from baihua.model.merge import Written, merge_into, open_adapted
from baihua.model.streamed import log_probs_of_all, open_streamed
from baihua.model.weights import WeightFiles
from baihua.modelfiles.folder import TEMPLATE_FILE


def merge_adapters(
    base: Path,
    adapters: Mapping[str, Path],
    out: Path,
    *,
    conversations: Sequence[Sequence[Message]],
    dtype: Written = "base",
    max_mean_kl: float = MAX_MEAN_KL,
) -> dict[str, Any]:
    """Write the base with all adapters, merged in order, to `out`; returns the parity of the worst step.

    Each step is compared on `conversations`, or on a few built-in ones if there are none; a RunError where the mean KL
    divergence reaches `max_mean_kl`.
    """
    scratch = out / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    left, parities = dict(adapters), list[Parity]()
    try:
        while left:
            check_order(base, left)
            role = next(iter(left))
            merged = scratch / f"merged-with-{role}"
            adapter = left.pop(role)
            template_file = adapter / TEMPLATE_FILE
            jinja = template_file.read_text(encoding="utf-8") if template_file.is_file() else None
            merge_into(merged, base, adapter, dtype=dtype, jinja=jinja)
            release_memory()
            texts = encode_texts(merged, conversations)
            # The models take turns, a few texts each: two output layers are never in memory at once.
            apart, together = open_adapted(base, adapter), open_streamed(merged)
            parity = compare_pairs(zip(log_probs_of_all(apart, texts), log_probs_of_all(together, texts), strict=True))
            is_rounded = any(place.dtype not in ("F32", "F64") for place in WeightFiles(merged).places.values())
            what = "the merged model differs from base and adapter"
            check_parity(parity, what=what, is_rounded=is_rounded, max_mean_kl=max_mean_kl)
            parities.append(parity)
            if base.parent == scratch:
                shutil.rmtree(base)
            base = merged
        for file in sorted(base.iterdir()):
            file.rename(out / file.name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return asdict(max(parities, key=lambda parity: parity.mean_kl)) | {"num_adapters": len(parities)}
