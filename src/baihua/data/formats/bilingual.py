"""Alpaca rows in two languages side by side: `zh_instruction`, `zh_input`, `zh_output` and the same with `en_`."""

from typing import Any, Literal

from baihua.chat.types import Message
from baihua.core.config import Base
from baihua.data.formats import alpaca
from baihua.data.rows import Bad

EXAMPLE = {
    "zh_instruction": "翻译成英文",
    "zh_input": "你好",
    "zh_output": "Hello",
    "en_instruction": "Say hello.",
    "en_input": "",
    "en_output": "Hello.",
}


class Config(Base):
    """Which of the two languages to take."""

    kind: Literal["bilingual"] = "bilingual"
    """The name of this format."""
    language: Literal["zh", "en", "both"] = "zh"
    """The side to read; with both, a record becomes two conversations."""


def convert(record: dict[str, Any], config: Config) -> list[list[Message]] | Bad:
    """One conversation per language."""
    conversations: list[list[Message]] = []
    for language in ("zh", "en") if config.language == "both" else (config.language,):
        columns = alpaca.Config(
            instruction=f"{language}_instruction", input=f"{language}_input", output=f"{language}_output"
        )
        found = alpaca.convert(record, columns)
        if isinstance(found, Bad):
            return found
        conversations += found
    return conversations
