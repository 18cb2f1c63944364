"""Data sets from the Hugging Face hub and from ModelScope: data files only, never code."""

from pathlib import Path, PurePosixPath

from baihua.core.errors import InputError
from baihua.core.modelscope import ENDPOINT, Repository, download, is_inside, list_files
from baihua.data.read.records import SUFFIXES


def from_hub(name: str, revision: str | None, *, path: str | None = None, endpoint: str | None = None) -> Path:
    """The folder of a data set's snapshot in the hub's own cache, which other tools share; works offline if there.

    With `path` only that file or folder of it is fetched.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        folder = snapshot_download(
            name,
            repo_type="dataset",
            revision=revision,
            endpoint=endpoint,
            allow_patterns=[path, *(f"{path}/*{s}" for s in SUFFIXES)] if path else [f"*{s}" for s in SUFFIXES],
        )
    except (HFValidationError, OSError) as error:
        raise InputError(
            f"the hub did not give the data set: {str(error).strip().splitlines()[0]}",
            where=f"hub:{name}",
            fix="check the name, the revision and the network; a gated data set needs `hf auth login`",
        ) from error
    return Path(folder)


def from_modelscope(
    name: str, revision: str | None, cache: Path, *, path: str | None = None, endpoint: str | None = None
) -> Path:
    """The folder of a data set, fetched into `cache` where it is not yet complete."""
    repository = Repository("datasets", name, revision or "master", endpoint or ENDPOINT)
    listed = [file for file in list_files(repository) if _is_wanted(file["Path"])]
    wanted = [file for file in listed if path is None or PurePosixPath(file["Path"]).is_relative_to(path)]
    folder = cache / name.replace("/", "--") / repository.revision.replace("/", "--")
    folder.mkdir(parents=True, exist_ok=True)
    download(repository, wanted, folder)
    return folder


def _is_wanted(path: str) -> bool:
    return is_inside(path) and path.lower().endswith(SUFFIXES)
