"""A transformers model whose weights stay in their files and are in memory only while a layer works.

A pass over a 7B model in float32 needs memory for its widest layer (0.5 GB) and the activations; it reads all
weights once, so many texts should go through together.

B texts of a batch, T tokens, N rows of several texts, D width, V vocabulary.
"""

# ruff: noqa: N806  (names of tensors end with their shape)

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

# The widest activations of a 7B model are 11,008 numbers a token, and four of them are alive at once: 1.4 GB.
MAX_TOKENS_PER_PASS = 8192
MAX_LOGITS_BYTES = 256 * 2**20
EMBEDDINGS, HEAD = "model.embed_tokens.weight", "lm_head.weight"

Taken = list[tuple[nn.Module, str, nn.Parameter]]
"""Parameters that were replaced: their module, their name in it, and what stood there."""


class Weights:
    """Brings weights from their files into a model that holds only their shapes, and takes them away again."""

    def __init__(self, files: WeightFiles, dtype: torch.dtype) -> None:
        self.files = files
        self._dtype = dtype
        self._names: dict[int, str] = {}
        # Identities are only good for as long as their owners live.
        self._absent: list[nn.Parameter] = []

    def leave_out(self, name: str, shape: torch.Size) -> nn.Parameter:
        """A parameter without memory that stands for a tensor of the files.

        Its numbers are NaN: whatever is computed without bringing the weight first cannot pass for a result. It is
        not a meta tensor because PEFT moves adapters to where the base is.
        """
        parameter = nn.Parameter(torch.full((), torch.nan, dtype=self._dtype).expand(shape), requires_grad=False)
        self._absent.append(parameter)
        self._names[id(parameter)] = name
        return parameter

    def name_of(self, parameter: nn.Parameter) -> str | None:
        """The tensor that a parameter stands for; None for one that is in memory."""
        return self._names.get(id(parameter))

    def bring(self, module: nn.Module) -> Taken:
        """Read what a module and its parts lack."""
        taken: Taken = []
        for part in module.modules():
            for key, parameter in list(part.named_parameters(recurse=False)):
                name = self.name_of(parameter)
                if name is not None:
                    taken.append((part, key, parameter))
                    weight = nn.Parameter(self.files.read(name, self._dtype), requires_grad=False)
                    part.register_parameter(key, weight)
        return taken

    @contextmanager
    def brought(self, module: nn.Module) -> Generator[None]:
        """With the weights of a module in memory."""
        taken = self.bring(module)
        try:
            yield
        finally:
            put_back(taken)


@dataclass(frozen=True, slots=True)
class Skeleton:
    """A model without weights, and where they are."""

    model: PreTrainedModel
    weights: Weights
    names: dict[str, str]
    """Each parameter of the model and its tensor in the files; with a tied output layer two have the same."""

    @property
    def is_tied(self) -> bool:
        """Whether the output layer is the input rows."""
        return len(set(self.names.values())) < len(self.names)


def open_streamed(folder: Path, dtype: Precision = "float32") -> PreTrainedModel:
    """A causal model on the CPU, ready to be called, that reads its weights while it works.

    Its parameters are NaN while their layer does not work; hooks that are registered later see them whole.
    """
    skeleton = open_skeleton(folder, dtype)
    stream(skeleton.model, skeleton.weights)
    return skeleton.model


def open_skeleton(folder: Path, dtype: Precision = "float32") -> Skeleton:
    """A model that knows where its weights are; an InputError if they are not there or not of its shapes."""
    refuse_hub_kernels()
    check_model_folder(folder)
    files = WeightFiles(folder)
    config = _read_config(folder, files)
    with init_empty_weights():
        model = AutoModelForCausalLM.from_config(config, dtype=DTYPES[dtype], trust_remote_code=False)
    assert isinstance(model, PreTrainedModel), "a causal model of transformers"
    model.tie_weights()
    weights = Weights(files, DTYPES[dtype])
    skeleton = Skeleton(model.eval(), weights, _names_in_files(model, files))
    check_names(files, skeleton.names.values())
    absent: dict[str, nn.Parameter] = {}
    for path, parameter in list(model.named_parameters(remove_duplicate=False)):
        name = skeleton.names[path]
        _check_shape(files, name, parameter.shape)
        if name not in absent:
            absent[name] = weights.leave_out(name, parameter.shape)
        owner, _, key = path.rpartition(".")
        model.get_submodule(owner).register_parameter(key, absent[name])
    return skeleton


