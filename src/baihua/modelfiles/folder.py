"""The files of a Hugging Face model folder: which belong to it, whether they are sound, and their hashes."""

import hashlib
import json
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from baihua.core.artifact import MANIFEST, find_artifact, hash_file, hash_json
from baihua.core.errors import InputError
from baihua.core.files import is_mapping

Precision = Literal["float32", "bfloat16"]
"""The type in which a model's weights are loaded."""
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
VOCABULARY_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt")
TOKENIZER_FILES = (*VOCABULARY_FILES, "special_tokens_map.json", "added_tokens.json")
TOKENIZER_SETTINGS, TEMPLATE_FILE = "tokenizer_config.json", "chat_template.jinja"
# Pickle (.bin, .pt) and Python files can run code, so they are not part of a model.
PATTERNS = ("*.safetensors", "*.json", "*.jinja", "tokenizer.model")
PICKLES = (".bin", ".pt", ".pth", ".ckpt")


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor of a model folder: the file that holds it, and its name, type and shape there."""

    file: Path
    name: str
    dtype: str
    """safetensors' name, such as BF16."""
    shape: tuple[int, ...]


def check_model_folder(folder: Path) -> None:
    """Refuse an adapter, a folder without a config or safetensors weights, and one with a broken weight file."""
    if (folder / "adapter_config.json").is_file():
        fix = "merge it into its base model first: baihua do merge --in model=BASE --in adapter=THIS --out DIR"
        raise InputError("this is an adapter, expected a whole model", where=str(folder), fix=fix)
    check_files([file.name for file in folder.iterdir()] if folder.is_dir() else [], str(folder))
    for file in weight_files(folder):
        try:
            with safe_open(file, framework="numpy"):
                pass
        except (SafetensorError, OSError) as error:
            raise InputError(
                f"the weight file is damaged or incomplete: {error}", where=str(file), fix="copy or download it again"
            ) from error


def find_source(model: Path) -> Path:
    """A model folder or GGUF file itself; of an artifact's GGUF files the one in full precision, or the only one."""
    if model.is_file() or (model / "config.json").is_file():
        return model
    files = sorted(model.glob("*.gguf"))
    best = [file for level in ("f32", "f16", "bf16") for file in files if file.stem.endswith(f"-{level}")]
    if len(files) != 1 and not best:
        what = f"this folder has neither a config.json nor a .gguf file in full precision ({len(files)} .gguf files)"
        raise InputError(what, where=str(model), fix="name a model folder or one .gguf file")
    return (best or files)[0]


def check_files(names: Collection[str], where: str) -> None:
    """Refuse a model whose files include no config, or no weights but pickled ones; subfolders do not count."""
    names = [name for name in names if "/" not in name]
    if "config.json" not in names:
        raise InputError(
            "not a model folder: it has no config.json", where=where, fix="give a folder in the Hugging Face layout"
        )
    if not any(name.endswith(".safetensors") for name in names):
        pickles = sorted(name for name in names if name.endswith(PICKLES))
        why = f", only {pickles[0]}: a pickle file can run any code and is never loaded" if pickles else ""
        fix = "use a model published as .safetensors, or convert it on a machine where you trust its author"
        raise InputError(f"the model has no .safetensors weights{why}", where=where, fix=fix)


def is_model_file(name: str) -> bool:
    """Whether a file of this name belongs to a model and cannot run code."""
    return name != MANIFEST and any(Path(name).match(pattern) for pattern in PATTERNS)


def model_files(folder: Path) -> list[Path]:
    """The files of a folder that belong to a model, sorted."""
    return sorted(file for file in folder.iterdir() if is_model_file(file.name))


def weight_files(folder: Path) -> list[Path]:
    """The weight files that transformers reads, sorted; a folder may hold the same weights in another layout too."""
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    index = read_json(folder / INDEX).get("weight_map")
    if not is_mapping(index):
        what = f"the model folder has neither {SINGLE} nor a {INDEX} with a weight_map"
        raise InputError(what, where=str(folder), fix="import or download the model again")
    files = [folder / name for name in sorted(set(index.values()))]
    if missing := [file for file in files if not file.is_file()]:
        raise InputError(f"{INDEX} names a missing weight file", where=str(missing[0]), fix="copy the model again")
    return files


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """The tensors of a model folder by name; no file stays open."""
    found: dict[str, StoredTensor] = {}
    for path in weight_files(folder):
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118  (not a mapping)
                part = file.get_slice(name)
                found[name] = StoredTensor(path, name, part.get_dtype(), tuple(part.get_shape()))
    return found


def read_json(file: Path) -> dict[str, Any]:
    """The JSON object in a file of a model folder; empty where there is no such file."""
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"not valid JSON: {error}", where=str(file), fix="copy or download it again") from error
    if not is_mapping(found):
        raise InputError(
            f"expected a JSON object, found {type(found).__name__}", where=str(file), fix="download it again"
        )
    return found


def hash_folder(folder: Path) -> str:
    """SHA-256 over names and contents of a folder's model files, 64 hex digits; a folder without weights is refused."""
    check_files([file.name for file in folder.iterdir()], str(folder))
    lines = [f"{hash_file(file)}  {file.name}\n" for file in model_files(folder)]
    return hashlib.sha256("".join(lines).encode("utf-8")).hexdigest()


def fingerprint(folder: Path) -> str:
    """SHA-256 over the weight and vocabulary files, 64 hex digits; settings that do not change logits do not count."""
    return _hash_named(folder, [*sorted(path.name for path in folder.glob("*.safetensors")), *VOCABULARY_FILES])


def vocabulary_fingerprint(folder: Path) -> str:
    """SHA-256 over the files that decide how a text becomes token ids, 64 hex digits."""
    return _hash_named(folder, [*TOKENIZER_FILES, TOKENIZER_SETTINGS])


def source_of(folder: Path) -> str:
    """The source in a model's manifest, else the folder's name; never a path of this machine."""
    made = find_artifact(folder, max_depth=0)
    source = made.manifest["config"].get("source") if made else None
    if not isinstance(source, str) or not source:
        return folder.resolve().name
    is_local = source.startswith((".", "~")) or Path(source).is_absolute() or "\\" in source
    return source.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1] if is_local else source


def copy_tokenizer(source: Path, folder: Path, *, jinja: str | None) -> None:
    """Copy the tokenizer files and chat template of a model folder; `jinja` replaces the template."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    if (source / TOKENIZER_SETTINGS).is_file():
        settings = read_json(source / TOKENIZER_SETTINGS)
        if jinja is not None:
            settings.pop("chat_template", None)
        text = json.dumps(settings, ensure_ascii=False, indent=2) + "\n"
        (folder / TOKENIZER_SETTINGS).write_text(text, encoding="utf-8")
    if jinja is not None:
        (folder / TEMPLATE_FILE).write_text(jinja, encoding="utf-8")
    elif (source / TEMPLATE_FILE).is_file():
        shutil.copyfile(source / TEMPLATE_FILE, folder / TEMPLATE_FILE)


def _hash_named(folder: Path, names: Collection[str]) -> str:
    return hash_json([[name, hash_file(folder / name)] for name in names if (folder / name).is_file()])
