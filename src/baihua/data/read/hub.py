"""Data sets from the Hugging Face hub and from ModelScope: data files only, never code."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from baihua.core.errors import InputError
from baihua.core.modelscope import ENDPOINT, Repository, download, is_inside, list_files


def from_hub(
    name: str, revision: str | None, *, suffixes: Sequence[str], path: str | None = None, endpoint: str | None = None
) -> Path:
    """The folder of a data set's snapshot in the hub's own cache, which other tools share; a cached one works offline.

    Only files with one of the suffixes are downloaded; with `path` only that file or folder of the data set.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    patterns = [path, *(f"{path}/*{suffix}" for suffix in suffixes)] if path else [f"*{suffix}" for suffix in suffixes]
    try:
        folder = snapshot_download(
            name, repo_type="dataset", revision=revision, endpoint=endpoint, allow_patterns=patterns
        )
    except (HFValidationError, OSError) as error:
        raise InputError(
            f"cannot download the data set: {str(error).strip().splitlines()[0]}",
            where=f"hub:{name}",
            fix="check the name, the revision and the network; a gated data set needs `hf auth login`",
        ) from error
    return Path(folder)


def from_modelscope(
    name: str,
    revision: str | None,
    cache: Path,
    *,
    suffixes: Sequence[str],
    path: str | None = None,
    endpoint: str | None = None,
) -> Path:
    """The folder of a data set, downloaded into `cache` where it is not complete yet; `suffixes` as above."""
    repository = Repository("datasets", name, revision or "master", endpoint or ENDPOINT)
    wanted = [
        file
        for file in list_files(repository)
        if is_inside(file["Path"])
        and file["Path"].lower().endswith(tuple(suffixes))
        and (path is None or PurePosixPath(file["Path"]).is_relative_to(path))
    ]
    folder = cache / name.replace("/", "--") / repository.revision.replace("/", "--")
    folder.mkdir(parents=True, exist_ok=True)
    download(repository, wanted, folder)
    return folder
