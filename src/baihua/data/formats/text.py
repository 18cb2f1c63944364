"""`{"text": "..."}`: documents, without questions and answers."""

from typing import Any, Literal

from baihua.core.config import Base
from baihua.data.drafts import Draft, has_texts, text_under

EXAMPLE = {"text": "黄河发源于巴颜喀拉山北麓，流经九个省区，注入渤海。"}


class Config(Base):
    """A document in a column."""

    kind: Literal["text"] = "text"
    """The name of this format."""
    column: str = "text"
    """The key of the document's text."""


def fits(record: dict[str, Any]) -> bool:
    """Whether there is a text that is not an entry of a list of questions."""
    return has_texts(record, "text") and "question_id" not in record


def convert(record: dict[str, Any], config: Config) -> list[Draft]:
    """The document of a record."""
    return [Draft(text=text_under(record, config.column))]
