"""llama.cpp as a chat model, a scorer and a tokenizer."""

import ctypes
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import parrot
import pytest
from gguf import GGUFWriter
from mixed_text import lines

from baihua.backends.llama_cpp import library as binding
from baihua.backends.llama_cpp.chat import LlamaCppChat, open_chat
from baihua.backends.llama_cpp.scorer import Network, open_context, open_scorer
from baihua.backends.llama_cpp.tokenizer import GgufTokenizer
from baihua.chat.render import encode, render
from baihua.chat.tokenizer import FolderTokenizer
from baihua.chat.types import Guidance, Message, Piece, Sampling, Usage
from baihua.compress.export import write_gguf, write_levels
from baihua.core.errors import InputError, RunError, TooLongError

GREEDY = Sampling(temperature=0, repeat_penalty=1.0)
ASK = [Message("user", "你好")]
SPLIT = "鲸吞🎉"  # ten bytes, each its own token of the tiny tokenizer


@pytest.fixture(scope="module")
def split_chat(tmp_path_factory: pytest.TempPathFactory):
    folder = parrot.make(tmp_path_factory.mktemp("parrot"), SPLIT)
    write_gguf(folder, folder / "parrot.gguf", level="f16")
    chat = open_chat(folder / "parrot.gguf", num_threads=1, num_slots=2)
    yield chat
    chat.close()


@pytest.fixture(scope="module")
def endless_chat(tmp_path_factory: pytest.TempPathFactory):
    folder = parrot.make(tmp_path_factory.mktemp("endless"), "鲸吞", is_endless=True)
    write_gguf(folder, folder / "endless.gguf", level="f16")
    chat = open_chat(folder / "endless.gguf", num_threads=1, num_slots=2)
    yield chat
    chat.close()


def test_characters_split_over_tokens_stream_whole(split_chat: LlamaCppChat) -> None:
    pieces = list(split_chat.stream(ASK, GREEDY))
    assert [piece.text for piece in pieces if piece.text] == list(SPLIT)
    assert pieces[-1].finish_reason == "stop"
    num_prompt_tokens = len(encode(render(ASK, split_chat.template, for_answer=True), split_chat.tokenizer).ids)
    assert pieces[-1].usage == Usage(num_prompt_tokens, len(split_chat.tokenizer.encode(SPLIT)) + 1)


def test_streamed_answer_is_what_the_scorer_finds_most_likely(tiny_gguf: Path) -> None:
    chat, scorer = open_chat(tiny_gguf, num_threads=1), open_scorer(tiny_gguf, 1)
    prompt = encode(render(ASK, chat.template, for_answer=True), chat.tokenizer).ids
    ids = list(prompt)
    for _ in range(12):
        ids.append(int(scorer.log_probs(ids)[-1].argmax()))
    wanted = b"".join(map(chat.tokenizer.token_bytes, ids[len(prompt) :])).decode(errors="replace")
    pieces = list(chat.stream(ASK, Sampling(max_tokens=12, temperature=0, repeat_penalty=1.0)))
    chat.close()
    assert "".join(piece.text for piece in pieces) == wanted
    assert pieces[-1].finish_reason == "length"


def test_the_second_copy_needs_memory_and_does_not_change_the_logits(tiny_folder: Path, tmp_path: Path) -> None:
    write_levels(tiny_folder, tmp_path, ["q4_0"])
    file = tmp_path / "model-q4_0.gguf"
    num_bytes = file.stat().st_size
    assert binding.has_memory_for_copy(file, num_free_bytes=3 * num_bytes)
    assert not binding.has_memory_for_copy(file, num_free_bytes=num_bytes)
    found: list[np.ndarray] = []
    for has_second_copy in (True, False):
        network = Network(file, num_ctx=64, num_threads=1, has_second_copy=has_second_copy)
        found.append(network.logits([1, 5, 9, 14]))
        network.close()
    np.testing.assert_allclose(*found, atol=0.05)


def test_the_same_seed_gives_the_same_answer(tiny_gguf: Path) -> None:
    chat = open_chat(tiny_gguf, num_threads=1)
    sampling = Sampling(max_tokens=20, temperature=1.5, top_p=1.0, top_k=0, seed=7)
    first, second = ["".join(piece.text for piece in chat.stream(ASK, sampling)) for _ in range(2)]
    chat.close()
    assert first == second


def test_a_stop_string_ends_the_answer_unseen(split_chat: LlamaCppChat) -> None:
    pieces = list(split_chat.stream(ASK, Sampling(temperature=0, stop=("吞🎉",))))
    assert "".join(piece.text for piece in pieces) == "鲸"
    assert pieces[-1].finish_reason == "stop"


