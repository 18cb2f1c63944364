"""llama.cpp's C functions and structs, as far as we need them, from the shared library in the xllamacpp wheel.

The layouts of its parameter structs change between builds. Only the fields named below are touched; their
places are checked against llama.cpp's documented defaults before the first use.
"""

import ctypes
import functools
import importlib
import importlib.metadata
import logging
import sys
from collections.abc import Mapping
from ctypes import POINTER, Structure, c_bool, c_char_p, c_float, c_int32, c_int64, c_size_t, c_uint32, c_void_p
from operator import attrgetter
from types import SimpleNamespace

from baihua.core.errors import RunError
from baihua.core.log import logger

TESTED_VERSION = "2026.10.11549"

# Space for builds whose structs are longer than this one's: a caller's copy may be longer than what the
# C side reads or writes (the fields at its end are simply not there), never shorter.
SPARE_BYTES = 512
OMP_PAUSE_SOFT = 1  # omp.h
LOG_CALLBACK = ctypes.CFUNCTYPE(None, c_int32, c_char_p, c_void_p)


class ModelParams(Structure):
    """llama_model_params up to its flags, then spare room."""

    _fields_ = [
        ("devices", c_void_p),
        ("tensor_buft_overrides", c_void_p),
        ("n_gpu_layers", c_int32),
        ("split_mode", c_int32),
        ("load_mode", c_int32),
        ("lazy_mode", c_int32),
        ("main_gpu", c_int32),
        ("tensor_split", c_void_p),
        ("progress_callback", c_void_p),
        ("progress_callback_user_data", c_void_p),
        ("kv_overrides", c_void_p),
        ("vocab_only", c_bool),
        ("check_tensors", c_bool),
        ("use_extra_bufts", c_bool),
        ("no_host", c_bool),
        ("no_alloc", c_bool),
        ("rest", ctypes.c_char * SPARE_BYTES),
    ]


class ContextParams(Structure):
    """llama_context_params up to its thread counts and a few defaults to check, then spare room."""

    _fields_ = [
        ("n_ctx", c_uint32),
        ("n_batch", c_uint32),
        ("n_ubatch", c_uint32),
        ("n_seq_max", c_uint32),
        ("n_rs_seq", c_uint32),
        ("n_outputs_max", c_uint32),
        ("n_outputs_max_per_seq", c_uint32),
        ("n_threads", c_int32),
        ("n_threads_batch", c_int32),
        ("ctx_type", c_int32),
        ("rope_scaling_type", c_int32),
        ("pooling_type", c_int32),
        ("rest", ctypes.c_char * SPARE_BYTES),
    ]


class Batch(Structure):
    """llama_batch, complete."""

    _fields_ = [
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        ("embd", c_void_p),
        ("pos", POINTER(c_int32)),
        ("n_seq_id", POINTER(c_int32)),
        ("seq_id", POINTER(POINTER(c_int32))),
        ("logits", POINTER(ctypes.c_int8)),
    ]


MODEL_DEFAULTS = {
    "n_gpu_layers": -1,
    "split_mode": 1,
    "load_mode": -1,
    "lazy_mode": 1,
    "main_gpu": 0,
    "progress_callback": None,
    "vocab_only": False,
    "check_tensors": False,
    "use_extra_bufts": True,
    "no_host": False,
    "no_alloc": False,
}
CONTEXT_DEFAULTS = {
    "n_ctx": 512,
    "n_batch": 2048,
    "n_ubatch": 512,
    "n_seq_max": 1,
    "n_rs_seq": 0,
    "n_outputs_max": 0,
    "n_outputs_max_per_seq": 1,
    "n_threads": 4,
    "n_threads_batch": 4,
    "ctx_type": 0,
    "rope_scaling_type": -1,
    "pooling_type": -1,
}
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
    "llama_token_to_piece": (c_int32, [c_void_p, c_int32, ctypes.c_char_p, c_int32, c_int32, c_bool]),
    "llama_init_from_model": (c_void_p, [c_void_p, ContextParams]),
    "llama_free": (None, [c_void_p]),
    "llama_n_ctx": (c_uint32, [c_void_p]),
    "llama_n_threads": (c_int32, [c_void_p]),
    "llama_get_memory": (c_void_p, [c_void_p]),
    "llama_memory_clear": (None, [c_void_p, c_bool]),
    "llama_batch_init": (Batch, [c_int32, c_int32, c_int32]),
    "llama_batch_free": (None, [Batch]),
    "llama_decode": (c_int32, [c_void_p, Batch]),
    "llama_get_logits_ith": (POINTER(c_float), [c_void_p, c_int32]),
    "ggml_row_size": (c_size_t, [c_int32, c_int64]),
    "ggml_quantize_chunk": (
        c_size_t,
        [c_int32, c_void_p, c_void_p, c_int64, c_int64, c_int64, c_void_p],
    ),
}