def stream(model: nn.Module, weights: Weights) -> None:
    """Let every layer bring its weights when it is called and give them back after, even if it fails."""
    for module in model.modules():
        # An adapter's layer looks at the weights of the layer inside it, without calling that.
        has_base = "base_layer" in dict(module.named_children())
        if has_base or any(weights.name_of(parameter) for parameter in module.parameters(recurse=False)):
            _hook(module, weights)


def put_back(taken: Taken) -> None:
    """Take the weights away that were brought."""
    for part, key, parameter in taken:
        part.register_parameter(key, parameter)
    taken.clear()


@torch.inference_mode()
def log_probs_of_all(
    model: PreTrainedModel,
    texts: Sequence[Sequence[int]],
    *,
    max_tokens: int = MAX_TOKENS_PER_PASS,
    max_logits_bytes: int = MAX_LOGITS_BYTES,
) -> Iterator[np.ndarray]:
    """Natural-log probabilities_TV of each text in turn, float32: row t is the token after ids[: t + 1].

    The decoder sees at most `max_tokens` at once, padding included, so that its weights are read once for many texts;
    the output layer makes at most `max_logits_bytes` at once. A text that is longer than that goes alone.
    """
    head = model.get_output_embeddings()
    assert head is not None, "every family that we know has one"
    most_rows = max_logits_bytes // (4 * model.config.vocab_size)
    for start, end in batches([len(ids) for ids in texts], max_tokens):
        hidden = _hidden_states(model, texts[start:end])
        lengths = [len(hidden_TD) for hidden_TD in hidden]
        for first, last in batches(lengths, most_rows):
            logits_NV = head(torch.cat(hidden[first:last]))
            log_probs_NV = logits_NV.float().log_softmax(-1)
            del logits_NV
            yield from (log_probs_TV.numpy() for log_probs_TV in log_probs_NV.split(lengths[first:last]))


def _hidden_states(model: PreTrainedModel, texts: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """What the output layer sees of each text, hidden_TD."""
    ids_BT = torch.zeros(len(texts), max(map(len, texts)), dtype=torch.long)
    for row, ids in zip(ids_BT, texts, strict=True):
        row[: len(ids)] = torch.tensor(list(ids))
    # Without a mask: padding comes last, and no token sees what comes after it.
    hidden_BTD = model.get_decoder()(input_ids=ids_BT, use_cache=False).last_hidden_state
    return [hidden_TD[: len(ids)] for hidden_TD, ids in zip(hidden_BTD, texts, strict=True)]


def batches(lengths: Sequence[int], most: int) -> Iterator[tuple[int, int]]:
    """First and last (exclusive) of consecutive items that, each padded to the longest, have at most so many rows."""
    start = 0
    for end in range(1, len(lengths) + 1):
        if end == len(lengths) or max(lengths[start : end + 1]) * (end + 1 - start) > most:
            yield start, end
            start = end


def _hook(module: nn.Module, weights: Weights) -> None:
    taken: Taken = []

    def before(*_: Any) -> None:
        taken.extend(weights.bring(module))

    def after(*_: Any) -> None:
        put_back(taken)

    module.register_forward_pre_hook(before)
    module.register_forward_hook(after, always_call=True)


def _read_config(folder: Path, files: WeightFiles) -> PreTrainedConfig:
    """The config, with an output layer of its own where the files say so: transformers believes them, not it."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    settings = config.to_dict()
    family_of(settings, folder / "config.json")
    if settings.get("quantization_config"):
        raise InputError(
            "the weights of this model are quantized",
            where=str(folder / "config.json"),
            fix="give the model that was quantized",
        )
    has_both = {EMBEDDINGS, HEAD} <= files.places.keys()
    if config.tie_word_embeddings and has_both and not torch.equal(files.read(EMBEDDINGS), files.read(HEAD)):
        config.tie_word_embeddings = False
    return config


def _names_in_files(model: PreTrainedModel, files: WeightFiles) -> dict[str, str]:
    """Where each parameter is found; of tied ones, a file may hold either."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    known: dict[int, str] = {}
    for path, parameter in parameters.items():
        if known.setdefault(id(parameter), path) not in files.places and path in files.places:
            known[id(parameter)] = path
    return {path: known[id(parameter)] for path, parameter in parameters.items()}


def _check_shape(files: WeightFiles, name: str, wanted: torch.Size) -> None:
    place = files.places[name]
    files.dtype_of(name)
    if place.shape != tuple(wanted):
        raise InputError(
            f"the weights do not fit config.json: {name!r} has the shape {place.shape}, not {tuple(wanted)}",
            where=str(place.file),
            fix="import the model again",
        )
