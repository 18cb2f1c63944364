"""Alpaca rows in two languages in one record: `zh_instruction`, `zh_input`, `zh_output` and the same with `en_`."""

from typing import Any, Literal

from baihua.core.config import Base
from baihua.data.drafts import Draft, has_texts
from baihua.data.formats import alpaca

_CHINESE = {"zh_instruction": "翻译成英文", "zh_input": "你好", "zh_output": "Hello"}
EXAMPLE = _CHINESE | {"en_instruction": "Say hello.", "en_input": "", "en_output": "Hello."}


class Config(Base):
    """Which of the two languages to take; in a key, `{language}` stands for zh or en."""

    kind: Literal["bilingual"] = "bilingual"
    """The name of this format."""
    language: Literal["zh", "en", "both"] = "zh"
    """The language to read; with both, a record becomes two conversations."""
    instruction: str = "{language}_instruction"
    """The key of a language's instruction."""
    input: str = "{language}_input"
    """The key of a language's material, which a record may lack."""
    output: str = "{language}_output"
    """The key of a language's answer."""


def fits(record: dict[str, Any]) -> bool:
    """Whether both languages have an instruction and an output."""
    return has_texts(record, "zh_instruction", "zh_output", "en_instruction", "en_output")


def convert(record: dict[str, Any], config: Config) -> list[Draft]:
    """One conversation per language, which goes into its meta."""
    drafts: list[Draft] = []
    for language in ("zh", "en") if config.language == "both" else (config.language,):
        keys = [key.replace("{language}", language) for key in (config.instruction, config.input, config.output)]
        [draft] = alpaca.convert(record, alpaca.Config(instruction=keys[0], input=keys[1], output=keys[2]))
        drafts.append(Draft(draft.messages, meta={"language": language}))
    return drafts
