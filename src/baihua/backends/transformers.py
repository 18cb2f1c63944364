"""A Hugging Face model folder, run by transformers with our own small sampling loop.

T tokens, V vocabulary; the batch is always one conversation, written 1.
"""

# ruff: noqa: N803, N806  (names of tensors end with their shape)

import json
import threading
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.generation.logits_process import (
    LogitsProcessor,
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from baihua.chat.render import Template, encode, render
from baihua.chat.stream import TextStream
from baihua.chat.tokenizer import FolderTokenizer, load_template
from baihua.chat.types import FinishReason, Message, Piece, Sampling, Span, Usage
from baihua.core.errors import InputError, TooLongError
from baihua.core.families import family_of
from baihua.core.model_folder import check_model_folder


class TransformersChat:
    """A ChatModel on torch; each conversation has its own cache, the weights take one step at a time."""

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        tokenizer: FolderTokenizer,
        template: Template,
        end_ids: Collection[int],
        name: str,
    ) -> None:
        self.name = name
        self.num_ctx = _context(model)
        self.tokenizer = tokenizer
        self.template = template
        self._model = model
        self._end_ids = sorted(end_ids)
        self._lock = threading.Lock()

    def prompt(self, messages: Sequence[Message]) -> list[Span]:
        """The conversation as the model reads it, up to where its answer begins."""
        return render(messages, self.template, for_answer=True)

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """How many tokens that prompt has."""
        return len(encode(self.prompt(messages), self.tokenizer).ids)

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[Piece]:
        """Yield the answer; the token that ends it counts in the usage but is not shown."""
        yield from self.generate(encode(self.prompt(messages), self.tokenizer).ids, sampling)

    def generate(self, ids: Sequence[int], sampling: Sampling) -> Iterator[Piece]:
        """Yield what follows these tokens, as whole characters."""
        _require_fit(self._model, len(ids) + 1, "the conversation with room for an answer")
        room = self.num_ctx - len(ids)
        stream = TextStream(sampling.stop)
        finish_reason: FinishReason = "length"
        num_tokens = 0
        for token_id in self._sample(list(ids), min(sampling.max_tokens, room), sampling):
            num_tokens += 1
            if token_id in self._end_ids:
                finish_reason = "stop"
                break
            if text := stream.push(self.tokenizer.token_bytes(token_id)):
                yield Piece(text)
            if stream.is_stopped:
                finish_reason = "stop"
                break
        yield Piece(stream.finish(), finish_reason, Usage(len(ids), num_tokens))

    def close(self) -> None:
        """Nothing to free: torch lets go of the weights with the last reference."""

    def _sample(self, prompt: list[int], max_tokens: int, sampling: Sampling) -> Iterator[int]:
        device = self._model.device
        choose = _Chooser(sampling, self._end_ids, device)
        ids_1T = torch.tensor([prompt], device=device)
        step_1T, cache = ids_1T, None
        for _ in range(max_tokens):
            # The lock is held for one step only: threads take turns, and a stalled reader blocks nobody.
            with self._lock, torch.inference_mode():
                output = self._model(input_ids=step_1T, past_key_values=cache, use_cache=True, logits_to_keep=1)
                cache = output.past_key_values
                step_1T = choose(ids_1T, output.logits[:, -1].float())
            ids_1T = torch.cat([ids_1T, step_1T], dim=1)
            yield int(step_1T.item())


