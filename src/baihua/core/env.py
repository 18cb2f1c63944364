"""The only reader of the environment; what it read goes into manifests, except secrets."""

import os
from collections.abc import Mapping

# What can change a stage's numbers from outside its recipe.
NUMERIC = ("CUDA_VISIBLE_DEVICES", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
SECRET_ENDINGS = ("_KEY", "_TOKEN", "_SECRET", "_PASSWORD")


class Environment:
    """Environment variables, with a record of those that were asked for."""

    def __init__(self, variables: Mapping[str, str] | None = None) -> None:
        self._variables = os.environ if variables is None else variables
        self._read: dict[str, str] = {}

    def get(self, name: str, default: str = "") -> str:
        """A variable's value; secrets are handed out but never recorded."""
        value = self._variables.get(name, default)
        if not name.endswith(SECRET_ENDINGS):
            self._read[name] = value
        return value

    @property
    def record(self) -> dict[str, str]:
        """What was read so far, without secrets."""
        return dict(sorted(self._read.items()))


def numeric_settings(environment: Environment) -> dict[str, str]:
    """The variables that are set and can change a stage's numbers, for its manifest."""
    return {name: value for name in NUMERIC if (value := environment.get(name))}


def forbid_telemetry() -> None:
    """Tell the libraries that would report their use not to, before they are imported; children inherit it."""
    os.environ.update(dict.fromkeys(("DO_NOT_TRACK", "SCARF_NO_ANALYTICS"), "1"))
    os.environ.update(dict.fromkeys(("DAFT_ANALYTICS_ENABLED", "RAY_USAGE_STATS_ENABLED"), "0"))
    # Progress is ours to show: theirs would be drawn over it.
    os.environ["DAFT_PROGRESS_BAR"] = "0"
