"""The header of a GGUF file (metadata and tensor list), read in pure Python.

llama.cpp aborts the process on some broken files, so every file is checked here before it is opened there.
The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from baihua.core.errors import InputError

Value = bool | int | float | str | list[bool] | list[int] | list[float] | list[str]

AGAIN = "download or convert the file again"
"""The remedy for a damaged GGUF file."""
FROM_FOLDER = "import the model from its Hugging Face folder instead of the .gguf file"
"""The remedy for a GGUF file that cannot be converted exactly."""
# struct letters of the scalar value types; 8 is a string, 9 an array.
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
MAX_DIMENSIONS = 4
# Llama, Mistral and SmolLM2 are all `llama` here.
ARCHITECTURES = ("llama", "qwen2", "qwen3")
SIZES = ("block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count")


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of the file: its GGML type, shape (fastest dimension first) and position in the data."""

    name: str
    type: GGMLQuantizationType
    shape: tuple[int, ...]
    offset: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """Metadata and tensors of a GGUF file whose tensor data lies completely inside the file."""

    values: dict[str, Value]
    tensors: list[Tensor]
    data_start: int
    """Byte of the file from which the tensors' offsets count."""
    places: dict[str, int]
    """Byte of the file at which each value begins."""
    values_end: int
    """Byte after the last value; the first begins at byte 24."""

    @property
    def architecture(self) -> str:
        """llama.cpp's name of the model's family, such as `llama`."""
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
    """Read the header of a GGUF file; an InputError when the file is truncated, damaged or of another format."""
    if not file.is_file():
        raise InputError("no such model file", where=str(file), fix="check the path; a .gguf file is expected")
    with file.open("rb") as stream:
        magic = stream.read(4)
        if magic != b"GGUF":
            fix = "give a .gguf file, or convert a model folder with the stage `quantize`"
            raise InputError(f"not a GGUF file: it begins with {magic!r}, expected b'GGUF'", where=str(file), fix=fix)
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _HeaderReader(data, file).header()


def read_model_header(file: Path) -> GgufHeader:
    """Read the header of a GGUF file; an InputError unless it holds a model of a known family with valid sizes."""
    header = read_header(file)
    if header.architecture not in ARCHITECTURES:
        found = header.values.get("general.architecture")
        what = f"the model's architecture is {found!r}, expected one of {', '.join(ARCHITECTURES)}"
        fix = "use a model of the Llama family (Llama, Mistral, SmolLM2, TinyLlama, Qwen2, Qwen3, ...)"
        raise InputError(what, where=str(file), fix=fix)
    # A zero here is a division by zero inside llama.cpp, which ends the process.
    for name in SIZES:
        value = header.of_model(name)
        if not isinstance(value, int) or value < 1:
            what = f"the file gives {value!r} for {header.architecture}.{name}, expected a positive number"
            raise InputError(what, where=str(file), fix=AGAIN)
    return header


class _HeaderReader:
    """Walks over the header; every step checks that it stays inside the file."""

    def __init__(self, data: mmap.mmap, file: Path) -> None:
        self._data = data
        self._file = file
        self._position = 4

    def header(self) -> GgufHeader:
        version = self._number("I")
        if version not in (2, 3):
            what = f"GGUF version {version} is not supported, expected 2 or 3 (little-endian)"
            raise InputError(what, where=str(self._file), fix="convert the model again with a current tool")
        num_tensors, num_values = self._number("Q"), self._number("Q")
        values, places = dict[str, Value](), dict[str, int]()
        for _ in range(num_values):
            name, kind = self._text(), self._number("I")
            places[name] = self._position
            values[name] = self._value(kind)
        values_end = self._position
        tensors = [self._tensor() for _ in range(num_tensors)]
        return GgufHeader(values, tensors, self._data_start(values, tensors), places, values_end)

    def _data_start(self, values: dict[str, Value], tensors: list[Tensor]) -> int:
        alignment = values.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            raise self._damaged(f"the alignment is {alignment!r}, expected a power of two")
        start = -(-self._position // alignment) * alignment
        for tensor in tensors:
            end = start + tensor.offset + tensor.num_bytes
            if end > len(self._data):
                raise self._damaged(f"tensor {tensor.name!r} ends at byte {end:,}, the file at {len(self._data):,}")
        return start

    def _tensor(self) -> Tensor:
        name, num_dimensions = self._text(), self._number("I")
        if not 1 <= num_dimensions <= MAX_DIMENSIONS:
            raise self._damaged(f"tensor {name!r} has {num_dimensions} dimensions, expected 1 to {MAX_DIMENSIONS}")
        shape = tuple(self._number("Q") for _ in range(num_dimensions))
        number, offset = self._number("I"), self._number("Q")
        if number not in GGML_QUANT_SIZES:
            raise self._damaged(f"tensor {name!r} has the unknown type number {number}")
        type_ = GGMLQuantizationType(number)
        block, num_block_bytes = GGML_QUANT_SIZES[type_]
        if min(shape) < 1 or shape[0] % block:
            raise self._damaged(f"tensor {name!r} has the shape {list(shape)}, its type needs multiples of {block}")
        return Tensor(name, type_, shape, offset, math.prod(shape) // block * num_block_bytes)

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
            raise self._damaged(f"value type {kind} is unknown")
        return SCALARS[kind]

    def _number(self, letter: str) -> int:
        return struct.unpack("<" + letter, self._take(struct.calcsize("<" + letter)))[0]

    def _text(self) -> str:
        # Some vocabularies hold pieces that are not whole characters, so no bytes are refused here.
        return self._take(self._number("Q")).decode("utf-8", errors="surrogateescape")

    def _take(self, length: int) -> bytes:
        start, self._position = self._position, self._position + length
        if self._position > len(self._data):
            raise self._damaged(f"the header needs {self._position:,} bytes, the file has {len(self._data):,}")
        return self._data[start : self._position]

    def _damaged(self, what: str) -> InputError:
        return InputError(f"the GGUF file is incomplete or damaged: {what}", where=str(self._file), fix=AGAIN)
