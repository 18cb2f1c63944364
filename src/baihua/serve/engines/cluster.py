"""Replicas of a model on Ray Serve: processes with one llama.cpp engine each, behind one front.

Ray Serve starts and monitors them, restarts those that die, and routes each request to one with a free slot; its HTTP
proxy is not used. A request whose replica dies before any of its text was sent is retried on another one; later a
retry could not be hidden from the client, so the answer ends with a RunError.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from baihua.backends.llama_cpp.library import default_num_threads
from baihua.backends.llama_cpp.tokenizer import GgufTokenizer
from baihua.core.errors import BaihuaError, InputError
from baihua.core.ray import connect
from baihua.modelfiles.gguf_header import read_model_header
from baihua.serve.api.engine import Engine

# Ray sends the small pieces of answers directly, not through its object store, whose default is a third of the memory.
STORE_BYTES = 100 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaSettings:
    """Where replicas run, and how many."""

    address: str = "local"
    """HOST:PORT of a running Ray cluster, or `local` for a private one on this machine."""
    num_replicas: int
    """For each model."""
    num_models: int = 1
    """Models that share the CPUs."""


def open_engine(
    file: Path,
    *,
    settings: ReplicaSettings,
    num_slots: int,
    num_ctx: int,
    num_threads: int | None = None,
    adapters: Mapping[str, Path],
) -> Engine:
    """Start replicas of a GGUF file as one engine; `num_slots` and `num_threads` are those of each replica.

    The file and its adapters must be readable at the same paths on every node.
    """
    file = file.resolve()
    num_ctx = min(num_ctx, read_model_header(file).size("context_length"))
    tokenizer = GgufTokenizer(file)
    template = tokenizer.template()
    owns_ray = connect_ray(settings.address)
    # Not at the top: it imports Ray, which then reads the variables that `connect` sets.
    from baihua.serve.engines import cluster_engine

    try:
        replica = cluster_engine.ReplicaConfig(
            file=file,
            num_slots=num_slots,
            num_ctx=num_ctx,
            num_threads=choose_num_threads(
                settings.num_replicas * settings.num_models, cluster_engine.node_cpus(), num_threads=num_threads
            ),
            adapters={name: one.resolve() for name, one in adapters.items()},
        )
        handle = cluster_engine.deploy(replica, settings.num_replicas)
    except (BaihuaError, KeyboardInterrupt):
        if owns_ray:
            cluster_engine.ray.shutdown()
        raise
    return cluster_engine.ClusterEngine(
        handle, replica, tokenizer=tokenizer, template=template, num_replicas=settings.num_replicas, owns_ray=owns_ray
    )


def connect_ray(address: str) -> bool:
    """Join a Ray cluster, or start a private one for `local`; return whether it was started here."""
    owns_ray = connect(
        address, option="--replicas", module="ray.serve", num_cpus=default_num_threads(), store_bytes=STORE_BYTES
    )
    # Ray Serve would log each death of a replica in fifty lines.
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    return owns_ray


def choose_num_threads(num_replicas: int, cpus: list[int], *, num_threads: int | None) -> int:
    """Threads per replica on nodes with these CPUs: as many as fit everywhere, unless they are given."""
    choices = [num_threads] if num_threads else range(max(cpus, default=0), 0, -1)
    for choice in choices:
        if sum(cpu // choice for cpu in cpus) >= num_replicas:
            return choice
    each = f"{num_threads or 1} thread{'s' if (num_threads or 1) > 1 else ''}"
    raise InputError(
        f"{num_replicas} replicas of {each} each do not fit: the nodes have {', '.join(map(str, cpus)) or 'no'} CPUs",
        where=f"--replicas {num_replicas}",
        fix="use fewer replicas or --threads, or a larger cluster",
    )
