"""GGUF files of every level: what ggml itself makes of each tensor, whole or not there at all."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import wide_model
from gguf import GGMLQuantizationType, GGUFReader, quants

from baihua.backends.llama_cpp.library import open_library
from baihua.backends.llama_cpp.scorer import open_scorer
from baihua.compress.export import write_gguf, write_levels
from baihua.compress.levels import LEVELS, choose_types
from baihua.compress.opening import check_opens
from baihua.compress.quantize import BLOCK_BYTES, cut_into_blocks, quantize_block, quantize_gguf
from baihua.core.artifact import hash_file
from baihua.core.errors import InputError, RunError
from baihua.modelfiles.description import describe_header
from baihua.modelfiles.gguf_header import read_model_header

IDS = [3 + i * 37 % 500 for i in range(200)]
COARSE = [name for name, level in LEVELS.items() if level.takes_importance or name == "q8_0"]
# Root mean square errors relative to random weights, as measured by others, with room; 8 bits to 2.
WORST_ERRORS = {"Q8_0": 0.01, "Q6_K": 0.03, "Q5_0": 0.06, "Q5_1": 0.06, "Q5_K": 0.06, "IQ4_NL": 0.1, "IQ4_XS": 0.1}
WORST_ERRORS |= {"Q4_0": 0.11, "Q4_1": 0.1, "Q4_K": 0.1, "Q3_K": 0.2, "Q2_K": 0.4}


@pytest.fixture(scope="module")
def source(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An f16 file; read only."""
    return wide_model.make_gguf(tmp_path_factory.mktemp("wide") / "model", tiny_folder)


def weights_of(file: Path) -> dict[str, np.ndarray]:
    """Every tensor as float32."""
    return {tensor.name: quants.dequantize(tensor.data, tensor.tensor_type) for tensor in GGUFReader(file).tensors}


@pytest.mark.parametrize("level", COARSE)
def test_every_tensor_is_near_its_source_and_the_file_answers(level: str, source: Path, tmp_path: Path) -> None:
    file = tmp_path / f"model-{level}.gguf"
    quantize_gguf(source, file, level=level)
    check_opens(file)
    wanted, found = weights_of(source), weights_of(file)
    assert wanted.keys() == found.keys()
    for tensor in read_model_header(file).tensors:
        error = np.sqrt(np.mean((found[tensor.name] - wanted[tensor.name]) ** 2) / np.mean(wanted[tensor.name] ** 2))
        assert error < WORST_ERRORS.get(tensor.type.name, 1e-3), tensor
    scorer, reference = open_scorer(file, 1), open_scorer(source, 1)
    a, b = reference.log_probs(IDS), scorer.log_probs(IDS)
    assert (np.exp(a) * (a - b)).sum(1).mean() < 1.0
    scorer.close()
    reference.close()


def test_a_tensor_is_what_ggml_makes_of_it_at_once(source: Path, tmp_path: Path) -> None:
    quantize_gguf(source, tmp_path / "m.gguf", level="q4_k_m", num_threads=3, block_bytes=5 * 4 * 256)
    name = "blk.0.ffn_up.weight"
    weights = np.ascontiguousarray(weights_of(source)[name])
    found = next(tensor for tensor in GGUFReader(tmp_path / "m.gguf").tensors if tensor.name == name)
    wanted = np.empty(found.data.nbytes, np.uint8)
    number = int(found.tensor_type)
    open_library().ggml_quantize_chunk(number, weights.ctypes.data, wanted.ctypes.data, 0, *weights.shape, None)
    assert found.tensor_type.name == "Q4_K"
    assert np.array_equal(found.data.ravel(), wanted)


def test_threads_and_blocks_do_not_change_a_byte(source: Path, tmp_path: Path) -> None:
    quantize_gguf(source, tmp_path / "one.gguf", level="q3_k_m", num_threads=1)
    quantize_gguf(source, tmp_path / "many.gguf", level="q3_k_m", num_threads=4, block_bytes=3 * 4 * 256)
    assert hash_file(tmp_path / "one.gguf") == hash_file(tmp_path / "many.gguf")


def test_metadata_stays_but_for_the_type_of_file(source: Path, tmp_path: Path) -> None:
    quantize_gguf(source, tmp_path / "m.gguf", level="q4_0")
    before, after = read_model_header(source).values, read_model_header(tmp_path / "m.gguf").values
    assert before | {"general.file_type": 2} == after


