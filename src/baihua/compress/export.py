"""A Hugging Face folder becomes a GGUF file in full precision, one tensor at a time."""

import json
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from gguf import GGUFWriter
from gguf.constants import GGML_QUANT_VERSION, GGMLQuantizationType
from safetensors import safe_open

from baihua.chat.tokenizer import adds_bos
from baihua.compress.levels import FIRST, FLOATS, LEVELS, Choice, check_level, choose_types
from baihua.compress.opening import check_opens
from baihua.compress.quantize import Importance, not_finite, quantize_gguf
from baihua.core.artifact import find_artifact
from baihua.core.errors import InputError
from baihua.core.files import appearing
from baihua.core.log import logger
from baihua.modelfiles.description import ModelFolder, StoredTensor, describe_header, read_folder
from baihua.modelfiles.gguf_header import read_model_header
from baihua.modelfiles.rope import rope_factors, to_gguf_rows, write_rope
from baihua.modelfiles.tokenizers.to_gguf import read_vocabulary, write_special_ids

DTYPES = {
    GGMLQuantizationType.F32: torch.float32,
    GGMLQuantizationType.F16: torch.float16,
    GGMLQuantizationType.BF16: torch.bfloat16,
}
Row = dict[str, str | int | float]


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


def write_gguf(model_folder: Path, file: Path, *, level: str) -> None:
    """Write a model folder as one GGUF file of the level f32, f16 or bf16; it appears when it is complete, never half.

    Memory: the largest tensor twice, as it is stored and as it is written.
    """
    if check_level(level).type not in FLOATS:
        raise InputError(
            f"a model folder becomes f32, f16 or bf16 first, not {level}",
            where=str(model_folder),
            fix="write f16, and quantize that file",
        )
    folder = read_folder(model_folder)
    choices = choose_types(folder.description, level)
    # The writer knows every tensor's size beforehand, so that one tensor at a time is in memory.
    with appearing(file) as partial, _closing(GGUFWriter(partial, folder.description.family.architecture)) as writer:
        _write_metadata(writer, folder, level)
        for choice in choices:
            shape = choice.tensor.shape[::-1]
            writer.add_tensor_info(choice.tensor.name, shape, np.dtype(np.float32), choice.num_bytes, choice.type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for choice in choices:
            writer.write_tensor_data(_convert(_read(folder, choice), choice, model_folder))


@contextmanager
def _closing(writer: GGUFWriter) -> Generator[GGUFWriter]:
    try:
        yield writer
    finally:
        writer.close()


def _write_metadata(writer: GGUFWriter, folder: ModelFolder, level: str) -> None:
    shape = folder.description.shape
    writer.add_type("model")
    _write_lineage(writer, folder.path)
    writer.add_file_type(LEVELS[level].file_type)
    writer.add_quantization_version(GGML_QUANT_VERSION)
    writer.add_vocab_size(shape.num_tokens)
    writer.add_context_length(shape.context_length)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.num_layers)
    writer.add_feed_forward_length(shape.mlp_width)
    writer.add_head_count(shape.num_heads)
    writer.add_head_count_kv(shape.num_kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_layer_norm_rms_eps(folder.config["rms_norm_eps"])
    writer.add_rope_dimension_count(shape.head_dim)
    write_rope(folder.rope, writer)
    vocabulary = read_vocabulary(folder.path, shape.num_tokens, adds_bos=adds_bos(folder.path))
    vocabulary.write(writer)
    write_special_ids(folder.path, vocabulary, writer)
    template = _chat_template(folder.path)
    if template:
        writer.add_chat_template(template)


def _write_lineage(writer: GGUFWriter, folder: Path) -> None:
    """The artifact that the model is, and what made it; never a path, because the same model gives the same file."""
    made = find_artifact(folder, max_depth=0)
    if made is None:
        return
    inputs = {role: given["id"] for role, given in made.manifest.get("inputs", {}).items()}
    writer.add_name(f"{made.manifest['stage']}-{made.id[:16]}")
    writer.add_string("baihua.stage", made.manifest["stage"])
    writer.add_string("baihua.id", made.id)
    writer.add_string("baihua.inputs", json.dumps(inputs, sort_keys=True))
    writer.add_string("baihua.sources", json.dumps(made.sources, ensure_ascii=False, sort_keys=True))


def _chat_template(folder: Path) -> str | None:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    settings = folder / "tokenizer_config.json"
    found = json.loads(settings.read_text(encoding="utf-8")).get("chat_template") if settings.is_file() else None
    return found if isinstance(found, str) else None


def _read(folder: ModelFolder, choice: Choice) -> torch.Tensor:
    """A tensor as it is stored, in llama.cpp's order of rows."""
    stored: StoredTensor | None = folder.stored.get(choice.tensor.name)
    if stored is None:
        factors = rope_factors(folder.rope, folder.description.shape.head_dim)
        assert factors is not None, "only the rope factors are stored nowhere"
        return torch.from_numpy(factors)
    # Opened anew for each tensor: the pages of a file that stays mapped count as memory.
    with safe_open(stored.shard, "pt") as tensors:
        weights = tensors.get_tensor(stored.name)
    num_heads = {"attn_q": folder.description.shape.num_heads, "attn_k": folder.description.shape.num_kv_heads}
    kind = choice.tensor.kind
    is_rotated = folder.description.family.rotates_neighbours and kind in num_heads
    return to_gguf_rows(weights, num_heads[kind]) if is_rotated else weights


def _convert(weights: torch.Tensor, choice: Choice, folder: Path) -> np.ndarray:
    """The bytes of a tensor in the type that was chosen."""
    converted = weights.to(DTYPES[choice.type]).contiguous()
    if not torch.isfinite(converted).all():
        raise not_finite(choice.tensor.name, folder, is_source_finite=bool(torch.isfinite(weights).all()))
    return converted.view(torch.uint8).numpy()
