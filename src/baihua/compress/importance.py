"""Which columns of a matrix matter: the mean square of what they are multiplied with, on texts of the user's own.

ggml's quantizers weigh the error of each weight by it (the importance matrix, "imatrix", of llama.cpp's pull request
4861). It is collected with the transformers model, whose inputs are exact, and kept in llama.cpp's own file format,
so that its tools can read it.

B texts of a batch, T tokens, I inputs of a layer.
"""

# ruff: noqa: N803, N806  (names of tensors end with their shape)

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader, GGUFWriter
from torch import Tensor, nn
from transformers import PreTrainedModel

from baihua.chat.template import OWN, open_template
from baihua.chat.tokenizer import FolderTokenizer
from baihua.compress.damage.texts import has_conversations
from baihua.compress.quantize import Importance
from baihua.core.errors import InputError, RunError
from baihua.core.files import appearing
from baihua.data.rows import find_table, read_rows, read_values
from baihua.model.examples import Encoder
from baihua.model.streamed import MAX_TOKENS_PER_PASS, open_streamed
from baihua.modelfiles.describe import name_map
from baihua.modelfiles.families import FAMILIES

SUMS, COUNTS = ".in_sum2", ".counts"
MAX_LENGTH = 512
"""Tokens of a row: what llama.cpp's own tool takes for a chunk."""


def read_texts(model_folder: Path, data: Path, *, num_tokens: int) -> list[list[int]]:
    """Conversations as the model's template renders them, or documents, until there are `num_tokens` tokens."""
    rows = _conversations(model_folder, data) if has_conversations(data) else _documents(model_folder, data)
    texts: list[list[int]] = []
    left = num_tokens
    for ids in rows:
        texts.append(ids[: min(left, MAX_LENGTH)])
        left -= len(texts[-1])
        if left == 0:
            break
    return [ids for ids in texts if ids]


def _conversations(model_folder: Path, data: Path) -> Iterator[list[int]]:
    encoder = Encoder(*open_template(OWN, model_folder))
    for row in read_rows(data):
        yield encoder.encode(row.id, row.messages).ids_T.tolist()


def _documents(model_folder: Path, data: Path) -> Iterator[list[int]]:
    tokenizer = FolderTokenizer(model_folder)
    first = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    for record in read_values(find_table(data)):
        yield first + tokenizer.encode(record["text"])


def collect(model_folder: Path, texts: Sequence[Sequence[int]]) -> dict[str, np.ndarray]:
    """Mean squares_I, float32, of the inputs of every matrix of the layers, by the matrix's name in llama.cpp.

    Weights are read from disk once per 8,192 tokens (padding included); memory is that of the widest layer and of the
    activations of a batch.
    """
    num_tokens = sum(map(len, texts))
    if num_tokens == 0:
        raise InputError("the importance matrix needs texts", where="data", fix="give at least one row, or none at all")
    model = open_streamed(model_folder)
    sums: dict[str, Tensor] = {}
    with torch.inference_mode():
        for ids_BT, is_real_BT in _batches(sorted(texts, key=len)):
            with _listening(model, sums, is_real_BT):
                # The output layer is quantized without an importance matrix, so nothing is asked of it.
                model.get_decoder()(input_ids=ids_BT, use_cache=False)
    found = {name: (sums_I / num_tokens).numpy().astype(np.float32) for name, sums_I in sums.items()}
    wrong = [name for name, values in found.items() if not np.isfinite(values).all()]
    if wrong:
        raise RunError(
            f"the inputs of {wrong[0]!r} are not finite numbers",
            where=str(model_folder),
            fix="the training has diverged: go back to an earlier checkpoint",
        )
    return found


def save(file: Path, importance: Importance, *, num_tokens: int, dataset: str) -> None:
    """Write llama.cpp's GGUF form of an importance matrix."""
    with appearing(file) as partial:
        writer = GGUFWriter(partial, "")
        try:
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
        finally:
            writer.close()


def load(file: Path) -> dict[str, np.ndarray]:
    """Mean squares of a file that `save` or llama.cpp wrote."""
    tensors = {tensor.name: np.array(tensor.data) for tensor in GGUFReader(file).tensors}
    names = [name.removesuffix(SUMS) for name in tensors if name.endswith(SUMS)]
    return {name: (tensors[name + SUMS] / tensors[name + COUNTS]).reshape(-1) for name in names}


def _batches(texts: Sequence[Sequence[int]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Ids_BT padded at the end, where no token sees it, and which are no padding; texts come sorted by length."""
    waiting: list[Sequence[int]] = []
    for ids in [*texts, None]:
        if waiting and (ids is None or len(ids) * (len(waiting) + 1) > MAX_TOKENS_PER_PASS):
            rows = [torch.tensor(list(row)) for row in waiting]
            ids_BT = nn.utils.rnn.pad_sequence(rows, batch_first=True)
            lengths_B = torch.tensor([len(row) for row in rows])
            yield ids_BT, torch.arange(ids_BT.shape[1]) < lengths_B[:, None]
            waiting.clear()
        if ids:
            waiting.append(ids)


@contextmanager
def _listening(model: PreTrainedModel, sums: dict[str, Tensor], is_real_BT: Tensor) -> Iterator[None]:
    """Add the squares of whatever goes into the decoder's linear layers, padding apart."""
    with ExitStack() as hooks:
        for path, name in _matrices(model).items():
            layer = model.get_submodule(path)
            hooks.enter_context(_hook(layer, _adder(sums, name, is_real_BT)))
        yield


def _adder(sums: dict[str, Tensor], name: str, is_real_BT: Tensor) -> Any:
    def add(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        # Sums of squares of thousands of tokens lose digits in float32.
        squares_I = inputs[0][is_real_BT].double().square().sum(0)
        sums[name] = squares_I if name not in sums else sums[name] + squares_I

    return add


@contextmanager
def _hook(layer: nn.Module, listen: Any) -> Iterator[None]:
    handle = layer.register_forward_pre_hook(listen)
    try:
        yield
    finally:
        handle.remove()


def _matrices(model: PreTrainedModel) -> dict[str, str]:
    """Every linear layer of the decoder, and the name of its matrix in llama.cpp."""
    names = name_map(FAMILIES[model.config.model_type].architecture, model.config.num_hidden_layers)
    head = model.get_output_embeddings()
    layers = {path for path, layer in model.named_modules() if isinstance(layer, nn.Linear) and layer is not head}
    found = {path: names.get_name(path) for path in sorted(layers)}
    return {path: f"{name}.weight" for path, name in found.items() if name}
