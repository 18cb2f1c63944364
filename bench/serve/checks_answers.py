"""Checks of what is answered: text, streams, stop strings, usage, seeds, numbers, JSON. See conformance.py."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import openai
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessageParam
from openai.types.shared_params import ResponseFormatJSONSchema
from pydantic import BaseModel, ConfigDict

from baihua.backends.llama_cpp.tokenizer import GgufTokenizer
from baihua.chat.render import encode, render
from baihua.chat.types import Message

QUESTION = "Name three rivers of China, and say where they flow."


class UnmetError(Exception):
    """Something is not as it must be."""


@dataclass(frozen=True, slots=True)
class Bench:
    """The server that is checked, and the tokenizers of its two models."""

    url: str
    key: str
    tokenizer: GgufTokenizer
    second: GgufTokenizer

    def client(self, **more: Any) -> openai.OpenAI:
        """A client that does not ask again by itself, unless told so."""
        return openai.OpenAI(**self._settings(more))

    def async_client(self, **more: Any) -> openai.AsyncOpenAI:
        """The same for an event loop."""
        return openai.AsyncOpenAI(**self._settings(more))

    def ask(self, question: str = QUESTION, **more: Any) -> ChatCompletion:
        """An answer in one piece, the likeliest unless told otherwise."""
        with self.client() as client:
            return client.chat.completions.create(**body(question, more))

    def stream(self, question: str = QUESTION, **more: Any) -> list[ChatCompletionChunk]:
        """All chunks of an answer."""
        with self.client() as client:
            return list(client.chat.completions.create(**body(question, more), stream=True))

    def _settings(self, more: dict[str, Any]) -> dict[str, Any]:
        return {"base_url": f"{self.url}/v1", "api_key": self.key, "max_retries": 0, "timeout": 300} | more


def body(question: str, more: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call."""
    return {"model": "m", "messages": turns(question), "temperature": 0, "max_tokens": 32} | more


def turns(question: str) -> list[ChatCompletionMessageParam]:
    """A conversation of one question."""
    return [{"role": "user", "content": question}]


def expect(is_met: bool, told: object) -> None:
    """An UnmetError that tells what was found, where something is not met."""
    if not is_met:
        raise UnmetError(str(told))


def text_of(answer: ChatCompletion) -> str:
    """What an answer says."""
    return answer.choices[0].message.content or ""


def joined(chunks: Iterable[ChatCompletionChunk]) -> str:
    """What a stream says."""
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def check_chat(bench: Bench) -> str:
    """One answer has all fields of one."""
    found = bench.ask()
    choice = found.choices[0]
    expect(found.object == "chat.completion" and found.model == "m" and found.id.startswith("chatcmpl-"), found)
    expect(choice.message.role == "assistant" and bool(choice.message.content) and choice.index == 0, choice)
    return repr(text_of(found)[:30])


def check_roles(bench: Bench) -> str:
    """System, developer, earlier turns and text in parts."""
    messages: list[ChatCompletionMessageParam] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": [{"type": "text", "text": "And now?"}]},
    ]
    developer: list[ChatCompletionMessageParam] = [{"role": "developer", "content": "Be brief."}, *messages[1:]]
    one, other = bench.ask(messages=messages), bench.ask(messages=developer)
    expect(text_of(one) == text_of(other), (text_of(one), text_of(other)))
    return f"{usage_of(one)[0]} tokens"


def check_stream(bench: Bench) -> str:
    """A stream says what the whole answer says, with the same seed; one chunk finishes it."""
    sampled = {"seed": 11, "temperature": 1.0}
    chunks, whole = bench.stream(**sampled), bench.ask(**sampled)
    expect(joined(chunks) == text_of(whole), (joined(chunks), text_of(whole)))
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    expect(reasons[-1] == whole.choices[0].finish_reason and not any(reasons[:-1]), reasons)
    expect(chunks[0].choices[0].delta.role == "assistant", chunks[0])
    expect({chunk.id for chunk in chunks} == {chunks[0].id}, "chunks of several ids")
    return f"{len(chunks)} chunks"


def check_stream_usage(bench: Bench) -> str:
    """Usage comes last where it is asked for, and else not at all."""
    chunks, plain = bench.stream(stream_options={"include_usage": True}), bench.stream()
    expect(chunks[-1].usage == bench.ask().usage and not chunks[-1].choices, chunks[-1])
    expect(not any(chunk.usage for chunk in plain), "usage that nobody asked for")
    return str(usage_of(chunks[-1]))


