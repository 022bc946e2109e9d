"""Everything that primis prints for people goes through here.

Names of files, notes of grants and labels come from others: of them nothing reaches a terminal but
what can be shown. A private key that was typed in a wrong place is not repeated.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from primis.atomic import reason
from primis.errors import OutputError
from primis.keys.key_file import SECRET_WORDS

_AGE_KEY = re.compile(r"(AGE-SECRET-KEY|AGE-PLUGIN)-[A-Za-z0-9-]+", re.IGNORECASE)
_WORDS = "|".join(re.escape(word) for word in SECRET_WORDS if not word.startswith("age-"))
_OTHER_KEY = re.compile(rf"[A-Za-z0-9+/=]*(?:{_WORDS})[A-Za-z0-9+/=]*", re.IGNORECASE)


def plain(text: str) -> str:
    """One line of a text, without what a terminal would act on, and without private keys."""
    shown = "".join(c for c in text if c.isprintable())  # half of a surrogate pair is not
    shown = _AGE_KEY.sub(lambda match: f"{match[1].upper()}-(hidden)", shown)
    return _OTHER_KEY.sub("(hidden)", shown)


def counted(n: int, what: str) -> str:
    """So many of something: "1 image", "2 images"."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


_quiet = [False]


def set_quiet(quiet: bool) -> None:
    """Whether from now on only errors, warnings and what was asked for are printed."""
    _quiet[0] = quiet


def is_quiet() -> bool:
    """Whether progress, notes and results are to be left out."""
    return _quiet[0]


def show(text: str) -> None:
    """What was asked for, on standard output. Raises OutputError where it cannot be written."""
    with _writing():
        print("\n".join(plain(line) for line in text.split("\n")), flush=True)


def say(text: str) -> None:
    """What was done, on standard output, unless people want quiet."""
    if not is_quiet():
        show(text)


def result(text: str, facts: dict[str, Any], *, as_json: bool) -> None:
    """What was done: for people, or as one JSON object for programs."""
    if as_json:
        show(json.dumps(facts, indent=2))
    else:
        say(text)


def note(text: str) -> None:
    """What a person should know, unless they want quiet."""
    if not is_quiet():
        tell(f"note: {text}")


def warn(text: str) -> None:
    """What goes on all the same, though it may not be what was wanted."""
    tell(f"warning: {text}")


def tell(text: str) -> None:
    """A line on standard error."""
    print(plain(text), file=sys.stderr, flush=True)


def close_output() -> None:
    """Nothing more is written to standard output, not even what it still holds."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        close_output()
        raise OutputError(f"standard output cannot be written: {reason(error)}") from None