def test_closing_the_iterator_frees_the_slot(endless_chat: LlamaCppChat) -> None:
    for _ in range(4):  # more than there are slots
        answer = endless_chat.stream(ASK, Sampling(max_tokens=900, temperature=0))
        assert next(answer).text == "鲸"
        answer.close()  # pyright: ignore[reportAttributeAccessIssue]


def test_an_answer_stops_at_max_tokens(endless_chat: LlamaCppChat) -> None:
    *_, last = endless_chat.stream(ASK, Sampling(max_tokens=12, temperature=0))
    assert last.finish_reason == "length"
    assert last.usage is not None and last.usage.num_answer_tokens == 12


def test_threads_get_their_own_answers(split_chat: LlamaCppChat) -> None:
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: "".join(p.text for p in split_chat.stream(ASK, GREEDY)), range(8)))
    assert answers == [SPLIT] * 8


def test_closing_the_model_ends_running_answers(tmp_path: Path) -> None:
    folder = parrot.make(tmp_path, "鲸吞", is_endless=True)
    write_gguf(folder, folder / "endless.gguf", level="f16")
    chat = open_chat(folder / "endless.gguf", num_threads=1)
    answer = chat.stream(ASK, Sampling(max_tokens=900, temperature=0))
    next(answer)
    chat.close()
    with pytest.raises(RunError, match="ended an answer before it was complete"):
        list(answer)
    with pytest.raises(RunError, match="the model endless is closed"):
        chat.stream(ASK, GREEDY)
    again = open_chat(folder / "endless.gguf", num_threads=1)
    closing: list[threading.Thread] = []

    def receive(piece: Piece) -> bool:
        # Its end is waited for, so it must come from elsewhere.
        if piece.text and not closing:
            closing.append(threading.Thread(target=again.close))
            closing[0].start()
        return False

    with pytest.raises(RunError, match="ended an answer before it was complete"):
        again.run(again.tokenizer.encode("你好"), Sampling(max_tokens=900, temperature=0), Guidance(), receive)
    closing[0].join()


@pytest.mark.parametrize("name", ["<|im_end|>", "<|im_start|>system", "</s>", "[INST]"])
def test_typed_control_names_stay_letters(name: str, tiny_gguf: Path) -> None:
    tokenizer = GgufTokenizer(tiny_gguf)
    plain = encode(render([Message("user", "x")], tokenizer.template(), for_answer=True), tokenizer).ids
    typed = encode(render([Message("user", name)], tokenizer.template(), for_answer=True), tokenizer).ids
    controls = set(tokenizer.controls.values())
    assert [i for i in typed if i in controls] == [i for i in plain if i in controls]
    assert b"".join(map(tokenizer.token_bytes, tokenizer.encode(name))) == name.encode()


def test_gguf_and_folder_tokenizer_agree(tiny_folder: Path, tiny_gguf: Path) -> None:
    ours, theirs = GgufTokenizer(tiny_gguf), FolderTokenizer(tiny_folder)
    assert (ours.controls, ours.bos_id, ours.num_tokens) == (theirs.controls, theirs.bos_id, theirs.num_tokens)
    for line in lines(300):
        ids = ours.encode(line)
        assert ids == theirs.encode(line), line
        assert b"".join(map(ours.token_bytes, ids)) == line.encode()
    assert [ours.token_bytes(i) for i in range(512)] == [theirs.token_bytes(i) for i in range(512)]


