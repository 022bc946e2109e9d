"""What images lose by being shared, as `share`, `add` and `restore` tell it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any

import typer

from primis.cli.say import warn
from primis.errors import UsageError

if TYPE_CHECKING:
    from primis.jobs.result import Result
    from primis.metrics.fidelity import Quality

LEAST_PSNR = 35.0

NoMeasure = Annotated[
    bool,
    typer.Option(
        "--no-measure",
        help="Do not measure what each image loses (PSNR, SSIM); recipients are not told either.",
    ),
]
LeastPsnr = Annotated[
    float | None,
    typer.Option(
        "--least-psnr",
        metavar="DB",
        min=0,
        max=200,
        help=f"Warn of images whose PSNR is below this. (default: {LEAST_PSNR:g})",
    ),
]


def require_measured(least: float | None, *, no_measure: bool) -> None:
    """Raises UsageError where nothing can be below a threshold."""
    if no_measure and least is not None:
        raise UsageError(
            "--least-psnr needs what --no-measure leaves out, expected only one of them"
        )


def with_receipt(line: str, results: Sequence[Result]) -> str:
    """A line on a job, and one on the fidelity of its images, if any was measured."""
    lossy, exact = _lossy(results), _exact(results)
    said = _losses(lossy) if lossy else []
    if exact:
        said.append(f"{exact} exact")
    if not said:
        return line
    good = sum(r.error is None for r in results)
    measured = len(lossy) + exact
    of = "" if measured == good else f" of {measured} of {good} images"
    of += " before texture was added" if any(r.texture for r in results) else ""
    return f"{line}\nfidelity{of}: {'; '.join(said)}"


def with_texture(line: str, results: Sequence[Result]) -> str:
    """A line on a job, and one that says what texture was added, if any was."""
    added = sum(r.texture for r in results)
    if not added:
        return line
    images = "1 image" if added == 1 else f"{added} images"
    return (
        f"{line}\nsynthetic texture was added to {images}: for measuring texture, not for reading"
    )


def _losses(lossy: Sequence[tuple[Result, float]]) -> list[str]:
    """PSNR and SSIM of one image, or their averages and worst."""
    psnrs = [psnr for _, psnr in lossy]
    similar = [r.quality.ssim for r, _ in lossy if r.quality]
    if len(lossy) == 1:
        return [f"PSNR {psnrs[0]:.1f} dB, SSIM {similar[0]:.3f}"]
    worst, worst_psnr = min(lossy, key=lambda pair: pair[1])
    return [
        f'PSNR {fmean(psnrs):.1f} dB on average, {worst_psnr:.1f} dB at worst ("{worst.name}")',
        f"SSIM {fmean(similar):.3f} on average, {min(similar):.3f} at worst",
    ]


def fidelity_facts(results: Sequence[Result]) -> dict[str, Any] | None:
    """The same as JSON has it; None where nothing was measured."""
    lossy, exact = _lossy(results), _exact(results)
    if not lossy:
        return {"exact": exact, "lossy": 0, "psnr": None, "ssim": None} if exact else None
    psnrs = [psnr for _, psnr in lossy]
    similar = [r.quality.ssim for r, _ in lossy if r.quality]
    return {
        "exact": exact,
        "lossy": len(lossy),
        "psnr": {"mean": round(fmean(psnrs), 3), "worst": min(psnrs)},
        "ssim": {"mean": round(fmean(similar), 3), "worst": min(similar)},
    }


def quality_facts(quality: Quality | None) -> dict[str, float | None] | None:
    """Of one image, as JSON has it: None where it was not measured. `psnr` is null where no sample
    differs."""
    return None if quality is None else {"psnr": quality.psnr, "ssim": quality.ssim}


def warn_of_losses(results: Sequence[Result], least: float, remedy: str) -> list[str]:
    """Say how many images are below the threshold; what was said. remedy: what to do about it."""
    lossy = _lossy(results)
    below = [(result, psnr) for result, psnr in lossy if psnr < least]
    if not below:
        return []
    worst, psnr = min(below, key=lambda pair: pair[1])
    said = (
        f"{len(below)} of {len(lossy) + _exact(results)} images "
        f"{'has' if len(below) == 1 else 'have'} a PSNR below {least:g} dB, "
        f'the worst is "{worst.name}" with {psnr:.1f} dB: {remedy}'
    )
    warn(said)
    return [said]


def _lossy(results: Sequence[Result]) -> list[tuple[Result, float]]:
    """Images that were measured, and the PSNR of each."""
    measured = [(r, r.quality) for r in results if r.error is None and r.quality is not None]
    return [(r, quality.psnr) for r, quality in measured if quality.psnr is not None]


def _exact(results: Sequence[Result]) -> int:
    """How many came through without loss."""
    measured = [r.quality for r in results if r.error is None and r.quality is not None]
    return sum(quality.psnr is None for quality in measured)
