"""Tokenised examples of a data artifact: which rows are kept, which are dropped and why; cached once made.

T tokens.
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from baihua.core.artifact import hash_file, hash_json
from baihua.core.env import cache_folder
from baihua.core.errors import InputError
from baihua.core.files import appearing
from baihua.core.log import logger
from baihua.data.rows import Row, find_table, read_rows
from baihua.model.examples import Encoder, Example, TextSize
from baihua.train.config import TrainingConfig

OverLong = Literal["split", "drop", "refuse"]
MAX_DROPPED_SHARE = 0.01
# Of the cached examples; a change of how examples are made must raise it.
VERSION = 1
SECONDS_KEPT = 30 * 24 * 3600
ARRAYS = ("ids", "is_target", "lengths", "sizes")


@dataclass(frozen=True, slots=True)
class ExampleSet:
    """The rows that can be trained on, as examples, and the counts of the others."""

    kept: list[Example]
    num_rows: int
    num_dropped: dict[str, int]
    num_rows_split: int = 0
    num_turns_left_out: int = 0

    @property
    def target_share(self) -> float:
        """Share of all tokens that are trained, 0 to 1."""
        num_targets = sum(int(example.is_target_T.sum()) for example in self.kept)
        return num_targets / sum(len(example.ids_T) for example in self.kept)

    def statistics(self) -> dict[str, Any]:
        """Counts of rows, examples and tokens, as the manifest of a training has them."""
        lengths = [len(example.ids_T) for example in self.kept]
        return {
            "num_rows_in": self.num_rows,
            "num_rows_kept": self.num_rows - sum(self.num_dropped.values()),
            "num_rows_dropped": self.num_dropped,
            "num_rows_split": self.num_rows_split,
            "num_turns_left_out": self.num_turns_left_out,
            "num_examples": len(self.kept),
            "num_data_tokens": sum(lengths),
            "target_share": self.target_share,
            "longest_tokens": max(lengths),
        }

    def describe(self) -> str:
        """The same counts as a sentence."""
        found = self.statistics()
        dropped = ", ".join(f"{reason} {count:,}" for reason, count in self.num_dropped.items()) or "none"
        return (
            f"{found['num_examples']:,} examples from {self.num_rows:,} rows: {found['num_data_tokens']:,} tokens, "
            f"{found['target_share']:.0%} of them trained, the longest has {found['longest_tokens']:,}; rows split: "
            f"{self.num_rows_split:,}, turns left out: {self.num_turns_left_out:,}, rows dropped: {dropped}"
        )


def load_examples(
    path: Path, encoder: Encoder, config: TrainingConfig, vocabulary: str, *, cache: Path | None = None
) -> ExampleSet:
    """The examples of a data artifact, from the cache if the same rows were encoded before by the same rules.

    `vocabulary` is the hash of the tokenizer's files; `cache` is a folder, by default one of this user.
    """
    max_length, over_long = config.max_length, config.examples.over_long
    rules = [VERSION, vocabulary, encoder.template.jinja, encoder.train_on, max_length, over_long]
    key = hash_json([hash_file(find_table(path)), *rules])
    file = (cache or cache_folder() / "examples") / f"{key[:32]}.safetensors"
    if found := _read(file):
        return found
    made = make_examples(read_rows(path), encoder, max_length=max_length, over_long=over_long)
    _write(file, made)
    return made


def make_examples(rows: Sequence[Row], encoder: Encoder, max_length: int, over_long: OverLong = "split") -> ExampleSet:
    """Tokenise each row once; rows without a target are dropped and counted, more than 1 % of them are an error.

    Rows longer than `max_length` tokens are split between turns, dropped, or refused with an InputError.
    """
    kept: list[Example] = []
    dropped: list[tuple[str, Row]] = []
    num_split = num_left_out = 0
    for row in rows:
        if not any(message.role == "assistant" for message in row.messages):
            dropped.append(("no_answer", row))
            continue
        where = f"{row.file}:{row.line}"
        try:
            pieces, num_turns = encoder.split(row.id, row.messages, max_length)
        except InputError as error:
            raise InputError(error.what, where=where, fix=error.fix) from error
        is_over_long = len(pieces) != 1 or num_turns > 0
        if over_long == "refuse" and is_over_long:
            fix = "raise `max_length`, or set `over_long` to split or drop"
            raise InputError(f"this conversation has more than {max_length:,} tokens", where=where, fix=fix)
        trained = [piece for piece in pieces if piece.is_target_T.any()]
        if over_long == "drop" and is_over_long:
            dropped.append(("too_long", row))
        elif not trained:
            dropped.append(("turn_too_long" if num_turns else "no_target", row))
        else:
            kept += trained
            num_split += is_over_long
            num_left_out += num_turns
    # Dropping over-long rows was requested, so they count as an error only if nothing is left.
    unexpected = [(reason, row) for reason, row in dropped if reason != "too_long" or not kept]
    if not kept or len(unexpected) > MAX_DROPPED_SHARE * len(rows):
        raise _without_targets(unexpected, num_rows=len(rows), max_length=max_length)
    reasons = Counter(reason for reason, _ in dropped)
    return ExampleSet(kept, len(rows), dict(sorted(reasons.items())), num_split, num_left_out)


def _without_targets(dropped: list[tuple[str, Row]], *, num_rows: int, max_length: int) -> InputError:
    if not dropped:
        return InputError("there are no rows to train on", fix="see what the filters dropped: baihua show PATH")
    reason, row = dropped[0]
    filter_them, limit = "filter such rows out, or add their answers", f"{max_length:,} tokens"
    found, fix = {
        "no_answer": ("has no answer of the assistant", filter_them),
        "no_target": ("has only empty answers", filter_them),
        "turn_too_long": (f"has no turn of at most {limit}", "raise `max_length`, or set `over_long` to drop"),
        "too_long": (f"has more than {limit}", "raise `max_length`"),
    }[reason]
    what = f"{len(dropped):,} of {num_rows:,} rows have no tokens to train; the first {found}"
    return InputError(what, where=f"{row.file}:{row.line}", fix=fix)


def _write(file: Path, examples: ExampleSet) -> None:
    """Store examples for the next run; entries that were not used for a month are removed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    for old in sorted(file.parent.iterdir()):
        if time.time() - old.stat().st_mtime > SECONDS_KEPT:
            old.unlink(missing_ok=True)
    kept = examples.kept
    facts = asdict(replace(examples, kept=[])) | {"row_ids": [example.row_id for example in kept]}
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
            text = stored.metadata()["facts"]
            is_sound = _hash(text, arrays) == stored.metadata()["sha256"]
    except (SafetensorError, OSError, KeyError):
        is_sound, arrays, text = False, {}, ""
    if not is_sound:
        logger.warning("the cached examples are damaged and are made again: %s", file)
        return None
    file.touch()
    facts = json.loads(text)
    borders = np.cumsum(arrays["lengths"])[:-1]
    ids, is_target = (np.split(arrays[name], borders) for name in ("ids", "is_target"))
    sizes = [(TextSize(*size[:2]), TextSize(*size[2:])) for size in arrays["sizes"].tolist()]
    parts = zip(facts.pop("row_ids"), ids, is_target, sizes, strict=True)
    facts["kept"] = [Example(row_id, ids_T, is_target_T, *size) for row_id, ids_T, is_target_T, size in parts]
    logger.info("%d tokenised examples read from the cache", len(facts["kept"]))
    return ExampleSet(**facts)


def _hash(facts: str, arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of everything: a bit that flips on the disk would be trained without a sign."""
    digest = hashlib.sha256(facts.encode())
    for name in sorted(arrays):
        digest.update(arrays[name].tobytes())
    return digest.hexdigest()
