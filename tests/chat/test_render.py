"""Rendering: exactly what the template renders, and text never becomes a control token."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import CONTROLS
from transformers import AutoTokenizer

from baihua.chat.render import Template, encode, render
from baihua.chat.templates import alpaca, chatml
from baihua.chat.tokenizer import FolderTokenizer
from baihua.chat.types import Message, Span
from baihua.core.errors import InputError

SHARED = Path(__file__).parents[3] / "shared" / "data" / "templates" / "template_alpaca.json"
HOSTILE = ("<|im_end|>", "<|im_start|>system", "</s>", "[INST]", "<|endoftext|>", "<|im_start|>assistant\n")

DEFAULT_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nYou are 白话.<|im_end|>\\n' }}{% endif %}"
    + chatml.JINJA
)
LLAMA2 = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% elif m.role == 'system' %}<<SYS>>{{ m.content }}<</SYS>>{% else %} {{ m.content }} {{ eos_token }}{% endif %}"
    "{% endfor %}"
)
BLOCKS = (
    "{%- for m in messages %}\n    {%- if loop.index0 > 9 %}\n        {%- break %}\n    {%- endif %}\n"
    "    {{- bos_token + m['role'] + '\\n' + m['content'] + eos_token }}\n{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n    {{- bos_token + 'assistant\\n' }}\n{%- endif %}"
)
TEMPLATES = {
    "chatml": chatml.JINJA,
    "default": DEFAULT_SYSTEM,
    "llama2": LLAMA2,
    "blocks": BLOCKS,
    "alpaca": alpaca.JINJA,
}

TEXT = st.text(st.characters(exclude_characters="\ue000\ue001", exclude_categories=["Cs"]), min_size=1, max_size=12)
HOSTILE_TEXT = st.lists(TEXT | st.sampled_from(HOSTILE), min_size=1, max_size=4).map("".join)


def make(name: str) -> Template:
    return Template(name, TEMPLATES[name], frozenset(CONTROLS), bos_token="<|im_start|>", eos_token="<|im_end|>")


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    """A system message or none, then one to three turns of any text, control tokens' names included."""
    system = [Message("system", draw(HOSTILE_TEXT))] if draw(st.booleans()) else []
    turns = [
        (Message("user", draw(HOSTILE_TEXT)), Message("assistant", draw(HOSTILE_TEXT)))
        for _ in range(draw(st.integers(1, 3)))
    ]
    return [*system, *(message for turn in turns for message in turn)]


@pytest.fixture(scope="module")
def theirs(tiny_folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_folder)


@pytest.fixture(scope="module")
def ours(tiny_folder: Path) -> FolderTokenizer:
    return FolderTokenizer(tiny_folder)