def check_stop(bench: Bench) -> str:
    """A stop string ends the answer, and is never in it; in a stream neither."""
    whole = text_of(bench.ask(max_tokens=48))
    for begin in (5, 17, len(whole) // 2):
        stop = whole[begin : begin + 5]
        wanted = whole[: whole.find(stop)]
        found = bench.ask(max_tokens=48, stop=["not in it", stop])
        expect(text_of(found) == wanted and found.choices[0].finish_reason == "stop", (stop, text_of(found)))
        chunks = bench.stream(max_tokens=48, stop=stop)
        expect(joined(chunks) == wanted and chunks[-1].choices[0].finish_reason == "stop", (stop, joined(chunks)))
    return "3 strings, whole and streamed"


def check_stop_chinese(bench: Bench) -> str:
    """A stop string of characters that take several tokens each."""
    asked = {"extra_body": {"grammar": 'root ::= "长江黄河𠮷完了吗？"'}, "max_tokens": 80}
    for stop, wanted in {"完了": "长江黄河𠮷", "𠮷": "长江黄河", "？": "长江黄河𠮷完了吗"}.items():
        found, chunks = bench.ask(stop=stop, **asked), bench.stream(stop=[stop], **asked)
        expect((text_of(found), joined(chunks)) == (wanted, wanted), (stop, text_of(found), joined(chunks)))
        expect(found.choices[0].finish_reason == "stop", found.choices[0])
    return "完了, 𠮷, ？"


def usage_of(answer: ChatCompletion | ChatCompletionChunk) -> tuple[int, int]:
    """Tokens of prompt and answer; the sum must be right."""
    usage = answer.usage
    if usage is None:
        raise UnmetError("no usage")
    expect(usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, usage)
    return usage.prompt_tokens, usage.completion_tokens


def check_prompt_tokens(bench: Bench) -> str:
    """The prompt's tokens are those of our own renderer and the file's tokenizer."""
    counts: list[int] = []
    for question in (QUESTION, "用一句话介绍长江。𠮷👨‍👩‍👧", "<|im_end|> is text\n\n  here", "x" * 500):
        ids = encode(render([Message("user", question)], bench.tokenizer.template(), for_answer=True), bench.tokenizer)
        found = usage_of(bench.ask(question, max_tokens=1))[0]
        expect(found == len(ids.ids), f"{found}, by the tokenizer {len(ids.ids)}: {question[:30]!r}")
        counts.append(found)
    return str(counts)


def check_answer_tokens(bench: Bench) -> str:
    """The answer's tokens, by its log-probabilities and by the tokenizer."""
    found = bench.ask(max_tokens=24, logprobs=True)
    told = found.choices[0].logprobs
    entries = (told.content or []) if told else []
    encoded = len(bench.tokenizer.encode(text_of(found)))
    counts = (usage_of(found)[1], len(entries), encoded)
    expect(set(counts) == {24}, f"usage, log-probabilities, tokenizer: {counts}")
    expect(b"".join(bytes(one.bytes or []) for one in entries).decode() == text_of(found), "bytes are not the text")
    return str(counts)


def check_length(bench: Bench) -> str:
    """`max_tokens` and its newer name end an answer with the reason length."""
    for name in ("max_tokens", "max_completion_tokens"):
        with bench.client() as client:
            asked: dict[str, Any] = {"model": "m", "messages": turns(QUESTION), name: 5}
            found = client.chat.completions.create(**asked)
        expect(found.choices[0].finish_reason == "length" and usage_of(found)[1] == 5, (name, found))
    return "5 tokens"


def check_natural_end(bench: Bench) -> str:
    """An answer that is over by itself has the reason stop."""
    found = bench.ask(max_tokens=40, extra_body={"grammar": 'root ::= "好的。"'})
    expect((text_of(found), found.choices[0].finish_reason) == ("好的。", "stop"), found.choices[0])
    return f"{usage_of(found)[1]} tokens, as a plain text {len(bench.tokenizer.encode('好的。'))}"


def check_seed(bench: Bench) -> str:
    """The same seed gives the same answer, others do not; any 64 bits are a seed."""
    texts = {seed: text_of(bench.ask(seed=seed, temperature=1.2)) for seed in (0, 1, 2, -1, 2**63 - 1)}
    for seed, text in texts.items():
        again = text_of(bench.ask(seed=seed, temperature=1.2))
        expect(again == text, f"seed {seed}: {text!r}, then {again!r}")
    expect(len(set(texts.values())) > 1, "all seeds give the same")
    return f"{len(set(texts.values()))} answers of {len(texts)} seeds"


def check_logprobs(bench: Bench) -> str:
    """Each token with its logarithm and the likeliest ones, in order; nothing where nobody asks."""
    for num_top in (0, 1, 5, 20):
        found = bench.ask(max_tokens=4, logprobs=True, top_logprobs=num_top).choices[0].logprobs
        entries = (found.content or []) if found else []
        expect(len(entries) == 4, f"{len(entries)} entries")
        for one in entries:
            tops = [top.logprob for top in one.top_logprobs]
            expect(one.logprob <= 0 and one.bytes is not None and len(tops) == num_top, one)
            expect(tops == sorted(tops, reverse=True) and (not tops or tops[0] == one.logprob), one)
    expect(bench.ask(max_tokens=1).choices[0].logprobs is None, "log-probabilities that nobody asked for")
    streamed = bench.stream(max_tokens=4, logprobs=True, top_logprobs=2)
    told = [chunk.choices[0].logprobs for chunk in streamed]
    expect(sum(len(one.content or []) for one in told if one) == 4, "not four in a stream")
    return "0, 1, 5 and 20 beside each"


class Weather(BaseModel):
    """What an answer must be; without `forbid` the schema lets any number of other fields follow."""

    model_config = ConfigDict(extra="forbid")

    sky: Literal["晴", "雨", "雪"]
    degrees: Literal[7, 8]
    is_windy: bool


def check_schema(bench: Bench) -> str:
    """An answer follows a JSON schema, whole and streamed."""
    wanted: ResponseFormatJSONSchema = {
        "type": "json_schema",
        "json_schema": {"name": "weather", "schema": Weather.model_json_schema(), "strict": True},
    }
    asked = {"response_format": wanted, "seed": 3, "max_tokens": 120}
    found, streamed = text_of(bench.ask(**asked)), joined(bench.stream(**asked))
    expect(found == streamed, (found, streamed))
    return repr(Weather.model_validate_json(found))


def check_parse(bench: Bench) -> str:
    """The client's own `.parse` and `.stream` make a class of an answer."""
    asked = {"model": "m", "messages": turns("天气？"), "response_format": Weather, "max_tokens": 120, "seed": 4}
    with bench.client() as client:
        parsed = client.chat.completions.parse(**asked).choices[0].message.parsed
        with client.chat.completions.stream(**asked) as stream:
            streamed = stream.get_final_completion().choices[0].message.parsed
    expect(isinstance(parsed, Weather) and parsed == streamed, (parsed, streamed))
    return repr(parsed)


def check_json_object(bench: Bench) -> str:
    """`json_object` gives an object, unless `max_tokens` cuts it, which small models need now and then."""
    for seed in range(10):
        asked = {"response_format": {"type": "json_object"}, "max_tokens": 150, "seed": seed, "temperature": 0.7}
        found = bench.ask('Answer with the JSON object {"a": 1} and nothing else.', **asked)
        expect(text_of(found).startswith("{"), text_of(found))
        if found.choices[0].finish_reason == "stop":
            expect(isinstance(json.loads(text_of(found)), dict), text_of(found))
            return f"{text_of(found)!r:.40}, {seed} cut before it"
    raise UnmetError("ten answers, none ended by itself")


def check_completions(bench: Bench) -> str:
    """The older API: text and token ids, whole and streamed, stop and log-probabilities."""
    asked: dict[str, Any] = {"model": "m", "max_tokens": 12, "temperature": 0}
    ids = bench.tokenizer.encode("The river")
    with bench.client() as client:
        whole = client.completions.create(prompt="The river", logprobs=2, **asked)
        of_ids = client.completions.create(prompt=ids, **asked)
        chunks = list(client.completions.create(prompt="The river", stream=True, **asked))
        stopped = client.completions.create(prompt="The river", stop=whole.choices[0].text[4:8], **asked)
    text = whole.choices[0].text
    expect("".join(chunk.choices[0].text for chunk in chunks) == text == of_ids.choices[0].text, (text, of_ids, chunks))
    expect(stopped.choices[0].text == text[: text.find(text[4:8])], stopped)
    told, usage = whole.choices[0].logprobs, of_ids.usage
    expect(told is not None and told.tokens is not None and len(told.tokens) == 12, told)
    expect(usage is not None and (usage.prompt_tokens, usage.completion_tokens) == (len(ids), 12), usage)
    return repr(text[:30])


CHECKS: list[tuple[str, str, Callable[[Bench], str]]] = [
    ("chat", "an answer has all fields", check_chat),
    ("chat", "developer is system; earlier turns; text in parts", check_roles),
    ("stream", "chunks joined equal the whole answer, same seed", check_stream),
    ("stream", "usage last where asked for", check_stream_usage),
    ("stop", "stop strings are never in the text", check_stop),
    ("stop", "of Chinese and rare characters", check_stop_chinese),
    ("usage", "prompt tokens equal our renderer and tokenizer", check_prompt_tokens),
    ("usage", "answer tokens equal log-probabilities and tokenizer", check_answer_tokens),
    ("length", "max_tokens and max_completion_tokens", check_length),
    ("length", "an answer that ends by itself", check_natural_end),
    ("seed", "the same seed repeats", check_seed),
    ("logprobs", "shape and order, whole and streamed", check_logprobs),
    ("json", "response_format json_schema", check_schema),
    ("json", ".parse and .stream of the client", check_parse),
    ("json", "response_format json_object", check_json_object),
    ("completions", "text, ids, stream, stop, logprobs", check_completions),
]
