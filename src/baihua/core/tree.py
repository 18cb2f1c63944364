"""Plain values as YAML and JSON give them, told apart with types that hold."""

from typing import Any, TypeGuard


def is_mapping(value: object) -> TypeGuard[dict[Any, Any]]:
    """Whether a value is a mapping; nothing is said yet about its keys and values."""
    return isinstance(value, dict)


def is_sequence(value: object) -> TypeGuard[list[Any] | tuple[Any, ...]]:
    """Whether a value is a list or tuple."""
    return isinstance(value, list | tuple)
