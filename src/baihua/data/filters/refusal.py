"""Drops answers that begin with a refusal, in Chinese or English.

Only the first characters of an answer are read, and an apology alone is not a refusal: words about a task that cannot
be done must follow. So letters of apology, quoted dialogue and explanations of refusals are kept, and so is an answer
in which the assistant first says that it has no feelings.
"""

from pathlib import Path
from typing import Literal

from baihua.core.config import Base
from baihua.data.clean.contract import DropWhere, Expression, Part
from baihua.data.clean.texts import read_patterns

KEPT = [
    "对不起，我迟到了，因为路上堵车。",
    "抱歉，我不能参加明天的会议。",
    "“对不起，我不能帮你”的英文是 I'm sorry, I can't help you.",
    "拒绝别人时可以说：抱歉，我无法提供帮助。",
    "我不会推荐这家餐厅，因为菜太咸了。",
    "GPT 语言模型无法完成的任务包括画图和播放声音。",
    "作为人工智能的一个分支，机器学习从数据中学习规律。",
    "作为一个人工智能语言模型，我没有感情，但我推荐这部电影。",
    "I'm sorry, I can't come to your party on Saturday.",
    "I cannot help but smile when I see the sea.",
    "As an AI company, we cannot ignore safety.",
]
DROPPED = [
    "作为一个人工智能语言模型，我无法提供医疗建议。",
    "作為一個語言模型，我不能預測股價。",
    "我只是一个AI助手，没有能力打开网页。",
    "很抱歉，我不能回答这个问题。",
    "抱歉，该任务涉及图像，无法完成。",
    "由于我看不到图片，我无法回答这个问题。",
    "我作为AI语言模型，不会提供这方面的指导。",
    "很抱歉，我作为一个语言模型不能给出投资建议。",
    "As an AI language model, I cannot browse the internet.",
    "I'm sorry, but I can't assist with that request.",
    "Sorry, I am not able to generate images.",
    "I’m unable to provide legal advice.",
    "I'm sorry, but as an AI language model, I am not capable of climbing mountains.",
]

NUM_OPENING_CHARS = 80

# The words and patterns are in a file of the same name.
OPENING = read_patterns(Path(__file__).with_suffix(".yaml"))["opening"]

# A refusal in a later turn is as harmful as one in the first.
SCOPE = "message"


class Config(Base):
    """The texts in which refusals are searched."""

    kind: Literal["refusal"] = "refusal"
    """The name of this filter."""
    part: Part = "answers"
    """Texts of a row that are read, each message by itself: all, questions or answers."""


def check_column(text: Expression, config: Config) -> DropWhere:
    """Drop a text that begins with a refusal; the detail quotes it."""
    from daft.functions import when

    opening = text.lstrip().left(NUM_OPENING_CHARS)
    condition = opening.regexp(OPENING)
    # Extracting a match takes fifty times as long as testing for one, so it is done only for refusals.
    return DropWhere(condition, "refusal", when(condition, opening).regexp_extract(OPENING, 0))
