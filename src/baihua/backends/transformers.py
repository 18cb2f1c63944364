"""Chat and log-probabilities of a Hugging Face model folder on transformers, with our own sampling loop.

T tokens, V vocabulary; the batch is always one conversation, written 1.
"""

# ruff: noqa: N806  (names of tensors end with their shape)

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from llguidance import LLTokenizer
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, PreTrainedModel

from baihua.backends.guidance import LARK_MARK, Guide, read_grammar, read_vocabulary
from baihua.backends.token_choice import ChosenToken, TokenChooser
from baihua.backends.token_ids import check_ids, end_ids
from baihua.chat.render import encode, render
from baihua.chat.stream import TextStream
from baihua.chat.template import OWN, open_template
from baihua.chat.types import FinishReason, Guidance, Likelihood, Message, Piece, Sampling, Span, Usage
from baihua.core.errors import InputError
from baihua.modelfiles.families import family_of
from baihua.modelfiles.folder import check_model_folder, read_json


class TransformersChat:
    """A ChatModel on torch; each conversation has its own cache, and the answers take turns token by token."""

    adapters: tuple[str, ...] = ()

    def __init__(self, model: PreTrainedModel, folder: Path, *, num_slots: int = 1) -> None:
        self.name = folder.resolve().name
        self.num_slots = num_slots
        self.num_ctx, self._num_tokens = _sizes(model)
        self.tokenizer, self.template = open_template(OWN, folder)
        self._model = model
        self._end_ids = end_ids(folder, self.tokenizer, self.template)
        self._lock = threading.Lock()

    def prompt(self, messages: Sequence[Message]) -> list[Span]:
        """The rendered conversation, up to where the answer begins."""
        return render(messages, self.template, for_answer=True)

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Number of tokens in that prompt."""
        return len(encode(self.prompt(messages), self.tokenizer).ids)

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[Piece]:
        """Yield the answer; the token that ends it counts in the usage but is not shown."""
        yield from self._pieces(encode(self.prompt(messages), self.tokenizer).ids, sampling, Guidance())

    def run(self, ids: Sequence[int], sampling: Sampling, guidance: Guidance, receive: Callable[[Piece], bool]) -> None:
        """Continue these tokens: `receive` gets each piece and returns True to cancel."""
        for piece in self._pieces(ids, sampling, guidance):
            if receive(piece):
                return

    def _pieces(self, ids: Sequence[int], sampling: Sampling, guidance: Guidance) -> Iterator[Piece]:
        """Whole characters, each with the likelihoods of its tokens."""
        self._check(ids, "the conversation", max_tokens=self.num_ctx - 1)
        choose = self._chooser(sampling, guidance)
        stream = TextStream(sampling.stop)
        finish_reason: FinishReason = "stop"
        num_tokens = 0
        pending: list[Likelihood] = []
        for chosen in self._sample(list(ids), min(sampling.max_tokens, self.num_ctx - len(ids)), choose):
            num_tokens += 1
            if chosen.token_id in self._end_ids:
                break
            pending += chosen.likelihoods
            if text := stream.push(self.tokenizer.token_bytes(chosen.token_id)):
                yield Piece(text, likelihoods=tuple(pending))
                pending = []
            if stream.is_stopped:
                break
        else:
            finish_reason = "length"
        rest = stream.finish()
        yield Piece(rest, finish_reason, Usage(len(ids), num_tokens), tuple(pending) if rest else ())

    def embed(self, ids: Sequence[int]) -> np.ndarray:
        """A vector_d of length 1, float32, for a text: the mean of the last layer over its tokens."""
        self._check(ids, "a text to embed", max_tokens=self.num_ctx)
        with self._lock, torch.inference_mode():
            ids_1T = torch.tensor([list(ids)], device=self._model.device)
            states_1Td = self._model.base_model(input_ids=ids_1T).last_hidden_state
            return torch.nn.functional.normalize(states_1Td[0].float().mean(dim=0), dim=0).cpu().numpy()

    def close(self) -> None:
        """Nothing to do: torch frees the weights with the last reference."""

    def _check(self, ids: Sequence[int], what: str, *, max_tokens: int) -> None:
        check_ids(ids, what, max_tokens=max_tokens, num_tokens=self._num_tokens, model=self.name)

    @cached_property
    def _vocabulary(self) -> LLTokenizer:
        return read_vocabulary(self.tokenizer, num_tokens=self._num_tokens, end_ids=self._end_ids)

    def _chooser(self, sampling: Sampling, guidance: Guidance) -> TokenChooser:
        grammar = read_grammar(guidance)
        if guidance.grammar is not None and grammar is None:
            fix = f"write the grammar in Lark after a line `{LARK_MARK} {{}}`, or serve a GGUF file"
            raise InputError("this model runs on transformers, which does not support GBNF", fix=fix)
        if guidance.adapter is not None:
            raise InputError("this model runs on transformers, which cannot switch adapters", fix="merge the adapter")
        guide = Guide(grammar, self._vocabulary) if grammar else None
        return TokenChooser(
            sampling, guidance, guide=guide, tokenizer=self.tokenizer, end_ids=self._end_ids, device=self._model.device
        )

    def _sample(self, prompt: list[int], max_tokens: int, choose: TokenChooser) -> Iterator[ChosenToken]:
        device = self._model.device
        ids_1T = torch.tensor([prompt], device=device)
        step_1T, cache = ids_1T, None
        for _ in range(max_tokens):
            # The lock is held for one step only: threads take turns, and a stalled reader blocks no other.
            with self._lock, torch.inference_mode():
                output = self._model(input_ids=step_1T, past_key_values=cache, use_cache=True, logits_to_keep=1)
                cache = output.past_key_values
                chosen = choose(ids_1T, output.logits[:, -1].float())
            step_1T = torch.tensor([[chosen.token_id]], device=device)
            ids_1T = torch.cat([ids_1T, step_1T], dim=1)
            yield chosen


class TransformersScorer:
    """A Scorer on torch."""

    def __init__(self, model: PreTrainedModel, name: str) -> None:
        self._model = model
        self._name = name
        self._lock = threading.Lock()

    def log_probs(self, ids: Sequence[int]) -> np.ndarray:
        """Natural-log probabilities_TV, float32: row t is the distribution of the token after ids[: t + 1]."""
        num_ctx, num_tokens = _sizes(self._model)
        check_ids(ids, "a text to score", max_tokens=num_ctx, num_tokens=num_tokens, model=self._name)
        with self._lock, torch.inference_mode():
            logits_TV = self._model(input_ids=torch.tensor([list(ids)], device=self._model.device)).logits[0]
            return logits_TV.float().log_softmax(dim=-1).cpu().numpy()


def open_chat(
    folder: Path, *, device: str = "auto", num_threads: int | None = None, num_slots: int = 1
) -> TransformersChat:
    """Open a model folder; `auto` is the first GPU if there is one, `num_threads` is set for the whole process.

    `num_slots` is the number of answers that a server should run at once; more only slow each other down.
    """
    model = _load(folder, device)
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    return TransformersChat(model, folder, num_slots=num_slots)


def open_scorer(folder: Path, *, device: str = "auto") -> TransformersScorer:
    """Open a model folder for its log-probabilities."""
    return TransformersScorer(_load(folder, device), folder.resolve().name)


def _load(folder: Path, device: str) -> PreTrainedModel:
    check_model_folder(folder)
    family_of(read_json(folder / "config.json"), folder / "config.json")
    is_cuda = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    try:
        safely: dict[str, Any] = {"trust_remote_code": False, "use_safetensors": True, "local_files_only": True}
        dtype = torch.bfloat16 if is_cuda else torch.float32
        place = ("cuda" if is_cuda else "cpu") if device == "auto" else device
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, device_map=place, **safely)
    except (OSError, SafetensorError) as error:
        what = f"cannot load the weights: {error}"
        raise InputError(what, where=str(folder), fix="import the model again") from error
    return model.eval()


def _sizes(model: PreTrainedModel) -> tuple[int, int]:
    """Tokens of the context and of the vocabulary."""
    num_ctx, num_tokens = model.config.max_position_embeddings, model.config.vocab_size
    assert num_ctx is not None and num_tokens is not None, "the config of every family has both"
    return num_ctx, num_tokens
