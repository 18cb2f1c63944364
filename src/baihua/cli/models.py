"""The MODEL argument of a verb: what it names, and a GGUF file of it, made once and kept in the store."""

import sys
from collections.abc import Sequence
from pathlib import Path

from baihua.core.artifact import find_artifact
from baihua.core.errors import InputError
from baihua.core.run import find_in_store, find_run, given_path, served_model
from baihua.core.stage import Result, find_stage, run_stage


def find_model(name: str, runs: Path) -> str:
    """The address or path that a MODEL argument names; of a run, the model that it serves, which is printed."""
    if name.startswith(("http://", "https://")):
        return name
    run = find_run(name, runs)
    if run is None:
        return name
    chosen = served_model(run)
    print(f"model: {chosen}", file=sys.stderr)
    return str(chosen)


def named_models(models: Sequence[str], runs: Path) -> dict[str, str]:
    """The models of NAME=MODEL arguments by name; without NAME, a run's, file's or folder's own."""
    found: dict[str, str] = {}
    for model in models:
        name, is_named, place = model.partition("=")
        if not is_named or "/" in name or ":" in name:
            name, place = Path(model).stem if model.endswith(".gguf") else Path(model).name, model
        if name in found or not name:
            raise InputError(f"two models would have the name {name!r}", where=model, fix="name them: NAME=MODEL")
        found[name] = find_model(place, runs)
    return found


def as_gguf(path: Path, runs: Path, *, level: str) -> Path:
    """A GGUF file itself; of a model folder or an adapter one in the store, exported if it is not there yet.

    The store knows it by its identity: the same weights are never exported twice, whatever their path.
    """
    if path.suffix == ".gguf" and path.is_file():
        return path
    if (path / "adapter_config.json").is_file():
        path = _make("merge", runs, model=_base_of(path, runs), adapter=path).artifact.folder
    if not (path / "config.json").is_file():
        raise InputError("not a model", where=str(path), fix="give a .gguf file, a model folder, an adapter or a run")
    result = _make("quantize", runs, {"levels": [level]}, model=path)
    if not result.is_reused:
        print(f"exported: {result.artifact.folder}", file=sys.stderr)
    return result.artifact.folder / f"model-{level}.gguf"


def adapter_as_gguf(adapter: Path, base: Path, runs: Path) -> Path:
    """A LoRA adapter as a GGUF file in the store, for a base model in GGUF."""
    return _make("gguf_adapter", runs, adapter=adapter, model=base).artifact.folder / "adapter.gguf"


def _make(kind: str, runs: Path, settings: dict[str, object] | None = None, **inputs: Path) -> Result:
    """The result of a stage in the store."""
    config = find_stage(kind).Config.model_validate(settings or {})
    return run_stage(kind, config, {role: given_path(path, role) for role, path in inputs.items()}, runs / "store")


def _base_of(adapter: Path, runs: Path) -> Path:
    """The model in the store that an adapter was trained on, according to its manifest."""
    made = find_artifact(adapter, max_depth=0)
    base = find_in_store(made.manifest["inputs"]["model"]["id"], runs / "store") if made else None
    if base is None:
        fix = "merge it first: baihua do merge --in model=BASE --in adapter=ADAPTER --out FOLDER"
        raise InputError("the base model of this adapter is not in the store", where=str(adapter), fix=fix)
    return base.folder
