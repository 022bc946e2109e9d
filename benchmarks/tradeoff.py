"""Level sca: what the support costs, against how much of it is found. Key size and ambiguity pull against each other.

    python benchmarks/tradeoff.py TABLE [--preset default|paper] [--train N] [--test N] [--steps N]

For S_x and S_n on a grid, decoys laid evenly (as in the paper) and, for preset `default`, where entries are likely (as `share`
does): bits of the key for those who have the public code, the share of the support that a network finds, and the image
that the stolen decoder makes of it, against the authorised image and the mean image. results/tradeoff-PRESET.json, and
a plot of both.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from attacks import picked
from common import RESULTS, machine, save

from primis.attacks.harness import Budget, Harness, JudgedCase, View
from primis.attacks.judge import judge_images
from primis.attacks.reconstruction.networks import Marker
from primis.bundle.settings import Settings
from primis.codec import Codec, OnnxEngine
from primis.codes.ambiguation import ambiguate
from primis.codes.coder import encode_support
from primis.codes.selection import entry_odds
from primis.imaging.files import read
from primis.imaging.image import Image
from primis.metrics.fidelity import data_range, psnr
from primis.network.checkpoint import read_checkpoint, shipped

GRIDS = {
    "default": ((4, 8, 16), (1, 4, 16), (False, True)),
    "paper": ((16, 32, 64), (1, 4), (False,)),
}
"""Preset: S_x per position (of preset `paper` summed over its four code maps: 4, 8 and 16 of each), S_n / S_x (16 at
S_x = 16 fills every entry), and whether decoys lie where entries are likely."""
WAYS = (
    ("default", False, "#b3261e", "decoys laid evenly"),
    ("default", True, "#1a56b0", "decoys where entries are likely"),
    ("paper", False, "#7a6a00", "preset paper, evenly"),
)
"""Of each line: preset, whether decoys lie where entries are likely, colour, name."""


def encoded(image: Image, name: str, sparsity: int, codec: Codec) -> JudgedCase:
    """A case without a bundle: only its code, which is all that this attack looks at."""
    z, scale = codec.encode(image.pixels[0])
    code = codec.sparsify(z, sparsity * z.shape[2] * z.shape[3])
    pixels = image.pixels[0, ..., 0]
    authorised = codec.decode(code, scale, pixels.shape, pixels.dtype)[..., 0]
    view = View(code.levels[0], np.zeros(0, np.uint8), b"")
    full = data_range(image.pixels, image.bit_depth)
    return JudgedCase(
        name,
        name,
        {},
        pixels,
        scale.low,
        scale.high,
        view,
        code.levels[0],
        code.threshold,
        authorised,
        full,
        {},
    )


def ambiguated(case: JudgedCase, decoys: int, codec: Codec, *, likely: bool) -> JudgedCase:
    """The case with a public code."""
    layout, tables = codec.layout, codec.checkpoint.tables
    odds = entry_odds(case.levels[None], layout, tables)[0] if likely else None
    count = min(decoys * case.levels[0].size, int((case.levels == 0).sum()))
    return replace(case, view=replace(case.view, public=ambiguate(case.levels, count, odds=odds)))


def key_bits(case: JudgedCase, codec: Codec) -> float:
    """Bits of the support, given the public code."""
    streams = (
        encode_support(case.levels, case.view.public, a, codec.layout, codec.checkpoint.tables)
        for a in codec.layout.split()
    )
    return float(sum(8 * len(stream) for stream in streams))


def point(
    train: list[JudgedCase],
    test: list[JudgedCase],
    settings: Settings,
    codec: Codec,
    budget: Budget,
    *,
    likely: bool,
) -> dict:
    """One setting of the grid."""
    decoys = round(settings.decoys)
    train, test = (
        [ambiguated(case, decoys, codec, likely=likely) for case in part] for part in (train, test)
    )
    own = [case.owned() for case in train]
    harness = Harness(codec, settings, own, test, budget, likely=likely)
    (marker := Marker()).fit(harness.world(Marker.holds))
    drawn = judge_images(marker, harness).result.reconstruction
    assert drawn is not None and drawn.support is not None
    pixels = test[0].pixels.size
    key = float(np.mean([key_bits(case, codec) for case in test]))
    entries = float(np.mean([np.count_nonzero(case.levels) for case in test]))
    authorised = float(np.mean([psnr(case.pixels, case.authorised, case.full) for case in test]))
    wanted = {
        "auc": drawn.support.auc,
        "recovered": drawn.support.recovered,
        "chance": drawn.support.by_chance,
        "psnr": drawn.fidelity.psnr,
        "floor": drawn.mean_image,
    }
    figures = {name: vars(estimate) for name, estimate in wanted.items()}
    return figures | {
        "sparsity": settings.sparsity, "decoys": settings.decoys, "likely": likely, "authorised": authorised,
        "key": key / pixels, "bits_per_entry": key / entries, "gain": vars(drawn.over_floor),
    }  # fmt: skip


def plot(path: Path) -> None:
    """What is found over what the key costs, of each preset that was measured; one line for each S_x, S_n / S_x at its points."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    for preset, likely, colour, name in WAYS:
        measured = RESULTS / f"tradeoff-{preset}.json"
        points = json.loads(measured.read_text())["points"] if measured.exists() else []
        for sparsity, marker in zip(GRIDS[preset][0], "os^", strict=False):
            part = [p for p in points if (p["sparsity"], p["likely"]) == (sparsity, likely)]
            found = [p["recovered"]["value"] for p in part]
            below = [p["authorised"] - p["psnr"]["value"] for p in part]
            for axis, key, height in ((axes[0], "bits_per_entry", found), (axes[1], "key", below)):
                across = [p[key] for p in part]
                axis.plot(
                    across, height, f"{marker}-", color=colour, label=f"{name}, S_x = {sparsity}"
                )
                for p, x, y in zip(part, across, height, strict=True):
                    ratio = f"{p['decoys'] / p['sparsity']:g}"
                    axis.annotate(
                        ratio, (x, y), (4, 4), textcoords="offset points", fontsize=7, color=colour
                    )
    axes[0].set(
        xlabel="key, bits for each true entry",
        ylabel="share of the support that a network finds",
        ylim=(0, 1.05),
    )
    axes[1].set(
        xlabel="key, bits per pixel", ylabel="dB below the authorised image", ylim=(0, None)
    )
    axes[0].legend(fontsize=7, loc="lower left")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--preset", choices=GRIDS, default="default")
    parser.add_argument("--train", type=int, default=150)
    parser.add_argument("--test", type=int, default=40)
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()
    checkpoint = read_checkpoint(shipped(arguments.preset))
    sparsities, ratios, ways = GRIDS[arguments.preset]
    codec = Codec(checkpoint, OnnxEngine(checkpoint, threads=1))
    budget = Budget(arguments.steps, 4, 64)
    images = {
        split: [
            (row["file"], read(arguments.table.parent / row["file"])[0])
            for row in picked(arguments.table, split, most)
        ]
        for split, most in (("train", arguments.train), ("test", arguments.test))
    }
    points = []
    for sparsity in sparsities:
        train, test = (
            [encoded(image, name, sparsity, codec) for name, image in images[split]]
            for split in ("train", "test")
        )
        for ratio in ratios:
            decoys = min(ratio * sparsity, codec.preset.atoms - sparsity)
            settings = Settings(
                sparsity=float(sparsity), decoys=float(decoys), protection="sca", support_bits=8.0
            )
            for likely in ways:
                points.append(point(train, test, settings, codec, budget, likely=likely))
                p = points[-1]
                print(
                    f"S_x {sparsity} S_n {decoys} {'likely' if likely else 'even'}: "
                    f"key {p['key']:.4f} ({p['bits_per_entry']:.2f} an entry), "
                    f"AUC {p['auc']['value']:.3f}, recovered {p['recovered']['value']:.3f} (chance {p['chance']['value']:.3f}), "
                    f"{p['psnr']['value']:.2f} dB of {p['authorised']:.2f}",
                    flush=True,
                )
    facts = {
        "data": arguments.table.stem,
        "preset": arguments.preset,
        "train": len(images["train"]),
        "test": len(images["test"]),
        "budget": vars(budget),
    }
    print(save(f"tradeoff-{arguments.preset}", facts | {"points": points, "machine": machine()}))
    plot(RESULTS / "tradeoff.png")


if __name__ == "__main__":
    main()
