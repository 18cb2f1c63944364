"""Whatever format the records have: found by looking at some of them."""

from collections import Counter
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Literal

from baihua.core import kinds
from baihua.core.config import Base
from baihua.data.formats import messages
from baihua.data.formats.text import LONGEST_DETAIL
from baihua.data.rows import Bad, Draft

EXAMPLE = messages.EXAMPLE

PACKAGE = "baihua.data.formats"
# From the most to the least specific: many a set repeats its alpaca columns in one `text`, and BELLE's
# conversations have the columns of alpaca. A user's own format comes before all of them.
ORDER = (
    "bilingual",
    "seed_tasks",
    "cot",
    "questions",
    "messages",
    "sharegpt",
    "belle",
    "alpaca",
    "prompt_response",
    "text",
)


class Config(Base):
    """Nothing to choose: columns with other names need a format's own config."""

    kind: Literal["auto"] = "auto"
    """The name of this format."""


def fits(record: dict[str, Any]) -> bool:
    """Never: it is not a format of its own."""
    return False


def convert(record: dict[str, Any], config: Config) -> list[Draft] | Bad:
    """The conversations of a single record. For a file, use `detect` once: it is slow, and a row is a weak sign."""
    kind = detect([record])
    if kind is None:
        return Bad("unknown_format", f"no format fits; the keys are: {', '.join(record) or 'none'}"[:LONGEST_DETAIL])
    module = kinds.find(PACKAGE, kind)
    return module.convert(record, module.Config())


def detect(records: Sequence[dict[str, Any]]) -> str | None:
    """The format of most of the records, None if no record fits any.

    A record counts for the most specific format that it fits; so a few rows that fit only a wider one do not
    win all the others for it. Equal counts go to the more specific format.
    """
    looks = {kind: look for kind in _ordered_kinds() if (look := _find_look(kinds.find(PACKAGE, kind))) is not None}
    found = (next((kind for kind, look in looks.items() if look(record)), None) for record in records)
    counts = Counter(kind for kind in found if kind is not None)
    # The first of the largest: `looks` goes from the most to the least specific.
    return max(looks, key=counts.__getitem__) if counts else None


def _ordered_kinds() -> list[str]:
    foreign = [kind for kind in kinds.names(PACKAGE) if kind not in ORDER and kind != "auto"]
    return [*foreign, *ORDER]


def _find_look(module: ModuleType) -> Callable[[dict[str, Any]], bool] | None:
    return vars(module).get("fits")
