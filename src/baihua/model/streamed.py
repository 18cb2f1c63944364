"""A transformers model whose weights stay in their files and are in memory only while their layer runs.

A pass over a 7B model in float32 needs memory for its widest layer (0.5 GB) and the activations; it reads all
weights once, so many texts should go through together.

B texts of a batch, T tokens, N rows of several texts, D width, V vocabulary.
"""

# ruff: noqa: N806  (names of tensors end with their shape)

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import init_empty_weights
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from baihua.core.errors import InputError
from baihua.model.load import DTYPES, refuse_hub_kernels
from baihua.model.weights import WeightFiles, check_names
from baihua.modelfiles.families import family_of
from baihua.modelfiles.folder import Precision, check_model_folder

# The widest activations of a 7B model are 11,008 numbers per token, and four of them are alive at once: 1.4 GB.
MAX_TOKENS_PER_PASS = 8192
MAX_LOGITS_BYTES = 256 * 2**20
EMBEDDINGS, HEAD = "model.embed_tokens.weight", "lm_head.weight"

Replaced = list[tuple[nn.Module, str, nn.Parameter]]
"""Parameters that were replaced: their module, their name in it, and the former parameter."""


class StreamedWeights:
    """Loads weights from their files into a model that holds only their shapes, and removes them again."""

    def __init__(self, files: WeightFiles, dtype: torch.dtype) -> None:
        self.files = files
        self._dtype = dtype
        # The parameters are kept because an identity is only valid while its owner lives.
        self._left_out: dict[int, tuple[str, nn.Parameter]] = {}

    def leave_out(self, name: str, shape: torch.Size) -> nn.Parameter:
        """A parameter without memory that stands for a tensor of the files.

        Its numbers are NaN: a computation that has not loaded the weight cannot pass for a result. It is not a meta
        tensor because PEFT moves adapters to the device of the base.
        """
        parameter = nn.Parameter(torch.full((), torch.nan, dtype=self._dtype).expand(shape), requires_grad=False)
        self._left_out[id(parameter)] = (name, parameter)
        return parameter

    def is_left_out(self, parameter: nn.Parameter) -> bool:
        """Whether a parameter stands for a tensor of the files."""
        return id(parameter) in self._left_out

    def load(self, module: nn.Module) -> Replaced:
        """Read the weights that a module and its parts lack."""
        replaced: Replaced = []
        for part in module.modules():
            for key, parameter in list(part.named_parameters(recurse=False)):
                if self.is_left_out(parameter):
                    weight = self.files.read(self._left_out[id(parameter)][0], self._dtype)
                    replaced.append((part, key, parameter))
                    part.register_parameter(key, nn.Parameter(weight, requires_grad=False))
        return replaced

    @contextmanager
    def loaded(self, module: nn.Module) -> Generator[None]:
        """With the weights of a module in memory."""
        replaced = self.load(module)
        try:
            yield
        finally:
            put_back(replaced)


@dataclass(frozen=True, slots=True)
class Skeleton:
    """A model without weights, and the files that hold them."""

    model: PreTrainedModel
    weights: StreamedWeights
    names: dict[str, str]
    """The tensor in the files of each parameter; with a tied output layer two parameters have the same."""

    @property
    def is_tied(self) -> bool:
        """Whether the embedding is also the output layer."""
        return len(set(self.names.values())) < len(self.names)


def open_streamed(folder: Path, dtype: Precision = "float32") -> PreTrainedModel:
    """A causal model on the CPU, ready to be called, that reads its weights while it runs.

    Its parameters are NaN while their layer does not run; hooks that are registered later see them loaded.
    """
    skeleton = open_skeleton(folder, dtype)
    stream(skeleton.model, skeleton.weights)
    return skeleton.model


def open_skeleton(folder: Path, dtype: Precision = "float32") -> Skeleton:
    """A model without weights; an InputError if its files lack a weight or have one of another shape."""
    refuse_hub_kernels()
    check_model_folder(folder)
    files = WeightFiles(folder)
    config = _read_config(folder, files)
    with init_empty_weights():
        model = AutoModelForCausalLM.from_config(config, dtype=DTYPES[dtype], trust_remote_code=False)
    assert isinstance(model, PreTrainedModel), "a causal model of transformers"
    model.tie_weights()
    weights = StreamedWeights(files, DTYPES[dtype])
    skeleton = Skeleton(model.eval(), weights, _names_in_files(model, files))
    check_names(files, skeleton.names.values())
    absent: dict[str, nn.Parameter] = {}
    for path, parameter in list(model.named_parameters(remove_duplicate=False)):
        name = skeleton.names[path]
        files.dtype_of(name)
        place, wanted = files.places[name], tuple(parameter.shape)
        if place.shape != wanted:
            what = f"the weights do not fit config.json: {name!r} has the shape {place.shape}, expected {wanted}"
            raise InputError(what, where=str(place.file), fix="import the model again")
        if name not in absent:
            absent[name] = weights.leave_out(name, parameter.shape)
        owner, _, key = path.rpartition(".")
        model.get_submodule(owner).register_parameter(key, absent[name])
    return skeleton


