"""The commands that measure: `primis audit` and `primis evaluate`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from primis.cli.arguments import (
    Owner,
    open_signer,
    parse_path,
    require_between,
    require_one_way,
    require_place,
)
from primis.cli.known import require_release
from primis.cli.options import Dask, DaskInsecure, Jobs, MaxPixels, ReleasePlace
from primis.cli.say import say, tell
from primis.errors import OutputError, UsageError
from primis.study.names import PARTS, MechanismName, PartName

if TYPE_CHECKING:
    from primis.study.plan import Plan


def require_new(out: Path) -> None:
    """Raise OutputError where a report cannot go."""
    if os.path.lexists(out):
        raise OutputError(f'"{out}" exists, expected a new folder')
    require_place(out)


def audit(
    release: ReleasePlace,
    out: Annotated[
        Path,
        typer.Option(
            "-o",
            "--out",
            metavar="REPORT",
            help="New folder: index.html and audit.json.",
            parser=parse_path,
        ),
    ],
    originals: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="The folder that the release was shared from. (default: restored images take its "
            "place)",
            parser=parse_path,
        ),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="CSV with columns file, and patient, label, sex, age where known: "
            "what attackers may read.",
            parser=parse_path,
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="Time budget, from which the training steps follow. (default: 10)",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(help="Training steps of each attacker's network, instead of --minutes."),
    ] = None,
    model: Annotated[
        list[Path],
        typer.Option(
            "--model",
            metavar="FILE",
            help="Weights that do not come with primis. May be repeated.",
            parser=parse_path,
        ),
    ] = [],  # noqa: B006
    owner: Owner = None,
    max_pixels: MaxPixels = None,
    jobs: Jobs = None,
    dask: Dask = None,
    dask_insecure: DaskInsecure = False,
) -> None:
    """Attack your own release; write a report with a verdict for each attacker.

    Exits with 1 if an attacker learned anything.
    """
    if steps is not None and minutes is not None:
        raise UsageError("--steps and --minutes exclude each other")
    if steps is not None:
        require_between("steps", steps, 1, 10**6)
    if minutes is not None:
        require_between("minutes", minutes, 0.1, 10**5)
    require_one_way(jobs, dask, dask_insecure)
    require_new(out)
    require_release(release)
    signer = open_signer(owner)
    _require_given(originals, table, model)
    # from here on it takes seconds: torch is imported
    from primis.atomic import PARTIAL, finish_folder, remove_folder
    from primis.attacks.harness import MINUTES
    from primis.audit.run import audit as attack
    from primis.audit.schedule import MINUTES as DEFAULT_MINUTES
    from primis.codec import cores
    from primis.imaging.image import reading_up_to
    from primis.jobs.executors.choice import executor_for
    from primis.release.reader import Release

    kept = out.with_name(out.name + PARTIAL)
    few = dask or os.environ.get("PRIMIS_DEBUG")  # an error is to be seen where it arises
    many = jobs or (None if few else cores())
    with (
        reading_up_to(max_pixels),
        executor_for(many, dask, dask_insecure=dask_insecure) as executor,
        _phases("audit") as progress,
    ):
        report = attack(
            Release(release),
            signer,
            originals=originals,
            table=table,
            models=tuple(model),
            budget=replace(MINUTES, steps=steps or MINUTES.steps),
            minutes=None if steps else minutes or DEFAULT_MINUTES,
            folder=kept,
            executor=executor,
            progress=progress,
        )
    report.write(kept / "report")
    finish_folder(kept / "report", out)
    remove_folder(kept)
    say(report.summary())
    say(f'report: "{out / "index.html"}"')
    if not report.verdict.passed:
        raise typer.Exit(1)


def _require_given(originals: Path | None, table: Path | None, models: list[Path]) -> None:
    """Raises UsageError or ModelError for what is not there."""
    if originals is not None and not originals.is_dir():
        why = "is a file" if originals.exists() else "does not exist"
        expected = "expected the folder that the release was shared from"
        raise UsageError(f'--originals: "{originals}" {why}, {expected}')
    if table is not None and not table.is_file():
        raise UsageError(f'table "{table}" does not exist')
    if models:
        from primis.network.checkpoint import read_checkpoint

        for path in models:
            read_checkpoint(path)


@contextmanager
def _phases(verb: str) -> Iterator[Callable[[str, int, int], None]]:
    """A bar; where standard error is no terminal, a line for each phase as it begins."""
    from primis.cli.progress import running_bar

    if sys.stderr.isatty():
        with running_bar(verb) as progress:
            yield progress
        return
    start, seen = time.monotonic(), ""

    def told(what: str, done: int, total: int) -> None:
        nonlocal seen
        phase = what.removesuffix(": judged")
        if phase != seen:
            seen = phase
            minutes, seconds = divmod(int(time.monotonic() - start), 60)
            tell(f"{verb} {minutes}:{seconds:02}: {phase}")

    yield told


def evaluate(
    part: Annotated[
        str,
        typer.Argument(
            metavar="PART", help="fidelity, classification, segmentation, texture, attacks or all."
        ),
    ],
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="Folder of images, a table, or a folder of such folders.",
            parser=parse_path,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "-o",
            "--out",
            metavar="REPORT",
            help="New folder: page, PDF, JSON and tables.",
            parser=parse_path,
        ),
    ],
    layout: Annotated[
        str | None,
        typer.Option(
            help="The layout of DATA, where primis cannot tell: chestx-ray14, kermany, table, "
            "classes ..."
        ),
    ] = None,
    sparsity: Annotated[
        list[float], typer.Option(help="S_x. May be repeated. (default: 4, 8 and 16)")
    ] = [],  # noqa: B006
    mechanism: Annotated[
        list[str],
        typer.Option(
            help="The mechanism to attack: keyed, sca or paper. May be repeated. (default: keyed "
            "and sca)"
        ),
    ] = [],  # noqa: B006
    paper: Annotated[
        bool,
        typer.Option(
            "--paper",
            help="Measure networks and texture on images of preset paper too; takes seconds an "
            "image.",
        ),
    ] = False,
    most: Annotated[
        int | None, typer.Option(help="Use at most this many images of each corpus.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the split and of all random draws.")] = 0,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="The whole report on a few images, in minutes; proves nothing."
        ),
    ] = False,
    max_pixels: MaxPixels = None,
) -> None:
    """Measure what the paper measures, on your images: every table and figure in one report."""
    parts = _parse_parts(part)
    mechanisms = tuple(_parse_mechanism(name) for name in mechanism)
    for value in sparsity:
        require_between("sparsity", value, 0.5, 32)
    if most is not None:
        require_between("most", most, 20, 10**9)
    require_between("seed", seed, 0, 1 << 32)
    require_new(out)
    if not data.exists():
        raise UsageError(f'data "{data}" does not exist, expected a folder of images or a table')
    from primis.datasets.corpus import open_corpora

    open_corpora(data, layout=layout)  # says what is wrong with it
    # from here on it takes seconds: torch is imported
    from primis.imaging.image import reading_up_to
    from primis.network.presets import DEFAULT, PRESETS
    from primis.study.plan import Plan

    plan = Plan(seed=seed, most=most, presets=tuple(PRESETS) if paper else (DEFAULT.name,))
    plan = replace(
        plan,
        sparsities=tuple(sorted(set(sparsity))) or plan.sparsities,
        mechanisms=mechanisms or plan.mechanisms,
    )
    with reading_up_to(max_pixels):
        _report(data, plan.cut_down() if quick else plan, out, parts, layout)


def _parse_parts(part: str) -> tuple[PartName, ...]:
    if part == "all":
        return PARTS
    if part not in PARTS:
        raise UsageError(f'part "{part}" is unknown, expected {", ".join(PARTS)} or all')
    return (PartName(part),)


def _parse_mechanism(name: str) -> MechanismName:
    known = tuple(MechanismName)
    if name not in known:
        raise UsageError(f'--mechanism is "{name}", expected {", ".join(known)}')
    return MechanismName(name)


def _report(
    data: Path, plan: Plan, out: Path, parts: tuple[PartName, ...], layout: str | None
) -> None:
    from primis.atomic import PARTIAL, finish_folder, remove_folder
    from primis.cli.progress import running_bar
    from primis.study.report.write import write
    from primis.study.run import report
    from primis.study.study import Study

    kept = out.with_name(out.name + PARTIAL)
    with running_bar("evaluate") as progress:
        study = Study(data, plan, kept, parts=parts, layout=layout, progress=progress)
        made = report(study)
        progress("writing the report", 0, 1)
        no_pdf = write(made.document, kept / "report", made.data, made.csvs)
    finish_folder(kept / "report", out)
    remove_folder(kept)
    for reason in study.left_out.values():
        tell(f"left out: {reason}")
    if no_pdf:
        tell(str(no_pdf))
    pages = [out / "index.html"] if no_pdf else [out / "index.html", out / "report.pdf"]
    named = ", ".join(f'"{page}"' for page in pages)
    say(f"report: {named}")
