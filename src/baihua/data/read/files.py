"""Finding the files of a recipe's names: shipped sets, catalogue entries, hubs, files, folders and patterns."""

import re
from dataclasses import dataclass
from pathlib import Path

from baihua.core.errors import InputError
from baihua.data.read import catalog, hub

KINDS = (".json", ".jsonl", ".csv", ".tsv", ".parquet")
SUFFIXES = tuple(kind + packing for kind in KINDS for packing in ("", ".gz", ".zst"))

STARTER = "starter:"
CATALOG = catalog.PREFIX
HUBS = ("hub:", "modelscope:")
STARTER_FOLDER = Path(__file__).parents[1] / "made" / "starter"
HUB = re.compile(
    r"(?P<hub>hub|modelscope):(?P<name>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[\w./-]+))?(:(?P<path>[^:]+))?"
)


@dataclass(frozen=True, slots=True)
class Origin:
    """Files with the source and licence of their rows; without a source, the name of the file is used."""

    files: list[Path]
    source: str | None = None
    licence: str | None = None


def is_path(name: str) -> bool:
    """Whether a name in a recipe is a path of this machine."""
    return not name.startswith((STARTER, CATALOG, *HUBS))


def check_name(name: str) -> None:
    """Refuse a name that finds nothing; for a hub only the form is checked."""
    if name.startswith(CATALOG):
        hub_address(name)
    elif name.startswith(HUBS):
        _parse_hub(name)
    else:
        find_files([name])


def find_origins(names: list[str], cache: Path, *, source: str | None, licence: str | None) -> list[Origin]:
    """The files of each name; data sets of hubs are downloaded, those of ModelScope into `cache`.

    `source` and `licence` take precedence over those that are known.
    """
    found = (_origin(name, cache) for name in names)
    return [Origin(one.files, source or one.source, licence or one.licence) for one in found]


def find_files(names: list[str]) -> list[Path]:
    """The files of paths and `starter:` names, sorted within each name; a name that finds nothing is an InputError."""
    return [file for name in names for file in _expand(name)]


def hub_address(name: str) -> str:
    """The address on a hub of a catalogue entry, given as `catalog:NAME`."""
    entry = catalog.find(name)
    if entry.hub is None and entry.modelscope is None:
        raise InputError(
            "this collection is in the catalogue, but is not known to be on a hub",
            where=name,
            fix="download it yourself and name its files",
        )
    inside = f":{entry.path}" if entry.path else ""
    return (f"hub:{entry.hub}" if entry.hub else f"modelscope:{entry.modelscope}") + inside


def _origin(name: str, cache: Path) -> Origin:
    if name.startswith(STARTER):
        return Origin(_expand(name), None, "CC0-1.0")
    if name.startswith(CATALOG):
        return Origin(_fetch(hub_address(name), cache), name.removeprefix(CATALOG), catalog.find(name).licence)
    if name.startswith(HUBS):
        return Origin(_fetch(name, cache), _parse_hub(name)["name"])
    return Origin(_expand(name))


def _expand(name: str) -> list[Path]:
    if name.startswith(STARTER):
        return _starter(name.removeprefix(STARTER))
    path = Path(name)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and file.name.lower().endswith(SUFFIXES))
    elif any(mark in name for mark in "*?[") and not path.exists():
        anchor = Path(path.anchor)
        files = sorted(file for file in anchor.glob(str(path.relative_to(anchor))) if file.is_file())
    else:
        files = [path] if path.is_file() else []
    if not files:
        fix = f"name a file, folder or pattern of {', '.join(SUFFIXES)}"
        raise InputError("no data files found", where=name, fix=fix)
    for file in files:
        if not file.name.lower().endswith(SUFFIXES):
            fix = f"use {', '.join(KINDS)}, each also as .gz or .zst"
            raise InputError(f"cannot read files like {file.name!r}", where=str(file), fix=fix)
    return files


def _starter(category: str) -> list[Path]:
    files = sorted(STARTER_FOLDER.glob("*.jsonl"))
    found = [file for file in files if category in ("", file.stem)]
    if not found:
        known = ", ".join(file.stem for file in files)
        raise InputError(f"the starter set has no category {category!r} (known: {known})", where=STARTER + category)
    return found


def _parse_hub(name: str) -> re.Match[str]:
    match = HUB.fullmatch(name)
    if match is None:
        fix = "write it as hub:ORG/NAME[@REVISION][:PATH INSIDE] or modelscope:..."
        raise InputError("invalid hub address", where=name, fix=fix)
    return match


def _fetch(address: str, cache: Path) -> list[Path]:
    match = _parse_hub(address)
    name, revision, path = match.group("name", "revision", "path")
    if match["hub"] == "modelscope":
        folder = hub.from_modelscope(name, revision, cache, suffixes=SUFFIXES, path=path)
    else:
        folder = hub.from_hub(name, revision, suffixes=SUFFIXES, path=path)
    return _expand(str(folder / (path or "")))
