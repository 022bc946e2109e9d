"""What each party sees of a judged image, beside the image itself."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from primis.attacks.protocol import Holds, World
from primis.attacks.suite import Result
from primis.metrics.fidelity import best_fit, psnr


@dataclass(frozen=True, eq=False)
class Row:
    """Pictures of one image, each with its caption, (H, W) on the grey scale from low, black, to high, white."""

    cells: list[tuple[str, np.ndarray]]
    low: float
    high: float


def rows_of(
    world: World,
    results: Sequence[Result],
    dark: Collection[str] = (),
    *,
    shown: int,
    best: int | None = None,
) -> list[Row]:
    """The first judged images and what each party sees of them. dark: names of those whose low samples are bright; best: how
    many attackers, by default all."""
    rows = []
    for number, case in enumerate(world.test[:shown]):
        ends = float(case.pixels.min()), float(case.pixels.max())
        rows.append(
            Row(sights(world, results, number, best), *(ends[::-1] if case.name in dark else ends))
        )
    return rows


def sights(
    world: World, results: Sequence[Result], number: int, most: int | None = None
) -> list[tuple[str, np.ndarray]]:
    """(caption, picture) of one judged image: itself, what the key's holder sees, the guesses of attackers without its keys
    (all, or the best of those that learned something, if any did), and what needs no code."""
    case = world.test[number]
    assert case.authorised is not None
    drawn = [
        r for r in results if r.pictures and r.finding.holds != Holds.PREVIEW
    ]  # a preview is no find of its holder's
    if most is not None:
        drawn = [r for r in drawn if r.finding.broken] or drawn
        drawn = sorted(drawn, key=lambda r: -r.finding.figures["psnr"].value)[:most]
    seen = [
        ("authorised", case.authorised),
        *((r.finding.attack, r.pictures[number]) for r in drawn),
    ]
    seen.append(
        ("without any code (mean of other images)", best_fit(world.mean_image, case.pixels))
    )
    known = [(name, picture, psnr(case.pixels, picture, case.full)) for name, picture in seen]
    told = [
        (f"{name}: {'the same' if db == float('inf') else f'{db:.1f} dB'}", picture)
        for name, picture, db in known
    ]
    return [("the image", case.pixels), *told]
