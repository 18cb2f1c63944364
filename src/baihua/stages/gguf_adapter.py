"""Write a LoRA adapter as a GGUF file, which a server can switch on for single requests."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from baihua.core.config import Base
from baihua.core.stage import Input

VERSION = 1
INPUTS = {"adapter": Input(("adapter",)), "model": Input(("gguf", "model"))}
OUTPUT = ("gguf_adapter",)
FILE = "adapter.gguf"


class Config(Base):
    """Nothing to choose: the adapter is written as exactly as it was trained."""


def run(config: Config, inputs: Mapping[str, Path], out: Path) -> dict[str, Any]:
    """Write `adapter.gguf` for the base `model`, a GGUF file or a model folder."""
    from baihua.compress.adapter import write_adapter

    num_matrices = write_adapter(inputs["adapter"], _model_of(inputs["model"]), out / FILE)
    return {"num_matrices": num_matrices, "file_bytes": (out / FILE).stat().st_size}


def _model_of(path: Path) -> Path:
    """A file or model folder itself; of a folder of levels any one, because all have the same shapes."""
    files = sorted(path.glob("model-*.gguf")) if path.is_dir() else []
    return files[0] if files else path
