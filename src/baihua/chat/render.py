"""Rendering: a conversation becomes spans of text, and spans become token ids with a training mask.

Training, evaluation, chat and server use these same two functions, so that a model is always prompted exactly as it
was trained.
"""

import functools
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import jinja2
import jinja2.sandbox

from baihua.chat.types import Message, Span, TextTokenizer, Tokens
from baihua.core.errors import InputError

# Sentinels stand for message texts while the template runs. They are private-use characters, which no template
# contains; message texts may contain them, since only the rendering without texts is searched.
OPEN, CLOSE = "\ue000", "\ue001"
SENTINEL = re.compile(f"{OPEN}(\\d+)([ci]){CLOSE}")
INPUT_SLOT = re.compile(r"message(\.input\b|\[['\"]input['\"]\])")


@dataclass(frozen=True, slots=True)
class Template:
    """A Jinja chat template with the special tokens of a model."""

    name: str
    jinja: str
    controls: frozenset[str]
    """Names of the control tokens in the model's tokenizer."""
    bos_token: str = ""
    eos_token: str = ""


def render(messages: Sequence[Message], template: Template, *, for_answer: bool = False) -> list[Span]:
    """Spans of a conversation; the answers and the token that ends each of them are trained.

    An answer begins where its prompt ends: Vicuna's form has a space after `ASSISTANT:` that is not in the prompt, so
    that space is trained too, or the model would have to write a token it never learned. With `for_answer` the text
    ends where the assistant's next answer begins. The texts of the spans, joined, are exactly what the template
    renders. A template that changes the message texts (trims them, say) raises an InputError, because its output
    cannot be divided into template and messages.
    """
    if not INPUT_SLOT.search(template.jinja):
        messages = [Message(message.role, message.text) for message in messages]
    marked = [
        {"role": m.role, "content": f"{OPEN}{i}c{CLOSE}", "input": f"{OPEN}{i}i{CLOSE}" if m.input else None}
        for i, m in enumerate(messages)
    ]
    real = [{"role": m.role, "content": m.content, "input": m.input or None} for m in messages]
    whole, filled = _fill(real, template, for_answer), _fill(marked, template, for_answer)
    spans = list(_split(filled, messages, template, lead=_lead(marked, filled, template)))
    if "".join(span.text for span in spans) != whole:
        raise InputError(
            f"template {template.name!r} changes the message texts when it renders this conversation",
            where=_preview(messages),
            fix="strip leading and trailing whitespace from the texts, or name another `template`",
        )
    return spans


def encode(spans: Sequence[Span], tokenizer: TextTokenizer) -> Tokens:
    """Token ids and training mask: control spans are looked up by name, all others are encoded as plain text.

    Adjacent plain spans with the same mask are joined first, so that the tokens are those of whole-text tokenization
    except where the mask changes.
    """
    tokens = Tokens([], [])
    for span in _joined(spans):
        ids = [tokenizer.controls[span.text]] if span.is_control else tokenizer.encode(span.text)
        tokens.ids.extend(ids)
        tokens.is_trained.extend([span.is_trained] * len(ids))
    has_bos = bool(spans) and spans[0].is_control and tokens.ids[0] == tokenizer.bos_id
    if tokenizer.bos_id is None or has_bos:
        return tokens
    return Tokens([tokenizer.bos_id, *tokens.ids], [False, *tokens.is_trained])


def _joined(spans: Sequence[Span]) -> Iterator[Span]:
    for (is_control, is_trained), alike in itertools.groupby(spans, lambda span: (span.is_control, span.is_trained)):
        if is_control:
            yield from alike
        elif text := "".join(span.text for span in alike):
            yield Span(text, is_trained=is_trained)


def _lead(marked: list[dict[str, str | None]], filled: str, template: Template) -> str:
    """The whitespace before an answer that the model writes: in the conversation, but not in the prompt."""
    roles = [message["role"] for message in marked]
    turn = next((i for i, pair in enumerate(itertools.pairwise(roles), 1) if pair == ("user", "assistant")), None)
    if turn is None:
        return ""
    try:
        prompt = _fill(marked[:turn], template, for_answer=True)
    except InputError:  # a template that cannot render a prompt raises this when a prompt is needed
        return ""
    before = filled.partition(f"{OPEN}{turn}c{CLOSE}")[0]
    lead = before[len(prompt) :] if before.startswith(prompt) else ""
    # Where a template ignores add_generation_prompt this is the whole header, which the model never writes.
    return lead if lead.isspace() else ""


def _split(marked: str, messages: Sequence[Message], template: Template, *, lead: str) -> Iterator[Span]:
    """Split the rendering at its sentinels; text after an answer is trained up to its first control token."""
    position = 0
    is_after_answer = False
    for match in SENTINEL.finditer(marked):
        message = messages[int(match[1])]
        is_answer = message.role == "assistant"
        literal = marked[position : match.start()]
        written = lead if is_answer and literal.endswith(lead) else ""
        yield from _literal(literal.removesuffix(written), template, is_after_answer)
        if written:
            yield Span(written, is_trained=True)
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
            f"template {template.name!r} does not end an answer with a control token of this model's tokenizer, "
            "so a model trained with it would never stop",
            where=f"the text after an answer is {text!r}",
            fix=f"use a template that ends answers with one of: {', '.join(sorted(template.controls)[:8]) or 'none'}",
        )


@functools.lru_cache(maxsize=16)
def _control_pattern(controls: frozenset[str]) -> re.Pattern[str]:
    names = sorted(controls, key=len, reverse=True)
    return re.compile("(" + "|".join(map(re.escape, names)) + ")") if names else re.compile("(?!)")


def _fill(messages: list[dict[str, str | None]], template: Template, for_answer: bool) -> str:
    try:
        ends = {"bos_token": template.bos_token, "eos_token": template.eos_token}
        return _compile(template.jinja).render(messages=messages, add_generation_prompt=for_answer, **ends)
    except (jinja2.TemplateError, TypeError) as error:
        raise InputError(
            f"template {template.name!r} cannot render this conversation: {error}",
            where=_preview(messages),
            fix="use the roles and the order of turns that the template accepts, or name another `template`",
        ) from error


@functools.lru_cache(maxsize=16)
def _compile(jinja: str) -> jinja2.Template:
    # The same sandbox, options and extension as in transformers, so that templates from model folders work.
    options = {"trim_blocks": True, "lstrip_blocks": True, "extensions": ["jinja2.ext.loopcontrols"]}
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(**options)
    return environment.from_string(jinja, globals={"raise_exception": _raise_template_error})


def _raise_template_error(message: str) -> None:
    raise jinja2.TemplateError(message)


def _preview(messages: Sequence[Message] | Sequence[dict[str, str | None]]) -> str:
    return "conversation " + repr(messages[0] if messages else "with no message")[:80]
