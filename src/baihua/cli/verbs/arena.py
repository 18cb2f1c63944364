"""`baihua arena`."""

import random
import sys
from pathlib import Path
from typing import Annotated

import typer

from baihua.backends.choose import open_chat
from baihua.chat.types import Sampling
from baihua.cli import options as opt
from baihua.cli.models import named_models
from baihua.core.env import VARIABLES
from baihua.core.errors import InputError
from baihua.core.tables import Table, render_text
from baihua.data.formats.questions import read_questions
from baihua.serve.arena.app import make_arena
from baihua.serve.arena.battles import Battles
from baihua.serve.arena.votes import NOTES, Votes, make_table, read_votes
from baihua.serve.web import server

COUNTS = ("num_battles", "num_wins", "num_losses", "num_ties", "num_both_bad")


def arena(
    models: Annotated[
        list[str] | None, typer.Argument(help="Two or more, each as for `chat`; NAME=MODEL names it in the table.")
    ] = None,
    questions: Annotated[
        Path | None, typer.Option(help="Set of questions to go through: JSON Lines, JSON or text.")
    ] = None,
    votes: Annotated[Path, typer.Option(help="File to append votes to.")] = Path("votes.jsonl"),
    table: Annotated[bool, typer.Option("--table", help="Print the ratings from the votes and exit.")] = False,
    host: opt.Host = "127.0.0.1",
    port: opt.Port = 8090,
    api_key_file: opt.ApiKeyFile = None,
    temperature: opt.Temperature = 0.7,
    max_tokens: opt.MaxTokens = 512,
    threads: opt.Threads = None,
    runs: opt.Runs = opt.RUNS,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Vote blind on pairs of answers in the browser; models are rated with intervals."""
    if table:
        _print_table(votes, as_json=as_json)
        return
    found = named_models(models or [], runs)
    if len(found) < 2:
        raise InputError("an arena needs two models", where="baihua arena", fix="baihua arena A B")
    asked = {question.id: question for question in read_questions(questions)} if questions else {}
    key = server.read_key(api_key_file, VARIABLES, host=host)
    at, file = server.listen(host, port), Votes(votes)
    remote_key = VARIABLES.get("BAIHUA_API_KEY") or None
    opened = {name: open_chat(place, num_threads=threads, api_key=remote_key) for name, place in found.items()}
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens)
    battles = Battles(opened, file, questions=asked, sampling=sampling, rng=random.SystemRandom())
    print(f"arena  http://{host}:{at.getsockname()[1]}/\nvotes  {votes} ({len(file.rows):,} so far)", file=sys.stderr)
    server.run(make_arena(battles, key=key), at)


def _print_table(file: Path, *, as_json: bool) -> None:
    if not file.is_file():
        raise InputError("there are no votes yet", where=str(file), fix="name the file: --votes FILE")
    found = make_table(read_votes(file))
    if as_json:
        opt.print_json(found)
        return
    columns = ["", "model", "rating", "95 %", "battles", "won", "lost", "tied", "both bad"]
    rows = [
        [r["rank"], r["model"], round(r["rating"]), f"{r['low']:.0f} to {r['high']:.0f}", *(r[n] for n in COUNTS)]
        for r in found["rows"]
    ]
    print(render_text(Table(columns, rows)))
    if found["note"]:
        print(NOTES[found["note"]])