@functools.cache
def open_library() -> SimpleNamespace:
    """The shared library with its functions typed and its struct layouts checked."""
    compiled = importlib.import_module("xllamacpp.xllamacpp")
    assert compiled.__file__ is not None, "a compiled module has a file"
    library = declare(ctypes.CDLL(compiled.__file__))
    check_layout("llama_model_params", library.llama_model_default_params(), MODEL_DEFAULTS)
    check_layout("llama_context_params", library.llama_context_default_params(), CONTEXT_DEFAULTS)
    check_batch(library)
    if not logger.isEnabledFor(logging.DEBUG):
        library.llama_log_set(_keep_silent, None)
    library.llama_backend_init()
    return library


def declare(library: ctypes.CDLL) -> SimpleNamespace:
    """Every function we call, with its types; a RunError when the library does not export one."""
    functions = {}
    for name, (result, arguments) in FUNCTIONS.items():
        try:
            functions[name] = library[name]
        except AttributeError as error:
            raise other_build(f"{name} is not exported") from error
        functions[name].restype = result
        functions[name].argtypes = arguments
    return SimpleNamespace(**functions)


def check_layout(name: str, found: Structure, expected: Mapping[str, object]) -> None:
    """Refuse a build whose default parameters are not where, or what, we expect."""
    values = dict(zip(expected, attrgetter(*expected)(found), strict=True))
    wrong = [f"{field} is {values[field]}, not {value}" for field, value in expected.items() if values[field] != value]
    if wrong:
        raise other_build(f"{name} has another layout ({'; '.join(wrong)})")


def check_batch(library: SimpleNamespace) -> None:
    """Refuse a build whose batches look different."""
    batch = library.llama_batch_init(2, 0, 1)
    is_whole = batch.token and batch.pos and batch.n_seq_id and batch.seq_id and batch.logits and not batch.embd
    if batch.n_tokens != 0 or not is_whole or batch.seq_id[2]:
        raise other_build("llama_batch has another layout")
    library.llama_batch_free(batch)


def other_build(what: str) -> RunError:
    """The error for an xllamacpp that is built otherwise than the tested one."""
    version = importlib.metadata.version("xllamacpp")
    return RunError(
        f"xllamacpp {version} does not fit: {what}",
        fix=f"install the tested version: pip install xllamacpp=={TESTED_VERSION}",
    )


def pause_openmp() -> None:
    """Let go of the threads that torch keeps on this thread's account; it makes them anew when it needs them.

    llama.cpp and torch share one OpenMP runtime. While it counts more threads than cores, it lets them sleep at every
    barrier instead of waiting awake: after a single product of torch matrices llama.cpp wrote 32 tokens/s instead of
    72 here (docs/log.md, 2026-11-22).
    """
    if sys.platform == "win32":
        return
    try:
        pause = ctypes.CDLL(None).omp_pause_resource_all
    except AttributeError:
        return  # No OpenMP is loaded for all, so torch is not.
    pause(OMP_PAUSE_SOFT)


@LOG_CALLBACK
def _keep_silent(level: int, text: bytes, user_data: int) -> None:
    """Drop llama.cpp's messages."""