def stream(model: nn.Module, weights: StreamedWeights) -> None:
    """Let every layer load its weights when it is called and remove them afterwards, even if it fails."""
    for module in model.modules():
        # An adapter's layer reads the weights of the layer inside it without calling that.
        has_base = "base_layer" in dict(module.named_children())
        if has_base or any(weights.is_left_out(parameter) for parameter in module.parameters(recurse=False)):
            _hook(module, weights)


def put_back(replaced: Replaced) -> None:
    """Restore the parameters that were replaced."""
    for part, key, parameter in replaced:
        part.register_parameter(key, parameter)
    replaced.clear()


@torch.inference_mode()
def log_probs_of_all(
    model: PreTrainedModel,
    texts: Sequence[Sequence[int]],
    *,
    max_tokens: int = MAX_TOKENS_PER_PASS,
    max_logits_bytes: int = MAX_LOGITS_BYTES,
) -> Iterator[np.ndarray]:
    """Natural-log probabilities_TV of each text in turn, float32: row t is the token after ids[: t + 1].

    The decoder gets at most `max_tokens` at once, padding included, so that its weights are read once for many texts;
    the output layer makes at most `max_logits_bytes` at once. A longer text goes alone.
    """
    head = model.get_output_embeddings()
    assert head is not None, "every supported family has one"
    most_rows = max_logits_bytes // (4 * model.config.vocab_size)
    for start, end in batches([len(ids) for ids in texts], max_tokens):
        ids = [torch.tensor(list(text)) for text in texts[start:end]]
        # Without a mask: padding comes last, and no token attends to what follows it.
        ids_BT = nn.utils.rnn.pad_sequence(ids, batch_first=True)
        hidden_BTD = model.get_decoder()(input_ids=ids_BT, use_cache=False).last_hidden_state
        lengths = [len(text) for text in ids]
        hidden = [hidden_TD[:length] for hidden_TD, length in zip(hidden_BTD, lengths, strict=True)]
        for first, last in batches(lengths, most_rows):
            log_probs_NV = head(torch.cat(hidden[first:last])).float().log_softmax(-1)
            yield from (log_probs_TV.numpy() for log_probs_TV in log_probs_NV.split(lengths[first:last]))


def batches(lengths: Sequence[int], most: int) -> Iterator[tuple[int, int]]:
    """First and last (exclusive) of consecutive items that, padded to the longest, have at most `most` rows."""
    start = 0
    for end in range(1, len(lengths) + 1):
        if end == len(lengths) or max(lengths[start : end + 1]) * (end + 1 - start) > most:
            yield start, end
            start = end


def _hook(module: nn.Module, weights: StreamedWeights) -> None:
    replaced: Replaced = []
    module.register_forward_pre_hook(lambda *_: replaced.extend(weights.load(module)))
    module.register_forward_hook(lambda *_: put_back(replaced), always_call=True)


def _read_config(folder: Path, files: WeightFiles) -> PreTrainedConfig:
    """The config, with a separate output layer where the files have one: transformers believes them, not the config."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    settings, where = config.to_dict(), folder / "config.json"
    family_of(settings, where)
    if settings.get("quantization_config"):
        raise InputError("the model's weights are quantized", where=str(where), fix="give the original model")
    has_both = {EMBEDDINGS, HEAD} <= files.places.keys()
    if config.tie_word_embeddings and has_both and not torch.equal(files.read(EMBEDDINGS), files.read(HEAD)):
        config.tie_word_embeddings = False
    return config


def _names_in_files(model: PreTrainedModel, files: WeightFiles) -> dict[str, str]:
    """The name of each parameter in the files; of tied ones, a file may hold either."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    known: dict[int, str] = {}
    for path, parameter in parameters.items():
        if known.setdefault(id(parameter), path) not in files.places and path in files.places:
            known[id(parameter)] = path
    return {path: known[id(parameter)] for path, parameter in parameters.items()}
