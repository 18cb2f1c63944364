"""A table of shards on disk, as filters see it that need all rows at once."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from baihua.core.files import appearing
from baihua.data.batch import Batch
from baihua.data.clean.table import Part
from baihua.data.shards import Source, kept_file
from baihua.data.workers import Call, Piece, run_pieces


class StoredTable:
    """See `table.Table`; what functions return stays in files under `folder`, so a rerun need not compute it again."""

    def __init__(self, stems: Sequence[Path], num_rows: int, folder: Path, cluster: str | None) -> None:
        self.num_rows = num_rows
        self._stems = stems
        self._folder = folder
        self._cluster = cluster
        self._num_calls = 0

    def map(self, function: Callable[[list[str]], np.ndarray], part: Part) -> np.ndarray:
        """One number or vector per row, in a mapped file."""
        folder = self._run(function, part, is_ragged=False)
        return _joined([folder / f"{stem.name}.npy" for stem in self._stems], folder / "all.npy")

    def map_ragged(
        self, function: Callable[[list[str]], tuple[np.ndarray, np.ndarray]], part: Part
    ) -> tuple[np.ndarray, np.ndarray]:
        """Any number of values per row, in a mapped file, and where each row's begin."""
        folder = self._run(function, part, is_ragged=True)
        values = _joined([folder / f"{stem.name}.npy" for stem in self._stems], folder / "all.npy")
        counts = [np.load(folder / f"{stem.name}.counts.npy") for stem in self._stems]
        return values, np.concatenate([[0], *counts]).cumsum()

    def _run(self, function: Callable[..., Any], part: Part, *, is_ragged: bool) -> Path:
        """Call a function on each shard's texts; the folder with a file for each."""
        # The order of a filter's calls is fixed, so their number tells them apart also in a rerun.
        folder = self._folder / f"map-{self._num_calls}"
        folder.mkdir(parents=True, exist_ok=True)
        self._num_calls += 1
        named, arguments = (function.func, function.keywords) if isinstance(function, partial) else (function, {})
        call = Call(
            __name__,
            "map_piece",
            {
                "module": named.__module__,
                "function": named.__name__,
                "arguments": arguments,
                "part": part,
                "is_ragged": is_ragged,
            },
        )
        pieces = [Piece(folder / stem.name, {"file": str(kept_file(stem))}) for stem in self._stems]
        for _ in run_pieces(call, pieces, cluster=self._cluster):
            pass
        return folder


def map_piece(
    *, out: Path, file: str, module: str, function: str, arguments: dict[str, Any], part: Part, is_ragged: bool
) -> dict[str, Any]:
    """Call a function on the texts of one shard and save what it returns."""
    from importlib import import_module

    texts = Batch(Source(file).read()).texts(part).to_pylist()
    found = vars(import_module(module))[function](texts, **arguments)
    arrays = {".npy": found[0], ".counts.npy": found[1]} if is_ragged else {".npy": found}
    for ending, array in arrays.items():
        with appearing(out.with_name(out.name + ending), is_shared=True) as partial, partial.open("wb") as stream:
            np.save(stream, array)
    return {"num_rows": len(texts)}


def _joined(files: Sequence[Path], target: Path) -> np.ndarray:
    """Arrays of files, one after the other, as one mapped file."""
    parts = [np.load(file, mmap_mode="r") for file in files]
    shape = (sum(len(part) for part in parts), *parts[0].shape[1:])
    if shape[0] == 0:
        return np.empty(shape, parts[0].dtype)
    whole = np.lib.format.open_memmap(target, mode="w+", dtype=parts[0].dtype, shape=shape)
    start = 0
    for part in parts:
        whole[start : start + len(part)] = part
        start += len(part)
    whole.flush()
    return np.load(target, mmap_mode="r")
