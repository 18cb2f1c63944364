"""The learning rate over time: a pure function of the step."""

import math
from typing import Literal

from pydantic import Field

from baihua.core.config import Base

Kind = Literal["cosine", "linear", "constant"]


class Config(Base):
    """A rise from zero, then a fall to zero, or none."""

    kind: Kind = "cosine"
    """Shape after the rise: half a cosine, a straight line, or level."""
    warmup_ratio: float = Field(default=0.03, ge=0, le=1)
    """Share of all steps in which the rate rises from zero, 0 to 1."""


def factor(step: int, *, kind: Kind, num_warmup_steps: int, num_steps: int) -> float:
    """What to multiply the highest rate with at a step, counted from 0; never 0, which would waste a step."""
    if step < num_warmup_steps:
        return (step + 1) / num_warmup_steps
    if kind == "constant":
        return 1.0
    share = min((step - num_warmup_steps) / max(1, num_steps - num_warmup_steps), 1.0)
    return 1.0 - share if kind == "linear" else 0.5 * (1.0 + math.cos(math.pi * share))
