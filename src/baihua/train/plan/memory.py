"""How much memory a training will need, and how many operations, from the shape of its model alone; no torch needed.

Every term says which tensors of ours or of transformers it counts; `tests/train/test_memory.py` compares with what
autograd really keeps, `bench/train/estimate.py` with the measured peak of a process or a GPU.
"""

from dataclasses import asdict, dataclass
from typing import Literal

from baihua.modelfiles.shape import Shape

ADAPTERS = ("lora", "int8", "qlora", "embeddings")
METHODS = (*ADAPTERS, "full", "freeze")
# Bytes of a frozen weight of the decoder's linear layers. int8: one, and 4 for each row. nf4: half of one, 1 for each
# 64 weights and 4 for each 256 of those (arXiv 2305.14314, section 3).
QUANTIZED = {"int8": 1.0, "qlora": 0.5 + 1 / 64 + 4 / (64 * 256)}
# Logits alive at once (see loss.py): a slice in float32 and its softmax while it is computed, then its softmax and
# two gradients.
BYTES_PER_LOGIT = 12
SLICE, LONG_SLICE = 2**23, 2**26
# Measured, not derived (docs/log.md, 2026-11-25): what a process holds once torch, transformers and peft have worked,
# and a CUDA context with its libraries.
FIXED_BYTES = {"cpu": 640_000_000, "cuda": 600_000_000}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is trained, and how, as far as memory and work depend on it."""

    method: str
    num_tokens_per_batch: int
    mean_length: float
    """Tokens of an example, on average."""
    target_share: float
    """Share of the tokens that are learnt, 0 to 1."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    rank: int = 16
    target_modules: tuple[str, ...] = ()
    has_dropout: bool = False
    num_trained_layers: int = 0
    """For `freeze`."""
    num_trained_rows: int = 0
    """Rows of the vocabulary beside adapters; all of them where `freeze` trains the output layer."""
    optimizer_kind: Literal["adamw", "adamw_8bit"] = "adamw"
    uses_checkpointing: bool = False
    num_processes: int = 1
    parallel: Literal["ddp", "fsdp"] = "ddp"
    device: Literal["cpu", "cuda"] = "cuda"

    @property
    def num_bytes(self) -> int:
        """Bytes of a number in the precision of computing."""
        return 4 if self.precision == "float32" else 2

    @property
    def num_shards(self) -> int:
        """Processes among which weights, gradients and moments are divided."""
        return self.num_processes if self.parallel == "fsdp" else 1


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on the device at the peak of a step."""

    weights: int
    """Frozen ones, as the method holds them."""
    trained: int
    """Float32."""
    gradients: int
    optimizer: int
    activations: int
    """What is kept for the way back."""
    logits: int
    """A slice of them, and the gradients that the loss makes on the way forward."""
    temporary: int
    """What a layer needs beside that on its way back, or copies of weights in the precision of computing."""
    fixed: int
    """Python, libraries and compiled kernels; on a GPU its context."""

    @property
    def total(self) -> int:
        """The peak."""
        return sum(asdict(self).values())


def count_trained(shape: Shape, job: Job) -> int:
    """How many weights are trained."""
    if job.method == "full":
        return shape.num_weights
    if job.method == "freeze":
        return job.num_trained_layers * shape.num_layer_weights + job.num_trained_rows * shape.width
    rows = job.num_trained_rows * shape.width * (1 if shape.is_tied else 2)
    return rows + shape.num_layers * _adapter_weights(shape, job)


def estimate_memory(shape: Shape, job: Job) -> Memory:
    """Peak of a training step that is not the first and has several batches, so that all parts are there at once."""
    trained = count_trained(shape, job) // job.num_shards
    num_layers = _num_kept_layers(shape, job)
    in_layer = kept_per_token(shape, job) * job.num_tokens_per_batch
    # With checkpointing a layer keeps its input, and one layer at a time everything.
    input_bytes = shape.width * (4 if job.method == "full" else job.num_bytes) * job.num_tokens_per_batch
    kept = num_layers * (input_bytes if job.uses_checkpointing else in_layer)
    in_loss = _logits_bytes(shape, job)
    on_way_back = _backward_bytes(shape, job) + (in_layer if job.uses_checkpointing else 0)
    # DDP keeps its buckets beside the gradients; FSDP gathers a layer, and the next one meanwhile.
    num_gradients = 2 if job.num_processes > job.num_shards else 1
    gathered = job.num_bytes * (2 * shape.num_layer_weights + shape.num_head_weights) if job.num_shards > 1 else 0
    # The loss and the way back through the last layer come after each other: the larger one counts.
    logits = in_loss if in_loss >= on_way_back else 0
    holes = _holes_bytes(shape, job, num_layers)
    # On a CPU the pages of a checkpoint count that is read back, two moments a weight, when the logits are gone; the
    # gradients left holes in the heap.
    saved = max(0, 8 * trained - logits) if job.device == "cpu" else 0
    return Memory(
        weights=_frozen_bytes(shape, job) // job.num_shards,
        trained=4 * trained,
        gradients=4 * trained * num_gradients,
        optimizer=(8 if job.optimizer_kind == "adamw" else 2) * trained,
        activations=kept,
        logits=logits,
        temporary=_copied_bytes(shape, job) + gathered + holes + saved + (0 if logits else on_way_back),
        fixed=FIXED_BYTES[job.device],
    )


def kept_per_token(shape: Shape, job: Job) -> int:
    """Bytes that autograd keeps for a token in one layer; compared with autograd's own in the tests."""
    size, width, mlp = job.num_bytes, shape.width, shape.mlp_width
    # RMSNorm keeps its input in float32, and its root; twice a layer.
    norms = 2 * (4 * width + 4)
    # Our attention keeps queries, keys, values and its output, which what follows keeps as its input.
    attention = size * 2 * (shape.query_width + shape.key_width)
    # SwiGLU keeps the gate, its activation and what it multiplies.
    swiglu = 3 * size * mlp
    if job.method in ADAPTERS:
        return norms + attention + swiglu + _kept_by_adapters(shape, job)
    # A trained norm keeps what it scales; a trained matrix its input: shared in float32, in bfloat16 a copy for each.
    norms += 2 * width * (4 if job.method == "full" else size)
    inputs = 2 if size == 4 else 5
    return norms + attention + swiglu + size * (inputs * width + mlp)


