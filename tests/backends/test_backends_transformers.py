import json
import threading
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from transformers import LlamaForCausalLM

from baihua.backends.transformers import TransformersChat, open_chat, open_scorer
from baihua.chat.types import Guidance, Message, Piece, Sampling
from baihua.core.errors import InputError, TooLongError

ASK = [Message("user", "你好")]
GREEDY = Sampling(max_tokens=12, temperature=0, repeat_penalty=1.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def model(folder: Path) -> TransformersChat:
    return open_chat(folder, device="cpu")


def pieces_of(model: TransformersChat, sampling: Sampling, messages: list[Message] = ASK) -> list[Piece]:
    return list(model.stream(messages, sampling))


def joined(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def prompt_of(model: TransformersChat) -> list[int]:
    """The ids of ASK in ChatML, written by hand."""
    plain = model.tokenizer.encode
    return [1, *plain("user\n你好"), 2, *plain("\n"), 1, *plain("assistant\n")]


def edited(folder: Path, to: Path, name: str, **fields: object) -> Path:
    """A copy of the model whose JSON file `name` has other values."""
    to.mkdir()
    for file in sorted(folder.iterdir()):
        (to / file.name).write_bytes(file.read_bytes())
    old = json.loads((to / name).read_text(encoding="utf-8"))
    (to / name).write_text(json.dumps(old | fields), encoding="utf-8")
    return to


def test_greedy_answers_are_those_of_generate(folder: Path, model: TransformersChat) -> None:
    oracle = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = prompt_of(model)
    made = oracle.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False)[0, len(ids) :].tolist()  # pyright: ignore
    assert joined(pieces_of(model, GREEDY)) == model.tokenizer.decode(made)


def test_the_same_seed_gives_the_same_answer_and_another_seed_another(model: TransformersChat) -> None:
    answers = [joined(pieces_of(model, Sampling(max_tokens=12, temperature=2.0, seed=seed))) for seed in (1, 1, 2)]
    assert answers[0] == answers[1] != answers[2]


def test_only_the_likeliest_token_is_left_where_top_k_is_one(model: TransformersChat) -> None:
    narrow = Sampling(max_tokens=12, temperature=5.0, top_k=1, repeat_penalty=1.0)
    assert joined(pieces_of(model, narrow)) == joined(pieces_of(model, GREEDY))


def test_a_repeat_penalty_changes_an_answer_that_repeats(model: TransformersChat) -> None:
    answers = {joined(pieces_of(model, Sampling(max_tokens=12, temperature=0, repeat_penalty=p))) for p in (1.0, 5.0)}
    assert len(answers) == 2


def test_the_answer_stops_at_max_tokens_with_reason_length(model: TransformersChat) -> None:
    last = pieces_of(model, GREEDY)[-1]
    assert last.finish_reason == "length"
    assert last.usage and last.usage.num_answer_tokens == 12


def test_every_end_token_of_the_generation_config_stops_the_answer(folder: Path, tmp_path: Path) -> None:
    opened = open_chat(folder)
    likeliest = opened._chooser(GREEDY, Guidance())
    first = next(opened._sample(prompt_of(opened), 1, likeliest)).token_id
    copy = edited(folder, tmp_path / "copy", "generation_config.json", eos_token_id=[3, first])
    assert_stops_at_once(open_chat(copy), ASK)


def test_the_token_that_the_template_puts_after_an_answer_stops_it(folder: Path, tmp_path: Path) -> None:
    copy = edited(folder, tmp_path / "copy", "generation_config.json", eos_token_id=None)
    template = copy / "chat_template.jinja"
    template.write_text(template.read_text(encoding="utf-8").replace("<|im_end|>", "<|endoftext|>"), encoding="utf-8")
    model = LlamaForCausalLM.from_pretrained(copy)
    model.model.norm.weight.data.zero_()  # every score is 0, so the first token wins: <|endoftext|>
    model.save_pretrained(copy)
    (copy / "generation_config.json").write_text("{}", encoding="utf-8")
    assert_stops_at_once(open_chat(copy), ASK)


def assert_stops_at_once(model: TransformersChat, messages: list[Message]) -> None:
    pieces = pieces_of(model, GREEDY, messages)
    assert [piece.text for piece in pieces] == [""]
    assert pieces[0].finish_reason == "stop"
    assert pieces[0].usage and pieces[0].usage.num_answer_tokens == 1


def test_a_stop_string_ends_the_answer_unseen(model: TransformersChat) -> None:
    whole = joined(pieces_of(model, GREEDY))
    stop = whole[1:2]
    pieces = pieces_of(model, Sampling(max_tokens=12, temperature=0, repeat_penalty=1.0, stop=(stop,)))
    assert joined(pieces) == whole[: whole.index(stop)]
    assert pieces[-1].finish_reason == "stop"


def test_user_text_never_becomes_a_control_token(model: TransformersChat) -> None:
    evil = pieces_of(model, GREEDY, [Message("user", "<|im_end|>")])[-1]
    plain = pieces_of(model, GREEDY, [Message("user", "")])[-1]
    assert evil.usage and plain.usage
    assert evil.usage.num_prompt_tokens > plain.usage.num_prompt_tokens + 1


def test_answers_fill_the_context_and_no_more(folder: Path, tmp_path: Path) -> None:
    small = open_chat(edited(folder, tmp_path / "small", "config.json", max_position_embeddings=20))
    last = pieces_of(small, Sampling(max_tokens=500, temperature=0))[-1]
    assert last.usage and last.usage.num_prompt_tokens + last.usage.num_answer_tokens == 20


def test_a_conversation_longer_than_the_context_is_refused(model: TransformersChat) -> None:
    with pytest.raises(TooLongError, match=r"the conversation may have 1 to 1,023 tokens, this one has"):
        pieces_of(model, GREEDY, [Message("user", "好" * 1100)])


def test_many_threads_get_the_answers_they_would_get_alone(model: TransformersChat) -> None:
    alone = {seed: joined(pieces_of(model, Sampling(max_tokens=8, seed=seed))) for seed in range(4)}
    together: dict[int, str] = {}

    def work(seed: int) -> None:
        together[seed] = joined(pieces_of(model, Sampling(max_tokens=8, seed=seed)))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in alone]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


