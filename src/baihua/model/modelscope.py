"""Models from ModelScope."""

from pathlib import Path

from baihua.core.modelscope import ENDPOINT, Repository, is_inside, list_files
from baihua.core.modelscope import download as fetch_files
from baihua.model.files import check_weights, is_model_file


def download(model: str, revision: str | None, cache: Path, *, endpoint: str | None = None) -> Path:
    """The folder of a model, fetched where it is not yet complete; every file is checked as it arrives."""
    repository = Repository("models", model, revision or "master", endpoint or ENDPOINT)
    listed = list_files(repository)
    files = [file for file in listed if _is_wanted(file["Path"])]
    check_weights([file["Path"] for file in files], [file["Path"] for file in listed], f"modelscope:{model}")
    folder = cache / "modelscope" / model.replace("/", "--") / repository.revision.replace("/", "--")
    folder.mkdir(parents=True, exist_ok=True)
    fetch_files(repository, files, folder)
    return folder


def _is_wanted(path: str) -> bool:
    # Only plain names: parts in subfolders are other formats.
    return is_model_file(path) and Path(path).name == path and is_inside(path)
