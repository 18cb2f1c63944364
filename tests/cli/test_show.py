"""What is shown is the text that is trained, whatever it contains."""

import io
from pathlib import Path

import pytest
import tiny
from conversations import encode_rows, make_encoder, make_rows
from rich.console import Console

from baihua.chat.tokenizer import FolderTokenizer
from baihua.chat.types import Message
from baihua.train.examples.preview import PROMPT, TRAINED, TRAINED_CONTROL, colour, show_examples


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("show") / "tiny")


def test_colours_follow_the_mask_and_markup_stays_text(model: Path) -> None:
    example = make_encoder(model).encode("x", [Message("user", "[red]问😀"), Message("assistant", "[/bold]答齉")])
    text = colour(example, FolderTokenizer(model))
    parts = {span.style: text.plain[span.start : span.end] for span in text.spans if span.style != PROMPT}
    assert "[red]问😀" in text.plain
    assert (parts[TRAINED], parts[TRAINED_CONTROL]) == ("[/bold]答齉", "<|im_end|>")


def test_only_the_asked_number_is_shown(model: Path) -> None:
    stream = io.StringIO()
    show_examples(
        encode_rows(model, make_rows(5)), FolderTokenizer(model), num_shown=2, console=Console(file=stream, width=100)
    )
    assert "row-1" in stream.getvalue()
    assert "row-2" not in stream.getvalue()
