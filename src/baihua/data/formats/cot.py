"""`{"question": "...", "rationale": "...", "answer": "..."}`: questions whose answers are reasoned out.

Each row draws one of several ways to ask for the reasoning and to give it, so that a model learns to reason
rather than one phrase.
"""

from typing import Any, Literal

from pydantic import Field

from baihua.chat.zh import is_mainly_chinese
from baihua.core.config import Base
from baihua.data.drafts import Bad, Draft, has_texts, text_under, turn_pair
from baihua.data.draw.hashed import hashed_number

EXAMPLE = {"question": "一盒铅笔有12支，3盒共有多少支？", "rationale": "每盒12支，3盒就是12乘以3。", "answer": "36支"}

TEMPLATES: dict[str, tuple[tuple[str, str], ...]] = {
    "zh": (
        ("{question}\n请写出推理过程，最后给出答案。", "{rationale}\n答案：{answer}"),
        ("请先分析，再回答下面的问题。\n{question}", "{rationale}\n综上，答案是：{answer}"),
        ("{question}\n不要只说结果，也讲讲你是怎么想的。", "我是这样想的：{rationale}\n所以答案是：{answer}"),
        ("问题：{question}\n请逐步推导。", "推导如下：\n{rationale}\n最终答案：{answer}"),
        ("{question}\n请把思路说清楚。", "{rationale}\n由此得出：{answer}"),
        ("帮我解答这道题，并说明理由：\n{question}", "理由：{rationale}\n结论：{answer}"),
        ("{question}\n先想清楚再作答，把想的过程也写下来。", "{rationale}\n因此，我的回答是：{answer}"),
        ("下面的问题该怎么解？请分步说明。\n{question}", "分步来看：\n{rationale}\n解得：{answer}"),
    ),
    "en": (
        ("{question}\nWrite down your reasoning and end with the answer.", "{rationale}\nAnswer: {answer}"),
        ("Reason first, then answer.\n{question}", "{rationale}\nThis gives: {answer}"),
        ("{question}\nTell me how you get there, too.", "Here is how I get there. {rationale}\nMy answer: {answer}"),
        ("Question: {question}\nWork it out in steps.", "Working it out:\n{rationale}\nResult: {answer}"),
        ("{question}\nPlease explain your answer.", "{rationale}\nFor this reason the answer is: {answer}"),
        ("Solve this and give your reasons:\n{question}", "Reasons: {rationale}\nConclusion: {answer}"),
        ("{question}\nDo not rush: show each thought.", "{rationale}\nSo I arrive at: {answer}"),
        ("How would you solve the following?\n{question}", "I would go about it like this:\n{rationale}\n= {answer}"),
    ),
}


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


def _draw_phrases(question: str, config: Config) -> tuple[str, str]:
    language = config.language
    if language == "auto":
        language = "zh" if is_mainly_chinese(question) else "en"
    choices = TEMPLATES[language]
    return choices[hashed_number(f"{config.seed}\n{question}") % len(choices)]
