"""Drops turns in which the assistant claims to be another model, or the model of another maker.

Such a turn has a claim in the first person ("我是由 OpenAI 训练的", "I am ChatGPT"), or a short answer to the question
who made the assistant. A turn that only talks about such a model stays, however often it names it.
"""

import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from baihua.chat.splitting import split_turns
from baihua.chat.types import Message
from baihua.chat.zh import SENTENCE_ENDS
from baihua.core.config import Base
from baihua.data.clean.contract import Change, Drop, Keep, RowView


class Config(Base):
    """Names of foreign models and makers, and of our own."""

    kind: Literal["other_identity"] = "other_identity"
    """The name of this filter."""
    names: list[str] = Field(default=[])
    """Names of models and makers that are foreign, in addition to those that this filter knows."""
    own: list[str] = Field(default=["白话", "Baihua"])
    """Our own names: a sentence with one of them stays, and none of them is foreign."""


KEPT = [
    [Message("user", "ChatGPT 是什么？"), Message("assistant", "ChatGPT 是 OpenAI 开发的语言模型。")],
    [Message("user", "你是 ChatGPT 吗？"), Message("assistant", "不是，我是白话，和 ChatGPT 是两个不同的助手。")],
    [Message("user", "假设你是李白，介绍一下自己。"), Message("assistant", "我是李白，字太白。")],
    [
        Message("user", "翻译成中文。", "I am Bard, a language model made by Google."),
        Message("assistant", "我是 Bard，谷歌开发的语言模型。"),
    ],
]
DROPPED = [
    [Message("user", "你是谁？"), Message("assistant", "我是由 OpenAI 训练的语言模型。")],
    [Message("user", "What are you?"), Message("assistant", "I'm a language model called Vicuna.")],
]
CHANGED = [
    (
        [
            Message("user", "谁开发了你？"),
            Message("assistant", "百度。"),
            Message("user", "一加一等于几？"),
            Message("assistant", "等于二。"),
        ],
        [Message("user", "一加一等于几？"), Message("assistant", "等于二。")],
    )
]

MAKERS: list[str] = re.findall(
    r"[^|]+",
    "OpenAI|Anthropic|Google|谷歌|DeepMind|Meta|Microsoft|微软|LMSYS|Large Model Systems Organization|Baidu|百度"
    "|Alibaba|阿里|Zhipu|智谱|清华|Fudan|复旦|iFlytek|讯飞|Tencent|腾讯|ByteDance|字节跳动|Moonshot|月之暗面|深度求索",
)
MODELS: list[str] = re.findall(
    r"[^|]+",
    "ChatGPT|GPT 3|GPT 3.5|GPT 4|GPT 5|Claude|Bard|Gemini|LLaMA|Copilot|Vicuna|ERNIE|ERNIE Bot|文心|文心一言|文心大模型"
    "|Qwen|通义千问|ChatGLM|智谱清言|MOSS|讯飞星火|星火大模型|星火认知大模型|混元|豆包|Kimi|DeepSeek",
)
"""Names of models; a blank may be a hyphen or nothing."""
AMBIGUOUS = ["Claude", "Bard", "Gemini", "LLaMA", "Copilot", "ERNIE", "文心", "MOSS", "混元", "豆包", "Kimi"]
"""Models named like people, stars or food: foreign only beside a word for a language model, or as an answer."""

