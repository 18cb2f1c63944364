"""`doctor --fit`: which levels of a model run on which machines, at which context lengths."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baihua.cli.talk import find_model
from baihua.compress import fit
from baihua.compress.fit import Machine, Needed, Sized
from baihua.compress.levels import FLOATS, LEVELS, choose_types
from baihua.core.errors import InputError
from baihua.core.tables import Table, render_markdown
from baihua.modelfiles.description import Description, describe, describe_header
from baihua.modelfiles.gguf_header import read_model_header

NOTES = (
    f"yes: needs at most {1 - fit.MARGIN:.0%} of what is free; tight: fits by less than the estimate's own error",
    "needed: weights, f16 KV cache of one conversation, working memory, and the program itself",
    "`baihua chat` and `serve` keep up to 1 GiB more of conversations that they have left, as they grow",
    "llama.cpp may map weights that it has put into another order (q4_0, q4_k, ...) twice; the system may drop one",
    "GPU: every layer on the GPU; worked out, not measured there",
)


@dataclass(frozen=True, slots=True)
class Option:
    """A level that a model can have, or a file that has one."""

    name: str
    described: Description
    tensors: Sequence[Sized]

    @property
    def num_bytes(self) -> int:
        """Bytes of the weights."""
        return sum(tensor.num_bytes for tensor in self.tensors)

    def needed(self, num_ctx: int) -> Needed:
        """Memory that it takes in one conversation."""
        return fit.memory_of(self.described.shape, self.tensors, num_ctx)


def print_fit(name: str, *, runs: Path, num_ctx: int | None, as_json: bool) -> None:
    """The table of a model, and the largest level for this machine."""
    options = find_options(name, runs)
    contexts = sorted({length for option in options for length in fit.contexts(option.described.shape, num_ctx)})
    machines = (*fit.MACHINES, fit.this_machine())
    if as_json:
        print(json.dumps(_as_json(name, options, contexts, machines), ensure_ascii=False))
        return
    first, longest = options[0].described, options[0].described.shape.context_length
    print(f"{name}: {first.num_weights / 1e6:,.0f} million weights, at most {longest:,} tokens of context")
    if num_ctx and num_ctx > longest:
        print(f"a context of {num_ctx:,} tokens was asked for; {longest:,} is the longest there is")
    for length in contexts:
        print(f"\n{length:,} tokens of context\n\n{render_markdown(_table(options, length, machines))}", end="")
    print()
    for machine in machines:
        free = f"{_gb(machine.usable_bytes)} of {_gb(machine.memory_bytes)} GB"
        print(f"{machine.name}: {free} for the model ({machine.assumption})")
    print("\n".join(NOTES))
    print(_answer(options, contexts, machines[-1]))


def find_options(name: str, runs: Path) -> list[Option]:
    """The levels that a model could have; of GGUF files that are quantized already, those they have."""
    path = Path(find_model(name, runs)).expanduser()
    if path.is_dir() and (path / "config.json").is_file():
        return _levels(describe(path))
    files = sorted(path.glob("*.gguf")) if path.is_dir() else [path] if path.is_file() else []
    # An importance matrix is kept as a GGUF file too.
    files = [file for file in files if file.name != "imatrix.gguf"]
    if not files:
        raise InputError(
            "there is no model here to look at",
            where=name,
            fix="name a model folder with config.json, a .gguf file, a folder of them, or a run",
        )
    found = [_option(file) for file in files]
    is_float = len(found) == 1 and all(tensor.type in FLOATS for tensor in found[0].tensors)
    return _levels(found[0].described) if is_float else sorted(found, key=lambda option: -option.num_bytes)


def _option(file: Path) -> Option:
    header = read_model_header(file)
    return Option(file.stem, describe_header(header), header.tensors)


def _levels(described: Description) -> list[Option]:
    found = [Option(level, described, choose_types(described, level)) for level in LEVELS]
    return sorted(found, key=lambda option: -option.num_bytes)


def _table(options: Sequence[Option], num_ctx: int, machines: Sequence[Machine]) -> Table:
    rows: list[list[Any]] = []
    for option in options:
        needed = option.needed(num_ctx).total
        bits = f"{8 * option.num_bytes / option.described.num_weights:.2f}"
        verdicts = [machine.verdict(needed) for machine in machines]
        rows.append([option.name, _gb(option.num_bytes), bits, _gb(needed), *verdicts])
    columns = ["level", "weights GB", "bits/weight", "needed GB", *(machine.name for machine in machines)]
    return Table(columns, rows)


def _best(options: Sequence[Option], contexts: Sequence[int], machine: Machine) -> tuple[Option, int] | None:
    """The largest option that fits at 8,192 tokens, or at the only length asked for; else at a shorter one.

    float32 and bfloat16 are left out where there is a choice: float16 says the same in half, or as much.
    """
    options = [option for option in options if option.name not in ("f32", "bf16")] or options
    for num_ctx in sorted((length for length in contexts if length <= 8192), reverse=True) or contexts:
        name = fit.largest_fitting([(option.name, option.needed(num_ctx)) for option in options], machine)
        if name is not None:
            return next(option for option in options if option.name == name), num_ctx
    return None


def _answer(options: Sequence[Option], contexts: Sequence[int], machine: Machine) -> str:
    best = _best(options, contexts, machine)
    if best is None:
        smallest = min(options, key=lambda option: option.num_bytes)
        needed = _gb(smallest.needed(contexts[0]).total)
        return f"nothing fits this machine: {smallest.name} needs {needed} GB, {_gb(machine.usable_bytes)} GB are free"
    option, num_ctx = best
    needed = option.needed(num_ctx).total
    tight = ", tightly" if machine.verdict(needed) == "tight" else ""
    return (
        f"largest that fits this machine{tight}: {option.name} with {num_ctx:,} tokens of context "
        f"({_gb(needed)} GB needed, {_gb(machine.usable_bytes)} GB free)"
    )


def _as_json(
    name: str, options: Sequence[Option], contexts: Sequence[int], machines: Sequence[Machine]
) -> dict[str, Any]:
    best = _best(options, contexts, machines[-1])
    return {
        "model": name,
        "num_weights": options[0].described.num_weights,
        "context_length": options[0].described.shape.context_length,
        "machines": [
            {"name": m.name, "memory_bytes": m.memory_bytes, "usable_bytes": m.usable_bytes, "assumption": m.assumption}
            for m in machines
        ],
        "levels": [
            {
                "level": option.name,
                "weights_bytes": option.num_bytes,
                "bits_per_weight": round(8 * option.num_bytes / option.described.num_weights, 4),
                "contexts": [_cell(option, num_ctx, machines) for num_ctx in contexts],
            }
            for option in options
        ],
        "best": {"level": best[0].name, "num_ctx": best[1]} if best else None,
        "notes": list(NOTES),
    }


def _cell(option: Option, num_ctx: int, machines: Sequence[Machine]) -> dict[str, Any]:
    needed = option.needed(num_ctx)
    fits = {machine.name: machine.verdict(needed.total) for machine in machines}
    return {"num_ctx": num_ctx, "memory_bytes": needed.total, "memory": needed.parts, "fits": fits}


def _gb(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.2f}"
