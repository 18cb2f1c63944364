"""Every chat template, byte-exact: by hand, in transformers, in llama.cpp. A new file is tested automatically."""

import itertools
import json
import shutil
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import xllamacpp
from hypothesis import given, settings
from hypothesis import strategies as st
from template_models import make_model, set_tokenizer
from transformers import AutoTokenizer

from baihua.backends.llama_cpp.library import pause_openmp
from baihua.chat.render import Template, encode, render
from baihua.chat.template import TEMPLATES, end_of_turn, open_template
from baihua.chat.tokenizer import FolderTokenizer
from baihua.chat.types import Message
from baihua.compress.export import write_gguf
from baihua.core import kinds

NAMES = kinds.names(TEMPLATES)
CONTROLS = sorted({control for name in NAMES for control in kinds.find(TEMPLATES, name).CONTROLS})
SHARED = Path(__file__).parents[3] / "shared" / "data" / "templates"

SINGLE = [Message("user", "问"), Message("assistant", "答")]
WITH_INPUT = [Message("user", "译", "料"), Message("assistant", "答")]
WITH_SYSTEM = [Message("system", "规"), *SINGLE]
TURNS = [Message("user", "一"), Message("assistant", "1"), Message("user", "二"), Message("assistant", "2")]
CASES = {"single": SINGLE, "input": WITH_INPUT, "system": WITH_SYSTEM, "turns": TURNS, "asked": TURNS[:3]}

TASK = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n"
)
TASK_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n### Instruction:\n"
)
VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions. "
)
HELPFUL = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
USER3, ASSISTANT3 = (f"<|start_header_id|>{role}<|end_header_id|>\n\n" for role in ("user", "assistant"))

