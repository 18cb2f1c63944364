"""Open battles: which model answers on which side stays on the server until the vote."""

import random
import secrets
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import combinations
from typing import Any

from baihua.chat.types import ChatModel, Message, Sampling
from baihua.data.formats.questions import Question
from baihua.serve.arena.votes import Votes
from baihua.serve.web.errors import HttpError

SIDES = ("a", "b")


@dataclass(slots=True)
class Side:
    """One of the two models, its own conversation, and the seconds it spent answering."""

    name: str
    model: ChatModel
    turns: list[Message] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def has_answered(self) -> bool:
        """Whether the last question has an answer."""
        return bool(self.turns) and self.turns[-1].role == "assistant"


@dataclass(slots=True)
class OpenBattle:
    """Two models that answer the same questions."""

    id: str
    question: Question | None
    sides: dict[str, Side]
    is_answering: bool = False
    is_voted: bool = False

    def check_idle(self) -> None:
        """Raise an HttpError if this battle takes no question or vote now."""
        if self.is_voted:
            raise HttpError(409, "this battle already has its vote; begin a new one", code="already_voted")
        if self.is_answering:
            raise HttpError(409, "the models are still answering; wait for both", code="still_answering")


@dataclass(slots=True)
class Battles:
    """Draws battles, keeps open ones and records votes; only the last `max_open` battles are kept.

    The limit is for pages that are closed without a vote.
    """

    models: Mapping[str, ChatModel]
    votes: Votes
    questions: Mapping[str, Question]
    """By their ids, in the order in which they are asked."""
    sampling: Sampling
    rng: random.Random
    max_open: int = 200
    _open: OrderedDict[str, OpenBattle] = field(default_factory=OrderedDict[str, OpenBattle], init=False)

    @property
    def done(self) -> set[str]:
        """Ids of the questions that have a vote."""
        return {vote["question_id"] for vote in self.votes.rows if vote.get("question_id") in self.questions}

    def begin(self, question_id: str | None) -> OpenBattle:
        """A battle between one of the pairs that met least, drawn at random, with random sides."""
        if question_id is not None and question_id not in self.questions:
            raise HttpError(404, f"unknown question {question_id!r}", code="not_found")
        met = Counter(frozenset((vote["model_a"], vote["model_b"])) for vote in self.votes.rows)
        met.update(frozenset(side.name for side in battle.sides.values()) for battle in self._open.values())
        pairs = list(combinations(self.models, 2))
        least = min(met[frozenset(pair)] for pair in pairs)
        names = list(self.rng.choice([pair for pair in pairs if met[frozenset(pair)] == least]))
        self.rng.shuffle(names)
        sides = {side: Side(name, self.models[name]) for side, name in zip(SIDES, names, strict=True)}
        question = self.questions[question_id] if question_id is not None else None
        battle = OpenBattle(secrets.token_urlsafe(9), question, sides)
        self._open[battle.id] = battle
        while len(self._open) > self.max_open:
            self._open.popitem(last=False)
        return battle

    def find(self, battle_id: str) -> OpenBattle:
        """A battle by its id."""
        if battle_id not in self._open:
            raise HttpError(404, "unknown battle: it expired, or the arena was restarted", code="not_found")
        self._open.move_to_end(battle_id)
        return self._open[battle_id]

    def ask(self, battle: OpenBattle, text: str) -> None:
        """Add a question to both conversations, in place of one that has no answer."""
        battle.check_idle()
        battle.is_answering = True
        for side in battle.sides.values():
            if side.turns and not side.has_answered:
                side.turns.pop()
            side.turns.append(Message("user", text))

    def vote(self, battle: OpenBattle, vote: str) -> dict[str, Any]:
        """Record a vote, and return the names of both models."""
        battle.check_idle()
        if not all(side.has_answered for side in battle.sides.values()):
            raise HttpError(409, "both models must have answered before a vote", code="not_answered")
        a, b = (battle.sides[side] for side in SIDES)
        sampling = asdict(self.sampling)
        self.votes.add(
            {
                "time": datetime.now(UTC).isoformat(timespec="seconds"),
                "question_id": battle.question.id if battle.question else None,
                "category": battle.question.category if battle.question else None,
                "question": a.turns[0].content,
                "model_a": a.name,
                "model_b": b.name,
                "vote": vote,
                "num_turns": len(a.turns) // 2,
                "messages_a": _as_json(a.turns),
                "messages_b": _as_json(b.turns),
                "sampling": {name: sampling[name] for name in ("temperature", "top_p", "max_tokens")},
                "seconds_a": round(a.seconds, 3),
                "seconds_b": round(b.seconds, 3),
            }
        )
        battle.is_voted = True
        return {"a": a.name, "b": b.name, "num_votes": len(self.votes.rows)}


def _as_json(turns: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in turns]
