"""llama.cpp's C API, as far as we need it, from the shared library inside the xllamacpp wheel.

The layouts of its parameter structs change between builds. Only the fields named below are touched; their
places are checked against llama.cpp's documented defaults before the first use, and what they did is
checked afterwards. t tokens, v vocabulary.
"""

import ctypes
import functools
import importlib
import importlib.metadata
import logging
from collections.abc import Mapping, Sequence
from ctypes import POINTER, Structure, c_bool, c_char_p, c_float, c_int32, c_int64, c_size_t, c_uint32, c_void_p
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from baihua.core.errors import InputError, RunError
from baihua.core.gguf_header import read_llama_header
from baihua.core.log import logger

TESTED_VERSION = "2026.10.11549"

# Space for builds whose structs are longer than this one's: a caller's copy may be longer than what the
# C side reads or writes (the fields at its end are simply not there), never shorter.
SPARE_BYTES = 512
NUM_BATCH_TOKENS = 512
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
            raise _other_build(f"{name} is not exported") from error
        functions[name].restype = result
        functions[name].argtypes = arguments
    return SimpleNamespace(**functions)


def check_layout(name: str, found: Structure, expected: Mapping[str, object]) -> None:
    """Refuse a build whose default parameters are not where, or what, we expect."""
    values = {field: getattr(found, field) for field in expected}
    wrong = [f"{field} is {values[field]}, not {value}" for field, value in expected.items() if values[field] != value]
    if wrong:
        raise _other_build(f"{name} has another layout ({'; '.join(wrong)})")


