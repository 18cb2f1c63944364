"""llama.cpp's C functions and structs that we use, from the shared library in the xllamacpp wheel.

The layouts of the parameter structs change between builds. Only the fields below are used; their positions are checked
against llama.cpp's documented defaults before first use.
"""

import ctypes
import functools
import importlib
import importlib.metadata
import logging
import sys
from collections.abc import Mapping
from contextlib import suppress
from ctypes import POINTER, Structure, c_bool, c_char_p, c_float, c_int32, c_int64, c_size_t, c_uint32, c_void_p
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace

import psutil

from baihua.core.errors import InputError, RunError
from baihua.core.log import logger
from baihua.core.system import free_memory_bytes

TESTED_VERSION = "2026.10.11549"

# Room for builds with longer structs: the C side may read and write less than a caller's struct holds, never more.
SPARE_BYTES = 512
OMP_PAUSE_SOFT = 1  # omp.h
LOG_CALLBACK = ctypes.CFUNCTYPE(None, c_int32, c_char_p, c_void_p)
# The fields of llama_model_params and the first ones of llama_context_params, each with its type and default.
Layout = Mapping[str, tuple[type, object]]
MODEL_LAYOUT: Layout = {
    "devices": (c_void_p, None),
    "tensor_buft_overrides": (c_void_p, None),
    "n_gpu_layers": (c_int32, -1),
    "split_mode": (c_int32, 1),
    "load_mode": (c_int32, -1),
    "lazy_mode": (c_int32, 1),
    "main_gpu": (c_int32, 0),
    "tensor_split": (c_void_p, None),
    "progress_callback": (c_void_p, None),
    "progress_callback_user_data": (c_void_p, None),
    "kv_overrides": (c_void_p, None),
    "vocab_only": (c_bool, False),
    "check_tensors": (c_bool, False),
    "use_extra_bufts": (c_bool, True),
    "no_host": (c_bool, False),
    "no_alloc": (c_bool, False),
}
CONTEXT_LAYOUT: Layout = {
    "n_ctx": (c_uint32, 512),
    "n_batch": (c_uint32, 2048),
    "n_ubatch": (c_uint32, 512),
    "n_seq_max": (c_uint32, 1),
    "n_rs_seq": (c_uint32, 0),
    "n_outputs_max": (c_uint32, 0),
    "n_outputs_max_per_seq": (c_uint32, 1),
    "n_threads": (c_int32, 4),
    "n_threads_batch": (c_int32, 4),
    "ctx_type": (c_int32, 0),
    "rope_scaling_type": (c_int32, -1),
    "pooling_type": (c_int32, -1),
}


def _fields(layout: Layout) -> list[tuple[str, type]]:
    return [*((name, kind) for name, (kind, _) in layout.items()), ("spare", ctypes.c_char * SPARE_BYTES)]


class ModelParams(Structure):
    """llama_model_params."""

    _fields_ = _fields(MODEL_LAYOUT)


class ContextParams(Structure):
    """llama_context_params."""

    _fields_ = _fields(CONTEXT_LAYOUT)


class LlamaBatch(Structure):
    """llama_batch."""

    _fields_ = [
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        ("embd", c_void_p),
        ("pos", POINTER(c_int32)),
        ("n_seq_id", POINTER(c_int32)),
        ("seq_id", POINTER(POINTER(c_int32))),
        ("logits", POINTER(ctypes.c_int8)),
    ]


# name: (result, arguments)
FUNCTIONS: dict[str, tuple[type | None, list[type]]] = {
    "llama_log_set": (None, [LOG_CALLBACK, c_void_p]),
    "llama_backend_init": (None, []),
    "llama_model_default_params": (ModelParams, []),
    "llama_context_default_params": (ContextParams, []),
    "llama_model_load_from_file": (c_void_p, [c_char_p, ModelParams]),
    "llama_model_free": (None, [c_void_p]),
    "llama_model_get_vocab": (c_void_p, [c_void_p]),
    "llama_model_n_embd": (c_int32, [c_void_p]),
    "llama_model_n_ctx_train": (c_int32, [c_void_p]),
    "llama_model_chat_template": (c_char_p, [c_void_p, c_char_p]),
    "llama_vocab_n_tokens": (c_int32, [c_void_p]),
    "llama_vocab_bos": (c_int32, [c_void_p]),
    "llama_vocab_eos": (c_int32, [c_void_p]),
    "llama_vocab_get_add_bos": (c_bool, [c_void_p]),
    "llama_vocab_is_control": (c_bool, [c_void_p, c_int32]),
    "llama_vocab_is_eog": (c_bool, [c_void_p, c_int32]),
    "llama_vocab_get_text": (c_char_p, [c_void_p, c_int32]),
    "llama_tokenize": (c_int32, [c_void_p, c_char_p, c_int32, POINTER(c_int32), c_int32, c_bool, c_bool]),
    "llama_token_to_piece": (c_int32, [c_void_p, c_int32, c_char_p, c_int32, c_int32, c_bool]),
    "llama_init_from_model": (c_void_p, [c_void_p, ContextParams]),
    "llama_free": (None, [c_void_p]),
    "llama_n_ctx": (c_uint32, [c_void_p]),
    "llama_n_threads": (c_int32, [c_void_p]),
    "llama_get_memory": (c_void_p, [c_void_p]),
    "llama_memory_clear": (None, [c_void_p, c_bool]),
    "llama_batch_init": (LlamaBatch, [c_int32, c_int32, c_int32]),
    "llama_batch_free": (None, [LlamaBatch]),
    "llama_decode": (c_int32, [c_void_p, LlamaBatch]),
    "llama_get_logits_ith": (POINTER(c_float), [c_void_p, c_int32]),
    "ggml_quantize_chunk": (c_size_t, [c_int32, c_void_p, c_void_p, c_int64, c_int64, c_int64, c_void_p]),
}


