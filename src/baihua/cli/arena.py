"""The verb that compares models by votes: arena."""

import json
import random
import sys
from pathlib import Path
from typing import Annotated

import typer

from baihua.cli.options import RUNS, Debug, Json, Runs, prepare
from baihua.cli.serve import named_models
from baihua.core.errors import InputError


def arena(
    models: Annotated[
        list[str] | None, typer.Argument(help="Two or more, each as for `chat`; NAME=MODEL names it in the table.")
    ] = None,
    questions: Annotated[
        Path | None, typer.Option(help="Set of questions to walk through: JSONL, JSON or text.")
    ] = None,
    votes: Annotated[Path, typer.Option(help="File that votes are added to.")] = Path("votes.jsonl"),
    table: Annotated[bool, typer.Option("--table", help="Print the ratings of the votes, and leave.")] = False,
    host: Annotated[
        str, typer.Option(help="Address to listen at; any but this machine's own needs a key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8090,
    api_key_file: Annotated[
        Path | None, typer.Option(help="File with the key that the page asks for (or BAIHUA_API_KEY).")
    ] = None,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 0.7,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 512,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of each model; all cores when left out.")] = None,
    runs: Runs = RUNS,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Vote which of two answers is better, blind, in the browser; ratings with intervals."""
    prepare(debug=debug)
    if table:
        _print_table(votes, as_json=as_json)
        return
    from baihua.backends.choose import open_chat
    from baihua.chat.types import Sampling
    from baihua.core.env import Environment
    from baihua.data.formats.questions import read_questions
    from baihua.serve.arena.app import make_arena
    from baihua.serve.arena.battles import Battles
    from baihua.serve.arena.votes import Votes
    from baihua.serve.web.access import Rules
    from baihua.serve.web.server import listen, read_key, run

    found = named_models(models or [], runs)
    if len(found) < 2:
        raise InputError("an arena needs two models", where="baihua arena", fix="baihua arena A B")
    asked = read_questions(questions) if questions else []
    key = read_key(api_key_file, Environment(), host=host)
    at, file = listen(host, port), Votes(votes)
    remote_key = Environment().get("BAIHUA_API_KEY") or None
    opened = {name: open_chat(place, num_threads=threads, api_key=remote_key) for name, place in found.items()}
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens)
    battles = Battles(opened, file, questions=asked, sampling=sampling, rng=random.SystemRandom())
    port = at.getsockname()[1]
    print(f"arena  http://{host}:{port}/\nvotes  {votes} ({len(file.rows):,} so far)", file=sys.stderr)
    run(make_arena(battles, rules=Rules(key=key)), at)


def _print_table(file: Path, *, as_json: bool) -> None:
    from baihua.serve.arena.table import NOTES, make_table
    from baihua.serve.arena.votes import read_votes

    if not file.is_file():
        raise InputError("there are no votes yet", where=str(file), fix="name the file: --votes FILE")
    found = make_table(read_votes(file))
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    shown = Table("", "model", "rating", "95 %", "battles", "won", "lost", "tied", "both bad")
    for row in found["rows"]:
        figures = [row[name] for name in ("num_battles", "num_wins", "num_losses", "num_ties", "num_both_bad")]
        interval = f"{row['low']:.0f} to {row['high']:.0f}"
        shown.add_row(str(row["rank"]), row["model"], f"{row['rating']:.0f}", interval, *map(str, figures))
    console = Console()
    console.print(shown)
    if found["note"]:
        console.print(NOTES[found["note"]], markup=False)