# Templates: <model>, <maker> and <name> (either) stand for the names. `NEAR` stays within one clause.
NEAR = r"[^。！？，,\n]"
KIND = (
    r"(?:模型|助手|助理|机器人|程序|系统|人工智能"
    r"|(?<![a-z])(?:models?|assistants?|chatbots?|bots?|programs?|AI)(?![a-z]))"
)
WORDS_ZH = (
    r"(?:一个|一款|一种|一名|一位|个|大型|大规模|大|预训练|通用|自然|语言|聊天|对话|虚拟|智能|专门|中文|AI|人工智能|模型|助手"
    r"|助理|机器人|程序|系统|名为|名叫|叫做|叫|基于|的|[\s，,“”\"「」])*"
)
WORDS_EN = (
    r"(?:\s*(?:[,\"“”]|\b(?:an?|the|just|actually|only|large|AI|artificial|intelligence|natural|virtual|digital|language|text"
    r"|conversational|model|assistant|chatbot|chat|bot|computer|program|system|called|named|known\s+as|based\s+on"
    r"|powered\s+by|and|which|that|was|I)\b))*\s*"
)
MADE_ZH = r"(?:训练|开发|研发|研制|创建|创造|设计|推出|打造|构建|制作|制造|提供)"
MADE_EN = r"\b(?:trained|developed|created|built|made|designed|programmed|fine-tuned|provided|launched)\b"
BY_EN = (
    r"(?:\s+and\s+\w+)?\s+by"
    r"\s+(?:(?:the|an?|researchers?|engineers?|scientists?|people|team|company|called|at|from|of)\s+)*"
)
I_AM = r"\b(?:I\s+am|I['’]m)\b"
I_WAS = r"\b(?:I\s+am|I['’]m|I\s+was|I\s+have\s+been)\b"
AS_EN = r"(?<!such\s)(?<!well\s)\bas\b"
ME_ZH = r"我(?:就|其实|确实)?"
# "我是 ChatGPT 的用户", "我叫 ChatGPT 写诗" and "I am a Google engineer" speak of someone else.
NOT_SELF = (
    r"(?!\s*(?:公司)?的?\w{0,4}(?:用户|粉丝|爱好|专家|经理|创始人|员|师|者)|\s*(?:写|帮|来|去|给|生成|做|翻译|解释)|['’]s\b"
    r"|\s+(?:\w+\s+)?(?:user|fan|engineer|developer|researcher|employee|expert|specialist|manager|subscriber)s?\b)"
)
NAMING = [
    rf"{ME_ZH}(?:是|叫做?|名叫|名为|的名字(?:是|叫做?))\s*{WORDS_ZH}<model>{NOT_SELF}",
    rf"作为{WORDS_ZH}<model>(?:{NEAR}{{0,20}}{KIND})?[\s，,]*我(?!们)",
    rf"(?:{I_AM}|\bmy\s+name\s+is\b|\bI\s+go\s+by\b(?:\s+the\s+name)?|\b(?:call|refer\s+to)\s+me\b(?:\s+as)?)"
    rf"{WORDS_EN}<model>{NOT_SELF}",
    rf"{AS_EN}{WORDS_EN}<model>\s*,\s*I\b",
]
MAKING = [
    rf"{ME_ZH}是?{WORDS_ZH}(?:由|是被)\s*{NEAR}{{0,10}}?<maker>{NEAR}{{0,16}}?{MADE_ZH}(?!的(?!{NEAR}{{0,16}}{KIND}))",
    rf"{ME_ZH}是?{WORDS_ZH}被\s*{NEAR}{{0,10}}?<maker>{NEAR}{{0,16}}?{MADE_ZH}(?!的|出)",
    rf"{ME_ZH}(?:是|来自){WORDS_ZH}<maker>{NEAR}{{0,12}}?(?:{MADE_ZH}|的){NEAR}{{0,14}}?{KIND}{NOT_SELF}",
    rf"作为{NEAR}{{0,12}}?<maker>{NEAR}{{0,20}}{KIND}[\s，,]*我(?!们)",
    rf"<maker>{NEAR}{{0,8}}{MADE_ZH}了我",
    rf"我的(?:开发|创造|创建|训练|制造|研发|母)(?:者|商|公司|团队){NEAR}{{0,4}}(?<!不)(?:是|为|来自){NEAR}{{0,12}}?<maker>",
    rf"{I_WAS}{WORDS_EN}{MADE_EN}{BY_EN}<maker>",
    rf"{I_AM}{WORDS_EN}<maker>(?:['’]s)?{WORDS_EN}{KIND}{NOT_SELF}",
    rf"{I_AM}{WORDS_EN}(?<=\w\s)(?:from|by|of)\s+<maker>",
    rf"{AS_EN}{WORDS_EN}(?:{MADE_EN}{BY_EN}|(?:from|by|of)\s+)<maker>[^.!?,\n]{{0,20}},?\s*(?:I|my)\b",
    r"<maker>[^.!?\n]{0,20}\b(?:trained|developed|created|built|designed|programmed)\s+me\b",
    r"\bmy\s+(?:creator|developer|maker|trainer|parent\s+compan)\w*\s+(?:is|are|was|were)\b[^.!?\n]{0,40}?<maker>",
]
# A maker that is not listed. "Trained by a team of researchers" names none, so it stays.
UNLISTED = [
    rf"我是{WORDS_ZH}由\s*{NEAR}{{2,12}}?(?:公司|大学|实验室|研究院|研究所|科技|集团){NEAR}{{0,8}}{MADE_ZH}的?{NEAR}{{0,14}}{KIND}",
    rf"{I_AM}{WORDS_EN}(?<=model\s){MADE_EN}{BY_EN}(?-i:[A-Z])\w+",
    rf"{AS_EN}{WORDS_EN}(?<=model\s){MADE_EN}{BY_EN}(?-i:[A-Z])[^.!?,\n]{{0,30}},?\s*(?:I|my)\b",
]
ASKS_FOR_NAME = (
    r"你(?:就|真的)?(?:是不是|不是|是)\s*<name>[^。，\n]{0,6}[吗吧么？?]"
    r"|\b(?:are|aren['’]t)\s+you\s+(?:\w+\s+){0,2}<name>"
)
QUESTION = [
    ASKS_FOR_NAME,
    r"你(?:到底|究竟|其实|又)?(?:是谁|是什么模型|是哪|叫什么|的名字[是叫？?]|的(?:开发|创造|创建|训练|研发)(?:者|商|公司|团队)是)",
    rf"(?:谁|哪[家个]{NEAR}{{0,8}}){MADE_ZH}(?:了|的|出)+你|你是(?:由|被)?[谁哪]",
    r"\bwho\s+are\s+you\b|\bwhat(?:['’]s|\s+is)\s+your\s+name\b|\btell\s+me\s+your\s+name\b",
    rf"\b(?:who|what\s+company|which\s+company)\s+(?:\w+\s+)?(?:{MADE_EN}|taught)\s+you\b",
    r"\bwhat\s+are\s+you(?:\s+called)?\s*(?:[^\w\s]|$)",
    r"\bwho(?:['’]s|\s+is|\s+are|\s+was)\s+your\s+(?:creator|developer|maker)",
]
# In such tasks a name that the user mentions belongs to the text, not to the assistant.
TASK = re.compile(
    r"假设|假如|假装|扮演|想象|模仿|以.{0,20}(?:身份|口吻|语气)|翻译|译成|改写|润色|纠正|修改|续写|对话|故事|造句|例句|分类|总结|摘要"
    r"|\b(?:pretend|imagin|suppose|act\s+as|role|translat|rewrit|rewrote|paraphras|edit\b|correct\b|dialog|conversation"
    r"|story|sentence|classify|summar)",
    re.I,
)
SELF = re.compile(r"我|\b(?:I|me|my)\b", re.I)
YES = re.compile(r"\s*(?:是的|没错|对(?!不)|嗯|正是|(?:yes|yeah|correct|right|that['’]s\s+right)\b)", re.I)
NO = re.compile(r"不|没有|并非|无关|另一|n['’]t\b|\b(?:not|no|neither|nor|unlike)\b|\bdiffer", re.I)
QUOTED = re.compile(r"“[^“”\n]*”|\"[^\"\n]*\"|「[^「」\n]*」|『[^『』\n]*』")
SENTENCE = re.compile(rf"[^{SENTENCE_ENDS}\n]+?(?:[{SENTENCE_ENDS}\n]|\.(?=\s|$)|$)")


