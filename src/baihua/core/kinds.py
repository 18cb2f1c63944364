"""The folder is the registry: a `kind` in a recipe is the name of a file in a package's folder.

`extend` adds a folder of the user's, laid out like the package: `DIR/data/formats/mine.py` becomes the format `mine`.
"""

import difflib
import hashlib
import importlib
import pkgutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny, ValidationInfo

from baihua.core.config import Base
from baihua.core.errors import InputError
from baihua.core.files import is_mapping

ROOT = Path(__file__).resolve().parents[1]


def names(package: str) -> list[str]:
    """The kinds in a package's folder, sorted."""
    path = importlib.import_module(package).__path__
    return sorted(module.name for module in pkgutil.iter_modules(path) if not module.ispkg)


def find(package: str, name: str) -> ModuleType:
    """The module of one kind; an unknown name is an InputError with the known names and the nearest one."""
    known = names(package)
    if name not in known:
        # The word for a package's kinds: `baihua.data.formats` holds formats.
        raise InputError(unknown(name, known, what=package.rsplit(".", 1)[-1].rstrip("s")))
    return importlib.import_module(f"{package}.{name}")


def member(module: object, name: str) -> Any:
    """Something that a file of a folder may define; None where it does not."""
    return vars(module).get(name)


def unknown(name: str, known: Sequence[str], *, what: str) -> str:
    """A sentence about an unknown name, with the nearest known one and all of them."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown {what} {name!r}{hint} (known: {', '.join(known) or 'none'})"


def extend(folder: Path) -> None:
    """Add a folder of extensions for this process."""
    if not folder.is_dir():
        raise InputError("the folder of extensions does not exist", where=str(folder), fix="check --extensions")
    for child in sorted(path for path in folder.rglob("*") if path.is_dir() and path.name != "__pycache__"):
        name = "baihua." + ".".join(child.relative_to(folder).parts)
        if (ROOT / child.relative_to(folder)).is_dir():
            importlib.import_module(name).__path__.append(str(child))


def extra_paths() -> dict[str, list[str]]:
    """Folders of extensions by package, to pass to another process."""
    packages = {name: module for name, module in sys.modules.items() if name.startswith("baihua.")}
    found = {
        name: [path for path in module.__path__ if not Path(path).is_relative_to(ROOT)]
        for name, module in sorted(packages.items())
        if member(module, "__path__") is not None
    }
    return {name: paths for name, paths in found.items() if paths}


def add_paths(paths: dict[str, list[str]]) -> None:
    """Use the folders of extensions of another process."""
    for name, folders in paths.items():
        path = importlib.import_module(name).__path__
        path.extend(folder for folder in folders if folder not in path)


def foreign_hash(module_name: str) -> str | None:
    """The SHA-256 of an extension's file; None for a file of Baihua, whose VERSION counts instead."""
    file = sys.modules[module_name].__file__
    if file is None or Path(file).resolve().is_relative_to(ROOT):
        return None
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


@dataclass(frozen=True, slots=True)
class KindsOf:
    """Metadata of a config field: the package whose files are its kinds."""

    package: str


def OneOf(package: str) -> Any:  # noqa: N802  (used as a type)
    """The type of a config field `{kind: NAME, ...}` whose class is the `Config` of a file in a folder."""

    def choose(value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, Base):
            return value
        value = {"kind": value} if isinstance(value, str) else value
        if not is_mapping(value) or not isinstance(value.get("kind"), str):
            raise InputError(f"needs a `kind`, one of: {', '.join(names(package))}")
        return find(package, value["kind"]).Config.model_validate(value, context=info.context)

    return Annotated[SerializeAsAny[Base], BeforeValidator(choose), KindsOf(package)]
