"""Ray for replicas: start or join it, and share its CPUs."""

import logging

from baihua.backends.llama_cpp.library import default_num_threads
from baihua.core import ray as core_ray
from baihua.core.errors import InputError

# Pieces of answers are so small that Ray sends them without its object store; its default is a third of the memory.
STORE_BYTES = 100 * 2**20


def connect(address: str) -> bool:
    """Join the Ray at an address, or start a private one for `local`; return whether it was started here."""
    is_ours = core_ray.connect(
        address,
        option="--replicas",
        module="ray.serve",
        num_cpus=default_num_threads(),
        store_bytes=STORE_BYTES,
    )
    # Ray Serve would log each death of a replica in fifty lines; our errors say what it means for an answer.
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    return is_ours


def threads_for(num_replicas: int, cpus: list[int], *, num_threads: int | None) -> int:
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


def node_cpus() -> list[int]:
    """CPUs of each live node."""
    import ray  # pyright: ignore[reportMissingImports]

    return sorted(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])