@dataclass(frozen=True, slots=True)
class Patterns:
    """Patterns of a config: foreign and own names, claims in the first person, and questions that ask for one."""

    name: re.Pattern[str]
    own: re.Pattern[str]
    claim: re.Pattern[str]
    ambiguous_claim: re.Pattern[str]
    question: re.Pattern[str]
    asks_for_name: re.Pattern[str]


def check_row(row: RowView, config: Config) -> Keep | Drop | Change:
    """Remove each turn whose answer claims to come from another model or maker."""
    patterns = _compile(tuple(config.names), tuple(config.own))
    system, turns = split_turns(row.messages)
    claims = [_find_claim(turn, patterns) for turn in turns]
    found = [claim for claim in claims if claim]
    if not found:
        return Keep()
    kept = [message for turn, claim in zip(turns, claims, strict=True) if not claim for message in turn]
    return Change([*system, *kept]) if kept else Drop("other_identity", found[0])


def _find_claim(turn: Sequence[Message], patterns: Patterns) -> str | None:
    """The sentence in which the answer of a turn claims another identity, if there is one."""
    if turn[-1].role != "assistant":
        return None
    question, answer = turn[0].text, turn[-1].content
    if TASK.search(question) and patterns.name.search(question):
        return None
    is_asked = patterns.question.search(question) is not None
    if not is_asked and not SELF.search(answer):
        return None
    # A quoted sentence in the first person is someone else speaking; a quoted name stays.
    for sentence in SENTENCE.findall(QUOTED.sub(lambda quoted: "" if SELF.search(quoted[0]) else quoted[0], answer)):
        if _is_claim(sentence, patterns, is_asked=is_asked) and not patterns.own.search(sentence):
            return sentence.strip()
    is_admitted = patterns.asks_for_name.search(question) and YES.match(answer)
    return answer.strip() if is_admitted and not patterns.own.search(answer) else None


