"""`{"text": "..."}`: documents, without questions and answers. Also how any format looks for text in a record."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from baihua.core.config import Base
from baihua.data.rows import Bad, Draft

EXAMPLE = {"text": "黄河发源于巴颜喀拉山北麓，流经九个省区，注入渤海。"}

# A detail is for people: enough of a record to recognise it, not all of a long one.
LONGEST_DETAIL = 200


class Config(Base):
    """A document in a column."""

    kind: Literal["text"] = "text"
    """The name of this format."""
    column: str = "text"
    """The key of the document's text."""


def fits(record: dict[str, Any]) -> bool:
    """Whether there is a text, and it is not that of a question in a list of questions."""
    return isinstance(record.get("text"), str) and "question_id" not in record


def convert(record: dict[str, Any], config: Config) -> list[Draft] | Bad:
    """The document of a record."""
    return find_wrong_text(record, (config.column,)) or [Draft(text=record[config.column])]


def find_wrong_text(record: Mapping[str, Any], needed: Sequence[str], optional: Sequence[str] = ()) -> Bad | None:
    """The first key that should hold text and does not, if any; an optional one may be missing or null."""
    for key in (*needed, *optional):
        is_missing_by_right = key not in needed and record.get(key) is None
        if not isinstance(record.get(key), str) and not is_missing_by_right:
            return Bad("no_text", explain(record, (key,), wanted="text"))
    return None


def explain(record: Mapping[str, Any], keys: Sequence[str], *, wanted: str) -> str:
    """What was expected under a key, or one of several, and what is there instead."""
    present = next((key for key in keys if key in record), None)
    found = f"found {record[present]!r}" if present is not None else f"the keys are: {', '.join(record) or 'none'}"
    return f"expected {wanted} under {' or '.join(map(repr, keys))}; {found}"[:LONGEST_DETAIL]
