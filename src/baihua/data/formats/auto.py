"""The format that most records of a file fit: what `format: auto` stands for, file by file."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

from baihua.core import kinds
from baihua.core.config import Base

PACKAGE = "baihua.data.formats"
# From the most to the least specific: many a set repeats its alpaca columns in one `text`, and BELLE's conversations
# have the columns of alpaca. A user's own format comes before all of them.
ORDER = (
    *("bilingual", "seed_tasks", "cot", "questions", "messages", "sharegpt", "belle", "alpaca", "prompt_response"),
    "text",
)


class Config(Base):
    """No options: columns with other names need their format's own config."""

    kind: Literal["auto"] = "auto"
    """The name of this format."""


def detect(records: Sequence[dict[str, Any]]) -> str | None:
    """The format of most of the records, None if no record fits any.

    A record counts for the most specific format that it fits; so a few rows that fit only a wider one do not
    win all the others for it. Equal counts go to the more specific format.
    """
    foreign = [kind for kind in kinds.names(PACKAGE) if kind not in ORDER and kind != "auto"]
    # A user's format may have no `fits`: it leaves detection to the others.
    looks = {kind: look for kind in (*foreign, *ORDER) if (look := kinds.member(kinds.find(PACKAGE, kind), "fits"))}
    found = (next((kind for kind, look in looks.items() if look(record)), None) for record in records)
    counts = Counter(kind for kind in found if kind is not None)
    # The first of the largest: `looks` goes from the most to the least specific.
    return max(looks, key=counts.__getitem__) if counts else None
