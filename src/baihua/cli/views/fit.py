"""`doctor --fit`: a table of a model's levels, and the machines that can run each at a context length."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from baihua.cli.models import find_model
from baihua.cli.options import print_json
from baihua.compress import fit
from baihua.compress.fit import Candidate, Host
from baihua.compress.levels import FLOATS, LEVELS
from baihua.core.errors import InputError
from baihua.core.tables import Table, render_markdown
from baihua.modelfiles.description import describe, describe_header
from baihua.modelfiles.gguf_header import read_model_header

NOTES = (
    f"yes: needs at most {1 - fit.MARGIN:.0%} of the free memory; tight: within the error of the estimate",
    "needed: weights, f16 KV cache of one conversation, working memory, and the program itself",
    "`baihua chat` and `serve` cache up to 1 GiB more of earlier conversations",
    "llama.cpp may keep a second, rearranged copy of mapped weights (q4_0, q4_k, ...); the system may drop one of them",
    "GPU: all layers on the GPU; calculated, not measured",
)


def print_fit(name: str, *, runs: Path, num_ctx: int | None, as_json: bool) -> None:
    """Print the table of a model, and the largest level for this machine."""
    candidates = sorted(find_candidates(name, runs), key=lambda one: -one.num_bytes)
    first, longest = candidates[0].description, candidates[0].description.shape.context_length
    lengths = sorted({length for one in candidates for length in fit.contexts(one.description.shape, num_ctx)})
    hosts = (*fit.HOSTS, fit.this_machine())
    if as_json:
        facts = {"model": name, "num_weights": first.num_weights, "context_length": longest}
        print_json(facts | _as_json(candidates, lengths, hosts))
        return
    print(f"{name}: {first.num_weights / 1e6:,.0f} million weights, context of at most {longest:,} tokens")
    if num_ctx and num_ctx > longest:
        print(f"the model's context is shorter than {num_ctx:,} tokens; showing {longest:,}")
    for length in lengths:
        print(f"\ncontext of {length:,} tokens\n\n{render_markdown(_table(candidates, length, hosts))}", end="")
    print()
    for host in hosts:
        print(f"{host.name}: {_gb(host.usable_bytes)} of {_gb(host.memory_bytes)} GB for the model ({host.assumption})")
    print("\n".join(NOTES))
    print(_answer(candidates, lengths, hosts[-1]))


def find_candidates(name: str, runs: Path) -> list[Candidate]:
    """The levels that a model folder or a file in full precision could have, or quantized GGUF files as they are."""
    path = Path(find_model(name, runs)).expanduser()
    if path.is_dir() and (path / "config.json").is_file():
        return fit.candidates_of(describe(path), LEVELS)
    files = sorted(path.glob("*.gguf")) if path.is_dir() else [path] if path.is_file() else []
    headers = {file.stem: read_model_header(file) for file in files if file.name != "imatrix.gguf"}
    if not headers:
        fix = "name a model folder with config.json, a .gguf file, a folder of them, or a run"
        raise InputError("no model found", where=name, fix=fix)
    found = [Candidate(stem, describe_header(header), header.tensors) for stem, header in headers.items()]
    is_float = len(found) == 1 and all(tensor.type in FLOATS for tensor in found[0].tensors)
    return fit.candidates_of(found[0].description, LEVELS) if is_float else found


def _table(candidates: Sequence[Candidate], num_ctx: int, hosts: Sequence[Host]) -> Table:
    rows: list[list[Any]] = []
    for one in candidates:
        needed = one.needed(num_ctx).total
        verdicts = [host.verdict(needed) for host in hosts]
        rows.append([one.name, _gb(one.num_bytes), f"{one.bits_per_weight:.2f}", _gb(needed), *verdicts])
    return Table(["level", "weights GB", "bits/weight", "needed GB", *(host.name for host in hosts)], rows)


def _answer(candidates: Sequence[Candidate], lengths: Sequence[int], host: Host) -> str:
    best, free = fit.best_fit(candidates, lengths, host), _gb(host.usable_bytes)
    if best is None:
        smallest = candidates[-1]
        needed = _gb(smallest.needed(lengths[0]).total)
        return f"nothing fits this machine: {smallest.name} needs {needed} GB, {free} GB are free"
    one, num_ctx = best
    needed = one.needed(num_ctx).total
    tight = ", tightly" if host.verdict(needed) == "tight" else ""
    figures = f"{one.name} with a context of {num_ctx:,} tokens ({_gb(needed)} GB needed, {free} GB free)"
    return f"largest that fits this machine{tight}: {figures}"


def _as_json(candidates: Sequence[Candidate], lengths: Sequence[int], hosts: Sequence[Host]) -> dict[str, Any]:
    best = fit.best_fit(candidates, lengths, hosts[-1])
    return {
        "machines": [asdict(host) | {"usable_bytes": host.usable_bytes} for host in hosts],
        "levels": [
            {
                "level": one.name,
                "weights_bytes": one.num_bytes,
                "bits_per_weight": round(one.bits_per_weight, 4),
                "contexts": [_cell(one, num_ctx, hosts) for num_ctx in lengths],
            }
            for one in candidates
        ],
        "best": {"level": best[0].name, "num_ctx": best[1]} if best else None,
        "notes": list(NOTES),
    }


def _cell(one: Candidate, num_ctx: int, hosts: Sequence[Host]) -> dict[str, Any]:
    needed = one.needed(num_ctx)
    fits = {host.name: host.verdict(needed.total) for host in hosts}
    return {"num_ctx": num_ctx, "memory_bytes": needed.total, "memory": asdict(needed), "fits": fits}


def _gb(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.2f}"
