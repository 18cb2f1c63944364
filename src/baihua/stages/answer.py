"""Let a model answer the questions of a data set."""

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from baihua.backends.choose import open_chat
from baihua.chat.types import ChatModel, Message, Sampling
from baihua.chat.zh import is_mainly_chinese
from baihua.core.config import Base, execution
from baihua.core.log import progress_bar
from baihua.core.stage import Input, Inputs, Metrics
from baihua.data.rows import read_rows

VERSION = 1
INPUTS = {"model": Input(("model", "gguf")), "data": Input(("conversations",))}
OUTPUT = ("answers",)


class Config(Base):
    """The number of questions, and the sampling of the answers."""

    label: str = execution("")
    """Name of the column in the before/after table."""
    num_questions: int | None = Field(default=None, ge=1)
    """Number of conversations to ask, chosen by the hash of their id; all by default."""
    max_tokens: int = Field(default=256, ge=1)
    """Longest answer, in tokens."""
    temperature: float = Field(default=0.0, ge=0)
    """0 is greedy, so that answers are reproducible."""
    top_p: float = Field(default=0.9, gt=0, le=1)
    """Sample from the likeliest tokens that together have this probability."""
    repeat_penalty: float = Field(default=1.0, ge=1)
    """1 for none; higher values make tokens that were already used less likely."""
    seed: int = 0
    """Seed of the sampling."""


def run(config: Config, inputs: Inputs, out: Path) -> Metrics:
    """Write answers.parquet; the question of a conversation is everything before its last answer."""
    rows = sorted(read_rows(inputs["data"]), key=lambda row: row.id)[: config.num_questions]
    sampling = Sampling(**config.model_dump(include={"max_tokens", "temperature", "top_p", "repeat_penalty", "seed"}))
    answers: list[dict[str, Any]] = []
    with closing(open_chat(str(inputs["model"]))) as model, progress_bar("answer", len(rows)) as bar:
        for row in rows:
            question = {"question_id": row.id, "category": row.source, "model": config.label or model.name, "sample": 0}
            answers.append(question | _answer(model, row.messages[:-1], sampling))
            bar.advance()
    pq.write_table(pa.Table.from_pylist(answers), out / "answers.parquet", compression="zstd")
    return {
        "num_answers": len(answers),
        "num_mainly_chinese": sum(is_mainly_chinese(answer["answer"]) for answer in answers),
        "num_stopped": sum(answer["finish_reason"] == "stop" for answer in answers),
    } | _speed(answers)


def _speed(answers: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Characters and tokens per second; missing where time or tokens were not measured."""
    seconds = sum(answer["seconds"] for answer in answers)
    amounts = {"chars": [len(a["answer"]) for a in answers], "tokens": [a["num_answer_tokens"] for a in answers]}
    known = {unit: numbers for unit, numbers in amounts.items() if seconds and None not in numbers}
    return {f"{unit}_per_second": round(sum(numbers) / seconds, 2) for unit, numbers in known.items()}


def _answer(model: ChatModel, messages: Sequence[Message], sampling: Sampling) -> dict[str, Any]:
    started = time.monotonic()
    pieces = list(model.stream(messages, sampling))
    usage = pieces[-1].usage
    return {
        "messages": [asdict(message) for message in messages],
        "answer": "".join(piece.text for piece in pieces),
        "finish_reason": pieces[-1].finish_reason,
        "num_prompt_tokens": usage.num_prompt_tokens if usage else None,
        "num_answer_tokens": usage.num_answer_tokens if usage else None,
        "seconds": round(time.monotonic() - started, 4),
    }