def _is_claim(sentence: str, patterns: Patterns, *, is_asked: bool) -> bool:
    """Whether a sentence makes the claim; after a question for the name, a name that is not denied is enough."""
    if SELF.search(sentence) and patterns.claim.search(sentence):
        return True
    if is_asked and patterns.name.search(sentence) and not NO.search(sentence):
        return True
    return re.search(KIND, sentence, re.I) is not None and patterns.ambiguous_claim.search(sentence) is not None


@functools.cache
def _compile(names: tuple[str, ...], own: tuple[str, ...]) -> Patterns:
    ours = {name.casefold() for name in own}
    models, makers = ([name for name in [*known, *names] if name.casefold() not in ours] for known in (MODELS, MAKERS))
    ambiguous = [name for name in models if name in AMBIGUOUS and name not in names]
    clear = [name for name in models if name not in ambiguous]
    slots = {"<model>": _any_of(clear), "<maker>": _any_of(makers), "<name>": _any_of([*models, *makers])}
    return Patterns(
        name=_pattern(["<name>"], slots),
        own=re.compile(_any_of(own), re.I),
        claim=_pattern([*NAMING, *MAKING, *UNLISTED], slots),
        ambiguous_claim=_pattern(NAMING, slots | {"<model>": _any_of(ambiguous)}),
        question=_pattern(QUESTION, slots),
        asks_for_name=_pattern([ASKS_FOR_NAME], slots),
    )


def _pattern(templates: Iterable[str], slots: dict[str, str]) -> re.Pattern[str]:
    joined = "|".join(templates)
    for slot, names in slots.items():
        joined = joined.replace(slot, names)
    return re.compile(joined, re.I)


def _any_of(names: Iterable[str]) -> str:
    """A pattern for any of these names; for no names, one that never matches."""
    longest_first = sorted(names, key=lambda name: (-len(name), name))
    return f"(?:{'|'.join(map(_whole, longest_first))})" if longest_first else r"(?!)"


def _whole(name: str) -> str:
    """A pattern for a name that is not part of a longer word; a blank in it may be a hyphen or nothing."""
    before = r"(?<![A-Za-z])" if name[:1].isascii() else ""
    after = r"(?![A-Za-z])" if name[-1:].isascii() and name[-1:].isalpha() else ""
    return before + r"[\s-]?".join(map(re.escape, name.split())) + after
