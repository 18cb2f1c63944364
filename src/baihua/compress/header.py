"""The beginning of a GGUF file: metadata taken over from another file, and a list of tensors of other types."""

import struct
from collections.abc import Iterable
from pathlib import Path

from baihua.compress.levels import Choice
from baihua.modelfiles.gguf_header import GgufHeader

ALIGNMENT = 32
UINT32 = 4
FIXED_BYTES = 24
"""Magic, version and two counts; the metadata begins after them."""


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
