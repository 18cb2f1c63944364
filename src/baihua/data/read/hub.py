"""Data sets from the Hugging Face hub and from ModelScope: data files only, never code."""

from pathlib import Path, PurePosixPath

from baihua.core.errors import InputError
from baihua.core.modelscope import ENDPOINT, Repository, download, is_inside, list_files


def from_hub(name: str, revision: str | None, *, suffixes: tuple[str, ...], path: str | None = None) -> Path:
    """The folder of a data set's snapshot in the hub's own cache, which other tools share; a cached one works offline.

    Only files with one of the suffixes are downloaded; with `path` only that file or folder of the data set.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    patterns = [path, *(f"{path}/*{suffix}" for suffix in suffixes)] if path else [f"*{suffix}" for suffix in suffixes]
    try:
        return Path(snapshot_download(name, repo_type="dataset", revision=revision, allow_patterns=patterns))
    except (HFValidationError, OSError) as error:
        raise InputError(
            f"cannot download the data set: {str(error).strip().splitlines()[0]}",
            where=f"hub:{name}",
            fix="check the name, the revision and the network; a gated data set needs `hf auth login`",
        ) from error


def from_modelscope(
    name: str,
    revision: str | None,
    cache: Path,
    *,
    suffixes: tuple[str, ...],
    path: str | None = None,
    endpoint: str = ENDPOINT,
) -> Path:
    """The folder of a data set, downloaded into `cache` where it is not complete yet; `suffixes` as above."""
    repository = Repository("datasets", name, revision or "master", endpoint)
    listed = ((file, file["Path"]) for file in list_files(repository))
    found = ((file, at) for file, at in listed if is_inside(at) and at.lower().endswith(suffixes))
    wanted = [file for file, at in found if path is None or PurePosixPath(at).is_relative_to(path)]
    folder = cache / name.replace("/", "--") / repository.revision.replace("/", "--")
    folder.mkdir(parents=True, exist_ok=True)
    download(repository, wanted, folder)
    return folder
