"""Every sampling rule changes which token is chosen."""

import math

import pytest
import torch
from scripted_engine import ByteTokenizer

from baihua.backends.guidance import Guide, read_grammar, read_vocabulary
from baihua.backends.token_choice import TokenChooser
from baihua.chat.types import Guidance, Sampling
from baihua.core.errors import InputError

END = 257
GREEDY = Sampling(temperature=0)
TOKENIZER = ByteTokenizer()
PLAIN = Guidance()
PROMPT = torch.tensor([[104, 105]])


def chooser(sampling: Sampling = GREEDY, guidance: Guidance = PLAIN) -> TokenChooser:
    grammar = read_grammar(guidance)
    vocabulary = read_vocabulary(TOKENIZER, num_tokens=258, end_ids=[END])
    return TokenChooser(
        sampling,
        guidance,
        guide=Guide(grammar, vocabulary) if grammar else None,
        tokenizer=TOKENIZER,
        end_ids=[END],
        device=torch.device("cpu"),
    )


def logits(**higher: float) -> torch.Tensor:
    """Logits of all tokens: 0, and higher for some bytes."""
    found = torch.zeros(1, 258)
    for char, score in higher.items():
        found[0, ord(char)] = score
    return found


def write(choose: TokenChooser, num: int, scores: torch.Tensor) -> str:
    return "".join(chr(choose(PROMPT, scores).token_id) for _ in range(num))


@pytest.mark.parametrize(
    ("guidance", "words"),
    [
        (Guidance(), "aaaa"),
        (Guidance(presence_penalty=1.5), "abaa"),
        (Guidance(presence_penalty=0.5), "aaaa"),
        (Guidance(frequency_penalty=0.6), "aaba"),
    ],
)
def test_penalties_make_earlier_tokens_less_likely(guidance: Guidance, words: str) -> None:
    assert write(chooser(guidance=guidance), 4, logits(a=9.0, b=8.0)) == words


def test_the_prompt_is_not_counted_by_openais_penalties() -> None:
    assert write(chooser(guidance=Guidance(presence_penalty=2.0)), 1, logits(h=9.0, z=8.0)) == "h"


def test_min_p_leaves_out_what_is_much_less_likely() -> None:
    sampling = Sampling(temperature=1.0, top_k=0, top_p=1.0, seed=0)
    scores = logits(a=math.log(300))
    assert set(write(chooser(sampling, Guidance(min_p=0.01)), 40, scores)) == {"a"}
    assert len(set(write(chooser(sampling), 40, scores))) > 1


def test_likelihoods_are_those_before_any_rule() -> None:
    guidance = Guidance(num_top_logprobs=2, grammar="%llguidance {}\nstart: /b/")
    chosen = chooser(guidance=guidance)(PROMPT, logits(a=9.0, b=8.0))
    (found,) = chosen.likelihoods
    assert (found.token, found.token_bytes) == ("b", b"b")
    assert [one.token for one in found.top] == ["a", "b"]
    assert found.log_prob == found.top[1].log_prob == pytest.approx(found.top[0].log_prob - 1)
    assert chooser()(PROMPT, logits(a=1.0)).likelihoods == ()


def test_an_answer_is_made_of_whole_characters_of_the_grammar_and_then_ends() -> None:
    choose = chooser(guidance=Guidance(grammar='%llguidance {}\nstart: /[\U00020000-\U0002ffff]/ "好"'))
    torch.manual_seed(0)
    ids = [choose(PROMPT, torch.randn(1, 258)).token_id for _ in range(8)]
    assert ids[-1] == END
    text = bytes(ids[:-1]).decode()
    assert 0x20000 <= ord(text[0]) <= 0x2FFFF
    assert text[1:] == "好"


def test_a_model_that_never_ends_follows_no_grammar() -> None:
    with pytest.raises(InputError, match="grammars need a model with a token that ends an answer"):
        read_vocabulary(TOKENIZER, num_tokens=258, end_ids=[])


def test_what_the_grammar_forbids_is_never_taken() -> None:
    grammar = read_grammar(Guidance(grammar="%llguidance {}\nstart: /b/"))
    assert grammar is not None
    guide = Guide(grammar, read_vocabulary(TOKENIZER, num_tokens=258, end_ids=[END]))
    with pytest.raises(InputError, match=r"llguidance failed on the grammar: .* byte 'z' fails parse\n"):
        guide.take(ord("z"))
