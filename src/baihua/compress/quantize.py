"""A GGUF file in full precision becomes one of a quantization level, block by block on all cores.

The quantization itself is ggml's own `ggml_quantize_chunk`. A block of rows is read, converted, checked and quantized
by one thread; the main thread writes the blocks in their order. So neither file is ever in memory, and the same bytes
come out however many threads there are.
"""

import os
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from gguf import quants
from gguf.constants import GGML_QUANT_SIZES, GGML_QUANT_VERSION, GGMLQuantizationType

from baihua.backends.llama_cpp.library import open_library
from baihua.compress.levels import FLOATS, Choice, check_level, choose_types
from baihua.core.errors import InputError, RunError
from baihua.core.files import appearing
from baihua.core.log import logger
from baihua.modelfiles.describe import describe_header
from baihua.modelfiles.gguf_header import GgufHeader, Tensor, read_model_header

Importance = Mapping[str, np.ndarray]
"""Mean square of what each column of a matrix is multiplied with, float32, by the matrix's name."""

BLOCK_BYTES = 8 * 2**20
"""Float32 bytes of a block: small beside a tensor, large beside the cost of handing it to a thread."""
ALIGNMENT = 32
UINT32 = 4
FIXED_BYTES = 24
"""Magic, version and two counts; the metadata begins after them."""


def quantize_gguf(
    source: Path,
    file: Path,
    *,
    level: str,
    importance: Importance | None = None,
    is_forced: bool = False,
    num_threads: int | None = None,
) -> None:
    """Write `source` in another level; the file appears when it is complete, never half.

    An InputError for a source that is quantized already, unless forced: every quantization adds its own error.
    Memory: about 16 MB a thread.
    """
    header = read_model_header(source)
    if not is_forced:
        _refuse_quantized(header, source)
    importance = importance if importance and check_level(level).takes_importance else {}
    choices = choose_types(describe_header(header), level, has_importance=bool(importance))
    _report_fallbacks(choices)
    values = Values(source, header)
    values.set_number("general.file_type", check_level(level).file_type)
    values.set_number("general.quantization_version", GGML_QUANT_VERSION)
    if importance:
        values.set_number("quantize.imatrix.entries_count", len(importance))
    with appearing(file) as partial, partial.open("wb") as out:
        out.write(header_bytes(values, choices))
        tensors = {tensor.name: tensor for tensor in header.tensors}
        blocks = _cut((tensors[choice.tensor.name], choice) for choice in choices)
        worker = _Worker(source, header.data_start, importance)
        for data in _in_order(worker.quantize, blocks, num_threads or os.cpu_count() or 1):
            out.write(data)


def _refuse_quantized(header: GgufHeader, source: Path) -> None:
    coarse = sorted({tensor.type.name for tensor in header.tensors if tensor.type not in FLOATS})
    if coarse:
        raise InputError(
            f"the file is quantized already (it has tensors of {', '.join(coarse)}); quantizing it again adds to the "
            "loss",
            where=str(source),
            fix="quantize the f16 or f32 file of the same model, or force it with requantize=true",
        )


def _report_fallbacks(choices: Iterable[Choice]) -> None:
    """Say once how many tensors could not have the type that their level wants."""
    found: dict[tuple[str, str, int], int] = {}
    for choice in choices:
        if choice.type != choice.wanted:
            key = (choice.wanted.name, choice.type.name, choice.tensor.shape[0])
            found[key] = found.get(key, 0) + 1
    for (wanted, type_, length), count in found.items():
        block, _ = GGML_QUANT_SIZES[GGMLQuantizationType[wanted]]
        logger.info(
            "%d tensors are %s instead of %s: their rows of %d are no multiple of %d",
            count,
            type_,
            wanted,
            length,
            block,
        )


@dataclass(frozen=True, slots=True)
class _Block:
    """Some rows of a tensor, and what they are to become."""

    tensor: Tensor
    choice: Choice
    first_row: int
    num_rows: int
    num_padding_bytes: int
    """After the last block of a tensor."""


def _in_order(work: Callable[[_Block], bytes], blocks: Iterable[_Block], num_threads: int) -> Iterator[bytes]:
    """What becomes of the blocks, in their order; two blocks a thread are under way."""
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


