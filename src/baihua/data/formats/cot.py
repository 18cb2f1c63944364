"""`{"question": "...", "rationale": "...", "answer": "..."}`: questions whose answers are reasoned out.

Each row draws one of several ways to ask for the reasoning and to give it, so that a model learns to reason
rather than one phrase.
"""

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field

from baihua.chat.zh import is_mainly_chinese
from baihua.core.config import Base
from baihua.data.drafts import Bad, Draft, has_texts, text_under, turn_pair
from baihua.data.draw.hashed import hashed_number

EXAMPLE = {"question": "一盒铅笔有12支，3盒共有多少支？", "rationale": "每盒12支，3盒就是12乘以3。", "answer": "36支"}

# Pairs of a question's and an answer's phrase, by language.
TEMPLATES: dict[str, list[list[str]]] = yaml.safe_load(Path(__file__).with_name("cot.yaml").read_text(encoding="utf-8"))


class Config(Base):
    """A question, the reasoning and its result, each in a column."""

    kind: Literal["cot"] = "cot"
    """The name of this format."""
    question: str = "question"
    """The key of the question."""
    rationale: str = "rationale"
    """The key of the reasoning."""
    answer: str = "answer"
    """The key of the result."""
    language: Literal["zh", "en", "auto"] = "auto"
    """The language of the phrases around them; auto is Chinese where at least half of a question's letters are."""
    seed: int = Field(default=0, ge=0)
    """Which draw of the phrases, from 0; the same seed and question always draw the same."""


def fits(record: dict[str, Any]) -> bool:
    """Whether there are a question, a rationale and an answer."""
    return has_texts(record, "question", "rationale", "answer")


def convert(record: dict[str, Any], config: Config) -> list[Draft]:
    """The question and the reasoned answer of a record, in phrases drawn for it."""
    texts = {key: text_under(record, key).strip() for key in (config.question, config.rationale, config.answer)}
    blank = next((key for key, text in texts.items() if not text), None)
    if blank is not None:
        # The phrases would hide it from the check for blank messages.
        raise Bad("empty_text", f"{blank!r} is blank")
    question, rationale, answer = (texts[key] for key in (config.question, config.rationale, config.answer))
    ask, reply = _draw_phrases(question, config)
    return [Draft(turn_pair(ask.format(question=question), reply.format(rationale=rationale, answer=answer)))]


def _draw_phrases(question: str, config: Config) -> list[str]:
    language = config.language
    if language == "auto":
        language = "zh" if is_mainly_chinese(question) else "en"
    choices = TEMPLATES[language]
    return choices[hashed_number(f"{config.seed}\n{question}") % len(choices)]
