"""Run one function over many pieces of work: in processes of this machine, or on a Ray cluster, through Daft.

A piece of work is a dict of plain values that names files; its result is a dict too. Results are kept beside the
output (`KEY.json`, written last), so a piece that is finished is never done again: after a kill, or when a worker
dies, only the rest is run. On a cluster every machine must see the files under the same path.
"""

import json
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from baihua.core import kinds
from baihua.core.env import forbid_telemetry
from baihua.core.errors import BaihuaError, InputError, RunError
from baihua.core.files import write_json
from baihua.core.log import logger, progress_bar
from baihua.core.ray import connect

# A dead worker takes its pieces with it. They are run again, unless they kill every worker.
MAX_NUM_ATTEMPTS = 3
MIN_NUM_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Call:
    """A function of a module by its name, and the arguments that are the same for every piece."""

    module: str
    name: str
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Piece:
    """One piece of work: the stem of its output files, and its own arguments."""

    out: Path
    arguments: dict[str, Any]


def run_pieces(call: Call, pieces: Sequence[Piece], *, cluster: str | None = None) -> Iterator[dict[str, Any]]:
    """The result of each piece, in order.

    The function is called as `name(out=Path, **piece's arguments, **call's arguments)`. A BaihuaError of it is
    raised here. With one piece to do and no cluster it runs in this process: starting others takes 0.8 s.
    """
    left = list(pieces)
    for attempt in range(1, MAX_NUM_ATTEMPTS + 1):
        lost = None
        try:
            for result in _shown(call, len(left), _stream(call, tuple(left), cluster, is_retry=attempt > 1)):
                left.pop(0)
                yield result
        except _worker_losses() as error:
            lost = error
        if lost is None:
            return
        logger.warning("a worker was lost (%s); running its work again, try %s", _first_line(lost), attempt)
    raise RunError(
        f"workers were lost {MAX_NUM_ATTEMPTS} times in a row",
        where=str(left[0].out),
        fix="there may be too little memory; finished work is kept, so run the same command again",
    )


def _shown(call: Call, num_pieces: int, results: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The same results, with a bar where there are enough for one."""
    if num_pieces < MIN_NUM_SHOWN:
        yield from results
        return
    with progress_bar(f"{call.name.removesuffix('_piece')} shards", num_pieces) as bar:
        for result in results:
            bar.advance()
            yield result


def _stream(call: Call, pieces: Sequence[Piece], cluster: str | None, *, is_retry: bool) -> Iterator[dict[str, Any]]:
    waiting = [piece for piece in pieces if not _record(piece.out).is_file()]
    # What has killed a worker must not get this process.
    if not waiting or (cluster is None and len(waiting) == 1 and not is_retry):
        for piece in pieces:
            yield _checked(_do(call, str(piece.out), piece.arguments))
        return
    answers = _distribute(call, waiting, cluster)
    for piece in pieces:
        is_done = _record(piece.out).is_file() and piece not in waiting
        yield _checked(_read(piece.out) if is_done else json.loads(next(answers)))


def _distribute(call: Call, pieces: Sequence[Piece], cluster: str | None) -> Iterator[str]:
    """Answers of workers, in order, as they come."""
    forbid_telemetry()
    import daft

    num_workers = _use_ray(cluster) if cluster else min(_num_cores(), len(pieces))
    arguments = json.dumps([call.module, call.name, call.arguments])
    worker = daft.cls(_Worker, use_process=True, max_concurrency=num_workers)(arguments, kinds.extra_paths())
    tasks = [json.dumps([str(piece.out), piece.arguments]) for piece in pieces]
    frame = daft.from_pydict({"task": tasks})
    frame = frame.into_partitions(len(tasks)) if cluster else frame.into_batches(1)
    for row in frame.select(worker(daft.col("task")).alias("answer")).iter_rows():
        yield row["answer"]


class _Worker:
    """What runs in another process: it finds the function by its name, as extensions cannot be sent."""

    def __init__(self, call: str, extra_paths: dict[str, list[str]]) -> None:
        kinds.add_paths(extra_paths)
        self._call = Call(*json.loads(call))

    def __call__(self, task: str) -> str:
        out, arguments = json.loads(task)
        return json.dumps(_do(self._call, out, arguments))


def _do(call: Call, out: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Run one piece unless its record is there; what the user did wrong comes back as a value."""
    if _record(Path(out)).is_file():
        return _read(Path(out))
    function: Callable[..., dict[str, Any]] = vars(import_module(call.module))[call.name]
    try:
        result = function(out=Path(out), **arguments, **call.arguments)
    except BaihuaError as error:
        return {"error": {"what": error.what, "where": error.where, "fix": error.fix}}
    except Exception:  # A process ends here: a mistake of ours goes on as a value, so that it is not taken for a death.
        return {"mistake": traceback.format_exc()}
    write_json(_record(Path(out)), result)
    return result


def _checked(result: dict[str, Any]) -> dict[str, Any]:
    if "error" in result:
        error = result["error"]
        raise InputError(error["what"], where=error["where"], fix=error["fix"])
    if "mistake" in result:
        logger.debug("%s", result["mistake"])
        raise RunError(
            f"Baihua made a mistake: {result['mistake'].strip().splitlines()[-1]}",
            where="in a worker process",
            fix="run it again with --debug and report what it prints",
        )
    return result


def _record(out: Path) -> Path:
    return out.with_name(f"{out.name}.json")


def _read(out: Path) -> dict[str, Any]:
    return json.loads(_record(out).read_text(encoding="utf-8"))


@cache
def _use_ray(address: str) -> int:
    """Let Daft work on a Ray cluster, or on a private Ray instance for `local`; return the number of its CPUs."""
    connect(address, allows_client=True)
    import daft
    import ray  # pyright: ignore[reportMissingImports]  (the extra `cluster`)

    daft.set_runner_ray()
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def _worker_losses() -> tuple[type[BaseException], ...]:
    """What Daft raises, here and on Ray, when a process of its workers dies: functions answer with their mistakes."""
    from daft.exceptions import DaftCoreException

    return (RuntimeError, DaftCoreException)


def _num_cores() -> int:
    import psutil

    return len(psutil.Process().cpu_affinity() or [0]) if psutil.LINUX else psutil.cpu_count() or 1


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
