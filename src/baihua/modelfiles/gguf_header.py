"""What a GGUF file says about itself, read without any C code.

llama.cpp aborts the process on some broken files; whoever hands a file to it asks here first.
The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from baihua.core.errors import InputError

Value = bool | int | float | str | list[bool] | list[int] | list[float] | list[str]

# struct letters of the scalar value types; 8 is a string, 9 an array.
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
MAX_DIMENSIONS = 4
# Llama, Mistral and SmolLM2 are all `llama` here.
ARCHITECTURES = ("llama", "qwen2", "qwen3")
SIZES = ("block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count")


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of the file: its GGML type, shape (fastest dimension first) and place among the data."""

    name: str
    type: GGMLQuantizationType
    shape: tuple[int, ...]
    offset: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """Metadata and tensors of a GGUF file whose tensor data all lies inside the file."""

    values: dict[str, Value]
    tensors: list[Tensor]
    data_start: int
    """Byte of the file at which the tensors' offsets begin."""
    places: dict[str, int]
    """Byte of the file at which each value begins."""
    values_end: int
    """Byte after the last value; the first begins at byte 24."""

    @property
    def architecture(self) -> str:
        """What llama.cpp calls the family of the model, such as `llama`."""
        return str(self.values.get("general.architecture"))

    def of_model(self, name: str, default: Value | None = None) -> Value | None:
        """A value that belongs to the architecture: `block_count` is `llama.block_count` in a Llama's file."""
        return self.values.get(f"{self.architecture}.{name}", default)

    def size(self, name: str) -> int:
        """One of the sizes that `read_model_header` has checked, such as `block_count`."""
        value = self.of_model(name)
        assert isinstance(value, int), "read_model_header checks it"
        return value


def read_header(file: Path) -> GgufHeader:
    """The header of a GGUF file; an InputError when the file is cut, broken or something else."""
    if not file.is_file():
        raise InputError("no such model file", where=str(file), fix="check the path; a .gguf file is expected")
    num_bytes = file.stat().st_size
    with file.open("rb") as stream:
        magic = stream.read(4)
        if magic != b"GGUF":
            raise InputError(
                f"not a GGUF file: it begins with {magic!r}, expected b'GGUF'",
                where=str(file),
                fix="name a .gguf file, or convert a model folder with the stage `quantize`",
            )
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Reader(data, file, num_bytes).header()


def read_model_header(file: Path) -> GgufHeader:
    """The header of a GGUF file that holds a model of a known family with sensible sizes, else an InputError."""
    header = read_header(file)
    if header.values.get("general.architecture") not in ARCHITECTURES:
        raise InputError(
            f"the model's architecture is {header.values.get('general.architecture')!r}, expected one of "
            f"{', '.join(ARCHITECTURES)}",
            where=str(file),
            fix="use a model of the Llama family (Llama, Mistral, SmolLM2, TinyLlama, Qwen2, Qwen3, ...)",
        )
    # A zero here is a division by zero inside llama.cpp, which ends the process.
    for name in SIZES:
        value = header.of_model(name)
        if not isinstance(value, int) or value < 1:
            raise InputError(
                f"the file gives {value!r} for {header.architecture}.{name}, expected a positive number",
                where=str(file),
                fix="the file is damaged: download or convert it again",
            )
    return header


class _Reader:
    """Walks over the header; every step checks that it stays inside the file."""

    def __init__(self, data: mmap.mmap, file: Path, num_bytes: int) -> None:
        self._data = data
        self._file = file
        self._num_bytes = num_bytes
        self._position = 4

    def header(self) -> GgufHeader:
        version = self._number("I")
        if version not in (2, 3):
            raise InputError(
                f"GGUF version {version} is unknown, expected 2 or 3 (little-endian)",
                where=str(self._file),
                fix="convert the model again with a current tool",
            )
        num_tensors, num_values = self._number("Q"), self._number("Q")
        values: dict[str, Value] = {}
        places: dict[str, int] = {}
        for _ in range(num_values):
            name = self._text()
            kind = self._number("I")
            places[name] = self._position
            values[name] = self._value(kind)
        values_end = self._position
        tensors = [self._tensor() for _ in range(num_tensors)]
        return GgufHeader(values, tensors, self._data_start(values, tensors), places, values_end)

    def _data_start(self, values: dict[str, Value], tensors: list[Tensor]) -> int:
        alignment = values.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            raise self._broken(f"the alignment is {alignment!r}, expected a power of two")
        start = -(-self._position // alignment) * alignment
        for tensor in tensors:
            end = start + tensor.offset + tensor.num_bytes
            if end > self._num_bytes:
                raise self._broken(f"tensor {tensor.name!r} ends at byte {end:,}, the file at {self._num_bytes:,}")
        return start

    def _tensor(self) -> Tensor:
        name = self._text()
        num_dimensions = self._number("I")
        if not 1 <= num_dimensions <= MAX_DIMENSIONS:
            raise self._broken(f"tensor {name!r} has {num_dimensions} dimensions, expected 1 to {MAX_DIMENSIONS}")
        shape = tuple(self._number("Q") for _ in range(num_dimensions))
        number, offset = self._number("I"), self._number("Q")
        if number not in GGML_QUANT_SIZES:
            raise self._broken(f"tensor {name!r} has the unknown type number {number}")
        type_ = GGMLQuantizationType(number)
        block, num_block_bytes = GGML_QUANT_SIZES[type_]
        if min(shape) < 1 or shape[0] % block:
            raise self._broken(f"tensor {name!r} has the shape {list(shape)}, its type needs multiples of {block}")
        num_weights = 1
        for length in shape:
            num_weights *= length
        return Tensor(name, type_, shape, offset, num_weights // block * num_block_bytes)

    def _value(self, kind: int) -> Value:
        if kind == STRING:
            return self._text()
        if kind != ARRAY:
            return self._number(self._letter(kind))
        item, length = self._number("I"), self._number("Q")
        if item == STRING:
            return [self._text() for _ in range(length)]
        letter = self._letter(item)
        return list(struct.unpack(f"<{length}{letter}", self._take(length * struct.calcsize(letter))))

    def _letter(self, kind: int) -> str:
        if kind not in SCALARS:
            raise self._broken(f"value type {kind} is unknown")
        return SCALARS[kind]

    def _number(self, letter: str) -> int:
        return struct.unpack("<" + letter, self._take(struct.calcsize("<" + letter)))[0]

    def _text(self) -> str:
        # Some vocabularies hold pieces that are not whole characters, so nothing is refused here.
        return self._take(self._number("Q")).decode("utf-8", errors="surrogateescape")

    def _take(self, length: int) -> bytes:
        end = self._position + length
        if end > self._num_bytes:
            raise self._broken(f"the header needs {end:,} bytes, the file has {self._num_bytes:,}")
        piece = self._data[self._position : end]
        self._position = end
        return piece

    def _broken(self, what: str) -> InputError:
        return InputError(
            f"the GGUF file is cut or damaged: {what}",
            where=str(self._file),
            fix="download or convert it again",
        )
