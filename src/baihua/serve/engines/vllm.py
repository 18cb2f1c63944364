"""vLLM on a CUDA machine: its own server on a port of the loopback, asked by token ids.

Its chat call would read control tokens in what a user typed, so only `/v1/completions` is used, with our ids. The
command and this client were tested against a server of ours; vLLM itself was never run here.
"""

import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from baihua.backends.http import explained, make_client
from baihua.chat.template import OWN, open_template
from baihua.chat.types import FinishReason, Guidance, Likelihood, Piece, Sampling, Usage
from baihua.core.env import variables_for_child
from baihua.core.errors import InputError, RunError
from baihua.core.system import free_port
from baihua.serve.api.engine import LoadedModel
from baihua.serve.web.threads import send_all

if TYPE_CHECKING:
    from openai import OpenAI

# A large model is read, compiled and warmed up first.
MAX_START_SECONDS = 1800
STOP_SECONDS = 30


def command(folder: Path, *, port: int, num_slots: int, num_ctx: int) -> list[str]:
    """How vLLM's server is started; the key goes through the environment, where no list of processes shows it."""
    return [
        *("vllm", "serve", str(folder), "--served-model-name", "model"),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--max-num-seqs", str(num_slots), "--max-model-len", str(num_ctx)),
        # Sampling is what a request says, not what the folder suggests.
        *("--generation-config", "vllm"),
        # No statistics leave this machine, and what people ask stays out of the log.
        "--no-enable-log-requests",
    ]


class VllmEngine:
    """Answers of a server that speaks vLLM's form of OpenAI's older API."""

    adapters: tuple[str, ...] = ()

    def __init__(self, client: "OpenAI", *, num_ctx: int, num_slots: int, end_ids: Sequence[int] = ()) -> None:
        self.num_ctx = num_ctx
        self.num_slots = num_slots
        self._client = client
        self._end_ids = list(end_ids)
        self._process: subprocess.Popen[bytes] | None = None

    def owns(self, process: "subprocess.Popen[bytes]") -> None:
        """End this process when the engine is closed."""
        self._process = process

    def generate(self, ids: Sequence[int], sampling: Sampling, guidance: Guidance) -> Iterator[Piece]:
        """Yield what follows these tokens; closing the iterator closes the connection, at which vLLM stops."""
        usage, finish_reason = Usage(len(ids), 0), None
        more = _more(sampling, guidance) | {"stop_token_ids": self._end_ids}
        with (
            explained(str(self._client.base_url)),
            self._client.completions.create(**_request(ids, sampling, guidance), extra_body=more) as chunks,
        ):
            for chunk in chunks:
                if chunk.usage:
                    usage = Usage(chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
                for choice in chunk.choices:
                    finish_reason = choice.finish_reason or finish_reason
                    told = choice.logprobs.model_dump() if choice.logprobs else {}
                    yield Piece(choice.text, likelihoods=tuple(_likelihoods(told)))
        if finish_reason is None:
            raise RunError("vLLM ended an answer before it was complete", fix="look at what it wrote above")
        reason: FinishReason = "length" if finish_reason == "length" else "stop"
        yield Piece("", reason, usage)

    def run(self, ids: Sequence[int], sampling: Sampling, guidance: Guidance, receive: Callable[[Piece], bool]) -> None:
        """Hand each piece of `generate` over."""
        send_all(self.generate(ids, sampling, guidance), receive)

    def embed(self, ids: Sequence[int]) -> np.ndarray:
        """There are none: vLLM serves a model either for answers or for vectors."""
        raise InputError("vLLM gives no vectors beside answers", fix="serve a GGUF file for them")

    def is_ready(self) -> bool:
        """Whether the server lists its model."""
        try:
            with explained(str(self._client.base_url)):
                return bool(self._client.models.list().data)
        except RunError:
            return False

    def close(self) -> None:
        """End the server."""
        self._client.close()
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()


def open_engine(folder: Path, *, num_slots: int, num_ctx: int) -> LoadedModel:
    """Start vLLM on a model folder and wait until it answers."""
    if shutil.which("vllm") is None:
        raise InputError(
            "vLLM is not installed here", where="--engine vllm", fix="pip install vllm, on a machine with a CUDA GPU"
        )
    tokenizer, template = open_template(OWN, folder)
    end_ids = [tokenizer.controls[one] for one in (tokenizer.eos_token,) if one in tokenizer.controls]
    port, key = free_port(), secrets.token_urlsafe(32)
    process = subprocess.Popen(
        command(folder, port=port, num_slots=num_slots, num_ctx=num_ctx),
        stdout=sys.stderr,
        env=variables_for_child(VLLM_API_KEY=key, VLLM_NO_USAGE_STATS="1", VLLM_DO_NOT_TRACK="1", HF_HUB_OFFLINE="1"),
    )
    engine = connect(f"http://127.0.0.1:{port}", key=key, num_ctx=num_ctx, num_slots=num_slots, end_ids=end_ids)
    engine.owns(process)
    try:
        _wait_until_ready(engine, process)
    except (RunError, KeyboardInterrupt):
        engine.close()
        raise
    return LoadedModel(engine, tokenizer, template)


def connect(url: str, *, key: str, num_ctx: int, num_slots: int, end_ids: Sequence[int] = ()) -> VllmEngine:
    """An engine on a server that runs already."""
    return VllmEngine(make_client(f"{url}/v1", key), num_ctx=num_ctx, num_slots=num_slots, end_ids=end_ids)


def _request(ids: Sequence[int], sampling: Sampling, guidance: Guidance) -> dict[str, Any]:
    """The fields that OpenAI's API has as well."""
    request: dict[str, Any] = {
        "model": "model",
        "prompt": list(ids),
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "presence_penalty": guidance.presence_penalty,
        "frequency_penalty": guidance.frequency_penalty,
    }
    wanted = {"seed": sampling.seed, "stop": list(sampling.stop) or None, "logprobs": guidance.num_top_logprobs}
    return request | {name: value for name, value in wanted.items() if value is not None}


def _more(sampling: Sampling, guidance: Guidance) -> dict[str, Any]:
    """vLLM's own fields."""
    more: dict[str, Any] = {
        "top_k": sampling.top_k,
        "min_p": guidance.min_p,
        "repetition_penalty": sampling.repeat_penalty,
    }
    if guidance.grammar is not None:
        raise InputError("vLLM reads no grammar of llama.cpp's form", fix="send a JSON schema, or serve a GGUF file")
    if guidance.json_schema is not None:
        more["structured_outputs"] = {"json": guidance.json_schema}
    return more


def _likelihoods(told: Mapping[str, Any]) -> Iterator[Likelihood]:
    """vLLM tells tokens as texts; bytes of half characters are lost there."""
    tokens, numbers = told.get("tokens") or [], told.get("token_logprobs") or []
    for token, number, top in zip(tokens, numbers, told.get("top_logprobs") or [{}] * len(tokens), strict=True):
        likely = tuple(Likelihood(one, one.encode(), value) for one, value in (top or {}).items())
        yield Likelihood(token, token.encode(), number, likely)


def _wait_until_ready(engine: VllmEngine, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + MAX_START_SECONDS
    while not engine.is_ready():
        if process.poll() is not None:
            raise RunError(f"vLLM ended with status {process.returncode}", fix="look at what it wrote above")
        if time.monotonic() > deadline:
            raise RunError(f"vLLM was not ready after {MAX_START_SECONDS:,} s", fix="look at what it wrote above")
        time.sleep(1)
