"""A conversation becomes spans of text, and spans become token ids with a training mask.

The same two functions serve training, evaluation, chat and server, so that a model is always asked
exactly as it was taught.
"""

import functools
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import jinja2
import jinja2.sandbox

from baihua.chat.types import Message, Span, TextTokenizer, Tokens
from baihua.core.errors import InputError

# Sentinels stand for message texts while the template runs. They are private-use characters, so a
# template cannot contain them; message texts may, since only the rendering without texts is searched.
OPEN, CLOSE = "\ue000", "\ue001"
SENTINEL = re.compile(f"{OPEN}(\\d+)([ci]){CLOSE}")
INPUT_SLOT = re.compile(r"message(\.input\b|\[['\"]input['\"]\])")


@dataclass(frozen=True, slots=True)
class Template:
    """A Jinja chat template with the special tokens of the model it is used with."""

    name: str
    jinja: str
    controls: frozenset[str]
    """Texts that the model's tokenizer knows as control tokens."""
    bos_token: str = ""
    eos_token: str = ""


def render(messages: Sequence[Message], template: Template, *, for_answer: bool = False) -> list[Span]:
    """Spans of a conversation; the answers and the token that ends each of them are trained.

    An answer begins where the prompt that asks for it ends: a space that Vicuna's form has after `ASSISTANT:`, but
    not its prompt, is trained as well, or the model would be asked for a token that it never learned to write.
    With `for_answer` the text ends where the assistant's next answer begins. The texts of the spans,
    joined, are exactly what the template itself renders; a template that changes the texts it is given
    (trims them, say) is refused with an InputError, because then nobody could say which part is whose.
    """
    if not _has_input_slot(template.jinja):
        messages = [_join_input(message) for message in messages]
    marked = [
        {"role": m.role, "content": f"{OPEN}{i}c{CLOSE}", "input": f"{OPEN}{i}i{CLOSE}" if m.input else None}
        for i, m in enumerate(messages)
    ]
    real = [{"role": m.role, "content": m.content, "input": m.input or None} for m in messages]
    whole = _fill(real, template, for_answer)
    filled = _fill(marked, template, for_answer)
    spans = list(_split(filled, messages, template, lead=_lead(marked, filled, template)))
    if "".join(span.text for span in spans) != whole:
        raise InputError(
            f"template {template.name!r} changes the texts of this conversation while rendering them",
            where=_preview(messages),
            fix="remove spaces and newlines around the texts, or name another `template`",
        )
    return spans


def encode(spans: Sequence[Span], tokenizer: TextTokenizer) -> Tokens:
    """Token ids and training mask, built together: control spans by name, all else as plain text.

    Neighbouring plain spans with the same mask are joined first, so that the tokens are those of the
    usual whole-text tokenization wherever the mask does not cut.
    """
    tokens = Tokens([], [])
    if tokenizer.bos_id is not None and not _starts_with(spans, tokenizer):
        _extend(tokens, [tokenizer.bos_id], is_trained=False)
    for span in _joined(spans):
        ids = [tokenizer.controls[span.text]] if span.is_control else tokenizer.encode(span.text)
        _extend(tokens, ids, is_trained=span.is_trained)
    return tokens


def _extend(tokens: Tokens, ids: list[int], *, is_trained: bool) -> None:
    tokens.ids.extend(ids)
    tokens.is_trained.extend([is_trained] * len(ids))


def _starts_with(spans: Sequence[Span], tokenizer: TextTokenizer) -> bool:
    return bool(spans) and spans[0].is_control and tokenizer.controls[spans[0].text] == tokenizer.bos_id


def _joined(spans: Sequence[Span]) -> Iterator[Span]:
    pending: Span | None = None
    for span in spans:
        if pending and not pending.is_control and not span.is_control and pending.is_trained == span.is_trained:
            pending = replace(pending, text=pending.text + span.text)
            continue
        if pending and pending.text:
            yield pending
        pending = span
    if pending and pending.text:
        yield pending


