"""The front of replicas on Ray Serve; import it only after `core.ray.connect`."""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import aclosing, contextmanager, suppress
from typing import Any

import numpy as np
import ray  # pyright: ignore[reportMissingImports]  (the extra `cluster`)
from ray import serve  # pyright: ignore[reportMissingImports]
from ray.exceptions import RayActorError, RayError  # pyright: ignore[reportMissingImports]
from ray.serve.exceptions import RayServeException  # pyright: ignore[reportMissingImports]
from ray.serve.handle import DeploymentHandle  # pyright: ignore[reportMissingImports]

from baihua.chat.render import Template
from baihua.chat.types import Guidance, Piece, Sampling, TextTokenizer
from baihua.core.errors import BaihuaError, InputError, RunError
from baihua.core.log import logger
from baihua.serve.engines.cluster import Replica, ReplicaConfig, find_error

# A large file may have to come over a network, and a cluster may have to add a node first.
MAX_START_SECONDS = 600
# While a replica is silent, an empty piece this often gives the client's side the chance to cancel.
SILENCE_SECONDS = 0.5
# Limited, because a request that crashes its replica would crash all of them in turn.
NUM_ATTEMPTS = 3
MAX_EMBED_SECONDS = 60


class ClusterEngine:
    """Sends requests to replicas; safe to use from many threads."""

    def __init__(
        self,
        handle: "DeploymentHandle[Replica]",
        replica: ReplicaConfig,
        *,
        tokenizer: TextTokenizer,
        template: Template,
        num_replicas: int,
        owns_ray: bool = False,
    ) -> None:
        self.tokenizer = tokenizer
        self.template = template
        self.num_ctx = replica.num_ctx
        self.num_slots = replica.num_slots * num_replicas
        self.adapters = tuple(replica.adapters)
        self._where = f"model {replica.file.stem}"
        self._app = handle.app_name
        self._generate = handle.options(method_name="generate", stream=True)
        self._embed = handle.options(method_name="embed")
        self._owns_ray = owns_ray

    def run(self, ids: Sequence[int], sampling: Sampling, guidance: Guidance, receive: Callable[[Piece], bool]) -> None:
        """Pass the pieces of a replica's answer to `receive`, on the caller's thread."""
        with self._explained():
            asyncio.run(self._run(list(ids), sampling, guidance, receive))

    def embed(self, ids: Sequence[int]) -> np.ndarray:
        """The embedding_d of a text, float32, of length 1."""
        for _ in range(NUM_ATTEMPTS):
            with self._explained(), suppress(RayActorError):
                found = self._embed.remote(list(ids)).result(timeout_s=MAX_EMBED_SECONDS)
                if isinstance(found, BaihuaError):
                    raise found
                return found
        raise self._gave_up()

    def close(self) -> None:
        """Stop the replicas, and Ray if it was started for them."""
        if self._owns_ray:
            ray.shutdown()
        elif ray.is_initialized():
            serve.delete(self._app)

    async def _run(
        self, ids: list[int], sampling: Sampling, guidance: Guidance, receive: Callable[[Piece], bool]
    ) -> None:
        for _ in range(NUM_ATTEMPTS):
            try:
                async with aclosing(_pieces(self._generate.remote(ids, sampling, guidance))) as pieces:
                    return await self._forward(pieces, receive)
            except RayActorError:
                logger.warning("%s: a replica died before its answer began; retrying on another one", self._where)
        raise self._gave_up()

    async def _forward(self, pieces: AsyncGenerator[Piece], receive: Callable[[Piece], bool]) -> None:
        """Pass pieces to `receive`; a RayActorError if the replica dies while a retry is still possible."""
        has_begun = False
        try:
            async for piece in pieces:
                has_begun = has_begun or bool(piece.text or piece.likelihoods)
                if receive(piece) or piece.finish_reason is not None:
                    return
        except RayActorError as error:
            if not has_begun:
                raise
            raise RunError("a replica died in the middle of an answer", where=self._where, fix="ask again") from error
        raise RunError("a replica ended an answer before it was complete", where=self._where)

    @contextmanager
    def _explained(self) -> Generator[None]:
        """Turn Ray's errors into ours."""
        try:
            yield
        except (RayError, RayServeException, TimeoutError) as error:
            message = (str(error).strip() or type(error).__name__).splitlines()[-1]
            raise RunError(f"a replica failed: {message}", where=self._where) from error

    def _gave_up(self) -> RunError:
        message = f"{NUM_ATTEMPTS} replicas died on this request before any of its answer was sent"
        fix = "ask again; if it happens again, run `baihua serve --debug` without --replicas to see why"
        return RunError(message, where=self._where, fix=fix)


async def _pieces(response: Any) -> AsyncGenerator[Piece]:
    """Yield a replica's pieces, and empty ones while it is silent; closing this cancels the work there."""
    pending: asyncio.Future[list[Piece] | BaihuaError | None] | None = None
    try:
        while True:
            pending = asyncio.ensure_future(anext(response, None))
            while not (await asyncio.wait({pending}, timeout=SILENCE_SECONDS))[0]:
                yield Piece("")
            batch = pending.result()
            if batch is None:
                return
            if isinstance(batch, BaihuaError):
                raise batch
            for piece in batch:
                yield piece
    finally:
        if pending is not None:
            pending.cancel()
        response.cancel()


def node_cpus() -> list[int]:
    """CPUs of each live node."""
    return sorted(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])


def deploy(replica: ReplicaConfig, num_replicas: int) -> "DeploymentHandle[Replica]":
    """Start the replicas and wait until all of them have loaded the model."""
    # Two servers on one cluster may serve files of the same name.
    name = f"baihua-{replica.file.stem}-{secrets.token_hex(4)}"
    quiet = {"log_level": "ERROR", "enable_access_log": False}
    serve.start(proxy_location="Disabled", logging_config=quiet)
    deployment = serve.deployment(
        name="replica",
        num_replicas=num_replicas,
        max_ongoing_requests=replica.num_slots,
        ray_actor_options={"num_cpus": replica.num_threads},
        health_check_period_s=1,
        health_check_timeout_s=30,
        # The server lets answers finish before it closes the engine.
        graceful_shutdown_timeout_s=1,
        graceful_shutdown_wait_loop_s=0.1,
        max_constructor_retry_count=1,
        logging_config=quiet,
    )
    target = serve.RunTarget(deployment(Replica).bind(replica), name=name, route_prefix=None)
    [handle] = serve.run_many([target], wait_for_applications_running=False)
    try:
        wait_until_running(name)
    except (BaihuaError, KeyboardInterrupt):
        serve.delete(name)
        raise
    return handle


def wait_until_running(name: str, *, max_seconds: float = MAX_START_SECONDS) -> None:
    """Wait for an application; a replica's own error, a RunError or an InputError if it does not start."""
    deadline = time.monotonic() + max_seconds
    while (found := serve.status().applications[name]).status != "RUNNING":
        message = "\n".join([found.message, *(one.message for one in found.deployments.values())]).strip()
        if found.status in ("DEPLOY_FAILED", "UNHEALTHY"):
            raise find_error(message) or RunError(f"the replicas do not start: {message}", where="--replicas")
        if time.monotonic() > deadline:
            what = f"the replicas did not start within {max_seconds:g} s: {message or 'Ray gives no reason'}"
            fix = "check with `ray status` whether other work occupies the cluster's CPUs"
            raise InputError(what, where="--replicas", fix=fix)
        time.sleep(0.2)
