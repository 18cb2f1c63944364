"""vLLM on a CUDA machine: its own server on a loopback port, which gets prompts as token ids.

vLLM's chat call would parse control tokens in the users' texts, so only `/v1/completions` is called, with our ids. The
command and this client were tested with a stand-in for vLLM's server; vLLM itself was never run here.
"""

import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from baihua.backends.http import explained, make_client
from baihua.backends.token_ids import end_ids
from baihua.chat.template import OWN, open_template
from baihua.chat.types import FinishReason, Guidance, Likelihood, Piece, Sampling, Usage
from baihua.core.env import variables_for_child
from baihua.core.errors import InputError, RunError
from baihua.core.system import free_port

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types.completion_choice import Logprobs

# A large model has to be loaded, compiled and warmed up.
MAX_START_SECONDS = 1800
STOP_SECONDS = 30
SEE_OUTPUT = "see vLLM's own output above"


class VllmEngine:
    """A client of vLLM's completion API, for a server that runs the model of a folder."""

    adapters: tuple[str, ...] = ()
    process: "subprocess.Popen[bytes] | None" = None
    """The server, if this engine is to stop it."""

    def __init__(self, folder: Path, client: "OpenAI", *, num_ctx: int, num_slots: int) -> None:
        self.tokenizer, self.template = open_template(OWN, folder)
        self.num_ctx = num_ctx
        self.num_slots = num_slots
        self._client = client
        self._end_ids = end_ids(folder, self.tokenizer, self.template)

    def generate(self, ids: Sequence[int], sampling: Sampling, guidance: Guidance) -> Iterator[Piece]:
        """Yield the continuation of these tokens; closing the iterator disconnects, at which vLLM stops."""
        usage, finish_reason = Usage(len(ids), 0), None
        request = _request(ids, sampling, guidance, end_ids=self._end_ids)
        with explained(str(self._client.base_url)), self._client.completions.create(**request) as chunks:
            for chunk in chunks:
                if chunk.usage:
                    usage = Usage(chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
                for choice in chunk.choices:
                    finish_reason = choice.finish_reason or finish_reason
                    yield Piece(choice.text, likelihoods=tuple(_likelihoods(choice.logprobs)))
        if finish_reason is None:
            raise RunError("vLLM ended an answer before it was complete", fix=SEE_OUTPUT)
        reason: FinishReason = "length" if finish_reason == "length" else "stop"
        yield Piece("", reason, usage)

    def run(self, ids: Sequence[int], sampling: Sampling, guidance: Guidance, receive: Callable[[Piece], bool]) -> None:
        """Pass each piece of `generate` to `receive`."""
        for piece in self.generate(ids, sampling, guidance):
            if receive(piece):
                return

    def embed(self, ids: Sequence[int]) -> np.ndarray:
        """Raise an InputError: vLLM serves a model either for answers or for embeddings."""
        raise InputError("the vLLM engine does not compute embeddings", fix="serve a GGUF file for them")

    def is_ready(self) -> bool:
        """Whether the server lists its model."""
        with suppress(RunError), explained(str(self._client.base_url)):
            return bool(self._client.models.list().data)
        return False

    def wait_until_ready(self, *, max_seconds: float = MAX_START_SECONDS) -> None:
        """Wait for the server; a RunError if its process exits or the time is over."""
        deadline = time.monotonic() + max_seconds
        while not self.is_ready():
            status = self.process.poll() if self.process else None
            if status is not None:
                raise RunError(f"vLLM exited with status {status}", fix=SEE_OUTPUT)
            if time.monotonic() > deadline:
                raise RunError(f"vLLM was not ready after {max_seconds:,.0f} s", fix=SEE_OUTPUT)
            time.sleep(1)

    def close(self) -> None:
        """Disconnect and stop the server."""
        self._client.close()
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()


def open_engine(folder: Path, *, num_slots: int, num_ctx: int) -> VllmEngine:
    """Start vLLM on a model folder and wait until it is ready."""
    if shutil.which("vllm") is None:
        fix = "pip install vllm, on a machine with a CUDA GPU"
        raise InputError("vLLM is not installed", where="--engine vllm", fix=fix)
    port, key = free_port(), secrets.token_urlsafe(32)
    engine = VllmEngine(folder, make_client(f"http://127.0.0.1:{port}/v1", key), num_ctx=num_ctx, num_slots=num_slots)
    command = [
        *("vllm", "serve", str(folder), "--served-model-name", "model"),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--max-num-seqs", str(num_slots), "--max-model-len", str(num_ctx)),
        # Sampling defaults are ours, not those of the folder's generation_config.json.
        *("--generation-config", "vllm"),
        # Prompts stay out of the log.
        "--no-enable-log-requests",
    ]
    # The key is passed in the environment, which process lists do not show.
    env = variables_for_child(VLLM_API_KEY=key, VLLM_NO_USAGE_STATS="1", VLLM_DO_NOT_TRACK="1", HF_HUB_OFFLINE="1")
    engine.process = subprocess.Popen(command, stdout=sys.stderr, env=env)
    try:
        engine.wait_until_ready()
    except (RunError, KeyboardInterrupt):
        engine.close()
        raise
    return engine


def _request(ids: Sequence[int], sampling: Sampling, guidance: Guidance, *, end_ids: Sequence[int]) -> dict[str, Any]:
    """The fields of OpenAI's completion API, and those that vLLM adds in `extra_body`."""
    if guidance.grammar is not None:
        raise InputError("the vLLM engine does not support grammars", fix="send a JSON schema, or serve a GGUF file")
    optional = {"seed": sampling.seed, "stop": list(sampling.stop) or None, "logprobs": guidance.num_top_logprobs}
    added = {"top_k": sampling.top_k, "min_p": guidance.min_p, "repetition_penalty": sampling.repeat_penalty}
    schema = {} if guidance.json_schema is None else {"structured_outputs": {"json": guidance.json_schema}}
    return {
        "model": "model",
        "prompt": list(ids),
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "presence_penalty": guidance.presence_penalty,
        "frequency_penalty": guidance.frequency_penalty,
        "extra_body": {**added, **schema, "stop_token_ids": list(end_ids)},
        **{name: value for name, value in optional.items() if value is not None},
    }


def _likelihoods(logprobs: "Logprobs | None") -> Iterator[Likelihood]:
    """vLLM returns tokens as text, in which the bytes of incomplete characters are lost."""
    if logprobs is None:
        return
    tokens, values = logprobs.tokens or [], logprobs.token_logprobs or []
    for token, value, top in zip(tokens, values, logprobs.top_logprobs or [{}] * len(tokens), strict=True):
        alternatives = tuple(Likelihood(one, one.encode(), log_prob) for one, log_prob in (top or {}).items())
        yield Likelihood(token, token.encode(), value, alternatives)
