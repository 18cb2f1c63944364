"""Which of the oldest turns are left out of what is sent, so that question and answer fit the model's context."""

from bisect import bisect_left

from baihua.chat.types import LocalChat
from baihua.serve.terminal.session import Session

# What may stay when something must go. Leaving out more than the least buys that the prompt begins the same for the
# next few turns: the engine then reads only what is new, and not the whole conversation again for each question.
KEPT_SHARE = 0.75


def leave_out(session: Session, model: LocalChat) -> bool:
    """Leave out the oldest turns until the rest fits, with room for an answer; false where the question is too long.

    The prompt is counted once while everything fits, and about log2 of the number of turns times when it does not.
    """
    # An answer that may be longer than half the context would leave no room for the conversation.
    room = model.num_ctx - min(session.sampling.max_tokens, model.num_ctx // 2)
    if model.count_tokens(session.sent()) <= room:
        return True
    numbers = range(session.num_left_out + 1, session.most_left_out + 1)
    if not numbers:
        return model.count_tokens(session.sent()) < model.num_ctx
    least = model.count_tokens(session.sent(numbers[-1]))
    if least > room:
        session.num_left_out = numbers[-1]
        return least < model.num_ctx
    most = least + KEPT_SHARE * (room - least)
    place = bisect_left(numbers, -most, key=lambda number: -model.count_tokens(session.sent(number)))
    session.num_left_out = numbers[place]
    return True


def leave_out_some(session: Session) -> bool:
    """Leave out a quarter of what is sent, for a model that only says "too long"; false when nothing is left."""
    rest = session.most_left_out - session.num_left_out
    session.num_left_out += max(1, rest // 4) if rest > 0 else 0
    return rest > 0