@functools.cache
def open_library() -> SimpleNamespace:
    """The shared library with its functions typed and its struct layouts checked."""
    compiled = importlib.import_module("xllamacpp.xllamacpp")
    assert compiled.__file__ is not None, "a compiled module has a file"
    library = declare(ctypes.CDLL(compiled.__file__))
    check_layout("llama_model_params", library.llama_model_default_params(), MODEL_LAYOUT)
    check_layout("llama_context_params", library.llama_context_default_params(), CONTEXT_LAYOUT)
    check_batch(library)
    if not logger.isEnabledFor(logging.DEBUG):
        library.llama_log_set(_ignore_log, None)
    library.llama_backend_init()
    return library


def declare(library: ctypes.CDLL) -> SimpleNamespace:
    """The functions above with their types; a RunError when the library does not export one of them."""
    functions = {}
    for name, (result, arguments) in FUNCTIONS.items():
        try:
            functions[name] = library[name]
        except AttributeError as error:
            raise wrong_build(f"{name} is not exported") from error
        functions[name].restype = result
        functions[name].argtypes = arguments
    return SimpleNamespace(**functions)


def check_layout(struct: str, found: Structure, layout: Layout) -> None:
    """Reject a build whose default parameters are not at the expected positions, or have other values."""
    values = {field: attrgetter(field)(found) for field in layout}
    wrong = [f"{name} is {values[name]}, not {value}" for name, (_, value) in layout.items() if values[name] != value]
    if wrong:
        raise wrong_build(f"{struct} has another layout ({'; '.join(wrong)})")


def check_batch(library: SimpleNamespace) -> None:
    """Reject a build with another layout of llama_batch."""
    batch = library.llama_batch_init(2, 0, 1)
    is_whole = batch.token and batch.pos and batch.n_seq_id and batch.seq_id and batch.logits and not batch.embd
    if batch.n_tokens != 0 or not is_whole or batch.seq_id[2]:
        raise wrong_build("llama_batch has another layout")
    library.llama_batch_free(batch)


def wrong_build(what: str) -> RunError:
    """The error for a build of xllamacpp that differs from the tested one."""
    version = importlib.metadata.version("xllamacpp")
    fix = f"install the tested version: pip install xllamacpp=={TESTED_VERSION}"
    return RunError(f"xllamacpp {version} is incompatible: {what}", fix=fix)


def load_model(library: SimpleNamespace, file: Path, *, vocab_only: bool, has_second_copy: bool = True) -> int:
    """A handle to the model, to be freed with llama_model_free.

    `has_second_copy` lets llama.cpp keep some weights in a rearranged copy as well: faster, but they take memory twice.
    """
    params = library.llama_model_default_params()
    params.vocab_only = vocab_only
    params.use_extra_bufts = has_second_copy
    model = library.llama_model_load_from_file(str(file).encode("utf-8"), params)
    if not model:
        why = "a tensor or a part of the tokenizer is missing or has the wrong size"
        fix = "download or convert it again; --debug shows llama.cpp's own messages"
        raise InputError(f"llama.cpp cannot load the model: {why}", where=str(file), fix=fix)
    # Without weights llama.cpp stops before it reads the sizes, which shows whether the flag took effect.
    if (library.llama_model_n_embd(model) == 0) != vocab_only:
        library.llama_model_free(model)
        raise wrong_build("the flag vocab_only has no effect")
    return model


def default_num_threads() -> int:
    """The number of physical cores: llama.cpp is slower with hyper-threads."""
    return psutil.cpu_count(logical=False) or 1


def has_memory_for_copy(file: Path, *, num_free_bytes: int | None = None) -> bool:
    """Whether there is free memory for the rearranged copy of the weights in addition to the mapped file.

    Where there is not, the system reads the file again for every token: a 7B of q3_k_m under a limit of 4 GiB read
    1.5 GB a token with the copy and nothing without it, 0.7 against 2.5 tokens/s (docs/log.md, 2026-11-26).
    """
    return 2 * file.stat().st_size < (free_memory_bytes() if num_free_bytes is None else num_free_bytes)


def pause_openmp() -> None:
    """Release the OpenMP threads that torch keeps for this thread; it creates them again when it needs them.

    llama.cpp and torch share one OpenMP runtime. While that has more threads than cores, they sleep at barriers instead
    of spinning: after a single product of torch matrices llama.cpp wrote 32 tokens/s instead of 72 here (docs/log.md,
    2026-11-22).
    """
    if sys.platform != "win32":
        # Where OpenMP is not loaded globally, neither is torch.
        with suppress(AttributeError):
            ctypes.CDLL(None).omp_pause_resource_all(OMP_PAUSE_SOFT)


@LOG_CALLBACK
def _ignore_log(level: int, text: bytes, user_data: int) -> None:
    """Drop llama.cpp's messages."""
