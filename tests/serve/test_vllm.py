"""vLLM as an engine: its command, its start and end, and what is asked of it, with a stand-in for its server."""

import json
import os
import stat
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from baihua.backends.http import make_client
from baihua.chat.types import Guidance, Sampling, Usage
from baihua.core.errors import BaihuaError, InputError, RunError
from baihua.serve.engines import vllm

STAND_IN = """#!{python}
import http.server, json, os, sys
assert sys.argv[1] == "serve" and "--api-key" not in sys.argv
open({log!r}, "w").write(json.dumps([sys.argv[1:], os.getpid()]))
if {status}:
    sys.exit({status})
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        ok = self.headers["Authorization"] == "Bearer " + os.environ["VLLM_API_KEY"]
        self.send_response(200 if ok else 401)
        self.end_headers()
        model = {{"id": "model", "object": "model", "created": 1, "owned_by": "vllm"}}
        self.wfile.write(json.dumps({{"object": "list", "data": [model]}}).encode())
    def log_message(self, *args):
        pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""


def chunk(text: str, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "text": text, "finish_reason": None, "logprobs": None} | more
    return {"id": "1", "object": "text_completion", "created": 1, "model": "model", "choices": [choice]}


def answering(server: HTTPServer, *chunks: dict[str, Any]) -> list[dict[str, Any]]:
    """Let the server answer every request with these chunks; the requests come in the list."""
    asked: list[dict[str, Any]] = []

    def answer(request: Request) -> Response:
        asked.append(json.loads(request.data))
        events = "".join(f"data: {json.dumps(one)}\n\n" for one in chunks)
        return Response(events + "data: [DONE]\n\n", content_type="text/event-stream")

    server.expect_request("/v1/completions").respond_with_handler(answer)
    return asked


def engine_at(server: HTTPServer, folder: Path) -> vllm.VllmEngine:
    client = make_client(server.url_for("/v1"), "k")
    return vllm.VllmEngine(folder, client, num_ctx=100, num_slots=2)


def test_it_is_asked_by_ids_and_answers_in_pieces(httpserver: HTTPServer, tiny_folder: Path) -> None:
    top = {"tokens": ["你"], "token_logprobs": [-0.5], "top_logprobs": [{"你": -0.5, "我": -1.5}]}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    last = chunk("", finish_reason="stop") | {"usage": usage}
    asked = answering(httpserver, chunk("你", logprobs=top), chunk("好"), last)
    sampling = Sampling(max_tokens=9, temperature=0.5, top_k=7, repeat_penalty=1.1, stop=("完",), seed=4)
    engine = engine_at(httpserver, tiny_folder)
    pieces = list(engine.generate([1, 5, 6], sampling, Guidance(num_top_logprobs=2, min_p=0.1)))
    assert "".join(piece.text for piece in pieces) == "你好"
    assert (pieces[-1].finish_reason, pieces[-1].usage) == ("stop", Usage(3, 2))
    assert [(one.token, one.log_prob) for one in pieces[0].likelihoods[0].top] == [("你", -0.5), ("我", -1.5)]
    wanted = {"prompt": [1, 5, 6], "max_tokens": 9, "top_k": 7, "repetition_penalty": 1.1, "stop": ["完"], "seed": 4}
    assert wanted.items() <= asked[0].items()
    ends = [engine.tokenizer.controls["<|im_end|>"]]
    assert (asked[0]["stop_token_ids"], asked[0]["logprobs"], asked[0]["min_p"]) == (ends, 2, 0.1)


def test_a_schema_is_passed_on_and_a_grammar_refused(httpserver: HTTPServer, tiny_folder: Path) -> None:
    asked = answering(httpserver, chunk("{}", finish_reason="length"))
    engine = engine_at(httpserver, tiny_folder)
    pieces = list(engine.generate([1], Sampling(), Guidance(json_schema='{"type": "object"}')))
    assert pieces[-1].finish_reason == "length"
    assert asked[0]["structured_outputs"] == {"json": '{"type": "object"}'}
    with pytest.raises(InputError, match="the vLLM engine does not support grammars"):
        list(engine.generate([1], Sampling(), Guidance(grammar="root ::= [a-z]")))
    with pytest.raises(InputError, match="the vLLM engine does not compute embeddings"):
        engine.embed([1])


def test_an_answer_that_breaks_off_is_no_answer(httpserver: HTTPServer, tiny_folder: Path) -> None:
    answering(httpserver, chunk("你"))
    with pytest.raises(RunError, match="vLLM ended an answer before it was complete"):
        list(engine_at(httpserver, tiny_folder).generate([1], Sampling(), Guidance()))
    lost = vllm.VllmEngine(tiny_folder, make_client("http://127.0.0.1:9/v1", "k"), num_ctx=10, num_slots=1)
    with pytest.raises(BaihuaError, match="the connection failed or was lost"):
        list(lost.generate([1], Sampling(), Guidance()))


def stand_in(folder: Path, patch: pytest.MonkeyPatch, *, status: int = 0) -> Path:
    """A program of the name vllm in a folder that comes first on the path."""
    program, log = folder / "vllm", folder / "log"
    program.write_text(STAND_IN.format(python=sys.executable, log=str(log), status=status))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    patch.setenv("PATH", str(folder), prepend=os.pathsep)
    return log


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a script with a first line")
def test_the_server_is_started_and_ended(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = stand_in(tmp_path, monkeypatch)
    engine = vllm.open_engine(tiny_folder, num_slots=3, num_ctx=512)
    words, number = json.loads(log.read_text())
    assert words[:2] == ["serve", str(tiny_folder)]
    assert words[words.index("--host") + 1] == "127.0.0.1"
    assert (engine.num_slots, engine.num_ctx) == (3, 512)
    engine.close()
    time.sleep(0.1)
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a script with a first line")
def test_a_server_that_ends_at_once_is_reported(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, status=3)
    with pytest.raises(RunError, match="vLLM exited with status 3"):
        vllm.open_engine(tiny_folder, num_slots=1, num_ctx=64)


def test_a_server_that_never_answers_is_given_up(httpserver: HTTPServer, tiny_folder: Path) -> None:
    with pytest.raises(RunError, match="vLLM was not ready after -1 s"):
        engine_at(httpserver, tiny_folder).wait_until_ready(max_seconds=-1)


def test_where_it_is_missing_the_fix_is_named(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match=r"vLLM is not installed.*\n.*\n.*pip install vllm"):
        vllm.open_engine(tiny_folder, num_slots=1, num_ctx=64)
