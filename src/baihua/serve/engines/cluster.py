"""Replicas of a model on Ray Serve: each is a process with a llama.cpp of its own, behind one front.

Ray Serve starts them, watches over them, starts a dead one anew and gives each request to one that has room. Nothing
of its HTTP is used. A request whose replica dies before any of its text was told begins anew at another; afterwards
that cannot be hidden, and is a RunError.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from baihua.backends.llama_cpp.tokenizer import GgufTokenizer
from baihua.chat.types import Guidance, Piece, Sampling
from baihua.core.errors import BaihuaError, InputError, RunError
from baihua.core.log import logger
from baihua.modelfiles.gguf_header import read_model_header
from baihua.serve.api.engine import LoadedModel
from baihua.serve.engines.cluster_ray import connect, node_cpus, threads_for
from baihua.serve.engines.cluster_replica import Opening, Parcel, Replica, error_in

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle  # pyright: ignore[reportMissingImports]

# A large file may come over a network, and the cluster may have to free a place first.
MAX_START_SECONDS = 600
LOOK_SECONDS = 0.2
# So often whoever waits for a silent replica is asked whether they still want an answer.
SILENCE_SECONDS = 0.5
# A request that ends each replica it meets must not end all of them.
NUM_ATTEMPTS = 3
MAX_EMBED_SECONDS = 60


class ClusterEngine:
    """Hands requests to replicas; safe to use from many threads."""

    def __init__(
        self, handle: "DeploymentHandle[Replica]", opening: Opening, *, num_replicas: int, owns_ray: bool = False
    ) -> None:
        self.num_ctx = opening.num_ctx
        self.num_slots = opening.num_slots * num_replicas
        self.adapters = tuple(opening.adapters)
        self._name = opening.file.stem
        self._app = handle.app_name
        self._writers = handle.options(method_name="write", stream=True)
        self._embedders = handle.options(method_name="embed")
        self._owns_ray = owns_ray

    def run(self, ids: Sequence[int], sampling: Sampling, guidance: Guidance, receive: Callable[[Piece], bool]) -> None:
        """Hand each piece of a replica's answer over, on the caller's thread."""
        asyncio.run(self._run(list(ids), sampling, guidance, receive))

    def embed(self, ids: Sequence[int]) -> np.ndarray:
        """A vector_d of length 1, float32, for a text."""
        from ray.exceptions import RayActorError, RayError  # pyright: ignore[reportMissingImports]
        from ray.serve.exceptions import RayServeException  # pyright: ignore[reportMissingImports]

        for _ in range(NUM_ATTEMPTS):
            try:
                found = self._embedders.remote(list(ids)).result(timeout_s=MAX_EMBED_SECONDS)
            except RayActorError:
                continue
            except (RayError, RayServeException, TimeoutError) as error:
                raise _failed(self._name, error) from error
            if isinstance(found, BaihuaError):
                raise found
            return found
        raise _worn_out(self._name)

    def close(self) -> None:
        """End the replicas, and Ray where it was started for them."""
        import ray  # pyright: ignore[reportMissingImports]
        from ray import serve  # pyright: ignore[reportMissingImports]

        if not ray.is_initialized():
            return
        if self._owns_ray:
            ray.shutdown()
        else:
            serve.delete(self._app)

    async def _run(
        self, ids: list[int], sampling: Sampling, guidance: Guidance, receive: Callable[[Piece], bool]
    ) -> None:
        from ray.exceptions import RayActorError, RayError  # pyright: ignore[reportMissingImports]
        from ray.serve.exceptions import RayServeException  # pyright: ignore[reportMissingImports]

        for _ in range(NUM_ATTEMPTS):
            hearing = _Hearing(receive)
            try:
                if await hearing.listen(_pieces(self._writers.remote(ids, sampling, guidance))):
                    return
                raise RunError("a replica ended an answer before it was complete", where=f"model {self._name}")
            except RayActorError as error:
                if hearing.is_told:
                    raise RunError(
                        "a replica ended in the middle of an answer", where=f"model {self._name}", fix="ask again"
                    ) from error
                logger.warning("a replica of %s ended before its answer began; another one is asked", self._name)
            except (RayError, RayServeException) as error:
                raise _failed(self._name, error) from error
        raise _worn_out(self._name)


class _Hearing:
    """One attempt to hear an answer."""

    def __init__(self, receive: Callable[[Piece], bool]) -> None:
        self._receive = receive
        self.is_told = False
        """Whether some of it was handed over."""

    async def listen(self, answer: AsyncGenerator[Piece]) -> bool:
        """Hand pieces over until no more are wanted or the last one has come; false where it never came."""
        async with aclosing(answer) as pieces:
            async for piece in pieces:
                self.is_told = self.is_told or bool(piece.text or piece.likelihoods)
                if self._receive(piece) or piece.finish_reason is not None:
                    return True
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Where replicas run, and how many."""

    address: str = "local"
    """HOST:PORT of a Ray that runs, or `local` for a private one of this machine."""
    num_replicas: int
    """For each model."""
    num_models: int = 1
    """So many share the CPUs."""


