"""Access control, and limits of requests."""

import asyncio
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from live_server import make
from scripted_engine import END, ScriptedEngine
from starlette.requests import Request
from starlette.testclient import TestClient
from starlette.types import Message

from baihua.serve.web.app import POLICY, is_loopback, read_page
from baihua.serve.web.errors import HttpError
from baihua.serve.web.request_body import parse_json, read_json

KEY = "correct-horse"
ASK = {"model": "m", "messages": [{"role": "user", "content": "你好"}]}


def client(key: str | None = None, host: str = "localhost") -> TestClient:
    app, _ = make({"m": ScriptedEngine(END)}, key=key)
    return TestClient(app, base_url=f"http://{host}", raise_server_exceptions=False)


@pytest.mark.parametrize("sent", [None, "", "Bearer", "Bearer ", "Bearer wrong", f"Basic {KEY}", f"Bearer {KEY}x", KEY])
def test_without_the_key_all_responses_are_the_same(sent: str | None, caplog: pytest.LogCaptureFixture) -> None:
    headers = {} if sent is None else {"Authorization": sent}
    with caplog.at_level(logging.DEBUG), client(KEY) as web:
        answers = {
            (found.status_code, found.text)
            for found in (
                web.get("/v1/models", headers=headers),
                web.get("/v1/models/none", headers=headers),
                web.get("/nothing", headers=headers),
                web.get("/metrics", headers=headers),
                web.get("/openapi.json", headers=headers),
                web.post("/v1/chat/completions", headers=headers, content=b"{" * 3_000_000),
                web.post("/v1/chat/completions", headers=headers, json=ASK),
            )
        }
    assert len(answers) == 1
    status, text = answers.pop()
    assert (status, json.loads(text)["error"]["code"]) == (401, "invalid_api_key")
    assert KEY not in text + caplog.text


def test_with_the_key_all_is_open() -> None:
    with client(KEY, host="example.org") as web:
        assert web.get("/v1/models", headers={"Authorization": f"bearer {KEY}"}).status_code == 200
        assert web.get("/health").json() == {"status": "ok"}
        assert web.get("/").status_code == 200


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("localhost", True),
        ("localhost:8080", True),
        ("127.0.0.1:8080", True),
        ("[::1]:8080", True),
        ("evil.example", False),
        ("evil.example:8080", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example:80", False),
        ("", False),
    ],
)
def test_without_a_key_only_this_machine_is_named(host: str, is_ours: bool) -> None:
    with client() as web:
        for path in ("/", "/v1/models", "/health"):
            found = web.get(path, headers={"Host": host})
            assert (found.status_code == 200) == is_ours
            if not is_ours:
                assert found.json()["error"]["code"] == "wrong_host"


def test_addresses_that_stay_here() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.0.1", "example.org", "")))


def test_every_answer_has_its_headers_and_no_other_origin_is_let_in() -> None:
    with client() as web:
        found = web.options("/v1/chat/completions", headers={"Origin": "http://evil.example"})
        assert found.status_code == 405
        for answer in (found, web.get("/"), web.get("/nothing")):
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "access-control-allow-origin" not in answer.headers
        assert web.get("/").headers["content-security-policy"] == POLICY


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "multipart/form-data"])
def test_only_json_is_read(kind: str) -> None:
    with client() as web:
        found = web.post("/v1/chat/completions", content=json.dumps(ASK), headers={"Content-Type": kind})
    assert (found.status_code, found.json()["error"]["code"]) == (415, "wrong_content_type")


def test_a_body_that_is_too_large_is_refused_with_and_without_its_length() -> None:
    def parts():
        for _ in range(40):
            yield b" " * 50_000

    with client() as web:
        for content in (b" " * 2_000_000, parts()):
            headers = {"Content-Type": "application/json"}
            found = web.post("/v1/chat/completions", content=content, headers=headers)
            assert (found.status_code, found.json()["error"]["code"]) == (413, "request_too_large")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[" * 100 + b"]" * 100, "nested deeper than 32"),
        (b"{" * 100_000, "nested deeper than 32"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b"[-Infinity]", "-Infinity is not a JSON number"),
        (b"1" * 5_000, "a number has more than 400 digits"),
        (b'"\\ud800"', "not valid Unicode"),
        (b'{"\\udfff": 1}', "not valid Unicode"),
        (b'"\xff"', "not valid Unicode"),
        (b"{", "invalid JSON"),
        (b"", "invalid JSON"),
        (b"\xef\xbb\xbf{}", "invalid JSON"),
        ('{"a": 1}'.encode("utf-16"), "not valid Unicode"),
    ],
)
def test_invalid_json_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(HttpError, match=message) as caught:
        parse_json(data)
    assert caught.value.status_code == 400


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda below: (
        st.lists(below, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), below)
    ),
    max_leaves=12,
)


@given(VALUES)
def test_valid_json_is_parsed(value: object) -> None:
    assert parse_json(json.dumps(value).encode()) == value
    assert parse_json(json.dumps(value, ensure_ascii=False).encode()) == value


@given(st.binary(max_size=60))
def test_any_bytes_are_json_or_an_error(data: bytes) -> None:
    try:
        parse_json(data, max_depth=8)
    except HttpError as error:
        assert error.status_code == 400


def test_brackets_in_texts_do_not_count() -> None:
    assert parse_json(b'"' + b"[" * 100 + b'\\"{"', max_depth=3) == "[" * 100 + '"{'


@pytest.mark.parametrize(
    "name",
    ["../app.py", "..", "", ".", "/etc/passwd", "a/../../x", "..\\web\\run.py", "C:\\x", "none.js", "vendor", "a\0b"],
)
def test_pages_are_those_of_the_folder_alone(name: str) -> None:
    with pytest.raises(HttpError, match="page not found"):
        read_page(name)


@pytest.mark.parametrize(
    "path", ["/pages/../web/run.py", "/pages/%2e%2e/web/run.py", "/pages/..%2fweb/run.py", "/pages//etc/passwd"]
)
def test_no_spelling_of_a_path_leaves_it(path: str) -> None:
    with client() as web:
        found = web.get(path)
    assert found.status_code == 404
    assert "import" not in found.text


def test_unknown_paths_are_errors_of_the_same_form() -> None:
    with client() as web:
        assert web.get("/v1/nothing").json()["error"]["code"] == "not_found"
        found = web.get("/v1/chat/completions")
        assert (found.status_code, found.json()["error"]["code"]) == (405, "method_not_allowed")
        assert found.headers["allow"] == "POST"


def test_a_request_that_breaks_off_is_the_clients_error() -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    app, _ = make({})
    headers = [(b"content-type", b"application/json")]
    request = Request({"type": "http", "method": "POST", "headers": headers, "app": app}, receive)
    with pytest.raises(HttpError, match="the client disconnected before"):
        asyncio.run(read_json(request))
