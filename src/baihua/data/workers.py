"""One function run over many pieces of work by Daft: in processes on this machine, or on a Ray cluster.

The arguments of a piece are plain values that name files; its result is a dict of plain values. Results are kept next
to the output (`STEM.json`, written last), so a finished piece is never repeated: after a kill, or when a worker dies,
only the rest is run. On a cluster every machine must see the files under the same path.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
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

Work = Callable[..., dict[str, Any]]


@dataclass(frozen=True, slots=True)
class WorkPiece:
    """One piece of work: the stem of its output files, and its own arguments."""

    out: Path
    arguments: dict[str, Any]

    @property
    def record(self) -> Path:
        """The file that holds the result of a finished piece."""
        return self.out.with_name(f"{self.out.name}.json")


def run_pieces(
    work: Work, pieces: Sequence[WorkPiece], *, label: str, cluster: str | None = None
) -> Iterator[dict[str, Any]]:
    """The result of each piece, in order.

    `work` is a function of a module, or a partial of one; it is called as `work(out=Path, **arguments)`. If it raises
    a BaihuaError, so does this. `label` names the progress bar. A single piece without a cluster runs in this process:
    starting others takes 0.8 s.
    """
    left = list(pieces)
    for attempt in range(1, MAX_NUM_ATTEMPTS + 1):
        try:
            for result in _stream(work, tuple(left), label, cluster, is_retry=attempt > 1):
                left.pop(0)
                yield result
            return
        except _worker_losses() as error:
            reason = (str(error) or type(error).__name__).strip().partition("\n")[0][:200]
            logger.warning("a worker process died (%s) in attempt %s of %s", reason, attempt, MAX_NUM_ATTEMPTS)
    fix = "memory probably ran out; finished work is kept, so run the same command again"
    raise RunError(f"worker processes died {MAX_NUM_ATTEMPTS} times in a row", where=str(left[0].out), fix=fix)


def _stream(
    work: Work, pieces: Sequence[WorkPiece], label: str, cluster: str | None, *, is_retry: bool
) -> Iterator[dict[str, Any]]:
    waiting = [piece for piece in pieces if not piece.record.is_file()]
    # A piece that killed a worker must not run in this process.
    is_here = cluster is None and len(waiting) <= 1 and not is_retry
    results = (_do(work, piece) for piece in waiting) if is_here else _distribute(work, waiting, cluster)
    stems = {piece.out for piece in waiting}
    with progress_bar(f"{label} shards", len(pieces), is_shown=len(pieces) >= MIN_NUM_SHOWN) as bar:
        for piece in pieces:
            done = next(results) if piece.out in stems else json.loads(piece.record.read_text(encoding="utf-8"))
            yield _checked(done)
            bar.advance()


def _distribute(work: Work, pieces: Sequence[WorkPiece], cluster: str | None) -> Iterator[dict[str, Any]]:
    """Results of workers, in order, as they come."""
    forbid_telemetry()
    import daft

    num_cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    num_workers = _use_ray(cluster) if cluster else min(num_cores, len(pieces))
    worker = daft.cls(_Worker, use_process=True, max_concurrency=num_workers)(work, kinds.extra_paths())
    tasks = [json.dumps([str(piece.out), piece.arguments]) for piece in pieces]
    frame = daft.from_pydict({"task": tasks})
    frame = frame.into_partitions(len(tasks)) if cluster else frame.into_batches(1)
    for row in frame.select(worker(daft.col("task")).alias("result")).iter_rows():
        yield json.loads(row["result"])


class _Worker:
    """Runs pieces in another process, after adding the user's folders of extensions there."""

    def __init__(self, work: Work, extra_paths: dict[str, list[str]]) -> None:
        kinds.add_paths(extra_paths)
        self._work = work

    def __call__(self, task: str) -> str:
        out, arguments = json.loads(task)
        return json.dumps(_do(self._work, WorkPiece(Path(out), arguments)))


def _do(work: Work, piece: WorkPiece) -> dict[str, Any]:
    """Run one piece; errors are returned as values."""
    try:
        result = work(out=piece.out, **piece.arguments)
    except BaihuaError as error:
        return {"error": {"what": error.what, "where": error.where, "fix": error.fix}}
    except Exception:  # A worker's top level: a bug is returned, or it would look like a dead worker.
        return {"bug": traceback.format_exc()}
    write_json(piece.record, result)
    return result


def _checked(result: dict[str, Any]) -> dict[str, Any]:
    if "error" in result:
        raise InputError(**result["error"])
    if "bug" in result:
        logger.debug("%s", result["bug"])
        what = f"internal error: {result['bug'].strip().splitlines()[-1]}"
        raise RunError(what, where="in a worker process", fix="run it again with --debug and report what it prints")
    return result


@cache
def _use_ray(address: str) -> int:
    """Let Daft work on a Ray cluster, or on a private Ray instance for `local`; return the number of its CPUs."""
    connect(address, allows_client=True)
    import daft
    import ray  # pyright: ignore[reportMissingImports]  (the extra `cluster`)

    daft.set_runner_ray()
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def _worker_losses() -> tuple[type[BaseException], ...]:
    """The errors that Daft raises, here and on Ray, when a worker process dies; errors of the work are values."""
    from daft.exceptions import DaftCoreException

    return (RuntimeError, DaftCoreException)
