"""Masks phone numbers, resident identity numbers and e-mail addresses."""

import re
from datetime import date
from typing import Literal

from baihua.chat.zh import HAN_CHAR
from baihua.core.config import Base

CHANGED = {
    "请拨打13812345678联系我。": "请拨打[电话]联系我。",
    "办公室：010-62345678，手机：+86 138-1234-5678": "办公室：[电话]，手机：[电话]",
    "身份证号11010519491231002X，邮箱zhang.san@example.com": "身份证号[身份证号]，邮箱[邮箱]",
    "Write to li.si@example.org.": "Write to [email].",
}
KEPT = [
    "圆周率约为3.14159265358979323846。",
    "校验位不对的110105194912310021不是身份证号。",
    "光年约为9460730472580800米，预算是15000000000元。",
    "版本10.15.7.13800138000",
    "用@app.route注册路由。",
]

DIGITS = re.compile("[0-9@]")
EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9_%+-][A-Za-z0-9._%+-]{0,63}@(?:[A-Za-z0-9-]{1,63}[.]){1,8}[A-Za-z]{2,24}"
)
IDENTITY = re.compile(
    r"(?<![0-9A-Za-z])[1-9][0-9]{5}((?:18|19|20)[0-9]{2})([0-9]{2})([0-9]{2})[0-9]{3}[0-9Xx](?![0-9A-Za-z])"
)
# Mobile: 11 digits without a separator, or 3-4-4 with the same one twice. Landline: the area code has a separator.
# Not in a longer number or a fraction, not a round figure, and not before a sign or a unit of a quantity.
COUNTS = r"(?![.]?[0-9]|[A-Za-z]|\s?(?:[=×÷*^%]|[余多]?(?:元|美元|人|米|公里|千米|吨|年|次|个|万|亿)))"
PHONE = re.compile(
    r"(?<![0-9A-Za-z])(?<![0-9][.])(?:"
    r"(?:[(]?(?:[+]|00)?86[)]?[ -]?)?1[3-9][0-9](?![0-9]{2}0{6})"
    r"(?:[0-9]{8}|(?P<gap>[ -])[0-9]{4}(?P=gap)[0-9]{4}(?![ -]?[0-9]))"
    r"|[(（]?0(?:10|2[0-9]|[3-9][0-9]{2})(?:[)）][ -]?|[ -])[2-9][0-9]{6,7}(?:-[0-9]{1,4})?"
    rf"){COUNTS}"
)
# GB 11643-1999: the weighted sum of the digits, the last one included (X is ten), leaves 1 when divided by 11.
WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2, 1)

SCOPE = "field"


class Config(Base):
    """No options: the three kinds of personal data are masked."""

    kind: Literal["pii"] = "pii"
    """The name of this filter."""


def check_text(text: str, config: Config) -> str:
    """The text with placeholders, Chinese where it has Han characters: [电话], [身份证号], [邮箱].

    An identity number must have a valid date and check digit.
    """
    if not DIGITS.search(text):
        return text
    before = None
    # A mask may separate a number from one that ran on from it, so search again until nothing changes.
    while text != before:
        before = text
        names = ("邮箱", "身份证号", "电话") if HAN_CHAR.search(text) else ("email", "ID number", "phone")
        email, identity, phone = (f"[{name}]" for name in names)
        text = EMAIL.sub(email, text)
        text = IDENTITY.sub(lambda match, mask=identity: mask if _is_identity(match) else match[0], text)
        text = PHONE.sub(phone, text)
    return text


def _is_identity(match: re.Match[str]) -> bool:
    try:
        date(*map(int, match.groups()))
    except ValueError:
        return False
    digits = [10 if char in "Xx" else int(char) for char in match.group()]
    return sum(weight * digit for weight, digit in zip(WEIGHTS, digits, strict=True)) % 11 == 1
