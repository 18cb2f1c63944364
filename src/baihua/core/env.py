"""Environment variables: the only module that reads them."""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

# Variables that can change a stage's numbers without a change of its recipe.
NUMERIC = ("CUDA_VISIBLE_DEVICES", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
VARIABLES: Mapping[str, str] = os.environ
"""The variables of this process."""


def numeric_settings(variables: Mapping[str, str] = VARIABLES) -> dict[str, str]:
    """The variables that are set and can change a stage's numbers, for its manifest."""
    return {name: value for name in NUMERIC if (value := variables.get(name))}


def variables_for_child(**more: str) -> dict[str, str]:
    """This process's variables and some more, for a child process."""
    return os.environ | more


def expected_processes() -> int:
    """How many processes torchrun or `--processes` started for this run."""
    return int(VARIABLES.get("WORLD_SIZE") or 1)


def process_number() -> int:
    """This process's number among them, from 0."""
    return int(VARIABLES.get("RANK") or 0)


def report_folder() -> Path | None:
    """The folder where a process started by `--processes` leaves its error, which the parent process prints."""
    folder = VARIABLES.get("BAIHUA_REPORT_TO")
    return Path(folder) if folder else None


def cache_folder() -> Path:
    """The folder for what can be made again: `BAIHUA_CACHE`, else the user's cache folder."""
    named = VARIABLES.get("BAIHUA_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "baihua"


def forbid_telemetry() -> None:
    """Switch off the telemetry of libraries, before they are imported; child processes inherit it."""
    os.environ.update(dict.fromkeys(("DO_NOT_TRACK", "SCARF_NO_ANALYTICS"), "1"))
    os.environ.update(dict.fromkeys(("DAFT_ANALYTICS_ENABLED", "RAY_USAGE_STATS_ENABLED"), "0"))
    # Its progress bar would be drawn over ours.
    os.environ["DAFT_PROGRESS_BAR"] = "0"


def lock_private_ray() -> None:
    """Protect the Ray instance that this process will start with a random token, which its children inherit."""
    os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
