"""Export of a model to GGUF files: full precision from a model folder, tensor by tensor, then the other levels."""

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from gguf import GGUFWriter
from gguf.constants import GGML_QUANT_VERSION
from safetensors import safe_open

from baihua.backends.llama_cpp.scorer import open_scorer
from baihua.chat.tokenizer import adds_bos
from baihua.compress.damage.texts import has_conversations
from baihua.compress.levels import FIRST, FLOATS, LEVELS, Q, check_level, choose_types, file_type
from baihua.compress.opening import check_opens
from baihua.compress.quantize import Importance, not_finite, quantize_gguf
from baihua.core.artifact import find_artifact
from baihua.core.errors import InputError
from baihua.core.files import appearing
from baihua.core.log import logger
from baihua.data.rows import read_rows
from baihua.model.compare import check_parity, compare_pairs, encode_texts
from baihua.model.streamed import log_probs_of_all, open_streamed
from baihua.modelfiles.description import Description, ModelFolder, describe_header, read_folder
from baihua.modelfiles.folder import TEMPLATE_FILE, TOKENIZER_SETTINGS, read_json
from baihua.modelfiles.gguf_header import read_model_header
from baihua.modelfiles.rope import rope_factors, to_gguf_rows, write_rope
from baihua.modelfiles.tokenizers.to_gguf import read_vocabulary, write_special_ids

DTYPES = {Q.F32: torch.float32, Q.F16: torch.float16, Q.BF16: torch.bfloat16}
Row = dict[str, str | int | float]
Rows = TypeVar("Rows", np.ndarray, torch.Tensor)


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

    Existing files are complete (see `files.appearing`), so an interrupted run continues after them.
    """
    for level in levels:
        check_level(level)
    out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for level in dict.fromkeys([FIRST, *levels]):
        file = out / f"model-{level}.gguf"
        # f32 and bf16 keep what f16 would round, so they come from the source.
        is_from_source = level == FIRST or LEVELS[level].type in FLOATS
        if not file.is_file() and is_from_source and source.is_dir():
            write_gguf(source, file, level=level)
        elif not file.is_file():
            first = source if is_from_source else out / f"model-{FIRST}.gguf"
            quantize_gguf(first, file, level=level, importance=importance, is_forced=is_forced, num_threads=num_threads)
        check_opens(file)
        rows.append(describe_file(level, file))
        logger.info("%(file)s: %(file_bytes)d bytes, %(bits_per_weight).2f bits per weight", rows[-1])
    return rows


def describe_file(level: str, file: Path) -> Row:
    """Name and size of a file for the metrics; bits per weight count tensor data, not the vocabulary."""
    header = read_model_header(file)
    bits = 8 * sum(tensor.num_bytes for tensor in header.tensors) / describe_header(header).num_weights
    return {"level": level, "file": file.name, "file_bytes": file.stat().st_size, "bits_per_weight": round(bits, 4)}


def compare_with_folder(folder: Path, file: Path, data: Path | None, *, num_texts: int) -> dict[str, Any]:
    """Compare llama.cpp on a file in full precision with the model folder in float32; a RunError where they differ.

    Texts are the first conversations of `data`, or a few built-in ones. Memory: one layer of the folder at a time.
    """
    rows = read_rows(data)[:num_texts] if data and has_conversations(data) else []
    texts = encode_texts(folder, [row.messages for row in rows])
    wanted = log_probs_of_all(open_streamed(folder), texts)
    with closing(open_scorer(file)) as scorer:
        parity = compare_pairs((ours, scorer.log_probs(ids)) for ours, ids in zip(wanted, texts, strict=True))
    check_parity(parity, what="the f16 GGUF differs from the model")
    return asdict(parity)


def write_gguf(model_folder: Path, file: Path, *, level: str) -> None:
    """Write a model folder as a GGUF file of the level f32, f16 or bf16; `file` appears only once it is complete.

    Memory: the largest tensor twice, as it is stored and as it is written.
    """
    if check_level(level).type not in FLOATS:
        what = f"a model folder can only become f32, f16 or bf16, not {level}"
        raise InputError(what, where=str(model_folder), fix="write f16, and quantize that file")
    folder = read_folder(model_folder)
    choices = choose_types(folder.description, level)
    with appearing(file) as partial, closing(GGUFWriter(partial, folder.description.family.architecture)) as writer:
        _write_metadata(writer, folder, level)
        # Sizes come before all data, so that only one tensor at a time is in memory.
        for choice in choices:
            lengths = choice.tensor.shape[::-1]
            writer.add_tensor_info(choice.tensor.name, lengths, np.dtype(np.float32), choice.num_bytes, choice.type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for choice in choices:
            weights = _read(folder, choice.tensor.name)
            converted = weights.to(DTYPES[choice.type]).contiguous()
            if not torch.isfinite(converted).all():
                raise not_finite(choice.tensor.name, model_folder, is_source_finite=bool(weights.isfinite().all()))
            writer.write_tensor_data(converted.view(torch.uint8).numpy())


def in_gguf_order(weights: Rows, name: str, description: Description) -> Rows:
    """The rows of a tensor, by llama.cpp's name, in the order that llama.cpp requires for queries and keys."""
    shape = description.shape
    num_heads = {"attn_q": shape.num_heads, "attn_k": shape.num_kv_heads}.get(name.split(".")[-2])
    return to_gguf_rows(weights, num_heads) if num_heads and description.family.rotates_neighbours else weights


def _write_metadata(writer: GGUFWriter, folder: ModelFolder, level: str) -> None:
    shape = folder.description.shape
    writer.add_type("model")
    _write_lineage(writer, folder.path)
    writer.add_file_type(file_type(level))
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
    if template := _chat_template(folder.path):
        writer.add_chat_template(template)


def _write_lineage(writer: GGUFWriter, folder: Path) -> None:
    """The artifact and its inputs; never a path, because the same model must give the same file."""
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
    if (folder / TEMPLATE_FILE).is_file():
        return (folder / TEMPLATE_FILE).read_text(encoding="utf-8")
    found = read_json(folder / TOKENIZER_SETTINGS).get("chat_template")
    return found if isinstance(found, str) else None


def _read(folder: ModelFolder, name: str) -> torch.Tensor:
    stored = folder.stored.get(name)
    if stored is None:
        factors = rope_factors(folder.rope, folder.description.shape.head_dim)
        assert factors is not None, "only the rope factors are not stored"
        return torch.from_numpy(factors)
    # Each tensor opens its file: the pages of a file that stays mapped count as memory in use.
    with safe_open(stored.file, "pt") as tensors:
        return in_gguf_order(tensors.get_tensor(stored.name), name, folder.description)
