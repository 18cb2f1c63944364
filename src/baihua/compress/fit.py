"""An estimate of the memory that a model needs to answer in llama.cpp, and the machines on which that fits.

Each term is one allocation of llama.cpp. The sum is within `MARGIN` of the measured peak of a process, for 18
combinations of shapes, levels and contexts (`bench/compress/fit.py`; docs/log.md, 2026-11-26). Needs no torch.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from baihua.compress.levels import FIRST, TypeChoice, choose_types
from baihua.core.system import ROOT, free_memory_bytes, total_memory_bytes
from baihua.core.tables import format_bytes
from baihua.modelfiles.description import Description, describe, describe_shape
from baihua.modelfiles.gguf_header import Tensor
from baihua.modelfiles.shape import Shape

GIB = 2**30
Verdict = Literal["yes", "tight", "no"]
MARGIN = 0.1
"""Largest relative error of the estimate."""
# llama.cpp reads a prompt in batches of this many tokens (n_ubatch; its default, and ours).
NUM_BATCH_TOKENS = 512
KEY_BYTES = 2
"""Bytes of a value in the KV cache: float16 is llama.cpp's default."""
# Measured (bench/compress/fit.py, 2026-12-01): Python with numpy, gguf, xllamacpp, pydantic and what else a chat
# imports (14 MB more than in November, when a chat did not load pydantic and tokenizers); and for each token of
# the vocabulary its text, its merge and the tables that find them, in llama.cpp and in our tokenizer.
PROGRAM_BYTES = 76_000_000
BYTES_PER_TOKEN = 950
# Measured: metadata of SmolLM2-135M with 49,152 tokens and 48,900 merges takes 1.79 MB of a file.
HEADER_BYTES_PER_TOKEN = 36
CHAT_CONTEXT = 4096
"""Context in tokens with which `baihua chat` opens a file."""
SizedTensor = Tensor | TypeChoice
"""A tensor of a GGUF file, or one that would be written."""


@dataclass(frozen=True, slots=True)
class Needed:
    """Bytes that a model needs while it answers; of the device's memory where a GPU computes."""

    weights: int
    kv_cache: int
    working: int
    """Activations, attention mask and logits of a batch."""
    program: int
    """The process without the model, and the vocabulary."""

    @property
    def total(self) -> int:
        """The sum of the parts."""
        return self.weights + self.kv_cache + self.working + self.program


@dataclass(frozen=True, slots=True)
class Host:
    """A machine that could run a model, and how much of its memory a model may use."""

    name: str
    memory_bytes: int
    reserved_bytes: int
    """Used by the system and other programs."""
    assumption: str
    """The reason for `reserved_bytes`."""

    @property
    def usable_bytes(self) -> int:
        """Memory left for the model."""
        return self.memory_bytes - self.reserved_bytes

    def verdict(self, num_bytes: int) -> Verdict:
        """Whether this many bytes fit; `tight` where the error of the estimate could decide."""
        if num_bytes > self.usable_bytes:
            return "no"
        return "tight" if num_bytes > (1 - MARGIN) * self.usable_bytes else "yes"


