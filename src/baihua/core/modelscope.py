"""Downloads of models and data sets from ModelScope's public HTTP interface."""

import itertools
import json
import shutil
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import urlencode

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
        listed = _list_pages(repository) if repository.kind == "datasets" else _list_page(repository, "files")
        return [file for file in listed if file.get("Type") != "tree"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"ModelScope did not list the files of {repository.name} at {repository.revision!r}: {error}"
        where = f"source 'modelscope:{repository.name}'"
        raise InputError(what, where=where, fix="check the name, the revision and the network") from error


def _list_pages(repository: Repository) -> Iterator[dict[str, Any]]:
    """The files and folders of a data set, which are listed in pages."""
    for number in itertools.count(1):
        page = _list_page(repository, "tree", PageNumber=number, PageSize=NUM_FILES_PER_PAGE)
        yield from page
        if len(page) < NUM_FILES_PER_PAGE:
            return


def _list_page(repository: Repository, listing: Literal["files", "tree"], **which: int) -> list[dict[str, Any]]:
    query = urlencode({"Revision": repository.revision, "Recursive": "true", **which})
    with urllib.request.urlopen(f"{repository.address}/{listing}?{query}", timeout=TIMEOUT_SECONDS) as reply:
        return json.load(reply)["Data"]["Files"]


def download(repository: Repository, listed: list[dict[str, Any]], folder: Path) -> None:
    """Download the listed files that are not complete yet, and check each."""
    for file in listed:
        target = folder / file["Path"]
        target.parent.mkdir(parents=True, exist_ok=True)
        query = urlencode({"Revision": repository.revision, "FilePath": file["Path"]})
        if not _is_complete(target, file):
            _fetch(f"{repository.address}?{query}", file, target)


def is_inside(path: str) -> bool:
    """Whether a listed path stays inside the download folder."""
    parts = PurePosixPath(path)
    return not parts.is_absolute() and ".." not in parts.parts and "\\" not in path and ":" not in path


def _fetch(url: str, listed: dict[str, Any], file: Path) -> None:
    with appearing(file) as partial:
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as reply, partial.open("wb") as stream:
                shutil.copyfileobj(reply, stream, NUM_BUFFER_BYTES)
        except OSError as error:
            what = f"ModelScope did not send {listed['Path']}: {error}"
            raise InputError(what, where=url, fix="run the same command again when the network is back") from error
        if not _is_complete(partial, listed):
            raise InputError(
                f"{listed['Path']} arrived with {partial.stat().st_size:,} bytes and SHA-256 {hash_file(partial)}, "
                f"expected {listed.get('Size')} bytes and {listed.get('Sha256')}",
                where=url,
                fix="run the same command again; if it fails again, the repository changed during the download",
            )


def _is_complete(file: Path, listed: dict[str, Any]) -> bool:
    has_size = file.is_file() and file.stat().st_size == listed.get("Size")
    return has_size and (not listed.get("Sha256") or hash_file(file) == listed["Sha256"])
