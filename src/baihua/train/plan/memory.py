"""Estimate of the memory and of the operations of a training, from the shape of its model; needs no torch.

Every term names the tensors that it counts: `tests/train/test_memory.py` compares them with what autograd really
keeps, `bench/train/estimate.py` with the measured peak of a process or a GPU. On a CPU glibc's heap keeps holes between
tensors of changing sizes, so that two runs of one training differ by up to 15 % in their peaks (docs/log.md,
2026-11-26); two fitted shares stand for all of that, and the estimate is within 15 % of the measured peaks.
"""

from dataclasses import asdict, dataclass
from typing import Literal

from baihua.modelfiles.shape import Shape

# Logits in memory at once (see layers/loss.py): 32 MiB of float32, which stay in the caches of the core. All logits of
# a batch with a vocabulary of 49,152 would take 200 MB per thousand targets, three times. 256 MiB where a head is
# trained, which adds to its whole gradient once per slice, and on a GPU, which is fast with long products only.
NUM_LOGITS_PER_SLICE, NUM_LOGITS_PER_LONG_SLICE = 2**23, 2**26
# A slice in float32 and its softmax while it is computed, then its softmax and two gradients.
BYTES_PER_LOGIT = 12
# Measured, not derived (docs/log.md, 2026-11-25): what a process holds once torch, transformers and peft have worked,
# and a CUDA context with its libraries.
FIXED_BYTES = {"cpu": 640_000_000, "cuda": 600_000_000}
# Holes in glibc's heap: a share of what all layers would keep without recomputation, and one of what they do keep.
# Fitted to the measured peaks of twelve trainings on a CPU.
HOLES_PER_FORWARD, HOLES_PER_KEPT = 0.2, 0.45


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a training method trains and how it holds the rest: all that memory and time depend on."""

    num_weights: int
    """Trained weights, all of them; held in float32, with a gradient and the moments of the optimizer."""
    num_layers: int
    """Decoder layers that the backward pass visits, counted from the last."""
    is_adapter: bool
    """Whether small matrices or rows are added to frozen layers; otherwise the weights of these layers are trained."""
    num_kept: int = 0
    """Numbers that an adapter keeps for the backward pass, per token and layer."""
    has_new_rows: bool = False
    """Whether an adapter trains rows of the vocabulary, which are joined with the frozen ones at each use."""
    trains_head: bool = False
    """Whether the output layer is trained as a whole."""
    trains_embeddings: bool = False
    """Whether the input rows are trained as a whole; hidden states are then float32."""
    bytes_per_frozen_weight: float | None = None
    """Of the linear layers; None for the precision of training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A model, what of it is trained, and on what: the input of the estimate."""

    shape: Shape
    trained: Trained
    num_tokens_per_batch: int
    mean_length: float
    """Tokens per example, on average."""
    target_share: float
    """Share of the tokens that are trained, 0 to 1."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"
    recomputes: bool = False
    """Whether activations are recomputed in the backward pass (gradient checkpointing)."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    num_processes: int = 1
    device: Literal["cpu", "cuda"] = "cuda"

    @property
    def num_bytes(self) -> int:
        """Bytes of a number in the precision of training."""
        return 4 if self.precision == "float32" else 2

    @property
    def num_shards(self) -> int:
        """Processes among which weights, gradients and moments are divided."""
        return self.num_processes if self.parallel == "fsdp" else 1


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on each device at the peak of a training step."""

    weights: int
    """Frozen ones, as the method holds them."""
    trained: int
    """Float32."""
    gradients: int
    optimizer: int
    activations: int
    """Kept for the backward pass."""
    logits: int
    """One slice, and the gradients that the loss computes in the forward pass."""
    temporary: int
    """Tensors of one layer's backward pass, copies of weights in the precision of training, and holes in the heap."""
    fixed: int
    """Python, libraries and compiled kernels; on a GPU its context."""

    @property
    def total(self) -> int:
        """The peak."""
        return sum(asdict(self).values())


