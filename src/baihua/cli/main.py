"""The entry point: the verbs, and how an error becomes one message and an exit status."""

import json
import pkgutil
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict

import typer
from typer.exceptions import TyperException

from baihua.core.env import forbid_telemetry, process_number, report_folder
from baihua.core.errors import BaihuaError, InputError, LostPeerError, RecipeError, RunError
from baihua.core.stopping import sigterm_as_ctrl_c

INTERRUPTED = 130
# Importing all verbs takes seconds, so only the named one is imported; its docstring must be the sentence given here.
VERBS = {
    "demo": "Build and measure a small Chinese chatbot on this machine, then chat with it.",
    "run": "Build a recipe: unchanged stages are reused, interrupted ones resumed.",
    "check": "Validate a recipe, report all its mistakes and estimate its cost; nothing is run or downloaded.",
    "do": "Run one stage on plain files and folders.",
    "show": "Show what an artifact was made from, rows of its data, or the catalogue of named data sets.",
    "chat": "Chat with a model in the terminal; /help lists the commands.",
    "serve": "Serve models with OpenAI's API and a chat page, by default to this machine only.",
    "arena": "Vote blind on pairs of answers in the browser; models are rated with intervals.",
    "verify": "Compare every file of an artifact or run with its manifest.",
    "clean": "Remove what no kept run needs: artifacts, unfinished work and the folders of other runs.",
    "doctor": "Check what this machine can do and how to install what is missing; with --fit, which models run where.",
}


def main(arguments: list[str] | None = None) -> None:
    """Run a verb and exit with 0 for success, 1 for a failure, 2 for wrong input, 130 for an interruption."""
    words = sys.argv[1:] if arguments is None else arguments
    # Before any library is imported that would report its use.
    forbid_telemetry()
    try:
        with sigterm_as_ctrl_c():
            status = make_app(words)(words, standalone_mode=False)
    except BaihuaError as error:
        status = _report(error, words)
    except OSError as error:
        what = f"operating system error: {error.strerror or error}"
        status = _report(RunError(what, where=str(error.filename or "")), words)
    except TyperException as error:
        status = _report(InputError(error.format_message(), fix="see: baihua --help, or baihua VERB --help"), words)
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except Exception as error:  # A bug in Baihua: the user gets one message, and with --debug the traceback to report.
        where, fix = type(error).__name__, "run it again with --debug and report the traceback"
        status = _report(RunError(f"internal error: {error}", where=where, fix=fix), words, cause=error)
    # Typer returns this status for Ctrl-C without a message.
    if status == INTERRUPTED and report_folder() is None:
        print("interrupted; run the same command again to resume", file=sys.stderr)
    sys.exit(status if isinstance(status, int) else 0)


def make_app(words: Sequence[str]) -> typer.Typer:
    """The command line with one real verb, the one that is named; the others have only their help line."""
    app = typer.Typer(
        help="Turn an open base model into a Chinese chatbot on your own machine, and measure every step.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    named = next((word for word in words if not word.startswith("-")), "")
    for verb, sentence in VERBS.items():
        function = pkgutil.resolve_name(f"baihua.cli.verbs.{verb}:{verb}") if verb == named else lambda: None
        app.command(verb, help=sentence)(function)
    return app


def _report(error: BaihuaError, words: list[str], *, cause: Exception | None = None) -> int:
    """Print an error where its user will look for it; returns its exit status."""
    # Under --processes only the first process prints. The others leave their error in a file, and the process that
    # started them decides whether to print it; one that only lost another has nothing to add.
    folder = report_folder()
    if folder and (process_number() or isinstance(error, LostPeerError)):
        if not isinstance(error, LostPeerError):
            (folder / f"{process_number()}.txt").write_text(f"error: {error}", encoding="utf-8")
        return error.exit_status
    if "--debug" in words:
        traceback.print_exception(cause or error, file=sys.stderr)
    if "--json" in words:
        found: dict[str, object] = {"what": error.what, "where": error.where, "fix": error.fix}
        if isinstance(error, RecipeError):
            found["problems"] = [asdict(problem) for problem in error.problems]
        print(json.dumps({"error": found}, ensure_ascii=False))
    print(f"error: {error}", file=sys.stderr)
    return error.exit_status
