"""Constrained answers: grammars and JSON schemas, read by llguidance.

llama.cpp has llguidance built in, but on a grammar or schema it cannot read it generates without constraint and only
logs the error, so both are read here first. For torch, a Guide gives the tokens that may come next.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from baihua.chat.types import Guidance, TextTokenizer
from baihua.core.errors import InputError

LARK_MARK = "%llguidance"
"""The start of a grammar in Lark, llguidance's language; all others are GBNF, which only llama.cpp supports."""


def read_grammar(guidance: Guidance) -> str | None:
    """The grammar or schema for llguidance; None where there is neither, or a grammar in GBNF.

    Raises an InputError where it cannot be read or uses something that llguidance does not support.
    """
    if guidance.json_schema is not None:
        if guidance.grammar is not None:
            raise InputError("a request has either a grammar or a JSON schema, found both", fix="send one of them")
        return _check(LLMatcher.grammar_from_json_schema(guidance.json_schema), "the JSON schema")
    if guidance.grammar is not None and guidance.grammar.startswith(LARK_MARK):
        return _check(LLMatcher.grammar_from_lark(guidance.grammar), "the grammar")
    return None


def read_vocabulary(tokenizer: TextTokenizer, *, num_tokens: int, end_ids: Sequence[int]) -> LLTokenizer:
    """The vocabulary for llguidance; takes a quarter of a second for 49,000 tokens.

    `num_tokens` is the number of logits of the model, `end_ids` the tokens that end an answer.
    """
    if not end_ids:
        raise InputError("grammars need a model with a token that ends an answer; it has none", fix="tune it first")
    names = {token_id: name for name, token_id in tokenizer.controls.items()}
    tokens = [names[i].encode() if i in names else tokenizer.token_bytes(i) for i in range(num_tokens)]
    adapted = _TokenizerForLlguidance(tokenizer, end_ids[0], tokenizer.bos_id, tokens, list(names))
    return LLTokenizer(TokenizerWrapper(adapted), n_vocab=num_tokens, eos_token=list(end_ids))


class Guide:
    """The state of a grammar in one answer, token by token."""

    def __init__(self, grammar: str, vocabulary: LLTokenizer) -> None:
        self._num_tokens = vocabulary.vocab_size
        self._matcher = LLMatcher(vocabulary, grammar, log_level=0)

    def allowed(self) -> np.ndarray:
        """The tokens that may come next, bool_V."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        self._check()
        return np.unpackbits(bits, bitorder="little")[: self._num_tokens].astype(bool)

    def take(self, token_id: int) -> None:
        """Advance by the token that was chosen."""
        self._matcher.consume_token(token_id)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            # The rest is llguidance's internal state.
            what = self._matcher.get_error().partition("\n<state>")[0]
            raise InputError(f"llguidance failed on the grammar: {what}", fix="correct or simplify it")


@dataclass(frozen=True, slots=True)
class _TokenizerForLlguidance:
    """A tokenizer with the attributes that llguidance reads."""

    tokenizer: TextTokenizer
    eos_token_id: int
    bos_token_id: int | None
    tokens: list[bytes]
    special_token_ids: list[int]

    def __call__(self, text: str) -> list[int]:
        """Ids of a text."""
        return self.tokenizer.encode(text)


def _check(grammar: str, what: str) -> str:
    is_wrong, messages = LLMatcher.validate_grammar_with_warnings(grammar)
    if is_wrong:
        raise InputError(f"{what} is invalid or not supported: {messages[0].strip()}", fix="change what it names")
    return grammar
