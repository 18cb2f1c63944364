"""A GGUF file is read without C code, and a broken one is refused before llama.cpp sees it."""

import struct
from pathlib import Path

import pytest
from gguf import GGUFReader
from hypothesis import given, settings
from hypothesis import strategies as st

from baihua.core.errors import InputError
from baihua.modelfiles.gguf_header import read_header, read_model_header


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def pair(name: str, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def architecture(name: str) -> bytes:
    return pair("general.architecture", 8, text(name))


def tensor(shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    return text("w") + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def write(file: Path, pairs: list[bytes], tensors: list[bytes], *, version: int = 3, data: bytes = b"") -> Path:
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(pairs)) + b"".join([*pairs, *tensors])
    file.write_bytes(head + b"\0" * (-len(head) % 32) + data)
    return file


def test_the_header_says_what_the_gguf_package_reads(tiny_gguf: Path) -> None:
    ours, theirs = read_header(tiny_gguf), GGUFReader(tiny_gguf)
    assert [(t.name, list(t.shape), t.num_bytes) for t in ours.tensors] == [
        (t.name, [int(n) for n in t.shape], int(t.n_bytes)) for t in theirs.tensors
    ]
    names = [name for name in theirs.fields if not name.startswith("GGUF.")]
    assert ours.values == {name: theirs.fields[name].contents() for name in names}


@settings(max_examples=40, deadline=None)
@given(share=st.floats(0, 0.9999))
def test_a_file_cut_anywhere_is_refused(
    tmp_path_factory: pytest.TempPathFactory, tiny_gguf: Path, share: float
) -> None:
    data = tiny_gguf.read_bytes()
    file = tmp_path_factory.mktemp("cut") / "cut.gguf"
    file.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError, match=r"incomplete or damaged|not a GGUF file"):
        read_header(file)


@pytest.mark.parametrize(
    ("pairs", "tensors", "message"),
    [
        ([pair("general.alignment", 4, struct.pack("<I", 3))], [], "the alignment is 3, expected a power of two"),
        ([], [tensor((32,))], r"tensor 'w' ends at byte \d+, the file at \d+"),
        ([], [tensor((1,) * 5)], "tensor 'w' has 5 dimensions, expected 1 to 4"),
        ([], [tensor((32,), kind=99)], "tensor 'w' has the unknown type number 99"),
        ([], [tensor((33,), kind=8)], r"tensor 'w' has the shape \[33\], its type needs multiples of 32"),
        ([], [tensor((0,))], r"tensor 'w' has the shape \[0\]"),
        ([pair("x", 77, b"")], [], "value type 77 is unknown"),
        ([pair("x", 9, struct.pack("<IQ", 4, 2**40))], [], "the header needs [0-9,]+ bytes, the file has"),
    ],
)
def test_what_cannot_be_is_named(tmp_path: Path, pairs: list[bytes], tensors: list[bytes], message: str) -> None:
    file = write(tmp_path / "a.gguf", pairs, tensors)
    with pytest.raises(
        InputError, match=rf"incomplete or damaged: {message}(?s:.*)fix:   download or convert the file again"
    ):
        read_header(file)


def test_a_file_that_is_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match=r"not a GGUF file: it begins with b'PK(?s:.*)fix:   give a \.gguf file"):
        read_header(tmp_path / "a.gguf")
    with pytest.raises(InputError, match=r"no such model file\n.*\n  fix:   check the path"):
        read_header(tmp_path / "b.gguf")


def test_an_unknown_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"GGUF version 1 is not supported, expected 2 or 3(?s:.*)fix:   convert"):
        read_header(write(tmp_path / "a.gguf", [], [], version=1))


def test_a_model_of_another_family_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is 'bert', expected one of llama, qwen2, qwen3(?s:.*)fix:   use a model of"):
        read_model_header(write(tmp_path / "a.gguf", [architecture("bert")], []))


def test_a_size_of_zero_is_refused(tmp_path: Path) -> None:
    pairs = [architecture("llama"), pair("llama.block_count", 4, struct.pack("<I", 0))]
    with pytest.raises(InputError, match=r"gives 0 for llama\.block_count, expected a positive number"):
        read_model_header(write(tmp_path / "a.gguf", pairs, []))


def test_a_good_llama_is_read(tiny_gguf: Path) -> None:
    assert read_model_header(tiny_gguf).size("block_count") == 2
