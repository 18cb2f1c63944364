"""Texts on which two forms of one model are compared: conversations that are given, or a few built in."""

from collections.abc import Sequence
from pathlib import Path

from baihua.chat.template import OWN, open_template
from baihua.chat.types import Message
from baihua.model.examples import Encoder

MAX_TOKENS = 128
BUILT_IN = (
    ("请介绍一下你自己。", "你好！我是一个中文助手，可以回答问题、写文章和聊天。"),
    ("中国的首都是哪里？", "中国的首都是北京，它也是全国的政治和文化中心。"),
    ("把这句话翻译成英文：今天天气很好。", "The weather is very nice today."),
    ("Write a line of Python that adds two numbers.", "print(1 + 2)  # 打印 3"),
)


def encode_texts(folder: Path, conversations: Sequence[Sequence[Message]], *, template: str = OWN) -> list[list[int]]:
    """Token ids of each conversation, or of the built-in ones if there is none, cut at 128 tokens."""
    encoder = Encoder(*open_template(template, folder))
    built_in = [(Message("user", question), Message("assistant", answer)) for question, answer in BUILT_IN]
    return [encoder.encode("", talk).ids_T[:MAX_TOKENS].tolist() for talk in conversations or built_in]