# Assumptions, not measurements: a machine with more programs open has less.
HOSTS = (
    Host("Raspberry Pi 4 GB", 4 * GIB, 1 * GIB, "the system and its desktop use 1 GiB"),
    Host("Raspberry Pi 8 GB", 8 * GIB, 1 * GIB, "the system and its desktop use 1 GiB"),
    Host("laptop 16 GB", 16 * GIB, 6 * GIB, "the system, a browser and other programs use 6 GiB"),
    Host("GPU 24 GB", 24 * GIB, 3 * GIB // 2, "the driver, a screen and llama.cpp's CUDA context use 1.5 GiB"),
    Host("GPU 80 GB", 80 * GIB, 3 * GIB // 2, "the driver and llama.cpp's CUDA context use 1.5 GiB"),
)


def this_machine(root: Path = ROOT) -> Host:
    """This machine with its free memory, or less in a limited cgroup; `root` holds /proc and /sys."""
    total = total_memory_bytes(root)
    return Host("this machine", total, total - free_memory_bytes(root), "free at this moment")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A level that a model could have, or a GGUF file."""

    name: str
    description: Description
    tensors: Sequence[SizedTensor]

    @property
    def num_bytes(self) -> int:
        """Bytes of the weights."""
        return sum(tensor.num_bytes for tensor in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        """Bits of the weights, the vocabulary not counted."""
        return 8 * self.num_bytes / self.description.num_weights

    def needed(self, num_ctx: int) -> Needed:
        """Memory for one conversation of `num_ctx` tokens."""
        return memory_of(self.description.shape, self.tensors, num_ctx)


def candidates_of(description: Description, levels: Iterable[str]) -> list[Candidate]:
    """A model at each of these levels."""
    return [Candidate(level, description, choose_types(description, level)) for level in levels]


def memory_of(shape: Shape, tensors: Iterable[SizedTensor], num_ctx: int, num_slots: int = 1) -> Needed:
    """Memory for `num_slots` conversations at once, of `num_ctx` tokens each."""
    weights = sum(tensor.num_bytes for tensor in tensors)
    kv_cache = 2 * KEY_BYTES * shape.num_layers * shape.key_width * num_ctx * num_slots
    program = PROGRAM_BYTES + BYTES_PER_TOKEN * shape.num_tokens
    return Needed(weights, kv_cache, _working(shape, num_ctx, num_slots), program)


def _working(shape: Shape, num_ctx: int, num_outputs: int) -> int:
    """llama.cpp's compute buffer, and its output buffer with the logits of one token of each conversation.

    Fitted to the sizes in llama.cpp's own log (five shapes of 4 to 32 layers, 512 to 8,192 tokens): exact to 0.3 %. The
    peak of a layer is in its MLP: gate, up and their product, and five vectors of the model's width. Where queries
    and keys are wider it is in attention, and up to a tenth lower than this.
    """
    layer = max(3 * shape.mlp_width, 2 * (shape.query_width + shape.key_width))
    mask = 2 * NUM_BATCH_TOKENS * num_ctx
    return 4 * NUM_BATCH_TOKENS * (layer + 5 * shape.width) + mask + 4 * num_outputs * shape.num_tokens


def contexts(shape: Shape, wanted: int | None = None) -> list[int]:
    """Context lengths to show: the wanted one, or 2,048, 8,192 and the model's longest; never more than that."""
    longest = shape.context_length
    return [min(wanted, longest)] if wanted else sorted({min(2048, longest), min(8192, longest), longest})


def best_fit(candidates: Sequence[Candidate], lengths: Sequence[int], host: Host) -> tuple[Candidate, int] | None:
    """The largest candidate that fits, and its context: at most 8,192 tokens where there is a choice, else shorter.

    A tight fit counts only where nothing else fits. float32 and bfloat16 are left out where there is a choice: float16
    has the same predictions at half the size, or at the same.
    """
    candidates = [one for one in candidates if one.name not in ("f32", "bf16")] or candidates
    for num_ctx in sorted((length for length in lengths if length <= 8192), reverse=True) or lengths:
        for verdict in ("yes", "tight"):
            fitting = [one for one in candidates if host.verdict(one.needed(num_ctx).total) == verdict]
            if fitting:
                return max(fitting, key=lambda one: one.num_bytes), num_ctx
    return None


def forecast(levels: Sequence[str], model: Path | Shape | None) -> dict[str, Any]:
    """Disk that the levels of a model take, f16 included, and the memory that each needs to answer.

    A Shape stands for a Llama that is not built yet. The memory of the export itself is left out: it was not measured.
    """
    if model is None:
        return {"unknown": "the model is not built yet: run its stage, or add --assume model=NAME"}
    description = describe_shape(model) if isinstance(model, Shape) else describe(model)
    num_ctx = min(CHAT_CONTEXT, description.shape.context_length)
    disk_bytes, lines = 0, list[str]()
    for one in candidates_of(description, dict.fromkeys([FIRST, *levels])):
        size, needed = one.num_bytes + HEADER_BYTES_PER_TOKEN * description.shape.num_tokens, one.needed(num_ctx).total
        disk_bytes += size
        needs = f"needs {format_bytes(needed)} with a context of {num_ctx:,} tokens"
        lines.append(f"{one.name}: {format_bytes(size)}, {needs}")
    return {"disk_bytes": disk_bytes, "assumptions": lines}
