"""Progress on standard error: a bar, and a line for each image that failed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

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

from primis.batch import Result
from primis.cli.hints import hint_for

if TYPE_CHECKING:
    from lightning.pytorch import Trainer
    from lightning.pytorch.callbacks import Callback

_KEPT = 0.95


def bar() -> Progress:
    """A bar that disappears where standard error is no terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, disable=not console.is_terminal)


@contextmanager
def training_bar(steps: int) -> Iterator[tuple[Callback, Callable[[int, int], None]]]:
    """A Lightning callback that shows steps, loss and PSNR, and what to call after each table; on one process only."""
    from lightning.pytorch.callbacks import Callback

    first = os.environ.get("LOCAL_RANK", "0") == os.environ.get("NODE_RANK", "0") == "0"
    with bar() if first else Progress(disable=True) as progress:
        task = progress.add_task("training", total=steps)

        class Shown(Callback):  # type: ignore[misc]
            def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
                if trainer.global_step % 10 and trainer.global_step < steps:
                    return
                known = trainer.callback_metrics
                text = "".join(
                    f", {name} {float(known[name]):.4g}"
                    for name in ("loss", "psnr")
                    if name in known
                )
                progress.update(task, completed=trainer.global_step, description=f"training{text}")

        yield (
            Shown(),
            lambda done, total: progress.update(
                task, completed=done, total=total, description="tables of the coder"
            ),
        )


@contextmanager
def running_bar(verb: str) -> Iterator[Callable[[str, int, int], None]]:
    """Shows what is being done and how far it is."""
    with bar() as progress:
        task = progress.add_task(verb, total=None)
        yield lambda what, done, total: progress.update(
            task, description=what, completed=done, total=total
        )


class Report:
    """Shows results as they come; `finish` exits with 1 if an image failed."""

    def __init__(self, verb: str, *, verbose: bool, sparsity: float | None = None) -> None:
        self._verb, self._verbose, self._sparsity = verb, verbose, sparsity
        self._progress = bar()
        self._failed = 0
        self._short: list[Result] = []
        self._resumed = 0

    def __enter__(self) -> Report:
        self._progress.start()
        self._task = self._progress.add_task(self._verb, total=None)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def look(self, done: int, total: int) -> None:
        """One file was looked at, to know what its header takes."""
        self._progress.update(
            self._task, description="looking at the files", completed=done, total=total
        )

    def add(self, result: Result, done: int, total: int) -> None:
        """One image is done."""
        self._progress.update(self._task, description=self._verb, completed=done, total=total)
        self._resumed += result.resumed
        if result.error is not None:
            self._failed += 1
            said = str(result.error)
            of = "" if result.name in said or result.id in said else f'image "{result.name}": '
            self._line(f"primis: {of}{said}")
            if hint := hint_for(result.error):
                self._line(f"hint: {hint}")
        for note in result.notes:
            of = "" if result.name in note else f'image "{result.name}": '
            self._line(f"note: {of}{note}")
        if (
            result.error is None
            and self._sparsity
            and result.kept is not None
            and 0 < result.kept < _KEPT * self._sparsity
        ):
            self._short.append(result)
        if self._verbose and result.error is None:
            kept = "" if result.kept is None else f", S_x {result.kept:.3g}"
            self._line(f"{result.id[:12]} {result.name}: {result.bytes} bytes{kept}")

    def _line(self, text: str) -> None:
        text = "".join(c for c in text if c.isprintable())  # names come from others
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def finish(self) -> None:
        """Say what a person should know, and exit with 1 if an image failed."""
        if self._resumed:
            print(f"{self._resumed} image(s) were done before", file=sys.stderr)
        if self._short:
            least = min(self._short, key=lambda r: r.kept or 0)
            print(
                f"note: {len(self._short)} image(s) kept fewer entries than asked, least {least.name} (S_x = {least.kept:.3g}): "
                "there is no more to keep, or the code needs more room (--support-bits, --value-bits)",
                file=sys.stderr,
            )
        if self._failed:
            print(f"primis: {self._failed} image(s) failed, listed above", file=sys.stderr)
            raise typer.Exit(1)