def test_a_file_without_a_type_of_file_gets_one(source: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(source.read_bytes().replace(b"general.file_type", b"general.file_nope"))
    quantize_gguf(copy, tmp_path / "m.gguf", level="q4_0")
    assert read_model_header(tmp_path / "m.gguf").values["general.file_type"] == 2
    check_opens(tmp_path / "m.gguf")


@pytest.mark.parametrize("level", ["f32", "bf16", "f16"])
def test_full_precision_goes_from_one_form_to_another(level: str, source: Path, tmp_path: Path) -> None:
    quantize_gguf(source, tmp_path / "m.gguf", level=level)
    wanted, found = weights_of(source), weights_of(tmp_path / "m.gguf")
    tolerance = 2**-8 if level == "bf16" else 0
    assert all(np.allclose(wanted[name], found[name], rtol=tolerance, atol=0) for name in wanted)
    quantize_gguf(tmp_path / "m.gguf", tmp_path / "again.gguf", level="f16")
    check_opens(tmp_path / "again.gguf")


def test_a_quantized_file_is_quantized_again_only_when_forced(source: Path, tmp_path: Path) -> None:
    quantize_gguf(source, tmp_path / "q8.gguf", level="q8_0")
    with pytest.raises(
        InputError, match=r"already quantized \(it has tensors of type Q8_0\)(.|\n)*fix:.*requantize=true"
    ):
        quantize_gguf(tmp_path / "q8.gguf", tmp_path / "q4.gguf", level="q4_0")
    assert not (tmp_path / "q4.gguf").exists()
    quantize_gguf(tmp_path / "q8.gguf", tmp_path / "q4.gguf", level="q4_0", is_forced=True)
    check_opens(tmp_path / "q4.gguf")


def test_an_importance_matrix_makes_its_columns_more_exact(source: Path, tmp_path: Path) -> None:
    name = "blk.1.ffn_up.weight"
    columns = np.full(256, 0.01, np.float32)
    columns[:32] = 100.0
    quantize_gguf(source, tmp_path / "with.gguf", level="q4_0", importance={name: columns})
    quantize_gguf(source, tmp_path / "without.gguf", level="q4_0")
    wanted, without, with_it = (
        weights_of(f)[name] for f in (source, tmp_path / "without.gguf", tmp_path / "with.gguf")
    )
    errors = [((found - wanted) ** 2).mean(0) @ columns for found in (with_it, without)]
    assert errors[0] < errors[1]
    assert read_model_header(tmp_path / "with.gguf").values["quantize.imatrix.entries_count"] == 1


def test_an_importance_matrix_of_another_model_is_refused(source: Path, tmp_path: Path) -> None:
    columns = {"blk.0.attn_k.weight": np.ones(64, np.float32)}
    with pytest.raises(InputError, match=r"64 columns for 'blk\.0\.attn_k\.weight', the tensor has 256(.|\n)*collect"):
        quantize_gguf(source, tmp_path / "m.gguf", level="q4_0", importance=columns)
    assert not list(tmp_path.iterdir())


def damaged(source: Path, copy: Path, value: float, type_: type = np.float16) -> Path:
    """A copy with one number changed."""
    data = bytearray(source.read_bytes())
    header = read_model_header(source)
    tensor = next(tensor for tensor in header.tensors if tensor.name == "blk.1.ffn_down.weight")
    place = header.data_start + tensor.offset + tensor.num_bytes // 2
    data[place : place + np.dtype(type_).itemsize] = type_(value).tobytes()
    copy.write_bytes(data)
    return copy


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_one_number_that_is_none_is_found_and_nothing_is_left(value: float, source: Path, tmp_path: Path) -> None:
    copy = damaged(source, tmp_path / "copy.gguf", value)
    with pytest.raises(RunError, match=r"'blk\.1\.ffn_down\.weight' has NaN or infinite values(.|\n)*fix:"):
        quantize_gguf(copy, tmp_path / "m.gguf", level="q4_k_m")
    assert [file.name for file in tmp_path.iterdir()] == ["copy.gguf"]


def test_a_number_beyond_float16_is_found(source: Path, tmp_path: Path) -> None:
    quantize_gguf(source, tmp_path / "f32.gguf", level="f32")
    copy = damaged(tmp_path / "f32.gguf", tmp_path / "copy.gguf", 1e5, np.float32)
    with pytest.raises(RunError, match=r"beyond float16's 65,504(.|\n)*fix:   use the level bf16 or f32"):
        quantize_gguf(copy, tmp_path / "m.gguf", level="f16")


def first_block(source: Path) -> dict[str, Any]:
    """Arguments of `quantize_block` for the first block of a q4_0 file."""
    header = read_model_header(source)
    blocks = cut_into_blocks(header, choose_types(describe_header(header), "q4_0"), BLOCK_BYTES)
    wanted = next(block for block in blocks if block.choice.type == GGMLQuantizationType.Q4_0)
    return {"block": wanted, "source": source, "data_start": header.data_start, "importance": {}}


def test_a_file_that_shrinks_meanwhile_is_an_error(source: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copyfile(source, tmp_path / "copy.gguf"))
    given = first_block(copy)
    os.truncate(copy, given["data_start"] + 1000)
    with pytest.raises(RunError, match=r"the file ended inside tensor '.*'(.|\n)*do not change the file while"):
        quantize_block(**given, library=open_library())


def test_a_build_of_ggml_that_writes_something_else_is_refused(source: Path) -> None:
    other = SimpleNamespace(ggml_quantize_chunk=lambda *_: 7)
    with pytest.raises(RunError, match=r"ggml wrote 7 bytes for (.|\n)*install the tested version of xllamacpp"):
        quantize_block(**first_block(source), library=other)


def test_a_file_that_llama_cpp_does_not_open_is_removed(source: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(source.read_bytes().replace(b"blk.1.attn_q.weight", b"blk.1.attn_z.weight"))
    with pytest.raises(RunError, match=r"llama\.cpp does not open the file that was written: (.|\n)*where:(.|\n)*fix:"):
        check_opens(copy)
    assert not copy.exists()


def test_logits_that_are_no_numbers_are_found(source: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="its logits are NaN or infinite"):
        check_opens(damaged(source, tmp_path / "copy.gguf", np.nan))


def test_levels_come_from_f16_which_is_always_written(source: Path, tmp_path: Path) -> None:
    rows = write_levels(source.parent, tmp_path, ["q4_k_m", "bf16", "q4_k_m"])
    assert [row["level"] for row in rows] == ["f16", "q4_k_m", "bf16"]
    assert sorted(file.stem for file in tmp_path.iterdir()) == ["model-bf16", "model-f16", "model-q4_k_m"]
    assert [row["file_bytes"] for row in rows] == [(tmp_path / str(row["file"])).stat().st_size for row in rows]
    assert hash_file(tmp_path / "model-f16.gguf") == hash_file(source)


def test_a_gguf_file_is_a_source_too(source: Path, tmp_path: Path) -> None:
    write_levels(source, tmp_path / "a", ["q4_0"])
    write_levels(source.parent, tmp_path / "b", ["q4_0"])
    for name in ("model-f16.gguf", "model-q4_0.gguf"):
        assert hash_file(tmp_path / "a" / name) == hash_file(tmp_path / "b" / name)


def test_an_unknown_level_is_refused_before_anything_is_written(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown level 'q9'"):
        write_levels(source, tmp_path, ["q4_0", "q9"])
    assert not list(tmp_path.iterdir())


def test_a_folder_is_not_quantized_in_one_step(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"can only become f32, f16 or bf16, not q4_0(.|\n)*fix:   write f16"):
        write_gguf(source.parent, tmp_path / "m.gguf", level="q4_0")


@pytest.mark.skipif(sys.platform == "win32", reason="kills with SIGKILL")
def test_killed_and_run_again_it_writes_the_same(source: Path, tmp_path: Path) -> None:
    quantize_gguf(source, tmp_path / "wanted.gguf", level="iq4_xs")
    code = (
        "import sys; from pathlib import Path; from baihua.compress.quantize import quantize_gguf;"
        "source, file = map(Path, sys.argv[1:]); quantize_gguf(source, file, level='iq4_xs', block_bytes=8192)"
    )
    out = tmp_path / "out"
    write_levels(source, out, [])
    command = [sys.executable, "-c", code, str(out / "model-f16.gguf"), str(out / "model-iq4_xs.gguf")]
    rng = random.Random(5)
    for _ in range(2):
        child = subprocess.Popen(command)
        deadline = time.monotonic() + 60
        while not (out / "model-iq4_xs.gguf.partial").exists() and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(rng.random() * 0.2)
        child.send_signal(signal.SIGKILL)
        child.wait()
        written = out / "model-iq4_xs.gguf"
        assert not written.exists() or hash_file(written) == hash_file(tmp_path / "wanted.gguf")
    write_levels(source, out, ["iq4_xs"])
    assert hash_file(out / "model-iq4_xs.gguf") == hash_file(tmp_path / "wanted.gguf")
