"""Train one small classifier on sparse codes and on pixels of a labelled release; print both AUCs.

    python examples/learn_from_codes.py TABLE [--negative normal] [--count 200]

TABLE is a CSV with the columns file, label and patient. Images of one label are told from all
others. The release is made first, in a temporary folder; then all is read from there. Without a
TABLE the images are phantoms, half of them with a blob. It needs nothing but primis.

The classifier is the same for both: ridge regression on standardised features, its strength chosen
by leaving one out, tested on patients that it has not seen (five folds). Codes are read without
running the decoder.
"""

import argparse
import csv
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import tifffile

import primis
from primis.imaging.phantom import draw_phantom
from primis.keys.identity import generate, read_signer

FOLDS = 5
STRENGTHS = 10.0 ** np.arange(-1, 6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path, nargs="?")
    parser.add_argument("--negative", default="normal", help="the label to tell from all others")
    parser.add_argument("--count", type=int, default=200, help="images at most, half of each kind")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = given.table or draw_images(folder / "drawn", 40)
        release = make_release(table, choose(table, given.negative, given.count), folder)
        for item, features in (("codes", of_codes), ("pixels", of_pixels)):
            start = time.perf_counter()
            dataset = primis.Dataset(release, item=item, transform=features)
            learnt = np.stack(list(dataset))
            seconds = time.perf_counter() - start
            positive = np.array([row["label"] != given.negative for row in dataset.labels])
            patients = [row["patient"] for row in dataset.labels]
            aucs = cross_validate(learnt, positive, patients)
            print(
                f"{item}: AUC {np.mean(aucs):.3f} (sd {np.std(aucs, ddof=1):.3f} over {FOLDS} "
                f"folds), {len(dataset)} images read in {seconds:.1f} s"
            )


def choose(table: Path, negative: str, count: int) -> list[Path]:
    """Files of the table, at most so many, half of them of each kind."""
    with table.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    rng, chosen = np.random.default_rng(0), []
    for kind in (True, False):
        files = [table.parent / r["file"] for r in rows if (r["label"] == negative) == kind]
        drawn = rng.permutation(len(files))[: count // 2]
        chosen += [files[number] for number in sorted(drawn)]
    return chosen


def make_release(table: Path, files: list[Path], folder: Path) -> primis.OpenRelease:
    """Share the images with their labels, and open the release as the one who may learn."""
    for key in ("owner.key", "learner.key"):
        (folder / key).write_text(generate())
    learner = read_signer(folder / "learner.key").recipient.text
    owner, place = folder / "owner.key", folder / "release"
    primis.share(files, place, to=learner, owner=owner, labels=table, measure=False)
    return primis.open(place, folder / "learner.key", remember=False)


def of_codes(item: dict) -> np.ndarray:
    """A small picture from atom 0, and how strong each other atom is in 16 parts of the image."""
    values = item["image"]
    picture = pooled(values[:1], 16)
    strengths = np.log1p(pooled(np.abs(values[1:]), 4))
    return np.concatenate([standard(picture).ravel(), strengths.ravel()])


def of_pixels(item: dict) -> np.ndarray:
    """The picture at 32 x 32."""
    return standard(pooled(item["image"][:1], 32)).ravel()


def pooled(planes: np.ndarray, side: int) -> np.ndarray:
    """(n, H, W) -> (n, side, side), by averages."""
    for axis in (1, 2):
        edges = np.arange(side + 1) * planes.shape[axis] / side
        parts = [
            planes.take(range(int(low), max(int(np.ceil(high)), int(low) + 1)), axis).mean(axis)
            for low, high in pairwise(edges)
        ]
        planes = np.stack(parts, axis)
    return planes


def standard(picture: np.ndarray) -> np.ndarray:
    return (picture - picture.mean()) / (picture.std() + 1e-6)


def cross_validate(x: np.ndarray, positive: np.ndarray, patients: list[str]) -> list[float]:
    """The AUC of each fold; no patient is in two."""
    names = sorted(set(patients))
    fold_of = dict(
        zip(names, np.random.default_rng(0).permutation(len(names)) % FOLDS, strict=True)
    )
    folds = np.array([fold_of[patient] for patient in patients])
    aucs = []
    for fold in range(FOLDS):
        test = folds == fold
        predict = fit(x[~test], np.where(positive[~test], 1.0, -1.0))
        scores = predict(x[test])
        aucs.append(auc(scores[positive[test]], scores[~positive[test]]))
    return aucs


def fit(x: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Ridge regression in its dual form; the strength with the least error of leaving one out."""
    mean, sd, centre = x.mean(0), x.std(0) + 1e-6, y.mean()
    z = (x - mean) / sd
    values, vectors = np.linalg.eigh(z @ z.T)
    best = None
    for strength in STRENGTHS:
        inverse = (vectors / (values + strength)) @ vectors.T
        dual = inverse @ (y - centre)
        error = np.mean((dual / np.diag(inverse)) ** 2)
        if best is None or error < best[0]:
            best = error, z.T @ dual
    weights = best[1]
    return lambda new: (new - mean) / sd @ weights


def auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """The probability that a positive scores above a negative; 0.5 is chance."""
    difference = positive[:, None] - negative[None]
    return float((difference > 0).mean() + (difference == 0).mean() / 2)


def draw_images(folder: Path, count: int) -> Path:
    """Phantoms of a chest, half of them with a blob, and their table."""
    folder.mkdir()
    rows = ["file,label,patient"]
    rng, y, x = np.random.default_rng(0), *np.mgrid[:128, :128]
    for number in range(count):
        pixels = draw_phantom(128, seed=number).astype(float)
        if number % 2:
            row, column = rng.integers(40, 88, 2)
            pixels += 1500 * np.exp(-((y - row) ** 2 + (x - column) ** 2) / 60)
        tifffile.imwrite(folder / f"{number}.tif", pixels.astype(np.uint16))
        rows.append(f"{number}.tif,{'blob' if number % 2 else 'normal'},{number}")
    (folder / "table.csv").write_text("\n".join(rows))
    return folder / "table.csv"


if __name__ == "__main__":
    main()