def operations_per_token(shape: Shape, job: Job) -> float:
    """Multiplications and additions for a token of training, recomputation included."""
    num_back = job.num_trained_layers if job.method == "freeze" else shape.num_layers
    is_trained = job.method not in ADAPTERS
    matrices = 2 * shape.num_layer_weights
    # A token attends to half of its example on average: two products forward; back five, and on a CPU both again.
    attention = 2 * shape.query_width * job.mean_length
    back = matrices * (2 if is_trained else 1) + attention * (3.5 if job.device == "cpu" else 2.5)
    back += (matrices + attention) if job.uses_checkpointing else 0
    adapters = 6 * shape.num_layers * _adapter_weights(shape, job) if not is_trained else 0
    # Only targets meet the output layer.
    head = 2 * shape.num_head_weights * (3 if _trains_head(job) else 2) * job.target_share
    return shape.num_layers * (matrices + attention) + num_back * back + adapters + head


def _trains_head(job: Job) -> bool:
    return job.method == "full" or (job.method == "freeze" and job.num_trained_rows > 0)


def _num_kept_layers(shape: Shape, job: Job) -> int:
    return job.num_trained_layers if job.method == "freeze" else shape.num_layers


def _adapter_weights(shape: Shape, job: Job) -> int:
    """Weights of the added matrices of a layer."""
    return sum(job.rank * sum(shape.linears[name]) for name in job.target_modules)


def _kept_by_adapters(shape: Shape, job: Job) -> int:
    """What the added matrices keep: their inputs, which several share, and what lies between the two."""
    widths = {name: shape.linears[name][0] for name in job.target_modules}
    between = job.rank * len(widths)
    if job.has_dropout:
        # Each has dropped an input of its own, and keeps the mask (in the precision of computing on a CPU).
        return job.num_bytes * (2 * sum(widths.values()) + between)
    # bitsandbytes' layers of 8 bits keep their input whether there is a matrix beside them or not.
    read = shape.linears if job.method == "int8" else widths
    attention = shape.width * any(name in read for name in ("q_proj", "k_proj", "v_proj"))
    mlp = shape.width * any(name in read for name in ("gate_proj", "up_proj"))
    down = shape.mlp_width * ("down_proj" in read)
    return job.num_bytes * (attention + mlp + down + between)


