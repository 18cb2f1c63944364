"""Models from ModelScope, by its public HTTP interface."""

import json
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from baihua.core.artifact import hash_file
from baihua.core.errors import InputError
from baihua.model.files import check_weights, is_model_file

ENDPOINT = "https://www.modelscope.cn"
NUM_BUFFER_BYTES = 1 << 20
TIMEOUT_SECONDS = 60


def download(model: str, revision: str | None, cache: Path, *, endpoint: str | None = None) -> Path:
    """The folder of a model, fetched where it is not yet complete; every file is checked as it arrives."""
    revision = revision or "master"
    address = f"{endpoint or ENDPOINT}/api/v1/models/{model}/repo"
    listed = _list_files(address, revision, model)
    files = [file for file in listed if _is_wanted(file["Path"])]
    check_weights([file["Path"] for file in files], [file["Path"] for file in listed], f"modelscope:{model}")
    folder = cache / "modelscope" / model.replace("/", "--") / revision.replace("/", "--")
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        _fetch(f"{address}?{_query(Revision=revision, FilePath=file['Path'])}", file, folder / file["Path"])
    return folder


def _is_wanted(path: str) -> bool:
    # Only plain names: a path could lead out of the folder, and parts in subfolders are other formats.
    return is_model_file(path) and Path(path).name == path and "\\" not in path


def _list_files(address: str, revision: str, model: str) -> list[dict[str, Any]]:
    url = f"{address}/files?{_query(Revision=revision, Recursive='true')}"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as reply:
            answer = json.load(reply)
        return [file for file in answer["Data"]["Files"] if file.get("Type") != "tree"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"ModelScope did not list the files of {model} at {revision!r}: {error}",
            where=f"source 'modelscope:{model}'",
            fix="check the name, the revision and the network",
        ) from error


def _fetch(url: str, listed: dict[str, Any], file: Path) -> None:
    if _is_complete(file, listed):
        return
    partial = file.with_name(file.name + ".partial")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as reply, partial.open("wb") as stream:
            while block := reply.read(NUM_BUFFER_BYTES):
                stream.write(block)
    except OSError as error:
        raise InputError(
            f"ModelScope did not send {listed['Path']}: {error}", where=url, fix="run again when the network is back"
        ) from error
    if not _is_complete(partial, listed):
        raise InputError(
            f"{listed['Path']} arrived with {partial.stat().st_size:,} bytes and SHA-256 {hash_file(partial)}, "
            f"announced were {listed.get('Size')} bytes and {listed.get('Sha256')}",
            where=url,
            fix="run again; if it stays so, the model was changed while it was fetched",
        )
    partial.replace(file)


def _is_complete(file: Path, listed: dict[str, Any]) -> bool:
    if not file.is_file() or file.stat().st_size != listed.get("Size"):
        return False
    return not listed.get("Sha256") or hash_file(file) == listed["Sha256"]


def _query(**parameters: str) -> str:
    return urllib.parse.urlencode(parameters)