def estimate_memory(work: Workload) -> Memory:
    """Memory at the peak of a training step that is not the first and has several batches, so that all parts exist."""
    shape, trained = work.shape, work.trained
    num_trained = trained.num_weights // work.num_shards
    in_layer = kept_per_token(work) * work.num_tokens_per_batch
    # With recomputation a layer keeps its input only, and one layer at a time everything.
    input_bytes = shape.width * (4 if trained.trains_embeddings else work.num_bytes) * work.num_tokens_per_batch
    kept = trained.num_layers * (input_bytes if work.recomputes else in_layer)
    in_loss, size = _loss_bytes(work), work.num_bytes
    # Backward pass of an MLP: gradients of gate and activation, of the residual, and of the largest matrix; quantized
    # weights are dequantized one matrix at a time.
    per_token = 2 * size * shape.mlp_width + (2 * size + 4) * shape.width
    per_weight = 6 if not trained.is_adapter else 0 if trained.bytes_per_frozen_weight is None else size
    in_backward = work.num_tokens_per_batch * per_token + shape.width * shape.mlp_width * per_weight
    in_backward += in_layer if work.recomputes else 0
    # The loss and the backward pass of the last layer follow each other, so the larger one counts.
    logits, in_backward = (in_loss, 0) if in_loss >= in_backward else (0, in_backward)
    # DDP keeps its buckets next to the gradients; FSDP gathers one layer and prefetches the next.
    num_gradients = 2 if work.num_processes > work.num_shards else 1
    gathered = work.num_bytes * (2 * shape.num_layer_weights + shape.num_head_weights) if work.num_shards > 1 else 0
    # Autocast's copies of trained weights in bfloat16, which live until the backward pass has used them.
    copies = 0 if work.precision == "float32" else 2 * trained.num_weights
    holes = HOLES_PER_FORWARD * shape.num_layers * in_layer + HOLES_PER_KEPT * kept if work.device == "cpu" else 0
    return Memory(
        weights=_frozen_bytes(work) // work.num_shards,
        trained=4 * num_trained,
        gradients=4 * num_trained * num_gradients,
        optimizer=(8 if work.optimizer == "adamw" else 2) * num_trained,
        activations=kept,
        logits=logits,
        temporary=round(copies + gathered + in_backward + holes),
        fixed=FIXED_BYTES[work.device],
    )


def kept_per_token(work: Workload) -> int:
    """Bytes that autograd keeps for one token in one layer; compared with autograd's own in the tests."""
    size, width, shape, trained = work.num_bytes, work.shape.width, work.shape, work.trained
    # RMSNorm keeps its input in float32 and the root, twice per layer.
    norms = 2 * (4 * width + 4)
    # Our attention keeps queries, keys, values and its output, which is also the input of the next layer.
    attention = size * 2 * (shape.query_width + shape.key_width)
    # SwiGLU keeps the gate, its activation and the other factor.
    swiglu = 3 * size * shape.mlp_width
    if trained.is_adapter:
        return norms + attention + swiglu + size * trained.num_kept
    # A trained norm keeps what it scales; a trained matrix its input: shared in float32, in bfloat16 a copy for each.
    norms += 2 * width * (4 if trained.trains_embeddings else size)
    return norms + attention + swiglu + size * ((2 if size == 4 else 5) * width + shape.mlp_width)


def operations_per_token(work: Workload) -> float:
    """Floating-point operations for one token of training, recomputation included."""
    shape, trained = work.shape, work.trained
    matrices = 2 * shape.num_layer_weights
    # A token attends to half of its example on average: two products forward and five backward; on a CPU, whose
    # kernel keeps no scores, both forward products again.
    attention = 2 * shape.query_width * work.mean_length
    backward = matrices * (1 if trained.is_adapter else 2) + attention * (3.5 if work.device == "cpu" else 2.5)
    backward += (matrices + attention) if work.recomputes else 0
    added = 6 * trained.num_weights if trained.is_adapter else 0
    # Only targets reach the output layer.
    head = 2 * shape.num_head_weights * (3 if trained.trains_head else 2) * work.target_share
    return shape.num_layers * (matrices + attention) + trained.num_layers * backward + added + head


def _frozen_bytes(work: Workload) -> int:
    """Frozen weights as the method holds them; embeddings and output layer are never quantized."""
    shape, trained = work.shape, work.trained
    own = 0 if trained.is_adapter else trained.num_weights
    in_layers = shape.num_layer_weights * (shape.num_layers - (0 if trained.is_adapter else trained.num_layers))
    per_weight: float = work.num_bytes
    if trained.bytes_per_frozen_weight is not None:
        # On a CPU the pages of the file that was quantized stay resident: the embeddings are still read from it.
        per_weight = trained.bytes_per_frozen_weight + (2 if work.device == "cpu" else 0)
    return round(in_layers * per_weight + (shape.num_weights - own - in_layers) * work.num_bytes)


def _loss_bytes(work: Workload) -> int:
    """A slice of logits, and the gradients of the hidden states of all targets and of a trained output layer."""
    shape, trained, size = work.shape, work.trained, work.num_bytes
    num_targets = round(work.target_share * work.num_tokens_per_batch)
    is_long = work.device != "cpu" or trained.trains_head
    num_logits = NUM_LOGITS_PER_LONG_SLICE if is_long else NUM_LOGITS_PER_SLICE
    num_rows = min(num_targets, max(1, num_logits // shape.num_tokens))
    hidden = 2 * num_targets * shape.width * size
    # A trained output layer has its whole gradient, and a copy in the precision of training.
    head = shape.num_head_weights * (4 + (2 if size == 2 else 0)) if trained.trains_head else 0
    # New rows are joined with the frozen ones to a whole matrix at each use.
    head += 2 * shape.num_head_weights * size if trained.has_new_rows else 0
    return num_rows * shape.num_tokens * BYTES_PER_LOGIT + hidden + head
