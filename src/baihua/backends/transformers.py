"""A Hugging Face model folder, run by transformers with our own small sampling loop.

T tokens, V vocabulary; the batch is always one conversation, written 1.
"""

# ruff: noqa: N806  (names of tensors end with their shape)

import threading
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from llguidance import LLTokenizer
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, PreTrainedModel

from baihua.backends.guidance import LARK_MARK, Guide, read_grammar, read_vocabulary
from baihua.backends.token_choice import Choice, TokenChooser
from baihua.chat.render import Template, encode, render
from baihua.chat.stream import TextStream
from baihua.chat.template import OWN, open_template
from baihua.chat.tokenizer import FolderTokenizer
from baihua.chat.types import FinishReason, Guidance, Likelihood, Message, Piece, Sampling, Span, Usage
from baihua.core.errors import InputError, TooLongError
from baihua.modelfiles.families import family_of
from baihua.modelfiles.folder import check_model_folder, read_json

NO_GUIDANCE = Guidance()


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

    def generate(self, ids: Sequence[int], sampling: Sampling, guidance: Guidance = NO_GUIDANCE) -> Iterator[Piece]:
        """Yield what follows these tokens, as whole characters; numbers of tokens come with the text they are in."""
        _require_fit(self._model, len(ids) + 1, "the conversation with room for an answer")
        self._require_known(ids)
        room = self.num_ctx - len(ids)
        choose = self._chooser(sampling, guidance)
        stream = TextStream(sampling.stop)
        finish_reason: FinishReason = "length"
        num_tokens = 0
        told: list[Likelihood] = []
        for choice in self._sample(list(ids), min(sampling.max_tokens, room), choose):
            num_tokens += 1
            if choice.token_id in self._end_ids:
                finish_reason = "stop"
                break
            told += choice.likelihoods
            if text := stream.push(self.tokenizer.token_bytes(choice.token_id)):
                yield Piece(text, likelihoods=tuple(told))
                told = []
            if stream.is_stopped:
                finish_reason = "stop"
                break
        rest = stream.finish()
        yield Piece(rest, finish_reason, Usage(len(ids), num_tokens), tuple(told) if rest else ())

    def embed(self, ids: Sequence[int]) -> np.ndarray:
        """A vector_d of length 1, float32, for a text: the mean of the last layer over its tokens."""
        if not ids:
            raise InputError("a text without tokens has no vector", where=f"model {self.name}", fix="send a text")
        _require_fit(self._model, len(ids), "the text")
        self._require_known(ids)
        with self._lock, torch.inference_mode():
            ids_1T = torch.tensor([list(ids)], device=self._model.device)
            states_1Td = self._model.base_model(input_ids=ids_1T).last_hidden_state
            return torch.nn.functional.normalize(states_1Td[0].float().mean(dim=0), dim=0).cpu().numpy()

    def close(self) -> None:
        """Nothing to free: torch lets go of the weights with the last reference."""

    @cached_property
    def _num_tokens(self) -> int:
        num_tokens = self._model.config.vocab_size
        assert num_tokens is not None, "every family's config has the width of its output"
        return num_tokens

    @cached_property
    def _vocabulary(self) -> LLTokenizer:
        return read_vocabulary(self.tokenizer, num_tokens=self._num_tokens, end_ids=self._end_ids)

    def _require_known(self, ids: Sequence[int]) -> None:
        # On a GPU a number outside of the table would end the process.
        if max(ids) >= self._num_tokens:
            raise InputError(
                f"there is no token {max(ids)}, the last one is {self._num_tokens - 1}",
                where=f"model {self.name}",
                fix="make the ids with this model's tokenizer",
            )

    def _chooser(self, sampling: Sampling, guidance: Guidance) -> TokenChooser:
        grammar = read_grammar(guidance)
        if guidance.grammar is not None and grammar is None:
            raise InputError(
                "transformers, which runs this model, reads no GBNF",
                fix=f"write the grammar in Lark after a line `{LARK_MARK} {{}}`, or serve a GGUF file",
            )
        if guidance.adapter is not None:
            raise InputError("transformers, which runs this model, switches no adapters", fix="merge it first")
        guide = Guide(grammar, self._vocabulary) if grammar else None
        return TokenChooser(
            sampling, guidance, guide=guide, tokenizer=self.tokenizer, end_ids=self._end_ids, device=self._model.device
        )

    def _sample(self, prompt: list[int], max_tokens: int, choose: TokenChooser) -> Iterator[Choice]:
        device = self._model.device
        ids_1T = torch.tensor([prompt], device=device)
        step_1T, cache = ids_1T, None
        for _ in range(max_tokens):
            # The lock is held for one step only: threads take turns, and a stalled reader blocks nobody.
            with self._lock, torch.inference_mode():
                output = self._model(input_ids=step_1T, past_key_values=cache, use_cache=True, logits_to_keep=1)
                cache = output.past_key_values
                choice = choose(ids_1T, output.logits[:, -1].float())
            step_1T = torch.tensor([[choice.token_id]], device=device)
            ids_1T = torch.cat([ids_1T, step_1T], dim=1)
            yield choice


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
    tokenizer, template = open_template(OWN, folder)
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
    check_model_folder(folder)
    family_of(read_json(folder / "config.json"), folder / "config.json")
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
