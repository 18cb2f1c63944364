"""Sampling: the next token of an answer, chosen from the logits by a Sampling and a Guidance.

T tokens, V vocabulary; the batch is always one conversation, written 1.
"""

# ruff: noqa: N803, N806  (names of tensors end with their shape)

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from transformers.generation.logits_process import (
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from baihua.backends.guidance import Guide
from baihua.chat.types import Guidance, Likelihood, Sampling, TextTokenizer


@dataclass(frozen=True, slots=True)
class ChosenToken:
    """A token with its log-probability before penalties and constraints, where that is requested."""

    token_id: int
    likelihoods: tuple[Likelihood, ...]


class TokenChooser:
    """Chooses the tokens of one answer, one after another."""

    def __init__(
        self,
        sampling: Sampling,
        guidance: Guidance,
        *,
        guide: Guide | None,
        tokenizer: TextTokenizer,
        end_ids: Sequence[int],
        device: torch.device,
    ) -> None:
        self._guidance = guidance
        self._guide = guide
        self._tokenizer = tokenizer
        self._end_ids = list(end_ids)
        self._penalty = RepetitionPenaltyLogitsProcessor(penalty=sampling.repeat_penalty)
        self._is_greedy = sampling.temperature == 0
        self._warpers = LogitsProcessorList([] if self._is_greedy else _warpers(sampling, guidance))
        self._chosen: list[int] = []
        self._generator = torch.Generator(device=device)
        if sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(sampling.seed)

    def __call__(self, ids_1T: torch.Tensor, logits_1V: torch.Tensor) -> ChosenToken:
        """The token after these; logits_1V in float32."""
        token_id = self._choose(cast(torch.LongTensor, ids_1T), self._constrained(ids_1T, logits_1V))
        self._chosen.append(token_id)
        if self._guide and token_id not in self._end_ids:
            self._guide.take(token_id)
        return ChosenToken(token_id, tuple(self._likelihoods(token_id, logits_1V[0])))

    def _constrained(self, ids_1T: torch.Tensor, logits_1V: torch.Tensor) -> torch.Tensor:
        """Logits after all penalties; -inf for tokens that the guide forbids."""
        scores_1V = self._penalty(cast(torch.LongTensor, ids_1T), logits_1V.clone())
        # Earlier turns contain end tokens; if the penalty counted those, each answer would be longer than the last.
        scores_1V[:, self._end_ids] = logits_1V[:, self._end_ids]
        if self._chosen and (self._guidance.presence_penalty or self._guidance.frequency_penalty):
            # As in OpenAI's API, over the answer alone.
            counts_V = torch.bincount(torch.tensor(self._chosen), minlength=logits_1V.shape[1]).to(logits_1V.device)
            scores_1V -= self._guidance.presence_penalty * (counts_V > 0) + self._guidance.frequency_penalty * counts_V
        if self._guide:
            allowed_V = torch.from_numpy(self._guide.allowed()).to(logits_1V.device)
            scores_1V = scores_1V.masked_fill(~allowed_V, -torch.inf)
        return scores_1V

    def _choose(self, ids_1T: torch.LongTensor, scores_1V: torch.Tensor) -> int:
        if self._is_greedy:
            return int(scores_1V.argmax().item())
        probs_1V = self._warpers(ids_1T, cast(torch.FloatTensor, scores_1V)).softmax(dim=-1)
        return int(torch.multinomial(probs_1V, num_samples=1, generator=self._generator).item())

    def _likelihoods(self, token_id: int, logits_V: torch.Tensor) -> Iterator[Likelihood]:
        if self._guidance.num_top_logprobs is None:
            return
        log_probs_V = logits_V.log_softmax(dim=-1)
        likeliest = log_probs_V.topk(self._guidance.num_top_logprobs).indices.tolist()
        top = tuple(self._likelihood(one, log_probs_V) for one in likeliest)
        yield self._likelihood(token_id, log_probs_V, top)

    def _likelihood(self, token_id: int, log_probs_V: torch.Tensor, top: tuple[Likelihood, ...] = ()) -> Likelihood:
        data = self._tokenizer.token_bytes(token_id)
        return Likelihood(data.decode(errors="replace"), data, float(log_probs_V[token_id]), top)


def _warpers(sampling: Sampling, guidance: Guidance) -> Iterator[LogitsProcessor]:
    yield TemperatureLogitsWarper(sampling.temperature)
    if sampling.top_k > 0:
        yield TopKLogitsWarper(top_k=sampling.top_k)
    if sampling.top_p < 1:
        yield TopPLogitsWarper(top_p=sampling.top_p)
    if guidance.min_p > 0:
        yield MinPLogitsWarper(min_p=guidance.min_p)
