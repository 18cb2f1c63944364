import json
import socket
import threading
from collections.abc import Generator, Iterator
from typing import Any

import httpx
import openai
import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from baihua.backends.http import HttpChat, explained, open_chat
from baihua.chat.types import Message, Piece, Sampling, Usage
from baihua.core.errors import BaihuaError, InputError, RunError, TooLongError

CHAT = "/v1/chat/completions"
ASK = [Message("user", "你好")]


def event(delta: dict[str, Any] | None = None, **fields: Any) -> str:
    choices = (
        [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": fields.pop("finish_reason", None)}]
    )
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": choices, **fields}
    return f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n"


USAGE = event(usage={"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12})
END = event({}, finish_reason="stop")
DONE = "data: [DONE]\n\n"


def serve(server: HTTPServer, *events: str) -> HttpChat:
    body = "".join(events).encode()
    server.expect_request(CHAT).respond_with_response(Response(body, content_type="text/event-stream"))
    return open_chat(server.url_for(""), model="m")


def refuse(server: HTTPServer, status: int, message: str) -> HttpChat:
    server.expect_request(CHAT).respond_with_json({"error": {"message": message}}, status=status)
    return open_chat(server.url_for("/v1"), model="m")


def pieces_of(model: HttpChat, sampling: Sampling | None = None) -> list[Piece]:
    return list(model.stream(ASK, sampling or Sampling()))


def sent(server: HTTPServer) -> list[dict[str, Any]]:
    return [request.get_json() for request, _ in server.log]


def test_an_answer_arrives_in_pieces_with_its_usage_last(httpserver: HTTPServer) -> None:
    model = serve(
        httpserver, event({"role": "assistant"}), event({"content": "你"}), event({"content": "好"}), END, USAGE, DONE
    )
    assert pieces_of(model) == [Piece("你"), Piece("好"), Piece("", "stop", Usage(9, 3))]


def test_usage_that_the_server_does_not_report_is_missing(httpserver: HTTPServer) -> None:
    assert pieces_of(serve(httpserver, event({"content": "好"}, finish_reason="length"), DONE))[-1] == Piece(
        "", "length", None
    )


def test_every_setting_is_sent(httpserver: HTTPServer) -> None:
    pieces_of(
        serve(httpserver, END, DONE),
        Sampling(max_tokens=7, temperature=0, top_p=0.5, top_k=3, repeat_penalty=1.1, stop=("。",), seed=5),
    )
    wanted = {
        "max_tokens": 7,
        "temperature": 0,
        "top_p": 0.5,
        "top_k": 3,
        "repeat_penalty": 1.1,
        "stop": ["。"],
        "seed": 5,
    }
    assert wanted.items() <= sent(httpserver)[0].items()


def test_a_server_that_rejects_extra_settings_gets_the_request_without_them(httpserver: HTTPServer) -> None:
    def answer(request: Request) -> Response:
        if "top_k" in request.get_json():
            return Response(
                '{"error": {"message": "unknown field: top_k"}}', status=400, content_type="application/json"
            )
        return Response(END + DONE, content_type="text/event-stream")

    httpserver.expect_request(CHAT).respond_with_handler(answer)
    model = open_chat(httpserver.url_for(""), model="m")
    pieces_of(model)
    pieces_of(model)
    assert ["top_k" in body for body in sent(httpserver)] == [True, False, False]


def test_without_a_name_the_first_listed_model_answers(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/v1/models").respond_with_json({"data": [{"id": "first"}, {"id": "second"}]})
    assert open_chat(httpserver.url_for("")).name == "first"


def test_a_server_without_models_is_refused(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/v1/models").respond_with_json({"data": []})
    with pytest.raises(InputError, match="the server lists no model"):
        open_chat(httpserver.url_for(""))


def test_the_key_comes_from_the_caller_and_never_from_the_environment(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY"):
        monkeypatch.setenv(name, "from-the-environment")
    httpserver.expect_request("/v1/models").respond_with_json({"data": [{"id": "m"}]})
    open_chat(httpserver.url_for(""))
    open_chat(httpserver.url_for(""), api_key="mine")
    headers = [dict(request.headers) for request, _ in httpserver.log]
    assert "from-the-environment" not in str(headers)
    assert headers[1]["Authorization"] == "Bearer mine"


@pytest.mark.parametrize(
    ("status", "message", "error", "shown"),
    [
        (401, "bad key", InputError, r"(?s)the server rejected the API key \(.*bad key.*give a valid key"),
        (404, "no m", InputError, r"(?s)the server does not know this path or model.*no m.*most end in /v1"),
        (400, "the maximum context length is 9", TooLongError, "the conversation is too long for the model"),
        (429, "slow", RunError, "the server's rate limit was reached"),
        (500, "oops", RunError, "the server answered with status 500 .*oops"),
        (400, "odd", RunError, "the server answered with status 400"),
    ],
)
def test_an_error_status_becomes_an_error_with_its_fix(
    httpserver: HTTPServer, status: int, message: str, error: type[BaihuaError], shown: str
) -> None:
    with pytest.raises(error, match=shown):
        pieces_of(refuse(httpserver, status, message))


def test_no_request_is_retried(httpserver: HTTPServer) -> None:
    with pytest.raises(RunError):
        pieces_of(refuse(httpserver, 503, "busy"))
    assert len(httpserver.log) == 1


def test_a_closed_port_is_reported() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(
        RunError, match=rf"(?s)the connection failed or was lost.*127.0.0.1:{port}.*check that the server is running"
    ):
        open_chat(f"http://127.0.0.1:{port}")


def test_a_stream_without_a_finish_reason_is_an_error(httpserver: HTTPServer) -> None:
    with pytest.raises(
        RunError, match="the answer ended after 2 characters with finish reason None, expected stop or length"
    ):
        pieces_of(serve(httpserver, event({"content": "你好"})))


def test_a_filtered_answer_is_an_error(httpserver: HTTPServer) -> None:
    with pytest.raises(RunError, match="the answer ended after 1 characters with finish reason 'content_filter'"):
        pieces_of(serve(httpserver, event({"content": "你"}, finish_reason="content_filter"), DONE))


@pytest.mark.parametrize("line", ["data: {broken\n\n", 'data: {"error": {"message": "out of memory"}}\n\n'])
def test_a_stream_of_something_else_is_an_error(httpserver: HTTPServer, line: str) -> None:
    with pytest.raises(RunError, match="the response is not a chat completion"):
        pieces_of(serve(httpserver, event({"content": "你"}), line))


def test_a_web_page_is_not_a_model_server(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/v1/models").respond_with_data("<html>", content_type="text/html")
    with pytest.raises(RunError, match="the response is not a chat completion"):
        open_chat(httpserver.url_for(""))


def test_a_connection_lost_during_an_answer_is_an_error(httpserver: HTTPServer) -> None:
    httpserver.expect_request(CHAT).respond_with_response(
        Response(iter([event({"content": "你"})]), content_type="text/event-stream", headers={"Content-Length": "9999"})
    )
    with pytest.raises(RunError, match="the connection failed or was lost"):
        pieces_of(open_chat(httpserver.url_for(""), model="m"))


def test_closing_the_iterator_closes_the_stream(httpserver: HTTPServer) -> None:
    is_closed = threading.Event()

    def endless() -> Iterator[str]:
        try:
            while True:
                yield event({"content": "你好" * 1000})
        finally:
            is_closed.set()

    httpserver.expect_request(CHAT).respond_with_handler(
        lambda _: Response(endless(), content_type="text/event-stream")
    )
    pieces = open_chat(httpserver.url_for(""), model="m").stream(ASK, Sampling())
    next(pieces)
    assert isinstance(pieces, Generator)
    pieces.close()
    assert is_closed.wait(timeout=5)


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://x", "http://"])
def test_an_invalid_address_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="invalid server address"):
        open_chat(url)


def test_a_timeout_is_reported_with_the_address() -> None:
    wanted = r"the server took too long to answer\n  where: http://x, model 'm'"
    with pytest.raises(RunError, match=wanted), explained("http://x", model="m"):
        raise openai.APITimeoutError(httpx.Request("POST", "http://x"))
