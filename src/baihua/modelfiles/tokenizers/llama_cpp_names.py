"""Tokens that llama.cpp knows by their names, whatever type a GGUF file gives them.

From `llama_vocab::impl::load` in https://github.com/ggml-org/llama.cpp/blob/master/src/llama-vocab.cpp
"""

from gguf.constants import TokenType

_ENDS = """
<|eot_id|> <|im_end|> <|end|> <|return|> <|call|> <|flush|> <|calls|> <end_of_turn> <|endoftext|> </s> <|eom_id|> <EOT>
_<EOT> [EOT] [EOS] <|end_of_text|> <end_of_utterance> <eos> <turn|> <|tool_response> [e~[ <｜end▁of▁sentence｜>
"""
_MIDDLES = """
<|fim_prefix|> <fim-prefix> <fim_prefix> <PRE> ▁<PRE> <|code_prefix|> <|prefix|> <｜fim▁begin｜>
<|fim_suffix|> <fim-suffix> <fim_suffix> <SUF> ▁<SUF> <|code_suffix|> <|suffix|> <｜fim▁hole｜>
<|fim_middle|> <fim-middle> <fim_middle> <MID> ▁<MID> <|code_middle|> <|middle|> <｜fim▁end｜>
<|fim_pad|> <fim-pad> <fim_pad> <PAD> [PAD] <|fim_repo|> <|repo_name|> <fim-repo> <REPO> <reponame> <|file_sep|>
"""
ENDS = frozenset(_ENDS.split())
"""Controls that end an answer."""
MIDDLES = frozenset(_MIDDLES.split())
"""Controls for filling in the middle of a text."""
NO_CONTROLS = frozenset({"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"})
"""Never controls: a text that holds such a name holds the token."""


def type_of(name: str, given: TokenType) -> TokenType:
    """The type that llama.cpp gives a token that is not an ordinary one.

    It takes an ordinary token of such a name for a control too; that changes no text's ids.
    """
    if given == TokenType.NORMAL:
        return given
    if name in NO_CONTROLS:
        return TokenType.USER_DEFINED
    return TokenType.CONTROL if name in ENDS or name in MIDDLES else given
