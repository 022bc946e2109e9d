"""The whole attack suite against one mechanism, on a table of images: what every attacker gains.

    python benchmarks/attacks.py TABLE --mechanism keyed|sca|paper
        [--train N] [--test N] [--steps N]

TABLE: CSV with columns split, file, label, patient, and perhaps sex and age; attackers own the
training split and are judged on the test split. Mechanisms: see `attacks/mechanism.py`. Besides:
membership in the training set of the weights, and the positive controls. A stopped run goes on
where it was; results/attacks-MECHANISM.json, and a picture of what attackers saw.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, machine, one_thread, save

from primis.attacks.attribute_inference import traits_of
from primis.attacks.harness import FULL, Budget
from primis.attacks.mechanism import MECHANISMS, Attacked, Subject, attack
from primis.attacks.membership_inference import membership_result
from primis.attacks.result import Result
from primis.attacks.suite import Job, Outcome, outcome
from primis.audit.pictures import rows_of
from primis.codec import Codec
from primis.datasets.tables import sex, years
from primis.imaging.files import read
from primis.metrics.part import Parts
from primis.study.attacks.report import sheet

_SHOWN, _BEST = 2, 4


def picked(table: Path, split: str, most: int) -> list[dict[str, str]]:
    """Evenly spread rows of a split."""
    with table.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split]
    return [rows[int(k)] for k in np.linspace(0, len(rows) - 1, min(most, len(rows))).round()]


def subjects(table: Path, split: str, most: int) -> list[Subject]:
    """The rows, read."""
    return [subject(table.parent, row) for row in picked(table, split, most)]


def subject(folder: Path, row: dict[str, str]) -> Subject:
    """A row, read."""
    traits = traits_of(row["label"], sex(row.get("sex") or ""), years(row.get("age") or ""))
    return Subject(read(folder / row["file"])[0], row["file"], row["patient"], traits)


def membership(codec: Codec, train: Sequence[Subject], test: Sequence[Subject]) -> Outcome:
    """Membership of the attackers' images, which are the model's training split, against the judged
    ones."""
    members, others = ([s.image for s in part] for part in (train, test))
    step = max(1, len(members) // (2 * len(others)))
    return Outcome(membership_result(codec, members[::step], others))


def told(result: Result) -> str:
    """A line for people."""
    gains = [f"{g.what}: {g.estimate}{' DETECTED' if g.detected else ''}" for g in result.gains]
    drawn = result.reconstruction
    reached = f"{drawn.fidelity.psnr.value:.2f} dB, " if drawn else ""
    return f"{result.attack}: {reached}{'; '.join(gains)} {result.note}"


def told_begun(what: str, done: int, total: int) -> None:
    """A line for each thing that begins."""
    if not done:
        print(what, flush=True)


def attacked_by_all(
    name: str, table: Path, train: Sequence[Subject], test: Sequence[Subject], budget: Budget
) -> Attacked:
    """Every attack on a mechanism. Results are kept as they come, with the plan they are of."""
    mechanism = MECHANISMS[name]
    codec = one_thread(mechanism.preset)
    plan = {
        "mechanism": repr(mechanism),
        "budget": repr(budget),
        "images": [len(train), len(test)],
        "machine": machine(),
        "model": codec.checkpoint.digest,
        "table": hashlib.sha256(table.read_bytes()).hexdigest(),
    }
    parts = Parts(RESULTS / f"attacks-{name}.partial", plan)
    attacked = attack(mechanism, train, test, codec, budget, parts, told_begun)
    if codec.architecture.over_image:  # its score needs rates that preset `paper` cannot give
        job = Job("membership", lambda: membership(codec, train, test))
        attacked.outcomes.append(outcome(parts, job))
    return attacked


def facts_of(name: str, attacked: Attacked, budget: Budget) -> dict[str, Any]:
    """For JSON; `attack_tables.AttackRun` reads it."""
    mechanism = MECHANISMS[name]
    settings = mechanism.settings
    about: dict[str, Any] = {
        "mechanism": name,
        "preset": mechanism.preset,
        "budget": asdict(budget),
    }
    about |= {"sparsity": settings.sparsity, "decoys": settings.decoys, "machine": machine()}
    return about | {
        "ceiling": asdict(attacked.ceiling),
        "controls": [result.as_dict() for result in attacked.checks],
        "results": [result.as_dict() for result in attacked.results],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--mechanism", choices=MECHANISMS, default="keyed")
    parser.add_argument("--train", type=int, default=400)
    parser.add_argument("--test", type=int, default=130)
    parser.add_argument("--steps", type=int, default=FULL.steps)
    arguments = parser.parse_args()
    name, budget = arguments.mechanism, replace(FULL, steps=arguments.steps)
    train = subjects(arguments.table, "train", arguments.train)
    test = subjects(arguments.table, "test", arguments.test)
    attacked = attacked_by_all(name, arguments.table, train, test, budget)
    for result in attacked.results:
        print(told(result))
    rows = rows_of(attacked.harness, attacked.outcomes, shown=_SHOWN, best=_BEST)
    (RESULTS / f"attacks-{name}.png").write_bytes(sheet(rows))
    data = {"data": arguments.table.stem, "train": len(train), "test": len(test)}
    print(save(f"attacks-{name}", data | facts_of(name, attacked, budget)))


if __name__ == "__main__":
    main()
