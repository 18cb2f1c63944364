"""The workload that a recipe's settings make on a device, and the changes that make it fit into memory."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

from pydantic import ValidationError

from baihua.core import kinds
from baihua.core.config import Base
from baihua.core.errors import InputError
from baihua.modelfiles.shape import Shape
from baihua.train.config import TrainingConfig
from baihua.train.methods import METHODS, find_method
from baihua.train.plan.memory import Trained, Workload, estimate_memory

TOKENS_PER_BATCH = {"cpu": 2048, "cuda": 8192}
SMALLEST_BATCH = 256


def make_workload(
    config: TrainingConfig,
    shape: Shape,
    lengths: Sequence[int],
    *,
    target_share: float,
    device: Literal["cpu", "cuda"],
    precision: Literal["float32", "bfloat16"],
    num_processes: int,
) -> Workload:
    """The workload of a model of this shape and of examples of these lengths, without recomputation."""
    batches = config.batches
    # No batch is larger than a process's part of a step, even if the longest rows meet in one.
    longest = sorted(lengths, reverse=True)[: max(1, batches.num_rows_per_step // num_processes)]
    in_step = batches.num_tokens_per_step or round(sum(longest) / len(longest) * batches.num_rows_per_step)
    return Workload(
        shape=shape,
        trained=find_method(config.method.kind).describe(shape, config.method),
        num_tokens_per_batch=min(tokens_per_batch(config, device), max(config.max_length, in_step // num_processes)),
        mean_length=sum(lengths) / len(lengths),
        target_share=target_share,
        precision=precision,
        optimizer=config.optimizer.kind,
        parallel=config.running.parallel,
        num_processes=num_processes,
        device=device,
    )


def tokens_per_batch(config: TrainingConfig, device: Literal["cpu", "cuda"]) -> int:
    """Most tokens of a batch."""
    wanted = config.batches.num_tokens_per_batch
    if wanted is not None and wanted < config.max_length:
        raise InputError(
            f"a batch of {wanted:,} tokens cannot hold an example of {config.max_length:,}",
            where="batches.num_tokens_per_batch",
            fix="raise it to at least max_length, or lower max_length",
        )
    return wanted or max(config.max_length, TOKENS_PER_BATCH[device])


def choose_recomputation(work: Workload, free_bytes: int, *, wanted: bool | Literal["auto"]) -> Workload:
    """The workload with recomputation as wanted; `auto` switches it on if the workload would not fit without it."""
    return replace(work, recomputes=not _fits(work, free_bytes) if wanted == "auto" else wanted)


def ways_to_fit(work: Workload, method: Base, free_bytes: int, *, least_tokens: int) -> list[str]:
    """Changes of a recipe each of which makes a workload fit that does not; if none does alone, all of them together.

    A batch has at least `least_tokens`. Empty if nothing helps.
    """
    smallest, halved = (max(least_tokens, size) for size in (SMALLEST_BATCH, work.num_tokens_per_batch // 2))
    ways = {
        f"batches.num_tokens_per_batch={size}": replace(work, num_tokens_per_batch=size)
        for size in sorted({smallest, halved})
    }
    ways["running.gradient_checkpointing=true"] = replace(work, recomputes=True)
    lighter = {f"method.kind={kind}": trained for kind, trained in matrices_instead(work.shape, method)}
    ways |= {way: replace(work, trained=trained) for way, trained in lighter.items()}
    if fitting := [way for way, changed in ways.items() if _fits(changed, free_bytes)]:
        return fitting
    everything = replace(work, num_tokens_per_batch=smallest, recomputes=True)
    together = f"running.gradient_checkpointing=true and batches.num_tokens_per_batch={smallest}"
    if lighter:
        way = min(lighter, key=lambda name: estimate_memory(replace(work, trained=lighter[name])).total)
        everything, together = replace(everything, trained=lighter[way]), f"{together} and {way}"
    return [together] if _fits(everything, free_bytes) else []


def matrices_instead(shape: Shape, method: Base) -> Iterator[tuple[str, Trained]]:
    """Other methods that add matrices to frozen weights, with the settings that this one has too."""
    settings = method.model_dump()
    for kind in kinds.names(METHODS):
        other = find_method(kind)
        shared = settings.keys() & other.Config.model_fields.keys() - {"kind"}
        try:
            trained = other.describe(shape, other.Config(**{name: settings[name] for name in sorted(shared)}))
        except ValidationError:
            continue  # It has a required setting that this method does not have.
        if kind != settings["kind"] and trained.is_adapter and trained.num_kept:
            yield kind, trained


def _fits(work: Workload, free_bytes: int) -> bool:
    return estimate_memory(work).total <= free_bytes
