"""Finding the files of a recipe's names: shipped sets, catalogue entries, hubs, files, folders and patterns.

From the Hugging Face hub and from ModelScope only data files are downloaded, never code.
"""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from baihua.core.errors import InputError
from baihua.core.modelscope import ENDPOINT, Repository, download, is_inside, list_files
from baihua.data.read import catalog

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
        what = "this collection is in the catalogue, but is not known to be on a hub"
        raise InputError(what, where=name, fix="download it yourself and name its files")
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
    kind, name, revision, path = _parse_hub(address).group("hub", "name", "revision", "path")
    folder = from_hub(name, revision, path) if kind == "hub" else from_modelscope(name, revision, path, cache)
    return _expand(str(folder / (path or "")))


def from_hub(name: str, revision: str | None, path: str | None) -> Path:
    """The folder of a data set's snapshot in the hub's own cache, which other tools share; a cached one works offline.

    Only data files are downloaded; with `path` only that file or folder of the data set.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    patterns = [path, *(f"{path}/*{suffix}" for suffix in SUFFIXES)] if path else [f"*{suffix}" for suffix in SUFFIXES]
    try:
        return Path(snapshot_download(name, repo_type="dataset", revision=revision, allow_patterns=patterns))
    except (HFValidationError, OSError) as error:
        what = f"cannot download the data set: {str(error).strip().splitlines()[0]}"
        fix = "check the name, the revision and the network; a gated data set needs `hf auth login`"
        raise InputError(what, where=f"hub:{name}", fix=fix) from error


def from_modelscope(
    name: str, revision: str | None, path: str | None, cache: Path, *, endpoint: str = ENDPOINT
) -> Path:
    """The folder of a data set, downloaded into `cache` where it is not complete yet; `path` as above."""
    repository = Repository("datasets", name, revision or "master", endpoint)
    listed = ((file, file["Path"]) for file in list_files(repository))
    found = ((file, at) for file, at in listed if is_inside(at) and at.lower().endswith(SUFFIXES))
    wanted = [file for file, at in found if path is None or PurePosixPath(at).is_relative_to(path)]
    folder = cache / name.replace("/", "--") / repository.revision.replace("/", "--")
    folder.mkdir(parents=True, exist_ok=True)
    download(repository, wanted, folder)
    return folder
