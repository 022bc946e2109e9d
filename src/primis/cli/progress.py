"""Progress on standard error: a bar, and a line for each image that failed."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from primis.cli.hints import hint_for, in_options
from primis.cli.say import counted, is_quiet, note, plain, tell
from primis.errors import NoPixels, PrimisError
from primis.jobs.result import Result

_KEPT, _FEW = 0.95, 0.5
"""Parts of the entries asked that are worth a word: to who asks for every detail, and to all."""

_MOST_KINDS = 4
_SECONDS = 30
"""Between two lines of progress where there is no terminal."""
_RENAMED = re.compile(r'"(.*)" is restored as "(.*)"', re.DOTALL)


def bar() -> Progress:
    """A bar; none where standard error is no terminal, or people want quiet."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, disable=is_quiet() or not console.is_terminal)


@contextmanager
def running_bar(verb: str) -> Iterator[Callable[[str, int, int], None]]:
    """Shows what is being done and how far it is."""
    with bar() as progress:
        phases = Phases(progress, verb)
        yield phases.show


class Phases:
    """A bar for one phase after the other, each with a clock of its own; a line now and then where
    there is no terminal."""

    def __init__(self, progress: Progress, first: str) -> None:
        self._told = time.monotonic()
        self._progress, self._phase = progress, first
        self._task = progress.add_task(first, total=None)

    def show(self, phase: str, done: float, total: int) -> None:
        """Some of a phase is done."""
        if phase != self._phase:  # a bar that was full keeps its time unless it is reset
            self._progress.reset(self._task)
            self._phase = phase
        self._progress.update(self._task, description=phase, completed=done, total=total)
        if self._progress.disable and time.monotonic() - self._told >= _SECONDS:
            self._told = time.monotonic()
            note(f"{phase}: {int(done)} of {total}" if total else phase)


class Report:
    """Shows results as they come; `finish` exits with 1 if an image failed.

    named: inputs that were given by name. What is no image in a folder is passed over: it counts
    as a failure only where somebody asked for it.
    """

    def __init__(
        self,
        verb: str,
        *,
        verbose: bool,
        sparsity: float | None = None,
        named: Sequence[Path] = (),
    ) -> None:
        self._verb, self._verbose, self._sparsity = verb, verbose, sparsity
        self._named = {os.path.abspath(path) for path in named}
        self._progress = bar()
        self._failed = 0
        self._short: list[Result] = []
        self._resumed = 0
        self._without_pixels: Counter[str] = Counter()

    @property
    def passed_over(self) -> int:
        """Objects without pixels that lay in folders."""
        return self._without_pixels.total()

    def __enter__(self) -> Report:
        self._progress.start()
        self._phases = Phases(self._progress, self._verb)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()
        self._tell_passed_over()

    def gather(self, done: int, total: int) -> None:
        """One file was looked at, to know what series it is of."""
        self._phases.show("finding series", done, total)

    def look(self, done: int, total: int) -> None:
        """One file was looked at, to know what its header takes."""
        self._phases.show("looking at the files", done, total)

    def part(self, done: float, total: int) -> None:
        """A part of an image is done."""
        self._phases.show(self._verb, done, total)

    def sent(self, done: int, total: int) -> None:
        """One file was sent to a host."""
        self._phases.show("sending", done, total)

    def add(self, result: Result, done: int, total: int) -> None:
        """One image is done."""
        self._phases.show(self._verb, done, total)
        self._resumed += result.resumed
        if result.error is not None:
            self._add_error(result, result.error)
        for told in result.notes:
            of = "" if _names(result.name, told) else f'image "{result.name}": '
            self._note(f"{of}{_shown(told)}")
        asked, kept = self._sparsity or 0, result.kept or 0
        if result.error is None and 0 < kept < (_KEPT if self._verbose else _FEW) * asked:
            self._short.append(result)
        if self._verbose and not is_quiet() and result.error is None:
            of_code = "" if result.kept is None else f", S_x {result.kept:.3g}"
            told = f"{result.bytes} bytes{of_code}{_fidelity(result)}"
            self._line(f"{result.id[:12]} {result.name}: {told}")

    def ask(self, sparsity: float) -> None:
        """From here on so many entries are asked for: S_x."""
        self._sparsity = sparsity

    def _add_error(self, result: Result, error: PrimisError) -> None:
        if isinstance(error, NoPixels) and not self._is_named(error.path):
            self._without_pixels[error.modality] += 1
            return
        self._failed += 1
        said = in_options(error)
        named = _names(result.name, said) or result.id in said
        of = "" if named else f'image "{result.name}": '
        self._line(f"primis: {of}{said}")
        if hint := hint_for(error):
            self._line(f"hint: {hint}")

    def _is_named(self, path: Path | None) -> bool:
        return path is None or os.path.abspath(path) in self._named

    def _note(self, text: str) -> None:
        if not is_quiet():
            self._line(f"note: {text}")

    def _line(self, text: str) -> None:
        self._progress.console.print(plain(text), markup=False, highlight=False, soft_wrap=True)

    def _tell_passed_over(self) -> None:
        if not self.passed_over:
            return
        kinds = [kind for kind, _ in self._without_pixels.most_common()]
        more = [] if len(kinds) <= _MOST_KINDS else ["..."]
        of = ", ".join(kinds[:_MOST_KINDS] + more)
        what = counted(self.passed_over, "DICOM object")
        note(f"passed over {what} without pixels ({of})")

    def finish(self) -> None:
        """Say what a person should know, and exit with 1 if an image failed."""
        if self._resumed:
            was = "was" if self._resumed == 1 else "were"
            note(f"{counted(self._resumed, 'image')} {was} done before")
        if self._short:
            least = min(self._short, key=lambda r: r.kept or 0)
            note(
                f"{counted(len(self._short), 'image')} kept fewer entries than S_x asks for, "
                f'"{least.name}" the fewest (S_x = {least.kept:.3g}): an image like this has no '
                "more to keep, or more detail than most (--code-bits gives every image more bytes)"
            )
        if self._failed:
            tell(f"primis: {counted(self._failed, 'image')} failed, listed above")
            raise typer.Exit(1)


def _names(name: str, said: str) -> bool:
    """Whether a line says of which image it is: a path in quotes ends with its name."""
    return f'{name}"' in said


def _fidelity(result: Result) -> str:
    if result.quality is None:
        return ""
    psnr, ssim = result.quality
    return ", exact" if psnr is None else f", PSNR {psnr:.1f} dB, SSIM {ssim:.3f}"


def _shown(told: str) -> str:
    """A note on a name that was changed, where one cannot see how."""
    names = _RENAMED.fullmatch(told)
    if names and plain(names[1]) == plain(names[2]):
        return f'a name with characters that cannot be shown is restored as "{names[2]}"'
    return told
