"""From whatever a MODEL is to a GGUF file, made once."""

import sys
from pathlib import Path


def as_gguf(path: Path, runs: Path, *, level: str) -> Path:
    """A GGUF file itself; for a model folder or an adapter one in the store, made if it is not there yet.

    The store knows it by its identity: the same weights are never exported twice, wherever they lie.
    """
    from baihua.core.errors import InputError
    from baihua.core.run import given_path
    from baihua.core.stage import find_stage, run_stage

    if path.suffix == ".gguf" and path.is_file():
        return path
    if (path / "adapter_config.json").is_file():
        path = _merged(path, runs)
    if not (path / "config.json").is_file():
        raise InputError(
            "this is no model", where=str(path), fix="give a .gguf file, a model folder, an adapter or a run"
        )
    config = find_stage("quantize").Config.model_validate({"levels": [level]})
    result = run_stage("quantize", config, {"model": given_path(path, "model")}, runs / "store")
    if not result.is_reused:
        print(f"exported: {result.artifact.folder}", file=sys.stderr)
    return result.artifact.folder / f"model-{level}.gguf"


def adapter_as_gguf(adapter: Path, base: Path, runs: Path) -> Path:
    """A LoRA adapter as a GGUF file for a base of that format, in the store."""
    from baihua.core.run import given_path
    from baihua.core.stage import find_stage, run_stage

    stage = find_stage("gguf_adapter")
    inputs = {"adapter": given_path(adapter, "adapter"), "model": given_path(base, "model")}
    result = run_stage("gguf_adapter", stage.Config(), inputs, runs / "store")
    return result.artifact.folder / "adapter.gguf"


def _merged(adapter: Path, runs: Path) -> Path:
    """The base of an adapter with the adapter merged into it."""
    from baihua.core.run import given_path
    from baihua.core.stage import find_stage, run_stage

    inputs = {"model": given_path(_base_of(adapter, runs), "model"), "adapter": given_path(adapter, "adapter")}
    result = run_stage("merge", find_stage("merge").Config(), inputs, runs / "store")
    return result.artifact.folder


def _base_of(adapter: Path, runs: Path) -> Path:
    """The model in the store that an adapter was trained on, as its manifest says."""
    from baihua.core.artifact import find_artifact
    from baihua.core.errors import InputError
    from baihua.core.run import find_in_store

    made = find_artifact(adapter, max_depth=0)
    base = find_in_store(made.manifest["inputs"]["model"]["id"], runs / "store") if made else None
    if base is None:
        raise InputError(
            "the base model of this adapter is not in the store",
            where=str(adapter),
            fix="merge it first: baihua do merge --in model=BASE --in adapter=ADAPTER --out FOLDER",
        )
    return base.folder
