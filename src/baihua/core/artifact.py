"""Artifacts: folders that a stage wrote once, each with a manifest of its files and of what it was made from."""

import contextlib
import hashlib
import json
import platform
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from baihua.core.errors import InputError
from baihua.core.files import is_mapping

SCHEMA = 1
MANIFEST = "manifest.json"
# A part, such as `parts/heldout`, is at most two folders below the manifest, a file of one three.
MAX_DEPTH = 3
VERSIONED = (
    *("baihua", "torch", "transformers", "peft", "accelerate", "bitsandbytes"),
    *("tokenizers", "safetensors", "gguf", "xllamacpp"),
)


@dataclass(frozen=True, slots=True)
class Artifact:
    """A published folder and its manifest."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def id(self) -> str:
        """The identity, 64 hex digits."""
        return self.manifest["id"]

    @property
    def sources(self) -> dict[str, str | None]:
        """Licence of each source of the data behind it; None where none was stated."""
        return self.manifest.get("sources", {})


def read_artifact(folder: Path) -> Artifact:
    """Read a published artifact; a folder without a manifest is not one."""
    manifest = _read_manifest(folder / MANIFEST)
    if manifest is None:
        raise InputError("this folder is not a finished artifact: it has no manifest.json", where=str(folder))
    return Artifact(folder, manifest)


def find_artifact(path: Path, *, max_depth: int = MAX_DEPTH) -> Artifact | None:
    """The artifact that a path is, or lies in at most `max_depth` folders deep; None elsewhere."""
    path = path.resolve()
    for folder in (path, *path.parents[:max_depth]):
        manifest = _read_manifest(folder / MANIFEST)
        if manifest is not None:
            return Artifact(folder, manifest)
    return None


def _read_manifest(file: Path) -> dict[str, Any] | None:
    """A manifest of Baihua; None where there is no file, or one of another program."""
    if not file.is_file():
        return None
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(f"the manifest is not valid JSON: {error}", where=str(file), fix="build it again") from error
    if not is_mapping(manifest) or "schema" not in manifest:
        return None
    if manifest["schema"] != SCHEMA:
        what = f"the manifest has schema {manifest['schema']!r}, this version reads {SCHEMA}"
        raise InputError(what, where=str(file), fix="use the version of Baihua that wrote it, or build it again")
    return manifest


def hash_file(file: Path) -> str:
    """SHA-256 of a file's bytes, 64 hex digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_json(value: Any) -> str:
    """SHA-256 of a value's canonical JSON, 64 hex digits."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def list_files(folder: Path) -> list[dict[str, Any]]:
    """Path, size and SHA-256 of every file below a folder except its manifest, sorted by path."""
    manifests = (folder / MANIFEST, folder / f"{MANIFEST}.partial")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path not in manifests)
    return [
        {"path": file.relative_to(folder).as_posix(), "bytes": file.stat().st_size, "sha256": hash_file(file)}
        for file in files
    ]


def differences(artifact: Artifact) -> list[str]:
    """The differences between an artifact's files and its manifest, a sentence each; empty if there are none."""
    wanted = {entry["path"]: entry for entry in artifact.manifest["files"]}
    found = {entry["path"]: entry for entry in list_files(artifact.folder)}
    sentences: list[str] = []
    for path in sorted(wanted | found):
        if path not in found:
            sentences.append(f"{path}: missing")
        elif path not in wanted:
            sentences.append(f"{path}: not in the manifest")
        elif found[path] != wanted[path]:
            now, before = (f"{e['bytes']:,} bytes with SHA-256 {e['sha256'][:12]}" for e in (found[path], wanted[path]))
            sentences.append(f"{path}: {now}..., the manifest has {before}...")
    return sentences


def part_of(folder: Path, part: str) -> Path:
    """A subfolder of an artifact, or its file with that stem (`q8_0` finds `model-q8_0.gguf`); its folder for ""."""
    if (folder / part).is_dir():
        return folder / part
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != MANIFEST)
    matches = [path for path in files if path.stem == part or path.stem.endswith(f"-{part}")]
    if matches:
        return matches[0]
    known = sorted(path.name for path in folder.iterdir() if path.is_dir()) + sorted(path.stem for path in files)
    raise InputError(f"no part {part!r} here; the parts are: {', '.join(known)}", where=str(folder))


def machine() -> dict[str, Any]:
    """Facts about this machine for manifests: no names, no paths."""
    facts: dict[str, Any] = {"system": platform.system(), "machine": platform.machine()}
    facts["python"] = platform.python_version()
    torch = sys.modules.get("torch")
    if torch is not None:
        facts["num_threads"] = torch.get_num_threads()
        facts["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return facts


def versions() -> dict[str, str]:
    """Installed versions of the packages that can change a result."""
    found: dict[str, str] = {}
    for name in VERSIONED:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
