"""`baihua demo`."""

import sys
from typing import Annotated

import typer

from baihua.cli import options as opt
from baihua.cli.build import build
from baihua.cli.verbs.chat import chat, print_sample_replies
from baihua.cli.verbs.serve import serve as start_server
from baihua.core.recipe import load_recipe


def demo(
    overrides: opt.Overrides = None,
    serve: Annotated[bool, typer.Option("--serve", help="Serve the chatbot and open its page instead.")] = False,
    runs: opt.Runs = opt.RUNS,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Build and measure a small Chinese chatbot on this machine, then chat with it."""
    recipe = load_recipe(opt.SHIPPED / "demo.yaml", overrides)
    build(recipe, runs, as_json=as_json)
    if as_json:
        return
    if serve:
        start_server([recipe.name], open_page=True, runs=runs)
    elif sys.stdin.isatty() and sys.stdout.isatty():
        chat(recipe.name, runs=runs)
    else:
        print_sample_replies(recipe.name, runs=runs)
