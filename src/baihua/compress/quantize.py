"""Quantization of a GGUF file to a level, block by block on all cores.

The quantization itself is ggml's own `ggml_quantize_chunk`. A thread reads, converts, checks and quantizes one block of
rows; the main thread writes the blocks in order. So neither file is ever in memory as a whole, and the bytes do not
depend on the number of threads.
"""

import os
import struct
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from gguf import quants
from gguf.constants import GGML_QUANT_SIZES, GGML_QUANT_VERSION, GGMLQuantizationType

from baihua.backends.llama_cpp.library import open_library
from baihua.compress.levels import FLOATS, TypeChoice, check_level, choose_types, file_type
from baihua.core.errors import InputError, RunError
from baihua.core.files import appearing
from baihua.core.log import logger
from baihua.modelfiles.description import describe_header
from baihua.modelfiles.gguf_header import GgufHeader, Tensor, read_model_header

Importance = Mapping[str, np.ndarray]
"""Mean square of each input of a matrix, float32, by the matrix's name."""

BLOCK_BYTES = 8 * 2**20
"""Float32 bytes of a block: small next to a tensor, large next to the cost of handing it to a thread."""
ALIGNMENT = 32
UINT32 = 4
FIXED_BYTES = 24
"""Bytes of magic, version and two counts, which precede the metadata."""