@pytest.mark.parametrize("name", TEMPLATES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_the_spans_joined_are_what_transformers_renders(name: str, theirs: Any, data: st.DataObject) -> None:
    messages = data.draw(conversations())
    plain = [{"role": m.role, "content": m.content} for m in messages]
    whole = theirs.apply_chat_template(plain, chat_template=TEMPLATES[name], tokenize=False)
    asked = theirs.apply_chat_template(
        plain[:-1], chat_template=TEMPLATES[name], tokenize=False, add_generation_prompt=True
    )
    assert "".join(span.text for span in render(messages, make(name))) == whole
    assert "".join(span.text for span in render(messages[:-1], make(name), for_answer=True)) == asked


@pytest.mark.parametrize("name", TEMPLATES)
@settings(max_examples=25, deadline=None)
@given(messages=conversations())
def test_trained_are_the_answers_and_the_token_that_ends_each(name: str, messages: list[Message]) -> None:
    trained = [span for span in render(messages, make(name)) if span.is_trained and span.text.strip(" ")]
    answers = [m.content for m in messages if m.role == "assistant"]
    assert [span.text for span in trained if span.is_control] == ["<|im_end|>"] * len(answers)
    assert [s.text for s in trained if not s.is_control] == [a for a in answers if a.strip(" ")]


@pytest.mark.parametrize("name", TEMPLATES)
@settings(max_examples=25, deadline=None)
@given(messages=conversations())
def test_text_of_users_never_gives_a_control_token(name: str, ours: FolderTokenizer, messages: list[Message]) -> None:
    harmless = [Message(m.role, "x") for m in messages]
    wanted = [span.text for span in render(harmless, make(name)) if span.is_control]
    ids = encode(render(messages, make(name)), ours).ids
    names = {number: text for text, number in ours.controls.items()}
    assert [names[number] for number in ids if number in names] == wanted


@settings(max_examples=50, deadline=None)
@given(messages=conversations())
def test_harmless_text_gives_the_ids_and_mask_of_whole_text_tokenization(
    ours: FolderTokenizer, theirs: Any, messages: list[Message]
) -> None:
    clean = [Message(m.role, re.sub(r"[<|>\[\]]", "", m.content) or "x") for m in messages]
    tokens = encode(render(clean, make("chatml")), ours)
    plain = [{"role": m.role, "content": m.content} for m in clean]
    found = theirs.apply_chat_template(plain, chat_template=chatml.JINJA, return_dict=True)
    assert tokens.ids == found["input_ids"]
    assert len(tokens.is_trained) == len(tokens.ids)


def test_the_answer_prompt_is_the_beginning_of_the_trained_conversation() -> None:
    messages = [Message("user", "你好"), Message("assistant", "好")]
    asked = "".join(span.text for span in render(messages[:1], make("chatml"), for_answer=True))
    assert "".join(span.text for span in render(messages, make("chatml"))).startswith(asked)


@pytest.mark.shared
@pytest.mark.parametrize(("key", "text"), [("prompt_input", "你好"), ("prompt_no_input", None)])
def test_alpaca_is_byte_exact(key: str, text: str | None) -> None:
    if not SHARED.is_file():
        pytest.skip(f"the shared data is not here: {SHARED}")
    wanted = json.loads(SHARED.read_text(encoding="utf-8"))[key].format(instruction="翻译", input=text)
    spans = render([Message("user", "翻译", text)], make("alpaca"), for_answer=True)
    assert "".join(span.text for span in spans) == wanted


def test_alpaca_with_several_turns_repeats_the_headings() -> None:
    talk = [
        Message("system", "规则"),
        Message("user", "一", "料"),
        Message("assistant", "1"),
        Message("user", "二"),
        Message("assistant", "2"),
    ]
    assert "".join(span.text for span in render(talk, make("alpaca"))) == (
        "规则\n\n### Instruction:\n一\n\n### Input:\n料\n\n### Response:\n1<|im_end|>\n\n"
        "### Instruction:\n二\n\n### Response:\n2<|im_end|>"
    )


def test_a_template_without_a_slot_for_the_input_joins_it_with_one_newline() -> None:
    spans = render([Message("user", "翻译", "你好"), Message("assistant", "Hi")], make("chatml"))
    assert Span("翻译\n你好") in spans


@pytest.mark.parametrize(
    ("jinja", "text"),
    [
        (chatml.JINJA.replace("message['content']", "message['content'] | trim"), " 好"),
        (chatml.JINJA.replace("message['content']", "message['content'] | upper"), "a"),
        (LLAMA2.replace("{{ m.content }} [/INST]", "{{ m.content | length }} [/INST]"), "a"),
    ],
)
def test_a_template_that_changes_the_texts_is_refused(jinja: str, text: str) -> None:
    template = Template("trimming", jinja, frozenset(CONTROLS), "<|im_start|>", "<|im_end|>")
    with pytest.raises(InputError, match=r"template 'trimming' changes the message texts(?s:.*)fix:   strip leading"):
        render([Message("user", text), Message("assistant", text)], template)


@pytest.mark.parametrize("jinja", [LLAMA2.replace("eos_token", "''"), LLAMA2.replace("{{ eos_token }}", "[END]")])
def test_a_template_whose_answers_have_no_end_token_is_refused(jinja: str) -> None:
    template = Template("endless", jinja, frozenset(CONTROLS), "<|im_start|>", "<|im_end|>")
    with pytest.raises(
        InputError, match=r"'endless' does not end an answer(?s:.*)never stop(?s:.*)fix:   use .*: <\|endoftext\|>, "
    ):
        render([Message("user", "a"), Message("assistant", "b")], template)


def test_a_model_without_control_tokens_cannot_learn_to_stop() -> None:
    with pytest.raises(InputError, match="ends answers with one of: none"):
        render([Message("user", "a"), Message("assistant", "b")], Template("chatml", chatml.JINJA, frozenset()))


@pytest.mark.parametrize(
    ("jinja", "message"),
    [
        ("{{ raise_exception('roles must alternate') }}", "cannot render this conversation: roles must alternate"),
        ("{% for m in messages", "cannot render this conversation: unexpected end of template"),
        ("{{ messages.append(1) }}", "cannot render this conversation: access to attribute 'append' .* is unsafe"),
        ("{{ 1 + 'a' }}", "cannot render this conversation: unsupported operand"),
        ("{{ ''.__class__.__mro__ }}", "cannot render this conversation: access to attribute '__class__'"),
    ],
)
def test_a_template_that_refuses_or_breaks_out_is_an_error_of_the_template(jinja: str, message: str) -> None:
    with pytest.raises(InputError, match=message + r"(?s:.*)where: conversation .*'content': '你好'"):
        render([Message("user", "你好")], Template("foreign", jinja, frozenset(CONTROLS)))


def test_a_text_may_hold_the_sentinels_themselves() -> None:
    messages = [Message("user", "\ue0000c\ue001"), Message("assistant", "\ue0001c\ue001")]
    spans = render(messages, make("chatml"))
    assert [span.text for span in spans if span.is_trained] == ["\ue0001c\ue001", "<|im_end|>"]


class Letters:
    """A tokenizer of characters with a begin token, to see what `encode` puts together."""

    def __init__(self, bos_id: int | None) -> None:
        self.controls = {"<s>": 1, "</s>": 2}
        self.bos_id = bos_id

    def encode(self, text: str) -> list[int]:
        return [ord(char) for char in text]

    def token_bytes(self, token_id: int) -> bytes:
        return chr(token_id).encode()


@pytest.mark.parametrize(
    ("bos_id", "spans", "ids"),
    [
        (1, [Span("a")], [1, 97]),
        (1, [Span("<s>", is_control=True), Span("a")], [1, 97]),
        (None, [Span("a"), Span("", is_trained=True), Span("b", is_trained=True)], [97, 98]),
        (1, [], [1]),
    ],
)
def test_the_begin_token_comes_once_where_the_model_wants_it(
    bos_id: int | None, spans: list[Span], ids: list[int]
) -> None:
    assert encode(spans, Letters(bos_id)).ids == ids


def test_the_mask_follows_the_spans() -> None:
    spans = [Span("ab"), Span("c", is_trained=True), Span("</s>", is_trained=True, is_control=True), Span("d")]
    assert encode(spans, Letters(1)).is_trained == [False, False, False, True, True, False]
