"""Token ids that a model may read, and those that end its answers."""

import json
from pathlib import Path

import pytest
import tiny

from baihua.backends.token_ids import check_ids, end_ids
from baihua.chat.template import OWN, open_template
from baihua.core.errors import InputError, TooLongError

LIMITS = {"max_tokens": 4, "num_tokens": 100, "model": "tiny"}


def test_an_answer_ends_at_every_listed_token_and_at_the_templates(tmp_path: Path) -> None:
    folder = tiny.make(tmp_path)
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings["eos_token"] = "<|endoftext|>"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 9]}), encoding="utf-8")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": 7}), encoding="utf-8")
    tokenizer, template = open_template(OWN, folder)
    controls = tokenizer.controls
    assert end_ids(folder, tokenizer, template) == sorted({7, 9, controls["<|endoftext|>"], controls["<|im_end|>"]})


def test_ids_within_the_limits_are_accepted() -> None:
    check_ids([0, 99, 5, 5], "a text", **LIMITS)


@pytest.mark.parametrize("ids", [[], [1] * 5])
def test_a_text_without_tokens_or_with_too_many_is_refused(ids: list[int]) -> None:
    with pytest.raises(TooLongError, match=f"a text may have 1 to 4 tokens, this one has {len(ids)}"):
        check_ids(ids, "a text", **LIMITS)


@pytest.mark.parametrize("ids", [[-1], [1, 100]])
def test_ids_of_another_model_are_refused(ids: list[int]) -> None:
    with pytest.raises(InputError, match=r"found token ids from .* but this model's are 0 to 99"):
        check_ids(ids, "a text", **LIMITS)