def quantize_gguf(
    source: Path,
    file: Path,
    *,
    level: str,
    importance: Importance | None = None,
    is_forced: bool = False,
    num_threads: int | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> None:
    """Write `source` at another level; `file` appears only once it is complete.

    Raises an InputError for a source that is already quantized, unless forced: each quantization adds its own error.
    Memory: about 16 MB a thread.
    """
    header = read_model_header(source)
    quantized = sorted({tensor.type.name for tensor in header.tensors if tensor.type not in FLOATS})
    if quantized and not is_forced:
        found = f"it has tensors of type {', '.join(quantized)}"
        what = f"the file is already quantized ({found}); quantizing it again adds to the loss"
        fix = "quantize the f16 or f32 file of the same model, or force it with requantize=true"
        raise InputError(what, where=str(source), fix=fix)
    used = importance if importance and check_level(level).takes_importance else {}
    choices = choose_types(describe_header(header), level, has_importance=bool(used))
    _report_fallbacks(choices)
    numbers = {"general.file_type": int(file_type(level)), "general.quantization_version": GGML_QUANT_VERSION}
    numbers |= {"quantize.imatrix.entries_count": len(used)} if used else {}
    quantize = partial(
        quantize_block, source=source, data_start=header.data_start, importance=used, library=open_library()
    )
    with appearing(file) as partial_file, partial_file.open("wb") as out:
        out.write(_header_bytes(source, header, choices, numbers))
        blocks = cut_into_blocks(header, choices, block_bytes)
        for data in _in_order(quantize, blocks, num_threads or os.cpu_count() or 1):
            out.write(data)


def not_finite(name: str, where: Path, *, is_source_finite: bool) -> RunError:
    """The error for a tensor that cannot be written: NaN or infinite values, or values too large for float16."""
    what, fix = "NaN or infinite values", "training diverged: go back to an earlier checkpoint"
    if is_source_finite:
        what, fix = "values beyond float16's 65,504", "use the level bf16 or f32"
    return RunError(f"tensor {name!r} has {what}", where=str(where), fix=fix)


def _report_fallbacks(choices: Iterable[TypeChoice]) -> None:
    """Log how many tensors could not have the type that their level wants."""
    found = Counter((c.wanted, c.type, c.tensor.shape[0]) for c in choices if c.type != c.wanted)
    for (wanted, type_, length), count in found.items():
        reason = f"their rows of {length} are not a multiple of {GGML_QUANT_SIZES[wanted][0]}"
        logger.info("%d tensors are %s instead of %s: %s", count, type_.name, wanted.name, reason)


def _header_bytes(source: Path, header: GgufHeader, choices: Sequence[TypeChoice], numbers: Mapping[str, int]) -> bytes:
    """Everything before the tensor data: the source's metadata with `numbers` set (uint32), and the new tensor list.

    Types and order of all other metadata stay as they are.
    """
    with source.open("rb") as stream:
        stream.seek(FIXED_BYTES)
        values = bytearray(stream.read(header.values_end - FIXED_BYTES))
    num_values = len(header.values)
    for name, number in numbers.items():
        if name in header.places:
            struct.pack_into("<I", values, header.places[name] - FIXED_BYTES, number)
        else:
            values += _string(name) + struct.pack("<II", UINT32, number)
            num_values += 1
    infos, offset = bytearray(), 0
    for choice in choices:
        shape = choice.tensor.shape
        infos += _string(choice.tensor.name)
        infos += struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, choice.type, offset)
        offset += _padded(choice.num_bytes)
    start = b"GGUF" + struct.pack("<IQQ", 3, len(choices), num_values) + values + infos
    return start.ljust(_padded(len(start)), b"\0")


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _padded(num_bytes: int) -> int:
    return -(-num_bytes // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive rows of a tensor, and the type they get."""

    tensor: Tensor
    choice: TypeChoice
    first_row: int
    num_rows: int
    num_padding_bytes: int
    """Zeros that follow the last block of a tensor; 0 elsewhere."""


def cut_into_blocks(header: GgufHeader, choices: Iterable[TypeChoice], block_bytes: int) -> Iterator[Block]:
    """The blocks of all tensors, in the order in which they are written."""
    tensors = {tensor.name: tensor for tensor in header.tensors}
    for choice in choices:
        num_rows, step = choice.tensor.num_rows, max(1, block_bytes // (4 * choice.tensor.shape[0]))
        padding = _padded(choice.num_bytes) - choice.num_bytes
        for first in range(0, num_rows, step):
            count = min(step, num_rows - first)
            yield Block(tensors[choice.tensor.name], choice, first, count, padding * (first + count == num_rows))


def _in_order(work: Callable[[Block], bytes], blocks: Iterable[Block], num_threads: int) -> Iterator[bytes]:
    """The results in the order of the blocks; at most two blocks a thread are in flight."""
    waiting: deque[Future[bytes]] = deque()
    threads = ThreadPoolExecutor(num_threads)
    try:
        for block in blocks:
            waiting.append(threads.submit(work, block))
            if len(waiting) > 2 * num_threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        threads.shutdown(cancel_futures=True)


def quantize_block(
    block: Block, *, source: Path, data_start: int, importance: Importance, library: SimpleNamespace
) -> bytes:
    """Read a block, check its values and return it in its new type; safe to call from many threads."""
    tensor, choice = block.tensor, block.choice
    data = _read(block, source, data_start)
    padding = bytes(block.num_padding_bytes)
    if tensor.type == choice.type:
        return data + padding
    weights = np.ascontiguousarray(quants.dequantize(np.frombuffer(data, np.uint8), tensor.type), np.float32).ravel()
    # One sum is three times as fast as a test of each value; it may overflow, so a bad sum is looked into.
    is_finite = bool(np.isfinite(weights.sum()) or np.isfinite(weights).all())
    if not is_finite or (choice.type == GGMLQuantizationType.F16 and np.abs(weights).max() > np.finfo(np.float16).max):
        raise not_finite(tensor.name, source, is_source_finite=is_finite)
    columns = _columns(importance, tensor, source)
    target = np.empty(block.num_rows * choice.row_bytes, np.uint8)
    num_written = library.ggml_quantize_chunk(
        *(int(choice.type), weights.ctypes.data, target.ctypes.data, 0, block.num_rows, tensor.shape[0]),
        None if columns is None else columns.ctypes.data,
    )
    if num_written != target.nbytes:
        written = f"ggml wrote {num_written:,} bytes for {block.num_rows:,} rows of {tensor.name!r}"
        what, fix = f"{written}, expected {target.nbytes:,}", "install the tested version of xllamacpp"
        raise RunError(what, where=str(source), fix=fix)
    return target.tobytes() + padding


def _read(block: Block, source: Path, data_start: int) -> bytes:
    row_bytes = block.tensor.num_bytes // block.choice.tensor.num_rows
    # Each block opens the file: a shared stream has one position, and threads would need a lock for it.
    with source.open("rb", buffering=0) as stream:
        stream.seek(data_start + block.tensor.offset + block.first_row * row_bytes)
        data = stream.read(block.num_rows * row_bytes)
    if len(data) != block.num_rows * row_bytes:
        fix = "do not change the file while it is being quantized"
        raise RunError(f"the file ended inside tensor {block.tensor.name!r}", where=str(source), fix=fix)
    return data


def _columns(importance: Importance, tensor: Tensor, source: Path) -> np.ndarray | None:
    columns = importance.get(tensor.name)
    if columns is None:
        return None
    if columns.shape != tensor.shape[:1]:
        found = f"{len(columns):,} columns for {tensor.name!r}, the tensor has {tensor.shape[0]:,}"
        fix = "collect it from the model that is quantized"
        raise InputError(f"the importance matrix has {found}", where=str(source), fix=fix)
    return np.ascontiguousarray(columns, np.float32)