# By hand, in the order of CASES.
GOLDEN = {
    "alpaca": (
        TASK + "问\n\n### Response:\n答</s>",
        TASK_WITH_INPUT + "译\n\n### Input:\n料\n\n### Response:\n答</s>",
        "规\n\n### Instruction:\n问\n\n### Response:\n答</s>",
        TASK + "一\n\n### Response:\n1</s>\n\n### Instruction:\n二\n\n### Response:\n2</s>",
        TASK + "一\n\n### Response:\n1</s>\n\n### Instruction:\n二\n\n### Response:\n",
    ),
    "alpaca_no_newline": (
        TASK + "问\n\n### Response:答</s>",
        TASK_WITH_INPUT + "译\n\n### Input:\n料\n\n### Response:答</s>",
        "规\n\n### Instruction:\n问\n\n### Response:答</s>",
        TASK + "一\n\n### Response:1</s>\n\n### Instruction:\n二\n\n### Response:2</s>",
        TASK + "一\n\n### Response:1</s>\n\n### Instruction:\n二\n\n### Response:",
    ),
    "belle": (
        "Human: \n问\n\nAssistant: \n答</s>",
        "Human: \n译\n料\n\nAssistant: \n答</s>",
        "规\n\nHuman: \n问\n\nAssistant: \n答</s>",
        "Human: \n一\n\nAssistant: \n1</s>Human: \n二\n\nAssistant: \n2</s>",
        "Human: \n一\n\nAssistant: \n1</s>Human: \n二\n\nAssistant: \n",
    ),
    "chatml": (
        "<|im_start|>user\n问<|im_end|>\n<|im_start|>assistant\n答<|im_end|>\n",
        "<|im_start|>user\n译\n料<|im_end|>\n<|im_start|>assistant\n答<|im_end|>\n",
        "<|im_start|>system\n规<|im_end|>\n<|im_start|>user\n问<|im_end|>\n<|im_start|>assistant\n答<|im_end|>\n",
        "<|im_start|>user\n一<|im_end|>\n<|im_start|>assistant\n1<|im_end|>\n"
        "<|im_start|>user\n二<|im_end|>\n<|im_start|>assistant\n2<|im_end|>\n",
        "<|im_start|>user\n一<|im_end|>\n<|im_start|>assistant\n1<|im_end|>\n"
        "<|im_start|>user\n二<|im_end|>\n<|im_start|>assistant\n",
    ),
    "chinese_alpaca": (
        TASK + "问\n\n### Response: 答</s>",
        TASK + "译\n料\n\n### Response: 答</s>",
        "规\n\n### Instruction:\n问\n\n### Response: 答</s>",
        TASK + "一\n\n### Response: 1</s>\n\n### Instruction:\n二\n\n### Response: 2</s>",
        TASK + "一\n\n### Response: 1</s>\n\n### Instruction:\n二\n\n### Response: ",
    ),
    "llama2": (
        "<s>[INST] 问 [/INST] 答 </s>",
        "<s>[INST] 译\n料 [/INST] 答 </s>",
        "<s>[INST] <<SYS>>\n规\n<</SYS>>\n\n问 [/INST] 答 </s>",
        "<s>[INST] 一 [/INST] 1 </s><s>[INST] 二 [/INST] 2 </s>",
        "<s>[INST] 一 [/INST] 1 </s><s>[INST] 二 [/INST]",
    ),
    "llama3": (
        f"<|begin_of_text|>{USER3}问<|eot_id|>{ASSISTANT3}答<|eot_id|>",
        f"<|begin_of_text|>{USER3}译\n料<|eot_id|>{ASSISTANT3}答<|eot_id|>",
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n规<|eot_id|>"
        f"{USER3}问<|eot_id|>{ASSISTANT3}答<|eot_id|>",
        f"<|begin_of_text|>{USER3}一<|eot_id|>{ASSISTANT3}1<|eot_id|>{USER3}二<|eot_id|>{ASSISTANT3}2<|eot_id|>",
        f"<|begin_of_text|>{USER3}一<|eot_id|>{ASSISTANT3}1<|eot_id|>{USER3}二<|eot_id|>{ASSISTANT3}",
    ),
    "qwen": (
        HELPFUL + "<|im_start|>user\n问<|im_end|>\n<|im_start|>assistant\n答<|im_end|>\n",
        HELPFUL + "<|im_start|>user\n译\n料<|im_end|>\n<|im_start|>assistant\n答<|im_end|>\n",
        "<|im_start|>system\n规<|im_end|>\n<|im_start|>user\n问<|im_end|>\n<|im_start|>assistant\n答<|im_end|>\n",
        HELPFUL + "<|im_start|>user\n一<|im_end|>\n<|im_start|>assistant\n1<|im_end|>\n"
        "<|im_start|>user\n二<|im_end|>\n<|im_start|>assistant\n2<|im_end|>\n",
        HELPFUL + "<|im_start|>user\n一<|im_end|>\n<|im_start|>assistant\n1<|im_end|>\n"
        "<|im_start|>user\n二<|im_end|>\n<|im_start|>assistant\n",
    ),
    "vicuna": (
        VICUNA + "USER: 问 ASSISTANT: 答</s>",
        VICUNA + "USER: 译\n料 ASSISTANT: 答</s>",
        "规 USER: 问 ASSISTANT: 答</s>",
        VICUNA + "USER: 一 ASSISTANT: 1</s>USER: 二 ASSISTANT: 2</s>",
        VICUNA + "USER: 一 ASSISTANT: 1</s>USER: 二 ASSISTANT:",
    ),
}  # fmt: skip

Ask = Callable[..., Any]

TEXT = st.text(st.characters(exclude_characters="\ue000\ue001", exclude_categories=["Cs"]), min_size=1, max_size=12)
HOSTILE = st.sampled_from([*CONTROLS, "[/INST]", "<</SYS>>", "### Response:", " ASSISTANT: ", "\n\nAssistant: \n"])
HOSTILE_TEXT = st.lists(TEXT | HOSTILE, min_size=1, max_size=4).map("".join)


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    """A system message or none, then one to three turns of any text, control tokens' names included."""
    system = [Message("system", draw(HOSTILE_TEXT))] if draw(st.booleans()) else []
    turns = [
        (Message("user", draw(HOSTILE_TEXT), draw(st.none() | HOSTILE_TEXT)), Message("assistant", draw(HOSTILE_TEXT)))
        for _ in range(draw(st.integers(1, 3)))
    ]
    return [*system, *(message for turn in turns for message in turn)]


@dataclass(frozen=True, slots=True)
class Chatty:
    """A tiny model with the control tokens of a template's family, saved with that template."""

    name: str
    folder: Path
    tokenizer: FolderTokenizer
    template: Template
    theirs: Any
    """The tokenizer that transformers loads from the folder."""

    def text(self, messages: list[Message], *, for_answer: bool = False) -> str:
        """The spans of a conversation, joined."""
        return "".join(span.text for span in render(messages, self.template, for_answer=for_answer))


