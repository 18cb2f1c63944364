"""Mask phone numbers, resident identity numbers and e-mail addresses."""

import re
from datetime import date
from typing import Literal

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

HAN = re.compile("[\u3400-\u9fff]")
DIGITS = re.compile("[0-9@]")
EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9_%+-][A-Za-z0-9._%+-]{0,63}@(?:[A-Za-z0-9-]{1,63}[.]){1,8}[A-Za-z]{2,24}"
)
IDENTITY = re.compile(
    r"(?<![0-9A-Za-z])[1-9][0-9]{5}((?:18|19|20)[0-9]{2})([0-9]{2})([0-9]{2})[0-9]{3}[0-9Xx](?![0-9A-Za-z])"
)
# Mobile: 11 digits in one piece, or 3-4-4 with one and the same separator. Landline: the area code has a separator.
# Not in a longer number or a fraction, not a round figure, and not where a sum or a unit shows that it counts things.
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
    """Nothing to choose: the three kinds of personal data are masked."""

    kind: Literal["pii"] = "pii"
    """The name of this filter."""


def check_text(text: str, config: Config) -> str:
    """The text with placeholders, Chinese where it has Han characters: [电话], [身份证号], [邮箱].

    An identity number counts only with a real date and the right check digit.
    """
    if not DIGITS.search(text):
        return text
    before = None
    # What was masked no longer hides what ran on from it, so look again.
    while text != before:
        before, text = text, _mask(text)
    return text


def _mask(text: str) -> str:
    email, identity, phone = ("邮箱", "身份证号", "电话") if HAN.search(text) else ("email", "ID number", "phone")
    text = EMAIL.sub(f"[{email}]", text)
    text = IDENTITY.sub(lambda match: f"[{identity}]" if _is_identity(match) else match.group(), text)
    return PHONE.sub(f"[{phone}]", text)


def _is_identity(match: re.Match[str]) -> bool:
    digits = [10 if char in "Xx" else int(char) for char in match.group()]
    if sum(weight * digit for weight, digit in zip(WEIGHTS, digits, strict=True)) % 11 != 1:
        return False
    year, month, day = map(int, match.groups())
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True