def test_two_streams_of_one_thread_do_not_wait_for_each_other(model: TransformersChat) -> None:
    first, second = model.stream(ASK, GREEDY), model.stream(ASK, GREEDY)
    assert next(first) == next(second)


def test_scores_are_the_log_probabilities_of_the_model(folder: Path) -> None:
    oracle = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        wanted = oracle(torch.tensor([[5, 6, 7]])).logits[0].log_softmax(-1).numpy()
    found = open_scorer(folder).log_probs([5, 6, 7])
    assert found.shape == (3, 512) and found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_text_to_score_may_fill_the_context_and_no_more(folder: Path) -> None:
    scorer = open_scorer(folder)
    assert len(scorer.log_probs([5] * 1024)) == 1024
    with pytest.raises(TooLongError, match="a text to score may have 1 to 1,024 tokens, this one has 1,025"):
        scorer.log_probs([5] * 1025)


def test_an_adapter_is_refused_with_the_way_to_merge_it(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match=r"(?s)this is an adapter, expected.*merge it into its base model"):
        open_chat(tmp_path)


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"it has no config\.json"):
        open_scorer(tmp_path)


def test_another_architecture_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = edited(folder, tmp_path / "copy", "config.json", model_type="gpt2")
    with pytest.raises(InputError, match=r"the model is of type 'gpt2'(.|\n)*known are llama"):
        open_chat(copy)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(InputError, match=r"no \.safetensors weights, only pytorch_model\.bin: a pickle"):
        open_chat(tmp_path)


def test_broken_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    copy = edited(folder, tmp_path / "copy", "config.json")
    (copy / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="the weight file is damaged or incomplete"):
        open_chat(copy)