def _frozen_bytes(shape: Shape, job: Job) -> int:
    if job.method == "full":
        return 0
    layers = shape.num_layers - (job.num_trained_layers if job.method == "freeze" else 0)
    # `freeze` reads the trained layers apart from the others, in float32.
    ends = shape.num_head_weights * (1 if shape.is_tied else 2)
    per_weight = QUANTIZED.get(job.method, job.num_bytes)
    rows = 4 * sum(outputs for _, outputs in shape.linears.values()) if job.method == "int8" else 0
    # On a CPU the pages of the file that was quantized stay, because the embeddings are still read from it.
    pages = 2 if job.method in QUANTIZED and job.device == "cpu" else 0
    return round(layers * (shape.num_layer_weights * (per_weight + pages) + rows) + ends * job.num_bytes)


def _logits_bytes(shape: Shape, job: Job) -> int:
    """The loss: a slice of logits, and gradients of the hidden states of all targets."""
    is_trained = _trains_head(job)
    num_targets = round(job.target_share * job.num_tokens_per_batch)
    most = SLICE if job.device == "cpu" and not is_trained else LONG_SLICE
    num_rows = min(num_targets, max(1, most // shape.num_tokens))
    hidden = 2 * num_targets * shape.width * job.num_bytes
    # A trained head has its whole gradient, and a copy in the precision of computing.
    head = shape.num_head_weights * (4 + (2 if job.num_bytes == 2 else 0)) if is_trained else 0
    # With trained rows the whole matrix is put together for each use.
    head += 2 * shape.num_head_weights * job.num_bytes if job.num_trained_rows and job.method in ADAPTERS else 0
    return num_rows * shape.num_tokens * BYTES_PER_LOGIT + hidden + head


def _holes_bytes(shape: Shape, job: Job, num_layers: int) -> int:
    """What glibc's heap does not use again: holes of each layer that keeps something, and where layers keep nothing
    (checkpointing, `freeze`) three times what one of them needs, as measured on models of 135 million weights.
    """
    if job.device != "cpu":
        return 0
    per_layer = _holes_per_token(shape, job) * job.num_tokens_per_batch
    one_layer = per_layer + kept_per_token(shape, job) * job.num_tokens_per_batch
    if job.uses_checkpointing:
        return 3 * one_layer
    return num_layers * per_layer + (3 * one_layer if num_layers < shape.num_layers else 0)


def _holes_per_token(shape: Shape, job: Job) -> int:
    """Bytes of a layer that are freed between others that stay, on the way forward, and not used again by glibc's heap.

    It wants room for alignment beside an aligned tensor, so none fits into the hole of its like. A GPU's allocator
    rounds sizes, and reuses.
    """
    # A norm's square and, where its weight is frozen, what it scales, in float32; what is cast afterwards; the
    # outputs of attention and MLP; a product of the rotation.
    norms = (8 if job.method == "full" else 16) + (0 if job.num_bytes == 4 else 4 if job.method in ADAPTERS else 8)
    # In float32 nothing is cast, and all six tensors of a rotation are left, as measured (docs/log.md, 2026-11-26).
    rotation = (4 if job.method == "full" else job.num_bytes) * (shape.query_width + shape.key_width)
    rotation *= 6 if job.num_bytes == 4 else 1
    # PEFT's own layer adds two products outside.
    is_fused = job.method in ("full", "freeze", "embeddings") or (job.method == "lora" and not job.has_dropout)
    outputs = 0 if is_fused else sum(shape.linears[name][1] for name in job.target_modules)
    return (norms + 2 * job.num_bytes) * shape.width + rotation + job.num_bytes * outputs


def _backward_bytes(shape: Shape, job: Job) -> int:
    """On the way back through an MLP: gradients of gate and activation, the residual's, and those of a matrix."""
    per_token = 2 * job.num_bytes * shape.mlp_width + (2 * job.num_bytes + 4) * shape.width
    largest = shape.width * shape.mlp_width
    weight = largest * (0 if job.method in ("lora", "embeddings") else job.num_bytes if job.method in QUANTIZED else 6)
    return job.num_tokens_per_batch * per_token + weight


def _copied_bytes(shape: Shape, job: Job) -> int:
    """Autocast's copies of trained weights in bfloat16, which live until the way back has passed them."""
    if job.precision == "float32":
        return 0
    if job.method in ADAPTERS:
        return 2 * shape.num_layers * _adapter_weights(shape, job)
    return 2 * _num_kept_layers(shape, job) * shape.num_layer_weights
