"""Downloads of models and data sets from ModelScope's public HTTP interface."""

import json
import shutil
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from baihua.core.artifact import hash_file
from baihua.core.errors import InputError
from baihua.core.files import appearing

ENDPOINT = "https://www.modelscope.cn"
NUM_BUFFER_BYTES = 1 << 20
NUM_FILES_PER_PAGE = 200
TIMEOUT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Repository:
    """A model or a data set at one revision."""

    kind: Literal["models", "datasets"]
    name: str
    revision: str = "master"
    endpoint: str = ENDPOINT

    @property
    def address(self) -> str:
        """The URL below which its files are."""
        return f"{self.endpoint.rstrip('/')}/api/v1/{self.kind}/{self.name}/repo"


def list_files(repository: Repository) -> list[dict[str, Any]]:
    """Path, size and SHA-256 of every file of a repository."""
    try:
        if repository.kind == "models":
            query = _query(Revision=repository.revision, Recursive="true")
            return _files(f"{repository.address}/files?{query}")
        return _list_pages(repository)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"ModelScope did not list the files of {repository.name} at {repository.revision!r}: {error}",
            where=f"source 'modelscope:{repository.name}'",
            fix="check the name, the revision and the network",
        ) from error


def download(repository: Repository, listed: list[dict[str, Any]], folder: Path) -> None:
    """Download the listed files that are not complete yet, and check each."""
    for file in listed:
        target = folder / file["Path"]
        target.parent.mkdir(parents=True, exist_ok=True)
        _fetch(f"{repository.address}?{_query(Revision=repository.revision, FilePath=file['Path'])}", file, target)


def is_inside(path: str) -> bool:
    """Whether a listed path stays inside the download folder."""
    parts = PurePosixPath(path)
    return not parts.is_absolute() and ".." not in parts.parts and "\\" not in path and ":" not in path


def _list_pages(repository: Repository) -> list[dict[str, Any]]:
    """The files of a data set, which are listed in pages."""
    found: list[dict[str, Any]] = []
    page: list[dict[str, Any]] = [{}]
    while page:
        number = len(found) // NUM_FILES_PER_PAGE + 1
        query = _query(
            Revision=repository.revision, Recursive="true", PageNumber=str(number), PageSize=str(NUM_FILES_PER_PAGE)
        )
        page = _files(f"{repository.address}/tree?{query}", with_folders=True)
        found += page
        if len(page) < NUM_FILES_PER_PAGE:
            break
    return [file for file in found if file.get("Type") != "tree"]


def _files(url: str, *, with_folders: bool = False) -> list[dict[str, Any]]:
    with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as reply:
        answer = json.load(reply)
    return [file for file in answer["Data"]["Files"] if with_folders or file.get("Type") != "tree"]


def _fetch(url: str, listed: dict[str, Any], file: Path) -> None:
    if _is_complete(file, listed):
        return
    with appearing(file) as partial:
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as reply, partial.open("wb") as stream:
                shutil.copyfileobj(reply, stream, NUM_BUFFER_BYTES)
        except OSError as error:
            raise InputError(
                f"ModelScope did not send {listed['Path']}: {error}",
                where=url,
                fix="run the same command again when the network is back",
            ) from error
        if not _is_complete(partial, listed):
            raise InputError(
                f"{listed['Path']} arrived with {partial.stat().st_size:,} bytes and SHA-256 {hash_file(partial)}, "
                f"expected {listed.get('Size')} bytes and {listed.get('Sha256')}",
                where=url,
                fix="run the same command again; if it fails again, the repository changed during the download",
            )


def _is_complete(file: Path, listed: dict[str, Any]) -> bool:
    if not file.is_file() or file.stat().st_size != listed.get("Size"):
        return False
    return not listed.get("Sha256") or hash_file(file) == listed["Sha256"]


def _query(**parameters: str) -> str:
    return urllib.parse.urlencode(parameters)
