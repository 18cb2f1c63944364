"""The importance matrix: what goes into each layer, padding apart, and how the stage uses it."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import wide_model
from safetensors.torch import load_file, save_file
from torch import nn

from baihua.compress import importance
from baihua.compress.importance import read_texts
from baihua.core.errors import InputError, RunError
from baihua.model.load import load_model
from baihua.modelfiles.gguf_header import read_model_header
from baihua.stages import import_data, quantize

TEXTS = [[3 + i * 37 % 500 for i in range(n)] for n in (5, 40, 17, 64, 1)]


@pytest.fixture(scope="module")
def folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose rows fit blocks of 256; read only."""
    return wide_model.make(tmp_path_factory.mktemp("wide") / "model", tiny_folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty Chinese conversations, as `import_data` leaves them."""
    out = tmp_path_factory.mktemp("data")
    rows = [
        {"instruction": f"第{n}个问题：天气怎么样？", "output": f"第{n}天的天气很好，我们去公园走走吧。"}
        for n in range(40)
    ]
    (out / "talks.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    import_data.run(import_data.Config(files=[str(out / "talks.jsonl")]), {}, out)
    return out


def plainly(folder: Path, texts: list[list[int]]) -> dict[str, np.ndarray]:
    """The same figures from a model in memory, one text after the other."""
    model = load_model(folder)
    sums: dict[str, Any] = {}
    for path, layer in model.named_modules():
        if isinstance(layer, nn.Linear) and path != "lm_head":
            layer.register_forward_pre_hook(
                lambda _, inputs, path=path: sums.update(
                    {path: sums.get(path, 0) + inputs[0][0].double().square().sum(0)}
                )
            )
    with torch.inference_mode():
        for ids in texts:
            model(torch.tensor([ids]))
    return {path: (found / sum(map(len, texts))).numpy() for path, found in sums.items()}


def test_it_is_the_mean_square_of_every_layers_input(folder: Path) -> None:
    # Several batches, of which some have padding.
    found, wanted = importance.collect(folder, TEXTS, max_tokens=100), plainly(folder, TEXTS)
    assert len(found) == len(wanted) == 14
    for name, path in (
        ("attn_q", "self_attn.q_proj"),
        ("ffn_down", "mlp.down_proj"),
        ("attn_output", "self_attn.o_proj"),
    ):
        values = found[f"blk.1.{name}.weight"]
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, wanted[f"model.layers.1.{path}"], rtol=1e-4)


def test_a_file_keeps_it(folder: Path, tmp_path: Path) -> None:
    found = importance.collect(folder, TEXTS)
    importance.save(tmp_path / "imatrix.gguf", found, num_tokens=127, dataset="texts")
    back = importance.load(tmp_path / "imatrix.gguf")
    assert back.keys() == found.keys()
    assert all(np.allclose(back[name], found[name], rtol=1e-6) for name in found)
    assert [file.name for file in tmp_path.iterdir()] == ["imatrix.gguf"]


def test_without_a_text_there_is_none(folder: Path) -> None:
    with pytest.raises(InputError, match=r"needs text(.|\n)*where: data(.|\n)*fix:   give at least one row"):
        importance.collect(folder, [])


def test_a_model_that_has_diverged_is_refused(folder: Path, tmp_path: Path) -> None:
    broken = wide_model.make(tmp_path / "broken", folder)
    weights = load_file(broken / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.weight"][0, 0] = float("inf")
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(RunError, match=r"the inputs of 'blk\..*' are NaN or infinite(.|\n)*fix:   training diverged"):
        importance.collect(broken, TEXTS)


def test_rows_are_read_until_there_are_enough_tokens(folder: Path, data: Path) -> None:
    texts = read_texts(folder, data, num_tokens=300)
    assert sum(map(len, texts)) == 300
    assert len(read_texts(folder, data, num_tokens=10**6)) == 40


def test_documents_serve_too(folder: Path, tmp_path: Path) -> None:
    row = {"text": "春眠不觉晓，处处闻啼鸟。" * 100}
    (tmp_path / "a.jsonl").write_text(json.dumps(row), encoding="utf-8")
    import_data.run(import_data.Config(files=[str(tmp_path / "a.jsonl")]), {}, tmp_path)
    texts = read_texts(folder, tmp_path, num_tokens=10**6)
    assert texts and max(map(len, texts)) <= 512


def test_the_stage_collects_it_where_a_level_takes_one(folder: Path, data: Path, tmp_path: Path) -> None:
    config = quantize.Config(levels=["q4_0"], importance_tokens=500, num_texts=1)
    figures = quantize.run(config, {"model": folder, "data": data}, tmp_path)
    assert figures["num_importance_matrices"] == 14
    values = read_model_header(tmp_path / "model-q4_0.gguf").values
    assert values["quantize.imatrix.entries_count"] == 14
    names = {"Modelfile", "README.md", "SHA256SUMS", "imatrix.gguf", "model-f16.gguf", "model-q4_0.gguf"}
    assert {file.name for file in tmp_path.iterdir()} == names
    assert "imatrix.gguf" in (tmp_path / "SHA256SUMS").read_text(encoding="utf-8")


@pytest.mark.parametrize(("levels", "num_tokens"), [(["q8_0"], 500), (["q4_0"], 0)])
def test_it_is_not_collected_for_nothing(
    levels: list[str], num_tokens: int, folder: Path, data: Path, tmp_path: Path
) -> None:
    file = tmp_path / "imatrix.gguf"
    assert importance.prepare(folder, data, file, levels=levels, num_tokens=num_tokens) == {}
    assert not file.exists()


def test_the_log_gives_the_reason_for_no_matrix(folder: Path, data: Path, tmp_path: Path, caplog: Any) -> None:
    given: dict[str, Any] = {"file": tmp_path / "imatrix.gguf", "levels": ["q4_0", "q3_k_m"], "num_tokens": 500}
    with caplog.at_level(logging.INFO, logger="baihua"):
        assert importance.prepare(folder, None, **given) == importance.prepare(tmp_path / "m.gguf", data, **given) == {}
    assert "no importance matrix for q4_0, q3_k_m: it needs `data`" in caplog.text
    assert "it is collected from a model folder, not from a GGUF file" in caplog.text


def test_an_artifact_of_files_is_quantized_from_f16_and_not_compared(tiny_gguf: Path, tmp_path: Path) -> None:
    shutil.copyfile(tiny_gguf, tmp_path / "model-f16.gguf")
    (tmp_path / "model-q8_0.gguf").write_bytes(b"never opened")
    figures = quantize.run(quantize.Config(levels=["f16"]), {"model": tmp_path}, tmp_path / "out")
    assert [row["level"] for row in figures["levels"]] == ["f16"] and "mean_kl" not in figures


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"neither a config\.json nor a \.gguf file in full precision \(0 \.gguf files\)"
    ):
        quantize.run(quantize.Config(), {"model": tmp_path}, tmp_path / "out")
