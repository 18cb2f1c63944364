"""`baihua chat`."""

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from baihua.backends.choose import open_chat
from baihua.chat.types import Message, Sampling
from baihua.cli import options as opt
from baihua.cli.models import find_model
from baihua.core.env import VARIABLES
from baihua.serve.terminal.repl import run_repl

QUESTIONS = ("你好，你是谁？", "水在多少摄氏度会沸腾？", "把“我今天非常高兴”改成更正式的说法。", "写一句关于春天的话。")


def chat(
    model: Annotated[str, typer.Argument(help="A .gguf file, a model folder, a run, or an http(s) address.")],
    system: Annotated[str | None, typer.Option(help="The system message.")] = None,
    temperature: opt.Temperature = 0.7,
    max_tokens: opt.MaxTokens = 512,
    threads: opt.Threads = None,
    at_address: Annotated[
        str | None, typer.Option("--model", metavar="NAME", help="Which model of an address; default: its first.")
    ] = None,
    plain: Annotated[bool, typer.Option(help="Print answers as plain text, not as Markdown.")] = False,
    runs: opt.Runs = opt.RUNS,
    debug: opt.Debug = False,
) -> None:
    """Chat with a model in the terminal; /help lists the commands."""
    api_key = VARIABLES.get("BAIHUA_API_KEY") or None
    sampling, history = Sampling(temperature=temperature, max_tokens=max_tokens), runs / "chat-history"
    opened = open_chat(find_model(model, runs), num_threads=threads, api_key=api_key, at_address=at_address)
    runs.mkdir(parents=True, exist_ok=True)
    with closing(opened):
        run_repl(opened, system=system, sampling=sampling, history_file=history, save_folder=Path(), is_plain=plain)


def print_sample_replies(name: str, *, runs: Path) -> None:
    """Print a few greedy replies, where there is no terminal to chat in."""
    with closing(open_chat(find_model(name, runs))) as model:
        for question in QUESTIONS:
            pieces = model.stream([Message("user", question)], Sampling(temperature=0.0, max_tokens=96))
            print(f"\n你：{question}\n白话：{''.join(piece.text for piece in pieces)}")
