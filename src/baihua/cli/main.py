"""The entry point: the verbs, and how every error becomes one block and an exit status."""

import json
import sys
import traceback
from dataclasses import asdict

import typer
from typer.exceptions import TyperException

from baihua.cli import arena, build, check, keep, look, serve, talk
from baihua.core.env import Environment, process_number, report_folder
from baihua.core.errors import BaihuaError, LostPeerError, RecipeError, RunError
from baihua.core.stopping import sigterm_as_ctrl_c

INTERRUPTED = 130

app = typer.Typer(
    help="Turn an open base model into a Chinese chatbot on your own machine, and measure every step.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for verb in (
    build.demo,
    build.run,
    check.check,
    build.do,
    look.show,
    talk.chat,
    serve.serve,
    arena.arena,
    look.verify,
    keep.clean,
    look.doctor,
):
    app.command()(verb)


def main(arguments: list[str] | None = None) -> None:
    """Run a verb and leave with 0 done, 1 failed, 2 wrong input, 130 interrupted."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        with sigterm_as_ctrl_c():
            status = app(words, standalone_mode=False)
    except BaihuaError as error:
        _report(error, words)
        status = error.exit_status
    except OSError as error:
        failed = RunError(f"the system said: {error.strerror or error}", where=str(error.filename or ""))
        _report(failed, words)
        status = failed.exit_status
    except TyperException as error:
        usage = BaihuaError(error.format_message(), fix="see: baihua --help, or baihua VERB --help")
        _report(usage, words)
        status = 2
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except Exception as error:  # A mistake of ours: the user gets one block, and --debug the traceback to report.
        where, fix = type(error).__name__, "run it again with --debug and report what it prints"
        _report(RunError(f"Baihua made a mistake: {error}", where=where, fix=fix), words, cause=error)
        status = 1
    # Typer answers Ctrl-C with this status and no word.
    if status == INTERRUPTED and report_folder(Environment()) is None:
        print("interrupted; run the same command again to go on", file=sys.stderr)
    sys.exit(status if isinstance(status, int) else 0)


def _report(error: BaihuaError, words: list[str], *, cause: Exception | None = None) -> None:
    # Under --processes the first process speaks; of the others, and of those that only lost another, the one that
    # started them decides what is shown.
    environment = Environment()
    folder = report_folder(environment)
    if folder and (process_number(environment) or isinstance(error, LostPeerError)):
        if not isinstance(error, LostPeerError):
            (folder / f"{process_number(environment)}.txt").write_text(f"error: {error}", encoding="utf-8")
        return
    if "--debug" in words:
        traceback.print_exception(cause or error, file=sys.stderr)
    if "--json" in words:
        found: dict[str, object] = {"what": error.what, "where": error.where, "fix": error.fix}
        if isinstance(error, RecipeError):
            found["problems"] = [asdict(problem) for problem in error.problems]
        print(json.dumps({"error": found}, ensure_ascii=False))
    print(f"error: {error}", file=sys.stderr)
