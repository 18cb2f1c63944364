"""The frozen, strict base of every config, and dotted overrides.

The docstring sentence under a field is also its help text. Two marks decide how a field counts towards an artifact's
identity:

    execution(default)   how the work is done, not its result (threads, concurrency); not part of the identity
    content(default)     a path or name whose *content* counts; the stage's `fingerprint` gives its hash instead
"""

import contextlib
import json
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo
from pydantic_core import PydanticUndefined

from baihua.core.errors import InputError
from baihua.core.files import is_mapping, is_sequence


class Base(BaseModel):
    """A config: frozen, strict about unknown keys, documented field by field."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


def execution(default: Any = PydanticUndefined) -> Any:
    """A field that changes how the work is done, but not its result."""
    return Field(default=default, json_schema_extra={"mark": "execution"})


def content(default: Any = PydanticUndefined) -> Any:
    """A field that names files or sources; their content counts, not their names."""
    return Field(default=default, json_schema_extra={"mark": "content"})


def identifying(config: BaseModel) -> dict[str, Any]:
    """The fields of a config that can change a result, nested ones included, as plain JSON values."""
    return {
        name: _identifying_value(config.__dict__[name])
        for name, field in type(config).model_fields.items()
        if not (is_mapping(field.json_schema_extra) and "mark" in field.json_schema_extra)
    }


def _identifying_value(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return identifying(value)
    if is_sequence(value):
        return [_identifying_value(item) for item in value]
    if is_mapping(value):
        return {key: _identifying_value(item) for key, item in value.items()}
    return value


def parse_override(text: str) -> tuple[list[str], Any]:
    """`a.b.c=value` as its path and its value, which is read as YAML (so 3, true and [a, b] work)."""
    path, sign, value = text.partition("=")
    if not sign or not path or not all(path.split(".")):
        raise InputError(f"cannot read the override {text!r}", fix="write it as path.to.key=value")
    try:
        parsed = yaml.safe_load(value) if value else ""
    except yaml.YAMLError as error:
        raise InputError(f"the value of override {text!r} is not valid YAML: {error}", fix="quote it") from error
    if isinstance(parsed, str) and "e" in parsed.lower():
        # YAML 1.1 reads 2e-4, which has no dot, as text; here it is a number.
        with contextlib.suppress(ValueError):
            parsed = float(parsed)
    return path.split("."), parsed


def apply_override(tree: dict[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    """A copy of a nested dict with one value replaced or added."""
    head, *rest = path
    if not rest:
        return tree | {head: value}
    below = tree.get(head, {})
    if not is_mapping(below):
        found = json.dumps(below, ensure_ascii=False)
        what = f"override {'.'.join(path)!r} goes below {head!r}, which is {found}"
        raise InputError(what, fix=f"set {head!r} itself")
    return tree | {head: apply_override(below, rest, value)}


def located(text: str, info: ValidationInfo) -> str:
    """A validator: a relative path in a recipe starts at the recipe's folder, not at the working directory."""
    folder: Path = info.context["folder"] if info.context else Path()
    return str(folder / Path(text).expanduser())