class _Chooser:
    """Chooses the next token of one conversation from the scores of all."""

    def __init__(self, sampling: Sampling, end_ids: Sequence[int], device: torch.device) -> None:
        self._end_ids = list(end_ids)
        self._penalty = RepetitionPenaltyLogitsProcessor(penalty=sampling.repeat_penalty)
        self._is_greedy = sampling.temperature == 0
        self._warpers = LogitsProcessorList([] if self._is_greedy else _warpers(sampling))
        self._generator = torch.Generator(device=device)
        if sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(sampling.seed)

    def __call__(self, ids_1T: torch.Tensor, logits_1V: torch.Tensor) -> torch.Tensor:
        ids = cast(torch.LongTensor, ids_1T)
        # Earlier turns hold end tokens; if the penalty counted those, each answer would run on longer.
        ends = logits_1V[:, self._end_ids].clone()
        logits_1V = self._penalty(ids, logits_1V)
        logits_1V[:, self._end_ids] = ends
        if self._is_greedy:
            return logits_1V.argmax(dim=-1, keepdim=True)
        probs_1V = self._warpers(ids, logits_1V).softmax(dim=-1)
        return torch.multinomial(probs_1V, num_samples=1, generator=self._generator)


class TransformersScorer:
    """A Scorer on torch."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._lock = threading.Lock()

    def log_probs(self, ids: Sequence[int]) -> np.ndarray:
        """Natural-log probabilities_TV, float32: row t is the distribution of the token after ids[: t + 1]."""
        assert len(ids) > 0, "a text to score has at least one token"
        _require_fit(self._model, len(ids), "the text to score")
        with self._lock, torch.inference_mode():
            logits_TV = self._model(input_ids=torch.tensor([list(ids)], device=self._model.device)).logits[0]
            return logits_TV.float().log_softmax(dim=-1).cpu().numpy()


def open_chat(folder: Path, *, device: str = "auto", num_threads: int | None = None) -> TransformersChat:
    """Open a model folder; `auto` is the first GPU where there is one, `num_threads` is set for the process."""
    model = _load(folder, device)
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    tokenizer = FolderTokenizer(folder)
    template = load_template("the model's own", folder, tokenizer, None)
    return TransformersChat(
        model,
        tokenizer=tokenizer,
        template=template,
        end_ids=_end_ids(model, template, tokenizer),
        name=folder.resolve().name,
    )


def open_scorer(folder: Path, *, device: str = "auto") -> TransformersScorer:
    """Open a model folder for its log-probabilities."""
    return TransformersScorer(_load(folder, device))


def _load(folder: Path, device: str) -> PreTrainedModel:
    _check(folder)
    is_cuda = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            trust_remote_code=False,
            dtype=torch.bfloat16 if is_cuda else torch.float32,
            device_map=("cuda" if is_cuda else "cpu") if device == "auto" else device,
            use_safetensors=True,
            local_files_only=True,
        )
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"cannot load the weights: {error}", where=str(folder), fix="import the model again"
        ) from error
    return model.eval()


def _check(folder: Path) -> None:
    check_model_folder(folder)
    file = folder / "config.json"
    family_of(json.loads(file.read_text(encoding="utf-8")), file)


def _context(model: PreTrainedModel) -> int:
    context = model.config.max_position_embeddings
    assert context is not None, "every family's config has a context length"
    return context


def _require_fit(model: PreTrainedModel, num_tokens: int, what: str) -> None:
    if num_tokens > _context(model):
        raise TooLongError(
            f"{what} takes {num_tokens:,} tokens, the model's context has {_context(model):,}",
            where=str(model.config.name_or_path),
            fix="shorten it",
        )


def _end_ids(model: PreTrainedModel, template: Template, tokenizer: FolderTokenizer) -> set[int]:
    """The tokens that end a turn: those of generation_config, and what the template puts after an answer."""
    configured = model.generation_config.eos_token_id if model.generation_config else None
    ids = {configured} if isinstance(configured, int) else set(configured or ())
    spans = render([Message("user", "a"), Message("assistant", "b")], template)
    return ids | {tokenizer.controls[span.text] for span in spans if span.is_control and span.is_trained}


def _warpers(sampling: Sampling) -> Iterator[LogitsProcessor]:
    yield TemperatureLogitsWarper(sampling.temperature)
    if sampling.top_k > 0:
        yield TopKLogitsWarper(top_k=sampling.top_k)
    if sampling.top_p < 1:
        yield TopPLogitsWarper(top_p=sampling.top_p)