class Vocabulary:
    """The tokens of a GGUF file, loaded without its weights; safe to use from many threads."""

    def __init__(self, file: Path) -> None:
        read_llama_header(file)
        self._library = open_library()
        self._model = load_model(self._library, file, vocab_only=True)
        self._vocab = self._library.llama_model_get_vocab(self._model)
        self.num_tokens: int = self._library.llama_vocab_n_tokens(self._vocab)

    @property
    def bos_id(self) -> int | None:
        """The begin-of-sequence token, whether or not texts start with it."""
        return self._known(self._library.llama_vocab_bos(self._vocab))

    @property
    def eos_id(self) -> int | None:
        """The end-of-sequence token."""
        return self._known(self._library.llama_vocab_eos(self._vocab))

    @property
    def adds_bos(self) -> bool:
        """Whether the model wants the begin-of-sequence token before every text."""
        return self._library.llama_vocab_get_add_bos(self._vocab)

    @property
    def chat_template(self) -> str | None:
        """The Jinja chat template inside the file."""
        text = self._library.llama_model_chat_template(self._model, None)
        return text.decode("utf-8") if text is not None else None

    def controls(self) -> dict[str, int]:
        """Every control token and its id."""
        ids = range(self.num_tokens)
        return {self.text(i): i for i in ids if self._library.llama_vocab_is_control(self._vocab, i)}

    def end_ids(self) -> list[int]:
        """Tokens at which llama.cpp ends an answer."""
        return [i for i in range(self.num_tokens) if self._library.llama_vocab_is_eog(self._vocab, i)]

    def text(self, token_id: int) -> str:
        """The token as it is written in the vocabulary."""
        return self._library.llama_vocab_get_text(self._vocab, token_id).decode("utf-8", errors="replace")

    def encode(self, text: str) -> list[int]:
        """Ids of plain text: no control token is read from it and none is added."""
        data = text.encode("utf-8")
        # No token stands for less than a byte; SentencePiece may put one space in front.
        ids = (c_int32 * (len(data) + 2))()
        count = self._library.llama_tokenize(self._vocab, data, len(data), ids, len(ids), False, False)
        assert count >= 0, "more tokens than bytes"
        return ids[:count]

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for; controls give none."""
        num_bytes = 64
        while True:
            piece = ctypes.create_string_buffer(num_bytes)
            count = self._library.llama_token_to_piece(self._vocab, token_id, piece, num_bytes, 0, False)
            if count >= 0:
                return piece.raw[:count]
            num_bytes = -count

    def close(self) -> None:
        """Free the vocabulary; using it afterwards is a mistake."""
        if self._model is not None:
            self._library.llama_model_free(self._model)
        self._model = self._vocab = None

    def _known(self, token_id: int) -> int | None:
        return token_id if token_id >= 0 else None


class Network:
    """A loaded model with one context; for one thread at a time."""

    def __init__(self, file: Path, *, num_ctx: int, num_threads: int) -> None:
        read_llama_header(file)
        self._library = open_library()
        self._model = load_model(self._library, file, vocab_only=False)
        self.num_tokens: int = self._library.llama_vocab_n_tokens(self._library.llama_model_get_vocab(self._model))
        self.num_ctx_trained: int = self._library.llama_model_n_ctx_train(self._model)
        self.num_ctx = min(num_ctx, self.num_ctx_trained)
        self._context = open_context(self._library, self._model, num_ctx=self.num_ctx, num_threads=num_threads)
        self._batch = self._library.llama_batch_init(NUM_BATCH_TOKENS, 0, 1)

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        """Logits_tv, float32, of the token after each of `ids`."""
        assert 0 < len(ids) <= self.num_ctx, "the caller checks the length"
        self._library.llama_memory_clear(self._library.llama_get_memory(self._context), True)
        logits_tv = np.empty((len(ids), self.num_tokens), dtype=np.float32)
        for start in range(0, len(ids), NUM_BATCH_TOKENS):
            self._decode(ids[start : start + NUM_BATCH_TOKENS], start, logits_tv)
        return logits_tv

    def close(self) -> None:
        """Free the model; using it afterwards is a mistake."""
        if self._model is not None:
            self._library.llama_batch_free(self._batch)
            self._library.llama_free(self._context)
            self._library.llama_model_free(self._model)
        self._model = self._context = None

    def _decode(self, ids: Sequence[int], start: int, logits_tv: np.ndarray) -> None:
        batch = self._batch
        batch.n_tokens = len(ids)
        for i, token_id in enumerate(ids):
            batch.token[i] = token_id
            batch.pos[i] = start + i
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = 0
            batch.logits[i] = 1
        status = self._library.llama_decode(self._context, batch)
        if status != 0:
            raise RunError(
                f"llama.cpp could not compute {len(ids)} tokens (status {status})",
                fix="token ids must be of this model; if they are, the machine may be out of memory",
            )
        for i in range(len(ids)):
            row = self._library.llama_get_logits_ith(self._context, i)
            logits_tv[start + i] = np.ctypeslib.as_array(row, shape=(self.num_tokens,))


def load_model(library: SimpleNamespace, file: Path, *, vocab_only: bool) -> int:
    """A handle of the model, to be freed with llama_model_free."""
    wanted = library.llama_model_default_params()
    wanted.vocab_only = vocab_only
    model = library.llama_model_load_from_file(str(file).encode("utf-8"), wanted)
    if not model:
        raise InputError(
            "llama.cpp cannot load the model: a tensor or a part of the tokenizer is missing or of another size",
            where=str(file),
            fix="download or convert it again; --debug shows llama.cpp's own messages",
        )
    # Without weights llama.cpp stops before it reads the sizes: that tells whether the flag was understood.
    if (library.llama_model_n_embd(model) == 0) != vocab_only:
        library.llama_model_free(model)
        raise _other_build("the flag vocab_only has no effect")
    return model


def open_context(library: SimpleNamespace, model: int, *, num_ctx: int, num_threads: int) -> int:
    """A handle of a context that gives the logits of every token, to be freed with llama_free."""
    wanted = library.llama_context_default_params()
    wanted.n_ctx = num_ctx
    wanted.n_batch = wanted.n_ubatch = NUM_BATCH_TOKENS
    wanted.n_outputs_max = wanted.n_outputs_max_per_seq = NUM_BATCH_TOKENS
    wanted.n_threads = wanted.n_threads_batch = num_threads
    context = library.llama_init_from_model(model, wanted)
    if not context:
        raise RunError(
            f"llama.cpp could not open a context of {num_ctx:,} tokens",
            fix="close other programs or use a smaller model: the memory may not suffice",
        )
    if library.llama_n_ctx(context) < num_ctx or library.llama_n_threads(context) != num_threads:
        raise _other_build("the context's size and thread count are not what was set")
    return context


def check_batch(library: SimpleNamespace) -> None:
    """Refuse a build whose batches look different."""
    batch = library.llama_batch_init(2, 0, 1)
    is_whole = batch.token and batch.pos and batch.n_seq_id and batch.seq_id and batch.logits and not batch.embd
    if batch.n_tokens != 0 or not is_whole or batch.seq_id[2]:
        raise _other_build("llama_batch has another layout")
    library.llama_batch_free(batch)


def _other_build(what: str) -> RunError:
    version = importlib.metadata.version("xllamacpp")
    return RunError(
        f"xllamacpp {version} does not fit: {what}",
        fix=f"install the tested version: pip install xllamacpp=={TESTED_VERSION}",
    )


@LOG_CALLBACK
def _keep_silent(level: int, text: bytes, user_data: int) -> None:
    """Drop llama.cpp's messages."""
