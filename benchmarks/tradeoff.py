"""Level sca: what the support costs, against how much of it is found. Key and ambiguity conflict.

    python benchmarks/tradeoff.py TABLE [--preset default|paper] [--train N] [--test N] [--steps N]

For S_x and S_n on a grid, decoys laid evenly (as in the paper) and, for preset `default`, where
entries are likely (as `share` does): bits of the key for those who have the public code, the share
of the support that a network finds, and the image that the stolen decoder makes of it, against the
authorised image and the mean image. results/tradeoff-PRESET.json, and a plot of both.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from attacks import picked
from common import RESULTS, machine, one_thread, save

from primis.attacks.harness import Budget, Harness, JudgedCase, View
from primis.attacks.judge import judge_images
from primis.attacks.reconstruction.networks import Marker
from primis.bundle.settings import Protection, Settings
from primis.codec import Codec
from primis.codes.ambiguation import ambiguate
from primis.codes.coder import encode_support
from primis.codes.selection import entry_odds
from primis.imaging.files import read
from primis.imaging.image import Image
from primis.metrics.estimate import Estimate
from primis.metrics.fidelity import data_range, psnr
from primis.network.presets import DEFAULT, PAPER

Named = tuple[str, Image]


@dataclass(frozen=True)
class Grid:
    """sparsities: S_x per position over all code maps; ratios: S_n / S_x; likely: whether decoys
    lie where entries are likely."""

    sparsities: tuple[int, ...]
    ratios: tuple[int, ...]
    likely: tuple[bool, ...]

    def settings(self, codec: Codec) -> Iterator[Settings]:
        """Of each S_x and S_n; there are no more decoys than places."""
        for sparsity in self.sparsities:
            for ratio in self.ratios:
                decoys = min(ratio * sparsity, codec.preset.atoms - sparsity)
                yield Settings(
                    sparsity=float(sparsity),
                    decoys=float(decoys),
                    protection=Protection.SCA,
                    code_bits=8.0,
                )


GRIDS = {
    DEFAULT.name: Grid((4, 8, 16), (1, 4, 16), (False, True)),
    PAPER.name: Grid((16, 32, 64), (1, 4), (False,)),
}
"""S_n = 16 S_x at S_x = 16 fills every entry; S_x of preset `paper` is 4, 8 and 16 of each map."""


@dataclass(frozen=True)
class Point:
    """What one setting costs and hides. auc, recovered, chance: of the support; psnr: of the image
    that the network's guess gives; floor: of the mean image; gain: in dB, over the best that needs
    no code; authorised: PSNR for the key's holder; key: bits per pixel."""

    auc: Estimate
    recovered: Estimate
    chance: Estimate
    psnr: Estimate
    floor: Estimate
    sparsity: float
    decoys: float
    likely: bool
    authorised: float
    key: float
    bits_per_entry: float
    gain: Estimate

    @classmethod
    def from_dict(cls, body: dict[str, Any]) -> Point:
        """Inverse of `asdict`."""
        known: dict[str, Any] = dict(body)
        for name in ("auc", "recovered", "chance", "psnr", "floor", "gain"):
            known[name] = Estimate(**body[name])
        return cls(**known)

    def __str__(self) -> str:
        laid = "likely" if self.likely else "even"
        return (
            f"S_x {self.sparsity:g} S_n {self.decoys:g} {laid}: "
            f"key {self.key:.4f} ({self.bits_per_entry:.2f} an entry), "
            f"AUC {self.auc.value:.3f}, "
            f"recovered {self.recovered.value:.3f} (chance {self.chance.value:.3f}), "
            f"{self.psnr.value:.2f} dB of {self.authorised:.2f}"
        )


def read_points(preset: str) -> list[Point]:
    """What was measured of a preset, nothing if it was not."""
    path = RESULTS / f"tradeoff-{preset}.json"
    points = json.loads(path.read_text())["points"] if path.exists() else []
    return [Point.from_dict(point) for point in points]


def encoded(image: Image, name: str, sparsity: float, codec: Codec) -> JudgedCase:
    """A case without a bundle: only its code, which is all that this attack looks at."""
    z, scale = codec.encode(image.pixels[0])
    code = codec.sparsify(z, round(sparsity * z.shape[2] * z.shape[3]))
    pixels = image.pixels[0, ..., 0]
    height, width = pixels.shape
    return JudgedCase(
        name=name,
        patient=name,
        traits={},
        pixels=pixels,
        low=scale.low,
        high=scale.high,
        view=View(code.levels[0], np.zeros(0, np.uint8), b""),
        levels=code.levels[0],
        threshold=code.threshold,
        authorised=codec.decode(code, scale, (height, width), pixels.dtype)[..., 0],
        full=data_range(image.pixels, image.bit_depth),
        secrets={},
    )


def ambiguated(case: JudgedCase, decoys: int, codec: Codec, *, likely: bool) -> JudgedCase:
    """The case with a public code."""
    layout, tables = codec.layout, codec.checkpoint.tables
    odds = entry_odds(case.levels[None], layout, tables)[0] if likely else None
    count = min(decoys * case.levels[0].size, int((case.levels == 0).sum()))
    return replace(case, view=replace(case.view, public=ambiguate(case.levels, count, odds=odds)))


