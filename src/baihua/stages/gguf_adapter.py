"""Write a LoRA adapter as a GGUF file, which a server can apply to single requests."""

from pathlib import Path

from baihua.core.config import Base
from baihua.core.stage import Input, Inputs, Metrics

VERSION = 1
INPUTS = {"adapter": Input(("adapter",)), "model": Input(("gguf", "model"))}
OUTPUT = ("gguf_adapter",)
FILE = "adapter.gguf"


class Config(Base):
    """No options: the adapter is written exactly as it was trained."""


def run(config: Config, inputs: Inputs, out: Path) -> Metrics:
    """Write `adapter.gguf` for the base `model`, a GGUF file or a model folder."""
    from baihua.compress.adapter import write_adapter

    base = inputs["model"]
    # Of a folder of levels any file will do: all have the same shapes.
    base = next(iter(sorted(base.glob("model-*.gguf"))), base) if base.is_dir() else base
    num_matrices = write_adapter(inputs["adapter"], base, out / FILE)
    return {"num_matrices": num_matrices, "file_bytes": (out / FILE).stat().st_size}
