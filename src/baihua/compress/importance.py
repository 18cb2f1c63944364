"""The importance matrix: the mean square of each input of a model's matrices, on texts of the user's own.

ggml's quantizers weigh the error of each weight by it ("imatrix", llama.cpp's pull request 4861). It is collected with
the transformers model, whose inputs are exact, and stored in llama.cpp's own file format, which its tools can read.

B texts of a batch, T tokens, I inputs of a layer.
"""

# ruff: noqa: N803, N806  (names of tensors end with their shape)

from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import torch
from gguf import GGUFReader, GGUFWriter
from torch import Tensor, nn
from transformers import PreTrainedModel

from baihua.chat.template import OWN, open_template
from baihua.chat.tokenizer import FolderTokenizer
from baihua.compress.damage.texts import has_conversations
from baihua.compress.levels import check_level
from baihua.compress.quantize import Importance
from baihua.core.errors import InputError, RunError
from baihua.core.files import appearing
from baihua.core.log import logger
from baihua.data.rows import find_table, read_rows, read_values
from baihua.model.examples import Encoder, encode_document
from baihua.model.streamed import MAX_TOKENS_PER_PASS, batches, open_streamed
from baihua.modelfiles.families import llama_cpp_name

SUMS, COUNTS = ".in_sum2", ".counts"
MAX_LENGTH = 512
"""Maximum tokens of a row: the chunk size of llama.cpp's own tool."""


def prepare(
    model: Path, data: Path | None, file: Path, *, levels: Sequence[str], num_tokens: int
) -> dict[str, np.ndarray]:
    """Read an importance matrix from `file`, after collecting it if needed; empty where no level uses one."""
    # All names are checked before anything is computed.
    users = [level for level in levels if check_level(level).takes_importance]
    if not users or not num_tokens:
        return {}
    if data is None or not model.is_dir():
        why = "needs `data`" if data is None else "is collected from a model folder, not from a GGUF file"
        logger.info("no importance matrix for %s: it %s", ", ".join(users), why)
        return {}
    if not file.is_file():
        texts = read_texts(model, data, num_tokens=num_tokens)
        save(file, collect(model, texts), num_tokens=sum(map(len, texts)), dataset=f"{len(texts)} rows of `data`")
    return load(file)


def read_texts(model_folder: Path, data: Path, *, num_tokens: int) -> list[list[int]]:
    """Token ids of the first rows, conversations or documents, until there are `num_tokens`; 512 of a row at most."""
    texts: list[list[int]] = []
    left = num_tokens
    for ids in _encode_rows(model_folder, data):
        texts.append(ids[: min(left, MAX_LENGTH)])
        left -= len(texts[-1])
        if left == 0:
            break
    return [ids for ids in texts if ids]


def collect(
    model_folder: Path, texts: Sequence[Sequence[int]], *, max_tokens: int = MAX_TOKENS_PER_PASS
) -> dict[str, np.ndarray]:
    """Mean squares_I, float32, of the inputs of every matrix in the layers, by llama.cpp's name of the matrix.

    Weights are read from disk once per `max_tokens` tokens (padding included); memory is that of the widest layer and
    of the activations of a batch.
    """
    num_tokens = sum(map(len, texts))
    if num_tokens == 0:
        fix = "give at least one row, or leave `data` out"
        raise InputError("the importance matrix needs text", where="data", fix=fix)
    model = open_streamed(model_folder)
    sums: dict[str, Tensor] = {}
    texts = sorted(texts, key=len)
    for start, end in batches([len(ids) for ids in texts], max_tokens):
        batch = texts[start:end]
        # Padding comes at the end, where no token sees it; it must not count.
        ids_BT = nn.utils.rnn.pad_sequence([torch.tensor(list(ids)) for ids in batch], batch_first=True)
        is_real_BT = torch.arange(ids_BT.shape[1]) < torch.tensor([len(ids) for ids in batch])[:, None]
        hooks = [
            model.get_submodule(path).register_forward_pre_hook(partial(_add_squares, sums, name, is_real_BT))
            for path, name in _matrices(model).items()
        ]
        with torch.inference_mode():
            # The decoder without the output layer, which is quantized without an importance matrix.
            model.get_decoder()(input_ids=ids_BT, use_cache=False)
        for hook in hooks:
            hook.remove()
    found = {name: (sums_I / num_tokens).numpy().astype(np.float32) for name, sums_I in sums.items()}
    for name, values in found.items():
        if not np.isfinite(values).all():
            fix = "training diverged: go back to an earlier checkpoint"
            raise RunError(f"the inputs of {name!r} are NaN or infinite", where=str(model_folder), fix=fix)
    return found


def save(file: Path, importance: Importance, *, num_tokens: int, dataset: str) -> None:
    """Write an importance matrix in llama.cpp's GGUF form."""
    with appearing(file) as partial_file, closing(GGUFWriter(partial_file, "")) as writer:
        writer.kv_data[0].clear()
        writer.add_type("imatrix")
        writer.add_array("imatrix.datasets", [dataset])
        writer.add_uint32("imatrix.chunk_count", 1)
        writer.add_uint32("imatrix.chunk_size", num_tokens)
        for name, values in sorted(importance.items()):
            writer.add_tensor(name + SUMS, (values * np.float32(num_tokens))[None])
            writer.add_tensor(name + COUNTS, np.array([[num_tokens]], np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()


def load(file: Path) -> dict[str, np.ndarray]:
    """Mean squares from a file that `save` or llama.cpp wrote."""
    tensors = {tensor.name: np.array(tensor.data) for tensor in GGUFReader(file).tensors}
    names = [name.removesuffix(SUMS) for name in tensors if name.endswith(SUMS)]
    return {name: (tensors[name + SUMS] / tensors[name + COUNTS]).reshape(-1) for name in names}


def _encode_rows(model_folder: Path, data: Path) -> Iterator[list[int]]:
    if has_conversations(data):
        encoder = Encoder(*open_template(OWN, model_folder))
        yield from (encoder.encode(row.id, row.messages).ids_T.tolist() for row in read_rows(data))
        return
    tokenizer = FolderTokenizer(model_folder)
    for record in read_values(find_table(data)):
        yield encode_document(tokenizer, record["id"], record["text"], MAX_LENGTH).ids_T.tolist()


def _add_squares(
    sums: dict[str, Tensor], name: str, is_real_BT: Tensor, _layer: nn.Module, inputs: tuple[Tensor, ...]
) -> None:
    # In float32, sums of squares of thousands of tokens lose digits.
    squares_I = inputs[0][is_real_BT].double().square().sum(0)
    sums[name] = squares_I if name not in sums else sums[name] + squares_I


def _matrices(model: PreTrainedModel) -> dict[str, str]:
    """Every linear layer of the decoder, with llama.cpp's name of its matrix."""
    head = model.get_output_embeddings()
    layers = {path for path, layer in model.named_modules() if isinstance(layer, nn.Linear) and layer is not head}
    found = {path: llama_cpp_name(path) for path in sorted(layers)}
    return {path: f"{name}.weight" for path, name in found.items() if name}
