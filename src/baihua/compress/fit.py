"""How much memory a model takes while it answers in llama.cpp, and on which machines that fits; no torch needed.

Every term says what llama.cpp allocates for it; `bench/compress/fit.py` compares with the measured peak of a process.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from gguf.constants import GGMLQuantizationType

from baihua.compress.levels import choose_types
from baihua.core.system import free_memory_bytes, total_memory_bytes
from baihua.modelfiles.description import Description, describe, describe_shape
from baihua.modelfiles.shape import Shape

GIB = 2**30
Verdict = Literal["yes", "tight", "no"]
# llama.cpp reads a prompt in pieces of this many tokens (n_ubatch; its default, and ours).
NUM_BATCH_TOKENS = 512
KEY_BYTES = 2
"""Of a number of the KV cache: float16 is llama.cpp's default."""
# Measured, not derived (bench/compress/fit.py): Python with numpy, gguf, xllamacpp and what a chat imports; and for
# each token of the vocabulary its text, its merge and the tables that find them, in llama.cpp and in our tokenizer.
PROGRAM_BYTES = 62_000_000
BYTES_PER_TOKEN = 950
# The estimate's own error: bench/compress/fit.py stays within a tenth.
MARGIN = 0.1
# Of a file that is not tensors: SmolLM2-135M's 49,152 tokens and 48,900 merges take 1.79 MB.
HEADER_BYTES_PER_TOKEN = 36
CHAT_CONTEXT = 4096
"""Tokens of context with which `baihua chat` opens a file."""


class Sized(Protocol):
    """A tensor of a file, or one that would be written."""

    @property
    def type(self) -> GGMLQuantizationType:
        """Its type."""
        ...

    @property
    def num_bytes(self) -> int:
        """Bytes of its data."""
        ...


@dataclass(frozen=True, slots=True)
class Needed:
    """Bytes that a model needs while it answers; of the device's memory where a GPU computes."""

    weights: int
    kv_cache: int
    working: int
    """Activations, attention mask and logits of a piece of a prompt."""
    program: int
    """What the process holds anyway, the vocabulary with it."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.kv_cache + self.working + self.program

    @property
    def parts(self) -> dict[str, int]:
        """The parts by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Machine:
    """A kind of machine, and how much of its memory is left for a model."""

    name: str
    memory_bytes: int
    reserved_bytes: int
    """What the system and other programs keep."""
    assumption: str
    """Why so much."""

    @property
    def usable_bytes(self) -> int:
        """What is left."""
        return self.memory_bytes - self.reserved_bytes

    def verdict(self, num_bytes: int) -> Verdict:
        """`tight` is where the estimate's own error could decide."""
        if num_bytes > self.usable_bytes:
            return "no"
        return "tight" if num_bytes > (1 - MARGIN) * self.usable_bytes else "yes"


# Assumptions, not measurements: a machine with more programs open has less.
MACHINES = (
    Machine("Raspberry Pi 4 GB", 4 * GIB, 1 * GIB, "the system and its desktop keep 1 GiB"),
    Machine("Raspberry Pi 8 GB", 8 * GIB, 1 * GIB, "the system and its desktop keep 1 GiB"),
    Machine("laptop 16 GB", 16 * GIB, 6 * GIB, "the system, a browser and other programs keep 6 GiB"),
    Machine("GPU 24 GB", 24 * GIB, 3 * GIB // 2, "the driver, a screen and llama.cpp's CUDA context keep 1.5 GiB"),
    Machine("GPU 80 GB", 80 * GIB, 3 * GIB // 2, "the driver and llama.cpp's CUDA context keep 1.5 GiB"),
)


def this_machine() -> Machine:
    """This machine's memory that is free now."""
    total = total_memory_bytes()
    return Machine("this machine", total, total - free_memory_bytes(), "what is free right now counts")


def memory(described: Description, level: str, num_ctx: int, num_slots: int = 1) -> Needed:
    """What a model in a level needs for `num_slots` conversations at once, of `num_ctx` tokens each."""
    return memory_of(described.shape, choose_types(described, level), num_ctx, num_slots)


def memory_of(shape: Shape, tensors: Iterable[Sized], num_ctx: int, num_slots: int = 1) -> Needed:
    """The same for tensors that have their types."""
    return Needed(
        weights=sum(tensor.num_bytes for tensor in tensors),
        kv_cache=2 * KEY_BYTES * shape.num_layers * shape.key_width * num_ctx * num_slots,
        working=_working(shape, num_ctx, num_slots),
        program=PROGRAM_BYTES + BYTES_PER_TOKEN * shape.num_tokens,
    )


def _working(shape: Shape, num_ctx: int, num_outputs: int) -> int:
    """llama.cpp's compute buffer, and its output buffer with the logits of as many tokens as it keeps at once.

    Fitted to what llama.cpp says that it allocates (its own log, five shapes of 4 to 32 layers, 512 to 8,192 tokens):
    exact to 0.3 %. Within a layer the largest moment is the MLP's: its gate, its up and their product, and five
    vectors of the model's width. Where queries and keys are wide beside the MLP it is theirs, up to a tenth less than
    this. The logits come after the layers, in place of either.
    """
    attention = 2 * (shape.query_width + shape.key_width)
    layer = NUM_BATCH_TOKENS * max(3 * shape.mlp_width, attention)
    logits = num_outputs * shape.num_tokens
    width = NUM_BATCH_TOKENS * 5 * shape.width
    mask = NUM_BATCH_TOKENS * num_ctx
    return 4 * (max(layer, logits) + width) + 2 * mask + 4 * logits


def contexts(shape: Shape, wanted: int | None = None) -> list[int]:
    """Tokens of context to look at: as asked, or 2,048, 8,192 and the model's longest; never more than its longest."""
    longest = shape.context_length
    return [min(wanted, longest)] if wanted else sorted({min(2048, longest), min(8192, longest), longest})


def largest_fitting(needed: Sequence[tuple[str, Needed]], machine: Machine) -> str | None:
    """The name of the largest that fits for certain; else of the largest that is tight; None when nothing fits."""
    for verdict in ("yes", "tight"):
        fitting = [(item.weights, name) for name, item in needed if machine.verdict(item.total) == verdict]
        if fitting:
            return max(fitting)[1]
    return None


def forecast(
    levels: Sequence[str], model: Path | None, shape: Shape | None = None, *, first: str = "f16"
) -> dict[str, Any]:
    """Disk that the levels of a model take (`first` is always written too), and memory with which each will run.

    `shape` stands for a model that is not built yet, as a Llama; without either nothing is known. The memory of the
    writing itself is left out: it was not measured.
    """
    if shape is not None:
        described = describe_shape(shape)
    elif model is not None:
        described = describe(model)
    else:
        return {"unknown": "the model is not built yet: run its stage, or add --assume model=NAME"}
    num_ctx = min(CHAT_CONTEXT, described.shape.context_length)
    disk_bytes, lines = 0, list[str]()
    for level in dict.fromkeys([first, *levels]):
        choices = choose_types(described, level)
        size = sum(choice.num_bytes for choice in choices) + HEADER_BYTES_PER_TOKEN * described.shape.num_tokens
        needed = memory_of(described.shape, choices, num_ctx).total
        disk_bytes += size
        lines.append(f"{level}: {size / 1e9:.2f} GB, runs in {needed / 1e9:.2f} GB with {num_ctx:,} tokens of context")
    return {"disk_bytes": disk_bytes, "assumptions": lines}
