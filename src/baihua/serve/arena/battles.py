"""Battles under way: who meets whom on which side stays here until the vote."""

import random
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import combinations
from typing import Any

from baihua.chat.types import ChatModel, Message, Sampling
from baihua.data.formats.questions import Question
from baihua.serve.arena.votes import Votes
from baihua.serve.web.problem import Problem

SIDES = ("a", "b")
# Pages that were closed without a vote leave battles behind.
MAX_OPEN = 200


@dataclass(slots=True)
class Side:
    """One of the two: its model, its own conversation, and how long it took."""

    model: ChatModel
    turns: list[Message] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(slots=True)
class Battle:
    """Two models that answer the same questions."""

    id: str
    question: Question | None
    sides: dict[str, Side]
    is_answering: bool = False
    is_voted: bool = False


class Battles:
    """Draws battles, keeps the open ones, turns votes into lines of the file."""

    def __init__(
        self,
        models: Mapping[str, ChatModel],
        votes: Votes,
        *,
        questions: Sequence[Question] = (),
        sampling: Sampling,
        rng: random.Random,
    ) -> None:
        self.models = models
        self.votes = votes
        self.questions = {question.id: question for question in questions}
        self.sampling = sampling
        self._rng = rng
        self._names = {id(model): name for name, model in models.items()}
        self._open: OrderedDict[str, Battle] = OrderedDict()

    @property
    def done(self) -> set[str]:
        """Questions of the set that have a vote."""
        return {vote["question_id"] for vote in self.votes.rows if vote.get("question_id") in self.questions}

    @property
    def next(self) -> Question | None:
        """The first question without a vote."""
        done = self.done
        return next((question for number, question in self.questions.items() if number not in done), None)

    def begin(self, question_id: str | None) -> Battle:
        """A new battle between the two models that met least, each on either side by chance."""
        if question_id is not None and question_id not in self.questions:
            raise Problem(404, "no such question", code="not_found")
        met = Counter(frozenset((vote["model_a"], vote["model_b"])) for vote in self.votes.rows)
        met.update(frozenset(self._name(battle, side) for side in SIDES) for battle in self._open.values())
        pairs = list(combinations(self.models, 2))
        least = min(met[frozenset(pair)] for pair in pairs)
        names = list(self._rng.choice([pair for pair in pairs if met[frozenset(pair)] == least]))
        self._rng.shuffle(names)
        sides = {side: Side(self.models[name]) for side, name in zip(SIDES, names, strict=True)}
        question = self.questions[question_id] if question_id is not None else None
        battle = Battle(secrets.token_urlsafe(9), question, sides)
        self._open[battle.id] = battle
        while len(self._open) > MAX_OPEN:
            self._open.popitem(last=False)
        return battle

    def find(self, battle_id: str) -> Battle:
        """An open battle."""
        if battle_id not in self._open:
            raise Problem(404, "no such battle: it was too long ago, or the arena was started anew", code="not_found")
        self._open.move_to_end(battle_id)
        return self._open[battle_id]

    def ask(self, battle: Battle, text: str) -> None:
        """Put the next question to both."""
        if battle.is_voted:
            raise Problem(409, "this battle has its vote: begin a new one", code="already_voted")
        if battle.is_answering:
            raise Problem(409, "both are still answering", code="still_answering")
        battle.is_answering = True
        for side in battle.sides.values():
            if side.turns and side.turns[-1].role == "user":
                side.turns.pop()
            side.turns.append(Message("user", text))

    def vote(self, battle: Battle, vote: str) -> dict[str, Any]:
        """Write the vote, and tell who was who."""
        if battle.is_voted:
            raise Problem(409, "this battle has its vote already", code="already_voted")
        if battle.is_answering:
            raise Problem(409, "both are still answering", code="still_answering")
        if not all(side.turns and side.turns[-1].role == "assistant" for side in battle.sides.values()):
            raise Problem(409, "there is no answer of both to vote on", code="not_answered")
        a, b = (self._name(battle, side) for side in SIDES)
        first = battle.sides["a"].turns
        self.votes.add(
            {
                "time": datetime.now(UTC).isoformat(timespec="seconds"),
                "question_id": battle.question.id if battle.question else None,
                "category": battle.question.category if battle.question else None,
                "question": first[0].content,
                "model_a": a,
                "model_b": b,
                "vote": vote,
                "num_turns": len(first) // 2,
                **{f"messages_{side}": _as_json(battle.sides[side].turns) for side in SIDES},
                "sampling": _about(self.sampling),
                **{f"seconds_{side}": round(battle.sides[side].seconds, 3) for side in SIDES},
            }
        )
        battle.is_voted = True
        return {"a": a, "b": b, "num_votes": len(self.votes.rows)}

    def _name(self, battle: Battle, side: str) -> str:
        return self._names[id(battle.sides[side].model)]


class Clock:
    """Measures how long a side works on an answer."""

    def __init__(self, side: Side) -> None:
        self._side = side
        self._started = time.perf_counter()

    def stop(self) -> None:
        """Add the time since the beginning."""
        self._side.seconds += time.perf_counter() - self._started


def _as_json(turns: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in turns]


def _about(sampling: Sampling) -> dict[str, Any]:
    return {"temperature": sampling.temperature, "top_p": sampling.top_p, "max_tokens": sampling.max_tokens}
