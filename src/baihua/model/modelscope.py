"""Models from ModelScope."""

from pathlib import Path

from baihua.core.modelscope import ENDPOINT, Repository, is_inside, list_files
from baihua.core.modelscope import download as fetch_files
from baihua.modelfiles.folder import check_files, is_model_file


def download(model: str, revision: str | None, cache: Path, *, endpoint: str | None = None) -> Path:
    """The folder of a model, fetched where it is not yet complete; every file is checked as it arrives."""
    repository = Repository("models", model, revision or "master", endpoint or ENDPOINT)
    listed = list_files(repository)
    check_files([file["Path"] for file in listed], f"modelscope:{model}")
    # Only plain names: files in subfolders are other formats.
    plain = [file for file in listed if Path(file["Path"]).name == file["Path"] and is_inside(file["Path"])]
    files = [file for file in plain if is_model_file(file["Path"])]
    folder = cache / "modelscope" / model.replace("/", "--") / repository.revision.replace("/", "--")
    folder.mkdir(parents=True, exist_ok=True)
    fetch_files(repository, files, folder)
    return folder
