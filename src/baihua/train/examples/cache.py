"""Cache of tokenised examples: one safetensors file per set, verified by a hash when it is read."""

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from baihua.core.artifact import hash_file, hash_json
from baihua.core.files import appearing
from baihua.core.log import logger
from baihua.data.rows import find_table, read_rows
from baihua.model.examples import Encoder, Example, TextSize
from baihua.train.examples.encode import ExampleSet, OverLong, make_examples

# Of the examples; a change of how they are made must raise it.
VERSION = 1
SECONDS_KEPT = 30 * 24 * 3600
ARRAYS = ("ids", "is_target", "lengths", "sizes")


def load_examples(
    path: Path, encoder: Encoder, *, vocabulary: str, max_length: int, over_long: OverLong, cache: Path
) -> ExampleSet:
    """The examples of a data artifact, from the cache if the same rows were encoded before by the same rules.

    `vocabulary` is the hash of the tokenizer's files.
    """
    rules = [VERSION, vocabulary, encoder.template.jinja, encoder.train_on, max_length, over_long]
    key = hash_json([hash_file(find_table(path)), *rules])
    file = cache / f"{key[:32]}.safetensors"
    found = _read(file)
    if found is None:
        found = make_examples(read_rows(path), encoder, max_length=max_length, over_long=over_long)
        _write(file, found)
    return found


def _write(file: Path, examples: ExampleSet) -> None:
    """Store examples for the next run; entries that were not used for a month are removed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    for old in sorted(file.parent.iterdir()):
        if time.time() - old.stat().st_mtime > SECONDS_KEPT:
            old.unlink(missing_ok=True)
    kept = examples.kept
    facts = {
        "num_rows": examples.num_rows,
        "num_dropped": examples.num_dropped,
        "num_rows_split": examples.num_rows_split,
        "num_turns_left_out": examples.num_turns_left_out,
        "row_ids": [example.row_id for example in kept],
    }
    sizes = [(e.text.num_chars, e.text.num_bytes, e.target_text.num_chars, e.target_text.num_bytes) for e in kept]
    arrays = {
        "ids": np.concatenate([example.ids_T for example in kept]),
        "is_target": np.concatenate([example.is_target_T for example in kept]),
        "lengths": np.array([len(example.ids_T) for example in kept], dtype=np.int64),
        "sizes": np.array(sizes, dtype=np.int64),
    }
    text = json.dumps(facts, ensure_ascii=False)
    with appearing(file, is_shared=True) as partial:
        save_file(arrays, partial, metadata={"facts": text, "sha256": _hash(text, arrays)})


def _read(file: Path) -> ExampleSet | None:
    """Stored examples; None without the file, and with a warning if it is damaged."""
    if not file.is_file():
        return None
    try:
        with safe_open(file, framework="numpy") as stored:
            arrays = {name: stored.get_tensor(name) for name in ARRAYS}
            text, wanted = stored.metadata()["facts"], stored.metadata()["sha256"]
        is_sound = _hash(text, arrays) == wanted
    except (SafetensorError, OSError, KeyError):
        is_sound, arrays, text = False, {}, ""
    if not is_sound:
        logger.warning("the cached examples are damaged and are made again: %s", file)
        return None
    file.touch()
    facts = json.loads(text)
    borders = np.cumsum(arrays["lengths"])[:-1]
    ids, is_target = (np.split(arrays[name], borders) for name in ("ids", "is_target"))
    parts = zip(facts.pop("row_ids"), ids, is_target, arrays["sizes"].tolist(), strict=True)
    kept = [
        Example(row_id, ids_T, is_target_T, TextSize(*size[:2]), TextSize(*size[2:]))
        for row_id, ids_T, is_target_T, size in parts
    ]
    logger.info("%d tokenised examples read from the cache", len(kept))
    return ExampleSet(kept, **facts)


def _hash(facts: str, arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of everything: a bit that flips on the disk would be trained without a sign."""
    digest = hashlib.sha256(facts.encode())
    for name in sorted(arrays):
        digest.update(arrays[name].tobytes())
    return digest.hexdigest()