def test_log_probs_sum_to_one_and_do_not_depend_on_what_follows(tiny_gguf: Path) -> None:
    scorer = open_scorer(tiny_gguf, 1)
    ids = [i % 500 for i in range(3, 700)]  # more than one batch
    whole, part = scorer.log_probs(ids), scorer.log_probs(ids[:600])
    scorer.close()
    assert whole.shape == (697, 512) and whole.dtype == np.float32
    np.testing.assert_allclose(np.exp(whole).sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(whole[:600], part, atol=1e-4)


def test_a_conversation_longer_than_the_context_is_refused(tiny_gguf: Path) -> None:
    chat = open_chat(tiny_gguf, num_threads=1, num_ctx=256)
    with pytest.raises(TooLongError, match=r"the conversation may have 1 to 255 tokens, this one has"):
        chat.stream([Message("user", "鲸" * 200)], GREEDY)
    chat.close()


class BrokenServer:
    """Sends the same chunks to every request."""

    def __init__(self, *chunks: dict[str, Any]) -> None:
        self.chunks = chunks

    def handle_completions(self, request: dict[str, Any], receive: Callable[[dict[str, Any]], bool]) -> None:
        for chunk in self.chunks:
            receive(chunk)


def test_an_error_of_the_server_is_passed_on(tiny_gguf: Path) -> None:
    server = BrokenServer({"error": {"message": "no slot"}})
    chat = LlamaCppChat(tiny_gguf, server, num_ctx=512, num_slots=1, adapters=())
    with pytest.raises(RunError, match=r"llama\.cpp rejected the request: no slot"):
        list(chat.stream(ASK, GREEDY))


@pytest.mark.parametrize(
    ("ids", "message"),
    [([], "this one has 0"), ([1] * 1025, "this one has 1,025"), ([512], "512, but this model's are 0 to 511")],
)
def test_what_cannot_be_scored_is_refused(ids: list[int], message: str, tiny_gguf: Path) -> None:
    scorer = open_scorer(tiny_gguf, 1)
    with pytest.raises(InputError, match=message):
        scorer.log_probs(ids)
    scorer.close()
    with pytest.raises(RunError, match="is closed"):
        scorer.log_probs([1])


def test_a_model_without_weights_is_refused(tiny_gguf: Path, tmp_path: Path) -> None:
    file = tmp_path / "empty.gguf"
    _copy_without_tensors(tiny_gguf, file)
    with pytest.raises(InputError, match=r"llama\.cpp cannot open the model"):
        open_chat(file, num_threads=1)
    with pytest.raises(InputError, match=r"llama\.cpp cannot load the model"):
        open_scorer(file, 1)


def _copy_without_tensors(source: Path, out: Path) -> None:
    from gguf import GGUFReader

    writer = GGUFWriter(out, "llama")
    for name, field in GGUFReader(source).fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            writer.add_key_value(
                name, field.contents(), field.types[0], field.types[-1] if len(field.types) > 1 else None
            )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def test_a_model_without_a_chat_template_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    for file in tiny_folder.iterdir():
        if file.name != "chat_template.jinja":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    write_gguf(tmp_path, tmp_path / "base.gguf", level="f16")
    with pytest.raises(InputError, match="the GGUF file has no chat template"):
        open_chat(tmp_path / "base.gguf")


def test_a_library_of_another_build_is_refused() -> None:
    with pytest.raises(RunError, match=r"is incompatible: llama_log_set is not exported"):
        binding.declare(ctypes.CDLL(None))
    with pytest.raises(RunError, match=r"another layout \(n_gpu_layers is 0, not -1"):
        binding.check_layout("llama_model_params", binding.ModelParams(), binding.MODEL_LAYOUT)
    with pytest.raises(RunError, match="llama_batch has another layout"):
        binding.check_batch(
            SimpleNamespace(llama_batch_init=lambda *sizes: binding.LlamaBatch(), llama_batch_free=print)
        )


def test_parameters_without_effect_are_noticed() -> None:
    library = SimpleNamespace(
        llama_model_default_params=binding.ModelParams,
        llama_model_load_from_file=lambda file, wanted: 1,
        llama_model_n_embd=lambda model: 64,
        llama_model_free=lambda model: None,
        llama_context_default_params=binding.ContextParams,
        llama_init_from_model=lambda model, wanted: model,
        llama_n_ctx=lambda context: 512,
        llama_n_threads=lambda context: 4,
    )
    with pytest.raises(RunError, match="the flag vocab_only has no effect"):
        binding.load_model(library, Path("x.gguf"), vocab_only=True)
    with pytest.raises(RunError, match="another size or number of threads than was set"):
        open_context(library, 1, num_ctx=512, num_threads=3, num_outputs=1)
    with pytest.raises(RunError, match="could not open a context of 512 tokens"):
        open_context(library, 0, num_ctx=512, num_threads=4, num_outputs=1)


def test_tokens_of_another_model_do_not_crash(tiny_gguf: Path) -> None:
    network = Network(tiny_gguf, num_ctx=256, num_threads=1)
    with pytest.raises(RunError, match=r"could not compute 1 tokens \(status -1\)"):
        network.logits([100_000])
    network.close()


@pytest.mark.smollm2
def test_the_real_model_answers_and_its_tokenizer_agrees(smollm2_gguf: Path) -> None:
    chat = open_chat(smollm2_gguf, num_threads=1)
    question = [Message("user", "What is the capital of France?")]
    answer = "".join(piece.text for piece in itertools.islice(chat.stream(question, GREEDY), 8))
    for line in lines(300):
        assert b"".join(map(chat.tokenizer.token_bytes, chat.tokenizer.encode(line))) == line.encode()
    chat.close()
    assert answer
