"""Grammars and JSON schemas that an answer follows, read by llguidance.

llama.cpp has llguidance built in, but where that cannot read what it is given, llama.cpp follows nothing at all and
says so in its log alone. So both are read here first. For torch a Guide says which tokens may come next.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from baihua.chat.types import Guidance, TextTokenizer
from baihua.core.errors import InputError

LARK_MARK = "%llguidance"
"""What a grammar in llguidance's language, Lark, begins with. All others are GBNF, which llama.cpp alone reads."""


def read_grammar(guidance: Guidance) -> str | None:
    """The grammar or schema that llguidance is to follow; None where there is none, or one in GBNF.

    An InputError where it cannot be read, or asks for what llguidance does not know.
    """
    if guidance.json_schema is not None:
        if guidance.grammar is not None:
            raise InputError("an answer cannot follow a grammar and a JSON schema at once", fix="send one of them")
        return _check(LLMatcher.grammar_from_json_schema(guidance.json_schema), "the JSON schema")
    if guidance.grammar is not None and guidance.grammar.startswith(LARK_MARK):
        return _check(LLMatcher.grammar_from_lark(guidance.grammar), "the grammar")
    return None


def read_vocabulary(tokenizer: TextTokenizer, *, num_tokens: int, end_ids: Sequence[int]) -> LLTokenizer:
    """Tokens as llguidance wants them, which takes a quarter of a second for 49,000.

    `num_tokens` is the width of the model's output.
    """
    if not end_ids:
        raise InputError(
            "the model has no token that ends an answer, so it cannot follow a grammar", fix="tune it first"
        )
    names = {token_id: name for name, token_id in tokenizer.controls.items()}
    tokens = [names[i].encode() if i in names else tokenizer.token_bytes(i) for i in range(num_tokens)]
    told = _Told(tokenizer, end_ids[0], tokenizer.bos_id, tokens, list(names))
    return LLTokenizer(TokenizerWrapper(told), n_vocab=num_tokens, eos_token=list(end_ids))


class Guide:
    """Follows one answer, token by token."""

    def __init__(self, grammar: str, vocabulary: LLTokenizer) -> None:
        self._num_tokens = vocabulary.vocab_size
        self._matcher = LLMatcher(vocabulary, grammar, log_level=0)

    def allowed(self) -> np.ndarray:
        """Which token may come next, bool_V."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        self._require_sound()
        return np.unpackbits(bits, bitorder="little")[: self._num_tokens].astype(bool)

    def take(self, token_id: int) -> None:
        """The token that came."""
        self._matcher.consume_token(token_id)
        self._require_sound()

    def _require_sound(self) -> None:
        if self._matcher.is_error():
            # What follows are llguidance's own insides.
            what = self._matcher.get_error().partition("\n<state>")[0]
            raise InputError(f"llguidance gave up on the grammar: {what}", fix="mend it, or make it simpler")


@dataclass(frozen=True, slots=True)
class _Told:
    """A tokenizer by the names that llguidance looks for."""

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
        raise InputError(f"{what} cannot be followed: {messages[0].strip()}", fix="change what it names")
    return grammar