def open_engine(
    file: Path,
    *,
    cluster: Cluster,
    num_slots: int,
    num_ctx: int,
    num_threads: int | None = None,
    adapters: Mapping[str, Path],
) -> LoadedModel:
    """Replicas of a GGUF file as one engine; slots and threads are those of each replica.

    The file and its adapters must be readable at the same paths wherever replicas run.
    """
    file = file.resolve()
    num_ctx = min(num_ctx, read_model_header(file).size("context_length"))
    tokenizer = GgufTokenizer(file)
    template = tokenizer.template()
    is_ours = connect(cluster.address)
    try:
        opening = Opening(
            file=file,
            num_slots=num_slots,
            num_ctx=num_ctx,
            num_threads=threads_for(cluster.num_replicas * cluster.num_models, node_cpus(), num_threads=num_threads),
            adapters={name: one.resolve() for name, one in adapters.items()},
        )
        handle = _deploy(opening, cluster.num_replicas)
    except (BaihuaError, KeyboardInterrupt):
        if is_ours:
            _end_ray()
        raise
    engine = ClusterEngine(handle, opening, num_replicas=cluster.num_replicas, owns_ray=is_ours)
    return LoadedModel(engine, tokenizer, template)


async def _pieces(response: Any) -> AsyncGenerator[Piece]:
    """Yield what a replica sends, and empty pieces while it is silent; closing this cancels the work there."""
    coming: asyncio.Future[Parcel | BaihuaError | None] | None = None
    try:
        while True:
            coming = asyncio.ensure_future(anext(response, None))
            while not (await asyncio.wait({coming}, timeout=SILENCE_SECONDS))[0]:
                yield Piece("")
            parcel = coming.result()
            if parcel is None:
                return
            if isinstance(parcel, BaihuaError):
                raise parcel
            for piece in parcel:
                yield piece
    finally:
        if coming is not None:
            coming.cancel()
        response.cancel()


def _deploy(opening: Opening, num_replicas: int) -> "DeploymentHandle[Replica]":
    """Start the replicas, and wait until all of them have opened the model."""
    from ray import serve  # pyright: ignore[reportMissingImports]

    # Two fronts of one cluster may serve files of the same name.
    name = f"baihua-{opening.file.stem}-{secrets.token_hex(4)}"
    quiet = {"log_level": "ERROR", "enable_access_log": False}
    serve.start(proxy_location="Disabled", logging_config=quiet)
    deploy = serve.deployment(
        name="replica",
        num_replicas=num_replicas,
        max_ongoing_requests=opening.num_slots,
        ray_actor_options={"num_cpus": opening.num_threads},
        health_check_period_s=1,
        health_check_timeout_s=30,
        # The front lets answers finish before it closes the engine.
        graceful_shutdown_timeout_s=1,
        graceful_shutdown_wait_loop_s=0.1,
        max_constructor_retry_count=1,
        logging_config=quiet,
    )
    target = serve.RunTarget(deploy(Replica).bind(opening), name=name, route_prefix=None)
    [handle] = serve.run_many([target], wait_for_applications_running=False)
    try:
        _wait_until_running(name)
    except (BaihuaError, KeyboardInterrupt):
        serve.delete(name)
        raise
    return handle


def _wait_until_running(name: str) -> None:
    from ray import serve  # pyright: ignore[reportMissingImports]

    deadline = time.monotonic() + MAX_START_SECONDS
    while (found := serve.status().applications[name]).status != "RUNNING":
        told = "\n".join([found.message, *(one.message for one in found.deployments.values())]).strip()
        if found.status in ("DEPLOY_FAILED", "UNHEALTHY"):
            raise error_in(told) or RunError(f"the replicas do not start: {told}", where="--replicas")
        if time.monotonic() > deadline:
            raise InputError(
                f"the replicas did not start within {MAX_START_SECONDS} s: {told or 'Ray says no more'}",
                where="--replicas",
                fix="look whether other work holds the cluster's CPUs (ray status)",
            )
        time.sleep(LOOK_SECONDS)


def _end_ray() -> None:
    import ray  # pyright: ignore[reportMissingImports]

    ray.shutdown()


def _failed(name: str, error: Exception) -> RunError:
    return RunError(f"a replica failed: {str(error).strip().splitlines()[-1]}", where=f"model {name}")


def _worn_out(name: str) -> RunError:
    return RunError(
        f"{NUM_ATTEMPTS} replicas ended at this request, before any of its answer was told",
        where=f"model {name}",
        fix="ask again; if that ends them as well, --debug of `baihua serve` without --replicas says more",
    )
