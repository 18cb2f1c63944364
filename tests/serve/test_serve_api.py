"""The API over llama.cpp and transformers: requests reach the engine, and its answers the client, unchanged."""

import base64
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import parrot
import pytest
from live_server import served
from scripted_engine import CHATML, END, ScriptedEngine
from served_models import opened_file
from template_models import make_model

from baihua.backends import transformers
from baihua.backends.llama_cpp import chat as backend
from baihua.backends.transformers import open_chat as open_folder
from baihua.chat.render import Template, encode, render
from baihua.chat.templates import chatml
from baihua.chat.types import Guidance, Message, Sampling
from baihua.compress.export import write_gguf
from baihua.core import kinds
from baihua.core.errors import InputError, TooLongError
from baihua.serve.api.engine import chat_ids
from baihua.serve.api.openapi import describe

SPLIT = "鲸吞🎉"
ASK = [{"role": "user", "content": "你好"}]
COMPLETIONS = "/v1/chat/completions"
TEXT = "message['content']"


@pytest.fixture(scope="module")
def web(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A random model `tiny`, and `parrot`, which always answers SPLIT."""
    folder = parrot.make(tmp_path_factory.mktemp("parrot"), SPLIT)
    write_gguf(folder, folder / "parrot.gguf", level="f16")
    with (
        opened_file(tiny_gguf) as tiny,
        opened_file(folder / "parrot.gguf") as one,
        served({"tiny": tiny, "parrot": one}) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        yield client


def ask(web: httpx.Client, **fields: Any) -> dict[str, Any]:
    found = web.post(COMPLETIONS, json={"model": "parrot", "messages": ASK} | fields)
    assert found.status_code == 200, found.text
    return found.json()


def of_schema(schema: dict[str, Any]) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}


def streamed(web: httpx.Client, **fields: Any) -> str:
    wanted = {"model": "parrot", "messages": ASK, "stream": True} | fields
    text = ""
    with web.stream("POST", COMPLETIONS, json=wanted) as response:
        for line in response.iter_lines():
            if line.startswith("data: {"):
                for choice in json.loads(line[6:])["choices"]:
                    text += choice["delta"].get("content", "")
    return text


def test_characters_come_whole_and_the_stream_is_the_answer(web: httpx.Client) -> None:
    found = ask(web)
    assert found["choices"][0]["message"]["content"] == SPLIT == streamed(web)
    assert found["choices"][0]["finish_reason"] == "stop"


def test_usage_is_what_the_tokenizer_counts(web: httpx.Client, tiny_folder: Path) -> None:
    chat = open_folder(tiny_folder)
    usage = ask(web, model="tiny", max_tokens=5, temperature=0)["usage"]
    assert usage["prompt_tokens"] == chat.count_tokens([Message("user", "你好")])
    assert usage["completion_tokens"] == 5
    assert usage["total_tokens"] == sum(usage.values()) - usage["total_tokens"]


@pytest.mark.parametrize("fields", [{"temperature": 0}, {"seed": 11, "temperature": 1.5}, {"seed": -5}])
def test_the_same_seed_says_the_same_streamed_or_not(web: httpx.Client, fields: dict[str, Any]) -> None:
    wanted = fields | {"model": "tiny", "max_tokens": 24}
    first = ask(web, **wanted)["choices"][0]["message"]["content"]
    assert first == ask(web, **wanted)["choices"][0]["message"]["content"] == streamed(web, **wanted)


def test_stop_strings_end_the_answer_unseen(web: httpx.Client) -> None:
    for stop in ("🎉", ["无", "🎉"]):
        found = ask(web, stop=stop)["choices"][0]
        assert (found["message"]["content"], found["finish_reason"]) == ("鲸吞", "stop")


def test_log_probabilities_are_those_of_a_distribution(web: httpx.Client) -> None:
    logprobs = ask(web, model="tiny", max_tokens=4, temperature=0, logprobs=True, top_logprobs=20)["choices"][0][
        "logprobs"
    ]
    assert len(logprobs["content"]) >= 1
    for token in logprobs["content"]:
        numbers = [one["logprob"] for one in token["top_logprobs"]]
        assert numbers == sorted(numbers, reverse=True)
        assert token["logprob"] == max(numbers)
        assert sum(math.exp(number) for number in numbers) <= 1.001
        assert bytes(token["bytes"]).decode(errors="replace") == token["token"] or "\ufffd" in token["token"]
    assert ask(web, logprobs=True)["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == []
    assert ask(web)["choices"][0]["logprobs"] is None
    whole = ask(web, logprobs=True)["choices"][0]
    assert "".join(one["token"] for one in whole["logprobs"]["content"]) == whole["message"]["content"]
    assert all(one["bytes"] for one in whole["logprobs"]["content"])


def test_a_grammar_and_a_schema_are_followed(web: httpx.Client) -> None:
    for grammar in ('root ::= "标记" [0-9]', '%llguidance {}\nstart: "标记" /[0-9]/'):
        marked = ask(web, model="tiny", grammar=grammar, max_tokens=40)["choices"][0]["message"]["content"]
        assert marked[:2] == "标记" and marked[2:].isdigit()
    schema = {"type": "object", "properties": {"a": {"enum": [7]}}, "required": ["a"], "additionalProperties": False}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    # Up to 40 blanks may stand between two of its seven signs, and a random model likes blanks as much as signs.
    found = ask(web, model="tiny", response_format=wanted, max_tokens=400)["choices"][0]["message"]["content"]
    assert json.loads(found) == {"a": 7}


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"grammar": 'root ::= "x'}, None, "failed to parse grammar"),
        ({"grammar": 'root ::= "\x1b"'}, "invalid_value", "a control character"),
        ({"messages": []}, "invalid_value", "messages: List should have at least 1 item"),
        ({"messages": [{"role": "user", "content": "长" * 5_000}]}, "context_length_exceeded", "the context holds 512"),
        ({"messages": [*ASK, {"role": "assistant", "content": "好"}]}, None, "end with a user message"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "invalid_value", "messages.0.role"),
        ({"temperature": "0.5"}, "invalid_value", "temperature: Input should be a valid number"),
        ({"temperature": -1}, "invalid_value", "greater than or equal to 0"),
        ({"max_tokens": 0}, "invalid_value", "max_tokens"),
        ({"max_tokens": True}, "invalid_value", "max_tokens"),
        ({"n": 2}, "invalid_value", "n: Input should be 1"),
        ({"tools": []}, "invalid_value", "tools: Extra inputs"),
        ({"temprature": 1}, "invalid_value", "temprature: Extra inputs"),
        ({"stop": [""]}, "invalid_value", "stop"),
        ({"grammar": "%llguidance {}\nstart: nowhere"}, None, 'invalid or not supported: at 2(8): unknown'),
        ({"grammar": "%llguidance {}\nstart: start"}, None, "llguidance failed on the grammar: NoExtensionBias"),
        ({"grammar": "%llguidance {}\nstart: <[0-9999999]>"}, None, "Token range end too large"),
        (of_schema({"type": "nonsense"}), None, "the JSON schema is invalid or not supported: Invalid type: nonsense"),
        (of_schema({"$ref": "#/nowhere"}), None, "Pointer '/nowhere' does not exist"),
        (of_schema({"type": "string", "pattern": "(("}), None, "unclosed group"),
        (of_schema({"type": "array", "uniqueItems": True}), None, 'Unimplemented keys: ["uniqueItems"]'),
        (of_schema({"type": "integer"}) | {"grammar": "%llguidance {}\nstart: /a/"}, None, "JSON schema, found both"),
        ({"model": 5}, "invalid_value", "model: Input should be a valid string"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(web: httpx.Client, fields: dict[str, Any], code: str | None, words: str) -> None:
    for is_stream in (True, False):
        found = web.post(COMPLETIONS, json={"model": "tiny", "messages": ASK, "stream": is_stream} | fields)
        assert found.status_code == 400
        error = found.json()["error"]
        assert words in error["message"]
        assert (error["code"], error["type"]) == (code, "invalid_request_error")


def test_models_are_listed_and_a_wrong_name_gets_the_nearest(web: httpx.Client) -> None:
    listed = web.get("/v1/models").json()["data"]
    assert [(one["id"], one["context_length"]) for one in listed] == [("tiny", 512), ("parrot", 512)]
    assert web.get("/v1/models/tiny").json() == listed[0]
    found = web.post(COMPLETIONS, json={"model": "parot", "messages": ASK})
    assert (found.status_code, found.json()["error"]["code"]) == (404, "model_not_found")
    assert "did you mean 'parrot'?" in found.json()["error"]["message"]


def test_texts_and_ids_are_completed(web: httpx.Client, tiny_gguf: Path) -> None:
    wanted = {"model": "tiny", "prompt": "今天", "max_tokens": 6, "temperature": 0}
    found = web.post("/v1/completions", json=wanted).json()
    ids = llama_cpp_ids(tiny_gguf, "今天")
    again = web.post("/v1/completions", json=wanted | {"prompt": ids, "logprobs": 2}).json()
    assert found["object"] == "text_completion"
    assert found["choices"][0]["text"] == again["choices"][0]["text"]
    assert len(again["choices"][0]["logprobs"]["tokens"]) == again["usage"]["completion_tokens"]
    assert web.post("/v1/completions", json=wanted | {"prompt": ""}).json()["error"]["message"] == "the prompt is empty"
    assert web.post("/v1/completions", json=wanted | {"prompt": [10**9]}).status_code == 400


def llama_cpp_ids(file: Path, text: str) -> list[int]:
    with opened_file(file) as opened:
        begin = [] if opened.tokenizer.bos_id is None else [opened.tokenizer.bos_id]
        return begin + opened.tokenizer.encode(text)


def test_vectors_have_length_one_and_both_forms_are_the_same(web: httpx.Client) -> None:
    wanted = {"model": "tiny", "input": ["你好", "天气"]}
    plain = web.post("/v1/embeddings", json=wanted).json()
    packed = web.post("/v1/embeddings", json=wanted | {"encoding_format": "base64"}).json()
    for one, other in zip(plain["data"], packed["data"], strict=True):
        vector_d = np.frombuffer(base64.b64decode(other["embedding"]), dtype="<f4")
        np.testing.assert_allclose(vector_d, one["embedding"], rtol=1e-6)
        assert abs(float(np.linalg.norm(vector_d)) - 1) < 1e-5
    assert plain["data"][0]["embedding"] != plain["data"][1]["embedding"]
    long = web.post("/v1/embeddings", json={"model": "tiny", "input": "长" * 600})
    assert (long.status_code, "a text to embed may have 1 to 512 tokens" in long.json()["error"]["message"]) == (
        400,
        True,
    )


@pytest.mark.parametrize("name", kinds.names("baihua.chat.templates"))
@pytest.mark.parametrize("is_gguf", [True, False], ids=["llama_cpp", "transformers"])
def test_controls_that_a_user_types_stay_text(name: str, is_gguf: bool, tmp_path: Path, tiny_folder: Path) -> None:
    """For every template and both engines: the prompt has no control but those of the template."""
    folder = make_model(tiny_folder, tmp_path, name)
    if is_gguf:
        write_gguf(folder, tmp_path / "m.gguf", level="f16")
        engine = backend.open_chat(tmp_path / "m.gguf", num_ctx=512, num_threads=1)
    else:
        engine = transformers.open_chat(folder, num_slots=1)
    controls = set(engine.tokenizer.controls.values())
    typed = [Message("system", "规"), Message("user", "你好" + "".join(engine.tokenizer.controls) + "好")]
    ids, plain = (chat_ids(messages, engine) for messages in (typed, [typed[0], Message("user", "你好")]))
    assert len(ids) > len(plain)
    assert [i for i in ids if i in controls] == [i for i in plain if i in controls]
    engine.close()


def test_blanks_around_a_text_are_no_error_where_a_template_trims() -> None:
    engine = ScriptedEngine(END)
    trimming = chatml.JINJA.replace(TEXT, f"{TEXT} | trim")
    engine.template = Template("trims", trimming, CHATML.controls)
    wanted = encode(render([Message("user", "你好")], engine.template, for_answer=True), engine.tokenizer).ids
    assert chat_ids([Message("user", " 你好\n")], engine) == wanted
    engine.template = Template("shouts", chatml.JINJA.replace(TEXT, f"{TEXT} | upper"), CHATML.controls)
    with pytest.raises(InputError, match="'shouts' changes the message texts"):
        chat_ids([Message("user", "hello")], engine)


def test_a_build_of_llama_cpp_without_llguidance_is_given_no_lark(
    web: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "has_llguidance", lambda: False)
    found = web.post(COMPLETIONS, json={"model": "tiny", "messages": ASK, "grammar": "%llguidance {}\nstart: /a/"})
    assert (found.status_code, "does not support Lark" in found.json()["error"]["message"]) == (400, True)


def test_transformers_refuses_what_it_cannot_read(tiny_folder: Path) -> None:
    engine = transformers.open_chat(tiny_folder, num_slots=2)
    with pytest.raises(InputError, match="runs on transformers, which does not support GBNF"):
        engine.run([5], Sampling(), Guidance(grammar="root ::= [a]"), lambda piece: False)
    with pytest.raises(InputError, match="cannot switch adapters"):
        engine.run([5], Sampling(), Guidance(adapter="poet"), lambda piece: False)
    for ask_with in (lambda ids: engine.run(ids, Sampling(), Guidance(), lambda piece: False), engine.embed):
        with pytest.raises(
            InputError, match=r"found token ids from 5 to 9223372036854775808, but this model's are 0 to \d+"
        ):
            ask_with([5, 2**63])
    with pytest.raises(InputError, match="a text to embed may have 1 to 1,024 tokens, this one has 0"):
        engine.embed([])
    with pytest.raises(TooLongError, match="this one has 5,000"):
        engine.embed([5] * 5_000)


@pytest.fixture(scope="module")
def both(tiny_folder: Path, tiny_gguf: Path) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """The same weights behind both engines."""
    with (
        opened_file(tiny_gguf) as opened,
        served({"tiny": opened}) as one,
        served({"tiny": transformers.open_chat(tiny_folder, num_slots=1)}) as other,
        httpx.Client(base_url=one, timeout=60) as first,
        httpx.Client(base_url=other, timeout=60) as second,
    ):
        yield first, second


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"logprobs": True, "top_logprobs": 3},
        {"grammar": '%llguidance {}\nstart: ("鲸" | "吞" | /[0-9]/){4,6}'},
        of_schema({"type": "array", "items": {"enum": ["鲸", "吞"]}, "minItems": 2, "maxItems": 3}),
    ],
)  # fmt: skip
def test_both_engines_follow_the_same_rules(both: tuple[httpx.Client, httpx.Client], fields: dict[str, Any]) -> None:
    wanted = {"model": "tiny", "max_tokens": 24, "temperature": 0} | fields
    first, second = (ask(web, **wanted)["choices"][0] for web in both)
    assert first["message"] == second["message"]
    for one, other in zip(
        *((found["logprobs"] or {"content": []})["content"] for found in (first, second)), strict=True
    ):
        assert one["bytes"] == other["bytes"]
        assert [top["bytes"] for top in one["top_logprobs"]] == [top["bytes"] for top in other["top_logprobs"]]
        assert one["logprob"] == pytest.approx(other["logprob"], abs=1e-2)


def test_both_engines_give_the_same_vectors(both: tuple[httpx.Client, httpx.Client]) -> None:
    wanted = {"model": "tiny", "input": ["你好", "天气很好"]}
    first, second = (web.post("/v1/embeddings", json=wanted).json()["data"] for web in both)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_allclose(one["embedding"], other["embedding"], atol=1e-3)


def test_the_description_names_every_call() -> None:
    found = describe()
    assert set(found["paths"]) >= {COMPLETIONS, "/v1/completions", "/v1/embeddings", "/v1/models", "/health"}
    refs = set(json.dumps(found).split('"#/components/schemas/')[1:])
    assert all(ref.split('"')[0] in found["components"]["schemas"] for ref in refs)


def test_parts_of_a_message_are_joined_and_developer_is_system() -> None:
    engine = ScriptedEngine(END)
    parts = [{"type": "text", "text": "甲"}, {"type": "text", "text": "乙"}]
    messages = [{"role": "developer", "content": "系统"}, {"role": "user", "content": parts}]
    with served({"m": engine}) as url:
        httpx.post(url + COMPLETIONS, json={"model": "m", "messages": messages})
    text = bytes(i for i in engine.asked[0][0] if i < 256).decode()
    assert "system\n系统" in text
    assert "user\n甲\n乙" in text
