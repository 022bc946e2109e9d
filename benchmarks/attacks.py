"""The whole attack suite against one mechanism, on a table of images: what every attacker gains.

    python benchmarks/attacks.py TABLE --mechanism keyed|sca|paper [--train N] [--test N] [--steps N]

TABLE: CSV with columns split, file, label, patient; attackers own the training split and are judged on the test split.
Mechanisms: level keyed and level sca with preset `default` (S_x = 8, S_n = 8), and level sca with preset `paper`
(S_x = 16 of each code map, S_n = 48, decoys laid evenly, as the paper has it). Besides: membership in the training set of the
weights, and the positive controls. All images belong to one release. A stopped run goes on where it was, if nothing
was committed in between; results/attacks-MECHANISM.json, and a picture of what attackers saw.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from common import RESULTS, machine, save
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from primis.bundle.layout import Settings
from primis.codec import Codec, OnnxEngine
from primis.evaluation.attacks.controls import controls
from primis.evaluation.attacks.judge import Finding
from primis.evaluation.attacks.membership import membership
from primis.evaluation.attacks.protocol import FULL, Case, World, share_case
from primis.evaluation.attacks.suite import Result, jobs, result
from primis.evaluation.fidelity import best_fit, fidelity, psnr
from primis.evaluation.part import Parts
from primis.evaluation.statistics import mean_of
from primis.imaging.files import read
from primis.imaging.image import Image
from primis.keys.seal import Secret, release_secrets
from primis.network.checkpoint import read_checkpoint, shipped

MECHANISMS = {
    "keyed": ("default", Settings(8.0, "keyed", 8.0, 2.75, 4.0)),
    "sca": ("default", Settings(8.0, "sca", 8.0, 4.0, 4.0)),
    "paper": ("paper", Settings(192.0, "sca", 64.0, 8.0, 4.0)),
}
_CELL, _CAPTION = 220, 36


def rows_of(table: Path, split: str, most: int) -> list[dict[str, str]]:
    """Evenly spread rows of a split."""
    with table.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split]
    return [rows[int(k)] for k in np.linspace(0, len(rows) - 1, min(most, len(rows))).round()]


def cases(
    table: Path, split: str, most: int, settings: Settings, codec: Codec, release: dict[str, Secret]
) -> tuple[list[Case], list[Image]]:
    """The rows, shared in one release, by attackers once more; and the images."""
    made, images = [], []
    again = int(split == "train" and settings.protection == "keyed")
    for number, row in enumerate(rows := rows_of(table, split, most)):
        if number % 20 == 0:
            print(f"  shared {number} of {len(rows)} ({split})", flush=True)
        image = read(table.parent / row["file"])[0]
        case = share_case(
            image, settings, codec, name=row["file"], patient=row["patient"], label=row["label"], judged=split == "test",
            release=release, likely=not codec.preset.per_position, again=again,
        )  # fmt: skip
        made.append(case)
        images.append(image)
    return made, images


def member(codec: Codec, members: list[Image], others: list[Image]) -> Result:
    """Membership of the attackers' images, which are the model's training split, against the judged ones."""
    step = max(1, len(members) // (2 * len(others)))
    gain = membership(codec, members[::step], others)
    return Result(
        Finding("membership in the weights' training set", "weights", "Yeom et al. 2018", "the weights and the image", (gain,))
    )


def picture(world: World, results: list[Result], path: Path) -> None:
    """Two images: original, authorised, the best guesses, the floor."""
    shown = sorted((r for r in results if r.pictures), key=lambda r: -r.finding.figures["psnr"].value)[:4]
    rows = []
    for number, case in enumerate(world.test[:2]):
        assert case.authorised is not None
        floor = best_fit(world.mean_image, case.pixels)
        cells = [("original", case.pixels), ("authorised", case.authorised)]
        cells += [(r.finding.attack, r.pictures[number]) for r in shown] + [("mean image, no code", floor)]
        rows.append((case, cells))
    sheet = Pillow.new("L", (len(rows[0][1]) * _CELL, len(rows) * (_CELL + _CAPTION)), 255)
    draw = ImageDraw.Draw(sheet)
    for down, (case, cells) in enumerate(rows):
        for right, (name, pixels) in enumerate(cells):
            x, y = right * _CELL, down * (_CELL + _CAPTION)
            grey = np.clip((pixels.astype(float) - case.pixels.min()) * 255 / max(float(np.ptp(case.pixels)), 1), 0, 255)
            small = Pillow.fromarray(grey.astype(np.uint8)).resize((_CELL - 6, _CELL - 6), Pillow.Resampling.LANCZOS)
            sheet.paste(small, (x + 3, y + _CAPTION))
            draw.text((x + 4, y + 2), name[:34], 0, ImageFont.load_default(12))
            if name != "original":
                draw.text((x + 4, y + 18), f"{psnr(case.pixels, pixels, case.full):.1f} dB", 80, ImageFont.load_default(12))
    sheet.save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--mechanism", choices=MECHANISMS, default="keyed")
    parser.add_argument("--train", type=int, default=600)
    parser.add_argument("--test", type=int, default=130)
    parser.add_argument("--steps", type=int, default=FULL.steps)
    arguments = parser.parse_args()
    preset, settings = MECHANISMS[arguments.mechanism]
    checkpoint = read_checkpoint(shipped(preset))
    codec = Codec(checkpoint, OnnxEngine(checkpoint, threads=1))
    budget = replace(FULL, steps=arguments.steps)
    secret, likely = release_secrets(Secret.new(), "original"), not codec.preset.per_position
    train, members = cases(arguments.table, "train", arguments.train, settings, codec, secret)
    test, others = cases(arguments.table, "test", arguments.test, settings, codec, secret)
    again = [share_case(image, settings, codec, name="again", likely=likely).view for image in others]
    world = World(codec, settings, train, test, budget, likely=likely)
    plan = {"settings": repr(settings), "budget": repr(budget), "images": [len(train), len(test)], "machine": machine()}
    plan |= {"model": checkpoint.digest, "table": hashlib.sha256(arguments.table.read_bytes()).hexdigest()}
    parts = Parts(RESULTS / f"attacks-{arguments.mechanism}.partial", plan)
    checks = [result(parts, name, lambda make=make: Result(make())).finding for name, make in controls(codec, settings)]
    results = []
    named = [*jobs(world, again)]
    if not codec.preset.per_position:  # its score needs rates that preset `paper` cannot give
        named.append(("membership", lambda: member(codec, members, others)))
    for name, job in named:
        results.append(result(parts, name, job))
        finding = results[-1].finding
        gains = "; ".join(f"{g.what}: {g.estimate}{' FOUND' if g.found else ''}" for g in finding.gains)
        reached = f"{finding.figures['psnr'].value:.2f} dB, " if "psnr" in finding.figures else ""
        print(f"{finding.attack}: {reached}{gains} {finding.note}", flush=True)
    authorised = [fidelity(c.pixels, c.authorised, c.full) for c in test if c.authorised is not None]
    ceiling = {name: mean_of([getattr(m, name) for m in authorised]) for name in ("mae", "me", "rmse", "psnr", "ssim")}
    picture(world, results, RESULTS / f"attacks-{arguments.mechanism}.png")
    facts = {
        "data": arguments.table.stem,
        "train": len(train),
        "test": len(test),
        "mechanism": arguments.mechanism,
        "preset": preset,
    }
    facts |= {"sparsity": settings.sparsity, "decoys": settings.decoys, "budget": vars(budget), "machine": machine()}
    facts |= {"ceiling": {name: vars(e) for name, e in ceiling.items()}, "controls": [f.as_dict() for f in checks]}
    print(save(f"attacks-{arguments.mechanism}", facts | {"findings": [r.finding.as_dict() for r in results]}))


if __name__ == "__main__":
    main()
