"""The only reader of the environment; what it read goes into manifests, except secrets."""

import os
from collections.abc import Mapping

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