@pytest.fixture(scope="module", params=NAMES)
def chatty(request: pytest.FixtureRequest, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Chatty:
    folder = make_model(tiny_folder, tmp_path_factory.mktemp(request.param), request.param)
    tokenizer, template = open_template("model", folder)
    return Chatty(request.param, folder, tokenizer, template, AutoTokenizer.from_pretrained(folder))


def test_every_template_has_its_bytes_written_by_hand() -> None:
    assert sorted(GOLDEN) == NAMES


@pytest.mark.parametrize("case", CASES)
def test_a_template_is_byte_exact(chatty: Chatty, case: str) -> None:
    wanted = dict(zip(CASES, GOLDEN[chatty.name], strict=True))[case]
    assert chatty.text(CASES[case], for_answer=case == "asked") == wanted


@pytest.mark.shared
@pytest.mark.parametrize("text", ["料", None])
@pytest.mark.parametrize(("name", "file"), [("alpaca", "alpaca"), ("alpaca_no_newline", "alpaca_legacy")])
def test_alpaca_prompts_are_those_of_the_original_files(name: str, file: str, text: str | None) -> None:
    path = SHARED / f"template_{file}.json"
    if not path.is_file():
        pytest.skip(f"the shared data is not here: {path}")
    original = json.loads(path.read_text(encoding="utf-8"))["prompt_input" if text else "prompt_no_input"]
    template = Template(name, kinds.find(TEMPLATES, name).JINJA, frozenset({"</s>"}), eos_token="</s>")
    spans = render([Message("user", "译", text)], template, for_answer=True)
    assert "".join(span.text for span in spans) == original.format(instruction="译", input=text)


@settings(max_examples=25, deadline=None)
@given(messages=conversations())
def test_the_saved_model_renders_the_same_in_transformers(chatty: Chatty, messages: list[Message]) -> None:
    has_slot = "input" in chatty.template.jinja
    plain = [
        {"role": m.role, "content": m.content if has_slot else m.text} | ({"input": m.input} if m.input else {})
        for m in messages
    ]
    asked = chatty.theirs.apply_chat_template(plain[:-1], tokenize=False, add_generation_prompt=True)
    assert chatty.text(messages) == chatty.theirs.apply_chat_template(plain, tokenize=False)
    assert chatty.text(messages[:-1], for_answer=True) == asked


def test_an_answer_ends_with_the_token_of_its_family(chatty: Chatty) -> None:
    assert end_of_turn(chatty.template) == kinds.find(TEMPLATES, chatty.name).CONTROLS[-1]


@settings(max_examples=25, deadline=None)
@given(messages=conversations())
def test_trained_is_what_follows_the_prompt_up_to_the_end_token(chatty: Chatty, messages: list[Message]) -> None:
    runs = itertools.groupby(render(messages, chatty.template), key=lambda span: span.is_trained)
    trained = ["".join(span.text for span in run) for is_trained, run in runs if is_trained]
    answers = [i for i, message in enumerate(messages) if message.role == "assistant"]
    for i, text in zip(answers, trained, strict=True):
        asked = chatty.text(messages[:i], for_answer=True)
        end, answer = end_of_turn(chatty.template), messages[i].content
        assert chatty.text(messages[: i + 1]).removesuffix("\n") == asked + text
        assert text in {f"{before}{answer}{after}{end}" for before in ("", " ") for after in ("", " ")}


def test_a_template_without_a_prompt_of_its_own_does_not_train_the_header() -> None:
    jinja = kinds.find(TEMPLATES, "chatml").JINJA.partition("{% if add_generation_prompt")[0]
    template = Template("promptless", jinja, frozenset({"<|im_start|>", "<|im_end|>"}))
    assert [span.text for span in render(TURNS, template) if span.is_trained] == ["1", "<|im_end|>", "2", "<|im_end|>"]


def test_a_template_that_renders_no_prompt_still_renders_whole_conversations() -> None:
    jinja = "{{ messages[0].content + ' ' + messages[1]['content'] + eos_token }}"
    spans = render(SINGLE, Template("promptless", jinja, frozenset({"</s>"}), eos_token="</s>"))
    assert [span.text for span in spans if span.is_trained] == ["答", "</s>"]


def test_a_greeting_before_any_question_is_trained_like_an_answer() -> None:
    template = Template("vicuna", kinds.find(TEMPLATES, "vicuna").JINJA, frozenset({"</s>"}), eos_token="</s>")
    spans = render([Message("assistant", "您好"), *SINGLE], template)
    assert [span.text for span in spans if span.is_trained] == [" ", "您好", "</s>", " ", "答", "</s>"]
    alone = render([Message("assistant", "您好")], template)
    assert [span.text for span in alone if span.is_trained] == ["您好", "</s>"]


@settings(max_examples=25, deadline=None)
@given(messages=conversations())
def test_text_of_users_never_gives_a_control_token(chatty: Chatty, messages: list[Message]) -> None:
    harmless = [Message(m.role, "x", m.input and "x") for m in messages]
    names = {number: text for text, number in chatty.tokenizer.controls.items()}
    found, wanted = (
        [names[number] for number in encode(render(talk, chatty.template), chatty.tokenizer).ids if number in names]
        for talk in (messages, harmless)
    )
    assert found == wanted


def ask_llama_cpp(file: Path) -> Ask:
    """A function that posts to the routes of llama.cpp's own server on a GGUF file."""
    pause_openmp()
    wanted = xllamacpp.CommonParams()
    wanted.model.path = str(file)
    wanted.n_ctx = 64
    wanted.verbosity = 0
    wanted.warmup = wanted.ui = False
    wanted.cpuparams.n_threads = wanted.cpuparams_batch.n_threads = wanted.n_threads_http = 1
    wanted.hostnames, wanted.port = ["127.0.0.1"], 0
    server = xllamacpp.Server(wanted)
    # One token proves that the loop runs; freed before, it would wait for ever.
    server.handle_completions({"prompt": [0], "stream": True, "max_tokens": 1}, lambda chunk: False)

    def ask(route: str, **body: Any) -> Any:
        request = urllib.request.Request(server.listening_address + route, json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=30) as reply:
            return json.load(reply)

    return ask


@pytest.fixture(scope="module")
def llama_cpp(chatty: Chatty, tmp_path_factory: pytest.TempPathFactory) -> Ask:
    file = tmp_path_factory.mktemp("gguf") / "model.gguf"
    write_gguf(chatty.folder, file, level="f32")
    return ask_llama_cpp(file)


@settings(max_examples=25, deadline=None)
@given(messages=conversations())
def test_the_exported_model_renders_the_same_in_llama_cpp(
    chatty: Chatty, llama_cpp: Ask, messages: list[Message]
) -> None:
    # Its server drops a message's `input`, so a client must join it to the content; a last answer it continues
    # instead of ending it, so the conversations here end with a question.
    joined = [Message(m.role, m.text) for m in messages[:-1]]
    plain = [{"role": m.role, "content": m.content} for m in joined]
    for is_asked in (True, False):
        theirs = llama_cpp("/apply-template", messages=plain, add_generation_prompt=is_asked)["prompt"]
        assert theirs == chatty.text(joined, for_answer=is_asked)


def test_llama_cpp_reads_the_tokens_that_we_give(chatty: Chatty, tmp_path: Path) -> None:
    """With a begin token that the tokenizer adds: llama.cpp leaves it out of the text and puts it before the ids."""
    shutil.copytree(chatty.folder, tmp_path / "model")
    set_tokenizer(tmp_path / "model", add_bos_token=True)
    write_gguf(tmp_path / "model", tmp_path / "model.gguf", level="f32")
    llama_cpp = ask_llama_cpp(tmp_path / "model.gguf")
    tokenizer, template = open_template("model", tmp_path / "model")
    spans = render(WITH_SYSTEM[:2], template, for_answer=True)
    plain = [{"role": m.role, "content": m.content} for m in WITH_SYSTEM[:2]]
    prompt = llama_cpp("/apply-template", messages=plain)["prompt"]
    assert prompt == "".join(span.text for span in spans).removeprefix(tokenizer.bos_token)
    found = llama_cpp("/tokenize", content=prompt, add_special=True, parse_special=True)["tokens"]
    assert found == encode(spans, tokenizer).ids
    assert found.count(tokenizer.bos_id) == max(1, sum(span.text == tokenizer.bos_token for span in spans))
