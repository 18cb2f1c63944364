"""Bits per character against their definition."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import tiny
from conversations import encode_rows, make_rows
from oracles import log_probs_of

from baihua.core.errors import InputError
from baihua.data.rows import write_rows
from baihua.model.compare import measure_bits
from baihua.model.load import load_model
from baihua.stages import bits as stage
from baihua.stages import quantize
from baihua.train.examples.batches import collate
from baihua.train.layers.attention import use_document_attention
from baihua.train.layers.loss import TargetLoss, bits_per_char


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("bits") / "tiny")


def test_an_even_guess_costs_the_logarithm_of_the_vocabulary_for_each_token(model: Path) -> None:
    examples = encode_rows(model, make_rows(5))
    measured = measure_bits(examples, lambda ids: np.full((len(ids), 512), -math.log(512), dtype=np.float32))
    num_targets = sum(int(example.is_target_T.sum()) for example in examples)
    assert measured.answers.bits == pytest.approx(9 * num_targets)
    answers = "".join(m.content for row in make_rows(5) for m in row.messages if m.role == "assistant")
    assert (measured.answers.num_chars, measured.answers.num_bytes) == (len(answers), len(answers.encode()))
    assert measured.answers.per_char == pytest.approx(9 * num_targets / len(answers))
    assert measured.everything.bits == pytest.approx(9 * sum(len(example.ids_T) - 1 for example in examples))


def test_training_and_measuring_agree(model: Path) -> None:
    examples = encode_rows(model, make_rows(5, num_turns=2))
    net = load_model(model)
    use_document_attention(net)
    nats = TargetLoss(net, precision="float32")(collate(examples)).item()
    measured = measure_bits(examples, log_probs_of(load_model(model)))
    assert measured.answers.per_char == pytest.approx(bits_per_char(nats, measured.answers.num_chars), rel=1e-5)


def test_the_stage_measures_a_folder(model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_rows(make_rows(6), tmp_path)
    figures = stage.run(stage.Config(num_rows=4, label="小模型"), {"model": model, "data": tmp_path}, tmp_path)
    wanted = measure_bits(encode_rows(model, make_rows(6)[:4]), log_probs_of(load_model(model)))
    assert figures["bits_per_char"] == pytest.approx(wanted.answers.per_char)
    assert figures["bits_per_byte"] == pytest.approx(wanted.answers.per_byte)
    assert (figures["num_rows"], figures["num_chars"], caplog.text) == (4, wanted.answers.num_chars, "")
    assert json.loads((tmp_path / "bits.json").read_text())["label"] == "小模型"


def test_cut_rows_warn_that_vocabularies_cannot_be_compared(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_rows(make_rows(3, num_turns=4), tmp_path)
    figures = stage.run(stage.Config(max_length=90), {"model": model, "data": tmp_path}, tmp_path)
    assert figures["num_rows_cut"] > 0
    assert "compare these figures only with models of the same vocabulary" in caplog.text


def test_a_gguf_file_is_measured_by_its_own_engine(model: Path, tmp_path: Path) -> None:
    write_rows(make_rows(4), tmp_path / "data")
    quantize.run(quantize.Config(levels=["q8_0"]), {"model": model}, tmp_path)
    data = {"data": tmp_path / "data"}
    wanted = stage.run(stage.Config(template="chatml"), data | {"model": model}, tmp_path)
    found = stage.run(stage.Config(template="chatml"), data | {"model": tmp_path / "model-q8_0.gguf"}, tmp_path)
    assert found["num_chars"] == wanted["num_chars"]
    assert found["bits_per_char"] == pytest.approx(wanted["bits_per_char"], rel=0.01)


def test_no_answers_are_an_error(model: Path) -> None:
    with pytest.raises(InputError, match="the answers have no characters"):
        measure_bits([], log_probs_of(load_model(model)))