def key_bits(case: JudgedCase, codec: Codec) -> float:
    """Bits of the support, given the public code."""
    layout, tables = codec.layout, codec.checkpoint.tables
    streams = (
        encode_support(case.levels, case.view.public, atoms, layout, tables)
        for atoms in layout.split()
    )
    return float(sum(8 * len(stream) for stream in streams))


@dataclass(frozen=True)
class Experiment:
    """Attackers' images and judged ones, and what is spent on them."""

    codec: Codec
    train: Sequence[Named]
    test: Sequence[Named]
    budget: Budget

    def cases(
        self, images: Sequence[Named], settings: Settings, *, likely: bool
    ) -> list[JudgedCase]:
        """The images with a public code."""
        plain = [encoded(image, name, settings.sparsity, self.codec) for name, image in images]
        decoys = round(settings.decoys or 0)
        return [ambiguated(case, decoys, self.codec, likely=likely) for case in plain]

    def point(self, settings: Settings, *, likely: bool) -> Point:
        """One setting of the grid."""
        own = [case.owned() for case in self.cases(self.train, settings, likely=likely)]
        judged = self.cases(self.test, settings, likely=likely)
        harness = Harness(self.codec, settings, own, judged, self.budget, likely=likely)
        marker = Marker()
        marker.fit(harness.world(Marker.holds))
        drawn = judge_images(marker, harness).result.reconstruction
        assert drawn is not None and drawn.support is not None
        support, floor, gain = drawn.support, drawn.mean_image, drawn.over_floor
        assert support.recovered is not None and support.by_chance is not None
        assert floor is not None and gain is not None
        key = float(np.mean([key_bits(case, self.codec) for case in judged]))
        entries = float(np.mean([np.count_nonzero(case.levels) for case in judged]))
        reached = [psnr(case.pixels, case.authorised, case.full) for case in judged]
        return Point(
            auc=support.auc,
            recovered=support.recovered,
            chance=support.by_chance,
            psnr=drawn.fidelity.psnr,
            floor=floor,
            sparsity=settings.sparsity,
            decoys=settings.decoys or 0,
            likely=likely,
            authorised=float(np.mean(reached)),
            key=key / judged[0].pixels.size,
            bits_per_entry=key / entries,
            gain=gain,
        )


@dataclass(frozen=True)
class Line:
    """Of the plot: a preset, whether decoys lie where entries are likely, colour, name."""

    preset: str
    likely: bool
    colour: str
    name: str


LINES = (
    Line("default", False, "#b3261e", "decoys laid evenly"),
    Line("default", True, "#1a56b0", "decoys where entries are likely"),
    Line("paper", False, "#7a6a00", "preset paper, evenly"),
)


def plot(path: Path) -> None:
    """What is found over what the key costs, of each preset that was measured; one line for each
    S_x, S_n / S_x at its points."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (support, image) = pyplot.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    for line in LINES:
        points = [p for p in read_points(line.preset) if p.likely == line.likely]
        for sparsity, marker in zip(GRIDS[line.preset].sparsities, "os^", strict=False):
            part = [p for p in points if p.sparsity == sparsity]
            bits, recovered = [p.bits_per_entry for p in part], [p.recovered.value for p in part]
            key, below = [p.key for p in part], [p.authorised - p.psnr.value for p in part]
            label = f"{line.name}, S_x = {sparsity}"
            for axes, across, height in ((support, bits, recovered), (image, key, below)):
                axes.plot(across, height, f"{marker}-", color=line.colour, label=label)
                for p, x, y in zip(part, across, height, strict=True):
                    note(axes, f"{p.decoys / p.sparsity:g}", (x, y), line.colour)
    support.set(xlabel="key, bits for each true entry", ylim=(0, 1.05))
    support.set(ylabel="share of the support that a network finds")
    image.set(xlabel="key, bits per pixel", ylim=(0, None))
    image.set(ylabel="dB below the authorised image")
    support.legend(fontsize=7, loc="lower left")
    figure.savefig(path, dpi=110)


def note(axes: Any, text: str, at: tuple[float, float], colour: str) -> None:
    """A small text beside a point."""
    axes.annotate(text, at, (4, 4), textcoords="offset points", fontsize=7, color=colour)


def images_of(table: Path, split: str, most: int) -> list[Named]:
    """Evenly spread images of a split, with their names."""
    rows = picked(table, split, most)
    return [(row["file"], read(table.parent / row["file"])[0]) for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--preset", choices=GRIDS, default=DEFAULT.name)
    parser.add_argument("--train", type=int, default=150)
    parser.add_argument("--test", type=int, default=40)
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()
    codec, grid = one_thread(arguments.preset), GRIDS[arguments.preset]
    train = images_of(arguments.table, "train", arguments.train)
    test = images_of(arguments.table, "test", arguments.test)
    budget = Budget(arguments.steps, 4, 64)
    experiment = Experiment(codec, train, test, budget)
    points = []
    for settings in grid.settings(codec):
        for likely in grid.likely:
            points.append(experiment.point(settings, likely=likely))
            print(points[-1], flush=True)
    facts = {"data": arguments.table.stem, "preset": arguments.preset, "budget": asdict(budget)}
    facts |= {"train": len(train), "test": len(test), "machine": machine()}
    facts["points"] = [asdict(point) for point in points]
    print(save(f"tradeoff-{arguments.preset}", facts))
    plot(RESULTS / "tradeoff.png")


if __name__ == "__main__":
    main()
