"""How the browser learns the address of the page, and nobody else does.

A browser gets what it is to open as an argument, and every user of the machine can read the
arguments of processes (`ps`). The address holds the token, and the first request for the key gets
it. So the argument is a file that only this user can read, and it redirects the browser. An address
that works only once would not do: someone who reads the arguments may be faster than the browser.
"""

from __future__ import annotations

import html
import signal
import tempfile
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

from primis.atomic import require_own_place

_PAGE = """<!doctype html>
<meta charset="utf-8">
<meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0; url={url}">
<title>primis</title>
<p><a href="{url}" rel="noreferrer">Open the viewer</a></p>
"""


@contextmanager
def start_page(url: str) -> Iterator[str]:
    """The URL of a file that leads to another; the file is there as long as the block runs. Raises
    OutputError where somebody else could put another in its place."""
    require_own_place(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix="primis-view-") as folder:  # entered by its owner alone
        page = Path(folder) / "open.html"
        page.touch(mode=0o600)
        page.write_text(_PAGE.format(url=html.escape(url)))
        yield page.as_uri()


@contextmanager
def browser_at(url: str, on_none: Callable[[], None]) -> Iterator[None]:
    """Open a browser there, beside what the block does: some return only when they are closed.
    on_none: is called where none can be opened."""

    def show() -> None:
        try:
            shown = webbrowser.open(page)
        except Exception:  # whatever a desktop makes of it: the address can be typed
            shown = False
        if not shown:
            on_none()

    with start_page(url) as page:
        Thread(target=show, daemon=True).start()
        yield


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """A terminal that is closed, or a system that goes down, ends the block as Ctrl-C does: with
    KeyboardInterrupt."""
    named = [getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP")]
    before = {each: signal.getsignal(each) for each in named if each is not None}
    for each in before:
        signal.signal(each, signal.default_int_handler)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
