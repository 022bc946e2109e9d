"""The whole attack suite against one mechanism, on a table of images: what every attacker gains.

    python benchmarks/attacks.py TABLE --mechanism keyed|sca|paper [--train N] [--test N] [--steps N]

TABLE: CSV with columns split, file, label, patient, and perhaps sex and age; attackers own the
training split and are judged on the test split. Mechanisms: see `attacks/mechanism.py`. Besides:
membership in the training set of the weights, and the positive controls. A stopped run goes on where
it was; results/attacks-MECHANISM.json, and a picture of what attackers saw.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from common import RESULTS, machine, save

from primis.attacks.attribute_inference import traits_of
from primis.attacks.harness import FULL
from primis.attacks.mechanism import MECHANISMS, Subject, attack
from primis.attacks.membership_inference import membership_result
from primis.attacks.result import Result
from primis.attacks.suite import Job, Outcome, outcome
from primis.audit.pictures import rows_of
from primis.codec import Codec, OnnxEngine
from primis.datasets.tables import sex, years
from primis.imaging.files import read
from primis.imaging.image import Image
from primis.metrics.part import Parts
from primis.network.checkpoint import read_checkpoint, shipped
from primis.study.attacks.report import sheet

_SHOWN, _BEST = 2, 4


def picked(table: Path, split: str, most: int) -> list[dict[str, str]]:
    """Evenly spread rows of a split."""
    with table.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split]
    return [rows[int(k)] for k in np.linspace(0, len(rows) - 1, min(most, len(rows))).round()]


def subjects(table: Path, split: str, most: int) -> list[Subject]:
    """The rows, read."""
    rows = picked(table, split, most)
    said = [traits_of(r["label"], sex(r.get("sex") or ""), years(r.get("age") or "")) for r in rows]
    return [
        Subject(read(table.parent / r["file"])[0], r["file"], r["patient"], t)
        for r, t in zip(rows, said, strict=True)
    ]


def member(codec: Codec, members: list[Image], others: list[Image]) -> Outcome:
    """Membership of the attackers' images, which are the model's training split, against the judged ones."""
    step = max(1, len(members) // (2 * len(others)))
    return Outcome(membership_result(codec, members[::step], others))


def told(result: Result) -> str:
    """A line for people."""
    gains = [f"{g.what}: {g.estimate}{' DETECTED' if g.detected else ''}" for g in result.gains]
    drawn = result.reconstruction
    reached = f"{drawn.fidelity.psnr.value:.2f} dB, " if drawn else ""
    return f"{result.attack}: {reached}{'; '.join(gains)} {result.note}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--mechanism", choices=MECHANISMS, default="keyed")
    parser.add_argument("--train", type=int, default=400)
    parser.add_argument("--test", type=int, default=130)
    parser.add_argument("--steps", type=int, default=FULL.steps)
    arguments = parser.parse_args()
    mechanism = MECHANISMS[arguments.mechanism]
    checkpoint = read_checkpoint(shipped(mechanism.preset))
    codec = Codec(checkpoint, OnnxEngine(checkpoint, threads=1))
    budget = replace(FULL, steps=arguments.steps)
    train, test = (
        subjects(arguments.table, split, most)
        for split, most in (("train", arguments.train), ("test", arguments.test))
    )
    plan = {
        "mechanism": repr(mechanism),
        "budget": repr(budget),
        "images": [len(train), len(test)],
        "machine": machine(),
    }
    plan |= {
        "model": checkpoint.digest,
        "table": hashlib.sha256(arguments.table.read_bytes()).hexdigest(),
    }
    parts = Parts(RESULTS / f"attacks-{arguments.mechanism}.partial", plan)
    attacked = attack(mechanism, train, test, codec, budget, parts, shown)
    outcomes = attacked.outcomes
    if codec.architecture.over_image:  # its score needs rates that preset `paper` cannot give
        images = ([subject.image for subject in part] for part in (train, test))
        outcomes.append(outcome(parts, Job("membership", lambda: member(codec, *images))))
    for result in attacked.results:
        print(told(result))
    rows = rows_of(attacked.harness, outcomes, shown=_SHOWN, best=_BEST)
    (RESULTS / f"attacks-{arguments.mechanism}.png").write_bytes(sheet(rows))
    s = mechanism.settings
    facts = {
        "data": arguments.table.stem,
        "train": len(train),
        "test": len(test),
        "mechanism": arguments.mechanism,
    }
    facts |= {
        "preset": mechanism.preset,
        "sparsity": s.sparsity,
        "decoys": s.decoys,
        "budget": vars(budget),
    }
    facts |= {
        "machine": machine(),
        "ceiling": asdict(attacked.ceiling),
    }
    facts |= {
        "controls": [f.as_dict() for f in attacked.checks],
        "results": [f.as_dict() for f in attacked.results],
    }
    print(save(f"attacks-{arguments.mechanism}", facts))


def shown(what: str, done: int, total: int) -> None:
    """A line for each thing that begins."""
    if not done:
        print(what, flush=True)


if __name__ == "__main__":
    main()
