"""A two-layer random Llama and a 512-token tokenizer: the model of the tests."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

from baihua.chat.templates.chatml import JINJA

NUM_TOKENS = 512
CONTROLS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEXT = (
    "白话就是人人都听得懂的话。今天天气很好，我们去公园走走吧。一加一等于二。你好，请问有什么可以帮你？",
    "user assistant system the quick brown fox jumps over the lazy dog. What is your name? Hello, world!",
    "def add(a, b): return a + b. 请把下面的句子改得更通顺一些：他的心情很高兴。春眠不觉晓，处处闻啼鸟。",
    "中国的首都是北京。水在零摄氏度结冰，在一百摄氏度沸腾。一年有四个季节：春天、夏天、秋天和冬天。",
)


def make(folder: Path, seed: int = 0) -> Path:
    """Write the model as a Hugging Face folder; the same seed gives the same bytes. Returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    _tokenizer().save(str(folder / "tokenizer.json"))
    config = LlamaConfig(
        vocab_size=NUM_TOKENS,
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(folder)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "add_bos_token": False,
        "model_max_length": 1024,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    (folder / "chat_template.jinja").write_text(JINJA, encoding="utf-8")
    return folder


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    # SmolLM2's own pre-tokenizer, so that GGUF conversion of the tiny model takes the same path.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=NUM_TOKENS,
        special_tokens=list(CONTROLS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    assert tokenizer.get_vocab_size() == NUM_TOKENS, "the training text is too short for 512 tokens"
    return tokenizer
