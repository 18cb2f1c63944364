"""Environment variables: the only module that reads them; what was read goes into manifests, except secrets."""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

# Variables that can change a stage's numbers without a change of its recipe.
NUMERIC = ("CUDA_VISIBLE_DEVICES", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
SECRET_ENDINGS = ("_KEY", "_TOKEN", "_SECRET", "_PASSWORD")


class Environment:
    """Environment variables, with a record of those that were read."""

    def __init__(self, variables: Mapping[str, str] | None = None) -> None:
        self._variables = os.environ if variables is None else variables
        self._read: dict[str, str] = {}

    def get(self, name: str, default: str = "") -> str:
        """A variable's value; secrets are returned but never recorded."""
        value = self._variables.get(name, default)
        if not name.endswith(SECRET_ENDINGS):
            self._read[name] = value
        return value

    @property
    def record(self) -> dict[str, str]:
        """The variables read so far, without secrets."""
        return dict(sorted(self._read.items()))


def numeric_settings(environment: Environment) -> dict[str, str]:
    """The variables that are set and can change a stage's numbers, for its manifest."""
    return {name: value for name in NUMERIC if (value := environment.get(name))}


def variables_for_child(**more: str) -> dict[str, str]:
    """This process's variables and some more, for a child process."""
    return os.environ | more


def expected_processes(environment: Environment) -> int:
    """How many processes torchrun or `--processes` started for this run."""
    return int(environment.get("WORLD_SIZE") or 1)


def process_number(environment: Environment) -> int:
    """This process's number among them, from 0."""
    return int(environment.get("RANK") or 0)


def report_folder(environment: Environment) -> Path | None:
    """The folder where a process started by `--processes` leaves its error, which the parent process prints."""
    folder = environment.get("BAIHUA_REPORT_TO")
    return Path(folder) if folder else None


def cache_folder(environment: Environment) -> Path:
    """The folder for what can be made again: `BAIHUA_CACHE`, else the user's cache folder."""
    named = environment.get("BAIHUA_CACHE")
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
