"""From what a recipe names to files: shipped sets, catalogue entries, hubs, files, folders and patterns."""

import re
from dataclasses import dataclass
from pathlib import Path

from baihua.core.errors import InputError
from baihua.data.read.records import SUFFIXES, check_suffix

STARTER = "starter:"
CATALOG = "catalog:"
HUBS = ("hub:", "modelscope:")
STARTER_FOLDER = Path(__file__).parents[1] / "made" / "starter"
HUB = re.compile(
    r"(?P<hub>hub|modelscope):(?P<name>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[\w./-]+))?(:(?P<path>[^:]+))?"
)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the rows of some files come from: the name that they carry, and the licence if it is known."""

    files: list[Path]
    source: str | None = None
    licence: str | None = None


def is_path(name: str) -> bool:
    """Whether a name of a recipe means something on this disk."""
    return not name.startswith((STARTER, CATALOG, *HUBS))


def check_name(name: str) -> None:
    """Refuse a name that finds nothing; what lies on a hub is only checked for its form."""
    if name.startswith(CATALOG):
        catalogued(name)
    elif name.startswith(HUBS):
        _parse_hub(name)
    else:
        find_files([name])


def find_origins(names: list[str], cache: Path) -> list[Origin]:
    """Files behind each name, fetched into `cache` where they lie on a hub."""
    return [_origin(name, cache) for name in names]


def find_files(names: list[str]) -> list[Path]:
    """Files that names on this disk mean, sorted within each name; a name that finds nothing is an InputError."""
    return [file for name in names for file in _expand(name)]


def catalogued(name: str) -> tuple[str, str | None]:
    """The hub address and the licence of a catalogue's entry, given as `catalog:NAME`."""
    from baihua.data.read import catalog

    entry = catalog.find(name.removeprefix(CATALOG))
    if entry.hub is None and entry.modelscope is None:
        raise InputError(
            "this collection is in the catalogue, but no hub is known to have it",
            where=name,
            fix="fetch it yourself and name its files",
        )
    inside = f":{entry.path}" if entry.path else ""
    return (f"hub:{entry.hub}" if entry.hub else f"modelscope:{entry.modelscope}") + inside, entry.licence


def _origin(name: str, cache: Path) -> Origin:
    if name.startswith(STARTER):
        return Origin(_expand(name), None, "CC0-1.0")
    if name.startswith(CATALOG):
        hub, licence = catalogued(name)
        return Origin(_fetch(hub, cache), name.removeprefix(CATALOG), licence)
    if name.startswith(HUBS):
        return Origin(_fetch(name, cache), _parse_hub(name)["name"])
    return Origin(_expand(name))


def _expand(name: str) -> list[Path]:
    if name.startswith(STARTER):
        return _starter(name)
    path = Path(name)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and file.name.lower().endswith(SUFFIXES))
    elif any(mark in name for mark in "*?[") and not path.exists():
        anchor = Path(path.anchor)
        files = sorted(file for file in anchor.glob(str(path.relative_to(anchor))) if file.is_file())
    else:
        files = [path] if path.is_file() else []
    if not files:
        raise InputError(
            "no data file here", where=name, fix=f"name a file, folder or pattern of {', '.join(SUFFIXES)}"
        )
    for file in files:
        check_suffix(file)
    return files


def _starter(name: str) -> list[Path]:
    wanted = name.removeprefix(STARTER)
    files = sorted(STARTER_FOLDER.glob(f"{wanted or '*'}.jsonl"))
    if not files:
        known = ", ".join(sorted(file.stem for file in STARTER_FOLDER.glob("*.jsonl")))
        raise InputError(f"the starter set has no category {wanted!r} (known: {known})", where=name)
    return files


def _parse_hub(name: str) -> re.Match[str]:
    match = HUB.fullmatch(name)
    if match is None:
        raise InputError(
            "this is no name on a hub",
            where=name,
            fix="write it as hub:ORG/NAME[@REVISION][:PATH INSIDE] or modelscope:...",
        )
    return match


def _fetch(name: str, cache: Path) -> list[Path]:
    from baihua.data.read import hub

    match = _parse_hub(name)
    if match["hub"] == "modelscope":
        folder = hub.from_modelscope(match["name"], match["revision"], cache, path=match["path"])
    else:
        folder = hub.from_hub(match["name"], match["revision"], path=match["path"])
    return _expand(str(folder / (match["path"] or "")))
