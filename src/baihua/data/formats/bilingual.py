"""Alpaca rows in two languages side by side: `zh_instruction`, `zh_input`, `zh_output` and the same with `en_`."""

from typing import Any, Literal

from baihua.core.config import Base
from baihua.data.formats import alpaca
from baihua.data.formats.text import find_wrong_text
from baihua.data.rows import Bad, Draft

EXAMPLE = {
    "zh_instruction": "翻译成英文",
    "zh_input": "你好",
    "zh_output": "Hello",
    "en_instruction": "Say hello.",
    "en_input": "",
    "en_output": "Hello.",
}


class Config(Base):
    """Which of the two languages to take; in a key, `{language}` stands for zh or en."""

    kind: Literal["bilingual"] = "bilingual"
    """The name of this format."""
    language: Literal["zh", "en", "both"] = "zh"
    """The side to read; with both, a record becomes two conversations."""
    instruction: str = "{language}_instruction"
    """The key of a language's instruction."""
    input: str = "{language}_input"
    """The key of a language's material, which a record may lack."""
    output: str = "{language}_output"
    """The key of a language's answer."""


def fits(record: dict[str, Any]) -> bool:
    """Whether both languages have an instruction and an output."""
    return find_wrong_text(record, ("zh_instruction", "zh_output", "en_instruction", "en_output")) is None


def convert(record: dict[str, Any], config: Config) -> list[Draft] | Bad:
    """One conversation per language, which is noted beside it."""
    drafts: list[Draft] = []
    for language in ("zh", "en") if config.language == "both" else (config.language,):
        found = alpaca.convert(record, _columns(config, language))
        if isinstance(found, Bad):
            return found
        drafts += [Draft(draft.messages, meta={"language": language}) for draft in found]
    return drafts


def _columns(config: Config, language: str) -> alpaca.Config:
    instruction, material, output = (
        key.replace("{language}", language) for key in (config.instruction, config.input, config.output)
    )
    return alpaca.Config(instruction=instruction, input=material, output=output)