def _has_input_slot(jinja: str) -> bool:
    return INPUT_SLOT.search(jinja) is not None


def _join_input(message: Message) -> Message:
    return Message(message.role, message.text) if message.input else message


def _lead(marked: list[dict[str, str | None]], filled: str, template: Template) -> str:
    """The blanks that a model writes before its answer: in the conversation, but not in the prompt that asks for it."""
    roles = [message["role"] for message in marked]
    turn = next((i for i, pair in enumerate(itertools.pairwise(roles), 1) if pair == ("user", "assistant")), None)
    if turn is None:
        return ""
    try:
        asked = _fill(marked[:turn], template, for_answer=True)
    except InputError:  # a template that cannot ask is refused when somebody asks
        return ""
    before = filled.partition(f"{OPEN}{turn}c{CLOSE}")[0]
    lead = before[len(asked) :] if before.startswith(asked) else ""
    # A template without a prompt of its own has the whole header here, which the model never writes.
    return lead if lead.isspace() else ""


def _split(marked: str, messages: Sequence[Message], template: Template, *, lead: str) -> Iterator[Span]:
    """Cut the rendering at its sentinels; what follows an answer is trained up to its first control token."""
    position = 0
    is_after_answer = False
    for match in SENTINEL.finditer(marked):
        message = messages[int(match[1])]
        is_answer = message.role == "assistant"
        literal = marked[position : match.start()]
        own = lead if is_answer and literal.endswith(lead) else ""
        yield from _literal(literal.removesuffix(own), template, is_after_answer)
        if own:
            yield Span(own, is_trained=True)
        yield Span(message.content if match[2] == "c" else message.input or "", is_trained=is_answer)
        is_after_answer = is_answer
        position = match.end()
    yield from _literal(marked[position:], template, is_after_answer)


def _literal(text: str, template: Template, is_after_answer: bool) -> Iterator[Span]:
    is_trained = is_after_answer
    for piece in _control_pattern(template.controls).split(text):
        if not piece:
            continue
        is_control = piece in template.controls
        yield Span(piece, is_trained=is_trained, is_control=is_control)
        if is_control:
            is_trained = False
    if is_trained:
        raise InputError(
            f"template {template.name!r} does not end an answer with a control token of this model's tokenizer; "
            "a model trained with it would never stop",
            where=f"the text after an answer is {text!r}",
            fix=f"use a template that ends answers with one of: {', '.join(sorted(template.controls)[:8]) or 'none'}",
        )


@functools.lru_cache(maxsize=16)
def _control_pattern(controls: frozenset[str]) -> re.Pattern[str]:
    names = sorted(controls, key=len, reverse=True)
    return re.compile("(" + "|".join(map(re.escape, names)) + ")") if names else re.compile("(?!)")


def _fill(messages: list[dict[str, str | None]], template: Template, for_answer: bool) -> str:
    try:
        return _compile(template.jinja).render(
            messages=messages,
            add_generation_prompt=for_answer,
            bos_token=template.bos_token,
            eos_token=template.eos_token,
        )
    except (jinja2.TemplateError, TypeError) as error:
        raise InputError(
            f"template {template.name!r} cannot render this conversation: {error}",
            where=_preview(messages),
            fix="see which roles and orders of turns the template accepts, or name another `template`",
        ) from error


@functools.lru_cache(maxsize=16)
def _compile(jinja: str) -> jinja2.Template:
    # The sandbox and these two options are what transformers uses, so templates from model folders work.
    globals_: dict[str, object] = {"raise_exception": _refuse}
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    return environment.from_string(jinja, globals=globals_)


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(message)


def _preview(messages: Sequence[Message] | Sequence[dict[str, str | None]]) -> str:
    return "conversation " + repr(messages[0] if messages else "with no message")[:80]