class _Worker:
    """Reads, converts, checks and quantizes blocks of a file; for many threads at once."""

    def __init__(self, source: Path, data_start: int, importance: Importance) -> None:
        self._source = source
        self._data_start = data_start
        self._importance = {name: np.ascontiguousarray(values, np.float32) for name, values in importance.items()}
        self._library: SimpleNamespace = open_library()

    def quantize(self, block: _Block) -> bytes:
        """The data of a block in its new type."""
        tensor, choice = block.tensor, block.choice
        data = self._read(block)
        if tensor.type == choice.type:
            return data + bytes(block.num_padding_bytes)
        weights = _as_float32(data, tensor.type)
        self._check_values(weights, block)
        done = bytearray(block.num_rows * choice.row_bytes + block.num_padding_bytes)
        columns = self._importance.get(tensor.name)
        self._check_columns(columns, tensor)
        target = np.frombuffer(done, np.uint8)
        num_written = self._library.ggml_quantize_chunk(
            int(choice.type),
            weights.ctypes.data,
            target.ctypes.data,
            0,
            block.num_rows,
            tensor.shape[0],
            None if columns is None else columns.ctypes.data,
        )
        if num_written != block.num_rows * choice.row_bytes:
            raise RunError(
                f"ggml wrote {num_written:,} bytes for {block.num_rows:,} rows of {tensor.name!r}, expected "
                f"{block.num_rows * choice.row_bytes:,}",
                where=str(self._source),
                fix="install the tested version of xllamacpp",
            )
        return bytes(done)

    def _read(self, block: _Block) -> bytes:
        tensor = block.tensor
        row_bytes = tensor.num_bytes // block.choice.tensor.num_rows
        # Opened anew: a stream has one position, and threads would need a lock for it.
        with self._source.open("rb", buffering=0) as stream:
            stream.seek(self._data_start + tensor.offset + block.first_row * row_bytes)
            data = stream.read(block.num_rows * row_bytes)
        if len(data) != block.num_rows * row_bytes:
            raise RunError(
                f"the file ended inside tensor {tensor.name!r}",
                where=str(self._source),
                fix="do not change it meanwhile",
            )
        return data

    def _check_values(self, weights: np.ndarray, block: _Block) -> None:
        name = block.tensor.name
        # A sum is three times as fast as looking at each; it can overflow, so only then each is looked at.
        if not np.isfinite(weights.sum()) and not np.isfinite(weights).all():
            raise RunError(
                f"tensor {name!r} holds values that are not finite numbers",
                where=str(self._source),
                fix="the training has diverged: go back to an earlier checkpoint",
            )
        if block.choice.type == GGMLQuantizationType.F16 and np.abs(weights).max() > np.finfo(np.float16).max:
            raise RunError(
                f"tensor {name!r} holds values beyond float16's 65,504",
                where=str(self._source),
                fix="use the level bf16 or f32",
            )

    def _check_columns(self, columns: np.ndarray | None, tensor: Tensor) -> None:
        if columns is not None and columns.shape != tensor.shape[:1]:
            raise InputError(
                f"the importance matrix has {len(columns):,} columns for {tensor.name!r}, the tensor has "
                f"{tensor.shape[0]:,}",
                where=str(self._source),
                fix="collect it from the model that is quantized",
            )


def _cut(jobs: Iterable[tuple[Tensor, Choice]]) -> Iterator[_Block]:
    for tensor, choice in jobs:
        num_rows, step = choice.tensor.num_rows, max(1, BLOCK_BYTES // (4 * tensor.shape[0]))
        for first in range(0, num_rows, step):
            count = min(step, num_rows - first)
            is_last = first + count == num_rows
            yield _Block(tensor, choice, first, count, padded(choice.num_bytes) - choice.num_bytes if is_last else 0)


def _as_float32(data: bytes, type_: GGMLQuantizationType) -> np.ndarray:
    """The numbers of a block, flat."""
    if type_ == GGMLQuantizationType.F32:
        return np.frombuffer(data, np.float32)
    if type_ == GGMLQuantizationType.F16:
        return np.frombuffer(data, np.float16).astype(np.float32)
    if type_ == GGMLQuantizationType.BF16:
        return (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
    return np.ascontiguousarray(quants.dequantize(np.frombuffer(data, np.uint8), type_), np.float32).ravel()


class Values:
    """The metadata of a file as bytes, with some numbers changed: types and order of all others stay what they are."""

    def __init__(self, source: Path, header: GgufHeader) -> None:
        with source.open("rb") as stream:
            stream.seek(FIXED_BYTES)
            self.bytes = bytearray(stream.read(header.values_end - FIXED_BYTES))
        self._places = header.places
        self.count = len(header.values)

    def set_number(self, name: str, value: int) -> None:
        """Set an unsigned number of 32 bits."""
        if name in self._places:
            struct.pack_into("<I", self.bytes, self._places[name] - FIXED_BYTES, value)
            return
        data = name.encode()
        self.bytes += struct.pack("<Q", len(data)) + data + struct.pack("<II", UINT32, value)
        self.count += 1


def header_bytes(values: Values, choices: Iterable[Choice]) -> bytes:
    """Everything before the tensors' data, which come in the order of the choices."""
    infos = bytearray()
    offset = 0
    count = 0
    for choice in choices:
        name, shape = choice.tensor.name.encode(), choice.tensor.shape
        infos += struct.pack("<Q", len(name)) + name + struct.pack("<I", len(shape))
        infos += struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<IQ", choice.type, offset)
        offset += padded(choice.num_bytes)
        count += 1
    start = b"GGUF" + struct.pack("<IQQ", 3, count, values.count) + bytes(values.bytes) + bytes(infos)
    return start.ljust(padded(len(start)), b"\0")


def padded(num_bytes: int) -> int:
    """Bytes with the padding after them."""
    return -(-num_bytes // ALIGNMENT) * ALIGNMENT
