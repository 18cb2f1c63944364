"""A model becomes GGUF files of several levels, each opened by llama.cpp before it counts."""

from collections.abc import Sequence
from pathlib import Path

from baihua.compress.gguf import write_gguf
from baihua.compress.levels import FLOATS, LEVELS, check_level
from baihua.compress.opening import check_opens
from baihua.compress.quantize import Importance, quantize_gguf
from baihua.core.log import logger
from baihua.modelfiles.describe import describe_header
from baihua.modelfiles.gguf_header import read_model_header

Row = dict[str, str | int | float]
FIRST = "f16"


def write_levels(
    source: Path,
    out: Path,
    levels: Sequence[str],
    *,
    importance: Importance | None = None,
    is_forced: bool = False,
    num_threads: int | None = None,
) -> list[Row]:
    """Write `model-f16.gguf` from a model folder or a GGUF file, and `model-LEVEL.gguf` from that; a row for each.

    A file that is there already is whole (see `files.appearing`), so that a run that was interrupted goes on after it.
    """
    for level in levels:
        check_level(level)
    out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for level in dict.fromkeys([FIRST, *levels]):
        file = out / f"model-{level}.gguf"
        if not file.is_file():
            # Whoever asks for f32 or bf16 wants what f16 would round off.
            is_from_start = level == FIRST or LEVELS[level].type in FLOATS
            if source.is_dir() and is_from_start:
                write_gguf(source, file, level=level)
            else:
                first = source if is_from_start else out / f"model-{FIRST}.gguf"
                quantize_gguf(
                    first, file, level=level, importance=importance, is_forced=is_forced, num_threads=num_threads
                )
        check_opens(file)
        rows.append(describe_file(level, file))
        logger.info(
            "%s: %.1f MB, %.2f bits per weight", file.name, file.stat().st_size / 1e6, rows[-1]["bits_per_weight"]
        )
    return rows


def describe_file(level: str, file: Path) -> Row:
    """Name and size of a file as metrics have them; bits per weight count tensor data, not the vocabulary."""
    header = read_model_header(file)
    num_bits = 8 * sum(tensor.num_bytes for tensor in header.tensors)
    return {
        "level": level,
        "file": file.name,
        "file_bytes": file.stat().st_size,
        "bits_per_weight": round(num_bits / describe_header(header).num_weights, 4),
    }
