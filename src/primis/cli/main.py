"""The command line: parse, call one function, print. Errors are one line, with a hint below."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any, NoReturn

import typer

from primis.atomic import reason
from primis.cli import add, demo, grants, inspect, keygen, restore, share, train, verify, view
from primis.cli.arguments import (
    show_number,
    take_passphrase,
)
from primis.cli.measure import audit, evaluate
from primis.cli.options import EXIT_CODES, command
from primis.cli.say import close_output, set_quiet, show, tell
from primis.errors import PrimisError, UsageError

app = typer.Typer(
    help="Publish medical images where anyone can fetch them "
    "and only the people you chose can see them.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

_INTERRUPTED = 130
_PARSE_ERROR: type[typer.BadParameter] = typer.BadParameter.__mro__[2]  # not public in typer
_GOES_ON = {
    "share": "where it stopped",
    "add": "where it stopped",
    "restore": "where it stopped",
    "rekey": "where it stopped",
    "train": "from its last checkpoint, if it had one",
    "audit": "after the last attack that was done",
    "evaluate": "after the last part that was done",
}
"""How a command goes on that was interrupted and is given again."""


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        show(f"primis {installed('primis')}")
        raise typer.Exit


command(app, *demo.EXAMPLES)(demo.demo)
command(app, *keygen.EXAMPLES)(keygen.keygen)
command(app, *share.EXAMPLES)(share.share)
command(app, *add.EXAMPLES)(add.add)
command(app, *restore.EXAMPLES)(restore.restore)
command(app, *grants.GRANT_EXAMPLES)(grants.grant)
command(app, *grants.REKEY_EXAMPLES)(grants.rekey)
command(app, *inspect.EXAMPLES)(inspect.inspect)
command(app, *verify.EXAMPLES)(verify.verify)
command(app, *view.EXAMPLES)(view.view)
command(app, "primis audit release --originals xrays -o report")(audit)
command(
    app,
    "primis evaluate fidelity xrays -o tables --quick",
    "primis evaluate all table.csv -o report",
)(evaluate)


command(app, *train.EXAMPLES)(train.train)


def main() -> None:
    """Entry point: run, and turn what was raised on purpose into one line and an exit code.

    0: all done. 1: something failed or was refused. 2: the command line is wrong. 130: interrupted.
    """
    take_passphrase()  # no process that is started here inherits it
    set_quiet(False)
    try:
        status = app(standalone_mode=False)
        if status == _INTERRUPTED:  # typer has caught it already
            raise KeyboardInterrupt
        sys.exit(status if isinstance(status, int) else 0)
    except PrimisError as error:
        from primis.cli.hints import hint_for, in_options

        _fail(in_options(error), 2 if isinstance(error, UsageError) else 1, hint_for(error))
    except _PARSE_ERROR as error:
        _fail_to_parse(error)
    except (KeyboardInterrupt, typer.Abort):
        word = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
        goes_on = f"the same command again goes on {_GOES_ON[word]}" if word in _GOES_ON else None
        _fail("interrupted", _INTERRUPTED, goes_on)
    except BrokenPipeError:
        close_output()
        sys.exit(1)
    except OSError as error:
        _fail(_what_failed(error), 1)
    except ModuleNotFoundError as error:
        remedy = (
            "in a copy of the repository, pip install -c constraints.txt '.[all]' "
            "brings what every command needs"
        )
        _fail(f'"{error.name}" is not installed', 1, remedy)
    except MemoryError:
        _fail("out of memory", 1)
    except Exception as error:
        if os.environ.get("PRIMIS_DEBUG"):
            raise
        remedy = "PRIMIS_DEBUG=1 shows where; please report it"
        _fail(f"unexpected {type(error).__name__}: this is a defect of primis", 1, remedy)


def _fail_to_parse(error: typer.BadParameter) -> NoReturn:
    """Say what was typed wrong, and what was expected."""
    context = getattr(error, "ctx", None)
    name = context.command_path if context else "primis"
    if not (message := error.format_message().rstrip(".").replace("\n", " ")):
        sys.exit(2)  # no command: its help was shown
    _fail(_bad_value(error) or message, 2, f"{name} --help lists what it takes")


def _what_failed(error: OSError) -> str:
    """A line for an error of the system that nothing else has put in words."""
    if error.filename is not None:
        return f'"{os.fsdecode(error.filename)}": {error.strerror or error}'
    close_output()  # it may still hold what it could not take, and would fail once more at the end
    return f"input or output failed: {reason(error)}"


def _bad_value(error: typer.BadParameter) -> str | None:
    """What was typed for which option, and what was expected; None if that is not the error."""
    details = getattr(error.__cause__, "errors", None)
    options = getattr(error.param, "opts", ()) if isinstance(error, typer.BadParameter) else ()
    if details is None or not options:
        return None
    first = details()[0]
    expected = _expected(error.param, first["type"])
    return expected and f'{max(options, key=len)} is "{first["input"]}", expected {expected}'


def _expected(parameter: Any, kind: str) -> str | None:
    """For an option that was given a value of the wrong kind, or outside its range or list."""
    if kind.startswith("float"):
        return "a number"
    if kind.startswith("int"):
        return "a whole number"
    if kind.startswith(("greater", "less")):
        return f"{show_number(parameter.min)} to {show_number(parameter.max)}"
    choices = getattr(getattr(parameter, "type_descriptor", None), "choices", None)
    if kind == "value_error" and choices:
        *others, last = (choice.value for choice in choices)
        return f"{', '.join(others)} or {last}"
    return None


def _fail(message: str, status: int, hint: str | None = None) -> NoReturn:
    tell(f"primis: {message}")
    if hint:
        tell(f"hint: {hint}")
    sys.exit(status)
