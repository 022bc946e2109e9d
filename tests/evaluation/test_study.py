"""Every table and figure, from one command: on a small corpus with labels and masks."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from primis.datasets.corpus import Corpus
from primis.datasets.sample import Sample
from primis.errors import UsageError
from primis.imaging.phantom import draw_phantom
from primis.study import study as module
from primis.study.chapters import document
from primis.study.report.write import write
from primis.study.study import PARTS, Plan, Study, labelled, software, spread

SIDE = 96
COUNTS = {"train": 10, "val": 4, "test": 6}
PLAN = replace(
    Plan(mechanisms=("keyed",), sparsities=(8.0, 16.0), presets=("default", "paper")).quick, slow=1
)

_OTHERS = ("preset paper, ", "JPEG 2000 at the bits of ")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms, the ill ones with a bright spot, and an ellipse for a lung."""
    folder = tmp_path_factory.mktemp("data")
    down, right = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    mask = (255 * (down**2 / 900 + right**2 / 500 < 1)).astype(np.uint8)
    rows, number = [], 0
    for part, count in COUNTS.items():
        for label in ("normal", "pneumonia"):
            for _ in range(count):
                pixels = (draw_phantom(SIDE, seed=number) >> 4).astype(np.uint8)
                if label == "pneumonia":
                    pixels[40:56, 30:46] = 255
                Pillow.fromarray(pixels).save(folder / f"{number}.png")
                Pillow.fromarray(mask).save(folder / f"{number}.mask.png")
                rows.append((f"{number}.png", f"{number}.mask.png", label, f"p{number}", part))
                number += 1
    with (folder / "phantoms.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "mask", "label", "patient", "split"), *rows])
    return folder


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Path, list[str]]:
    """A study, its report, and what it was busy with."""
    folder, seen = tmp_path_factory.mktemp("study"), list[str]()
    study = Study(data, PLAN, folder / "kept", progress=lambda what, *_: seen.append(what))
    pages, figures, csvs = document(study)
    write(pages, folder / "report", figures, csvs)
    return study, folder, seen


def test_every_part_is_in_the_report(whole: tuple[Study, Path, list[str]]) -> None:
    _, folder, _ = whole
    report = folder / "report"
    page, figures = (
        (report / "index.html").read_text(),
        json.loads((report / "report.json").read_text()),
    )
    assert set(PARTS) < set(figures)
    assert (report / "report.pdf").read_bytes().startswith(b"%PDF")
    for what in (
        "Table 1",
        "Table 2",
        "Table 3",
        "Table 4",
        "Fig. 5",
        "Fig. 6",
        "Fig. 7",
        "Fig. 8",
        "Fig. 9",
        "Fig. 10",
    ):
        assert what in page, what
    assert "Left out:" not in page
    assert figures["fidelity"]["phantoms, preset default"]["n"] == 2 * COUNTS["test"]
    assert figures["classification"]["task 9"]["original -> original"]["auc"]["value"] > 0.5
    assert figures["classification"]["task 9"]["tested"][-4:] == [
        f"{name}S_x = {s}" for name in _OTHERS for s in (8, 16)
    ]
    assert figures["segmentation"]["counts"] == {part: 2 * n for part, n in COUNTS.items()}
    assert len(figures["texture"]["features"]) == 93
    assert {f["attack"] for f in figures["attacks"]["keyed"]["results"]} >= {
        "U-Net on the decoded public image",
        "lengths",
    }
    missed = [
        control["attack"]
        for control in figures["attacks"]["keyed"]["controls"]
        if not control["broken"]
    ]
    assert all("thumbnail" in name for name in missed)  # 12 steps are too few for it
    assert not missed or "this proves nothing" in page


def test_tables_name_data_split_number_seed_and_software(
    whole: tuple[Study, Path, list[str]],
) -> None:
    study, folder, _ = whole
    assert study.about["software"] == software()
    page = (folder / "report" / "index.html").read_text()
    for fact in ("test, by patient", "phantoms", "seed", software()):
        assert fact in page


def test_per_image_tables_have_a_row_for_each_image(whole: tuple[Study, Path, list[str]]) -> None:
    _, folder, _ = whole
    with (folder / "report" / "fidelity-phantoms-default.csv").open() as file:
        rows = list(csv.DictReader(file))
    versions = {row["version"] for row in rows}
    assert {
        "S_x = 8",
        "S_x = 16",
        "JPEG 2000 at the bits of S_x = 8",
        "JPEG 2000 at the bits of S_x = 16",
        "lossless",
    } == versions
    assert len(rows) == len(versions) * 2 * COUNTS["test"]
    with (folder / "report" / "splits.csv").open() as file:
        assert {(row["patient"], row["split"]) for row in csv.DictReader(file)} >= {
            ("p0", "train"),
            ("p30", "test"),
        }


def test_finished_parts_are_not_done_twice(
    whole: tuple[Study, Path, list[str]], data: Path, monkeypatch
) -> None:
    _, folder, _ = whole

    def never(*_: object, **__: object) -> None:
        raise AssertionError

    for owner, name in (
        ("restoration", "measure"),
        ("classification", "cross_grid"),
        ("segmentation", "cross_grid"),
        ("texture", "measure"),
    ):
        monkeypatch.setattr(f"primis.study.{owner}.{name}", never)
    again = Study(data, PLAN, folder / "kept")
    pages, _, _ = document(again, PARTS[:4])
    assert len(pages.sections) > 5


def test_another_plan_takes_nothing_from_this_one(
    whole: tuple[Study, Path, list[str]], data: Path
) -> None:
    study, folder, _ = whole
    other = Study(data, replace(PLAN, seed=1), folder / "kept")
    assert study.parts.get("fidelity, phantoms, preset default", _fail).body["n"]
    with pytest.raises(LookupError):
        other.parts.get("fidelity, phantoms, preset default", _fail)


def _fail() -> None:
    raise LookupError


def test_what_data_lacks_is_left_out_of_a_whole_report_and_refused_alone(tmp_path: Path) -> None:
    for number in range(12):
        Pillow.fromarray((draw_phantom(64, seed=number) >> 4).astype(np.uint8)).save(
            tmp_path / f"{number}.png"
        )
    study = Study(tmp_path, PLAN, tmp_path.with_suffix(".kept"))
    with pytest.raises(UsageError, match="masks"):
        document(study, ("segmentation",))
    pages, _, _ = document(study, ("fidelity", "classification", "segmentation"))
    said = [
        block.text
        for section in pages.sections
        for block in section.blocks
        if hasattr(block, "text")
    ]
    assert sum(text.startswith("Left out:") for text in said) == 2


def test_an_image_that_cannot_be_read_is_named_and_the_rest_is_measured(
    data: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(data, tmp_path / "some")
    (folder / "30.png").write_bytes(b"no image")
    study = Study(folder, PLAN, tmp_path / "kept")
    _, figures, _ = document(study, ("fidelity",))
    assert list(study.left_out) == ["phantoms/30.png"]
    assert figures["fidelity"]["phantoms, preset default"]["n"] == 2 * COUNTS["test"] - 1
    again = Study(folder, PLAN, tmp_path / "kept")
    document(again, ("fidelity",))
    assert again.left_out == study.left_out  # also when nothing is measured anew


def test_an_image_whose_mask_cannot_be_read_is_named_and_the_rest_is_outlined(
    data: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(data, tmp_path / "some")
    (folder / "31.mask.png").write_bytes(b"no mask")
    study = Study(folder, replace(PLAN, presets=("default",)), tmp_path / "kept")
    _, figures, csvs = document(study, ("segmentation",))
    assert list(study.left_out) == ["phantoms/31.png"]
    assert figures["segmentation"]["counts"]["test"] == 2 * COUNTS["test"] - 1
    assert {row[2] for row in csvs["segmentation"][1]} == set(figures["segmentation"]["names"])
    assert "phantoms/31.png" not in figures["segmentation"]["names"]


def corpus(name: str, *labels: str, adult: bool | None = None) -> Corpus:
    return Corpus(
        name, name, "", "", tuple(Sample(Path("x"), n, n, n, "test") for n in labels), labels, adult
    )


def test_a_task_takes_corpora_that_tell_its_classes_apart_with_the_least_besides() -> None:
    children = corpus("children", "normal", "viral", "bacterial", adult=False)
    adults, covid = (
        corpus("adults", "normal", "pneumonia", adult=True),
        corpus("covid", "covid", "other", adult=True),
    )
    three = [adults, children, covid]
    names = lambda groups: [c.name for c in labelled(three, groups)]  # noqa: E731
    assert names([["normal"], ["viral"]]) == ["children"]
    assert names([["normal"], ["covid"]]) == ["adults", "covid"]  # ages alike
    assert names([["viral"], ["covid"]]) == ["children", "covid"]
    assert names([["normal"], ["tuberculosis"]]) == []


def test_thinning_keeps_some_of_each_class_in_each_split() -> None:
    samples = [
        Sample(Path("x"), f"{s}{label}{k}", f"{k}", label, s)
        for s in ("train", "test")
        for label in "ab"
        for k in range(50)
    ]
    thin = module._thinned(Corpus("c", "c", "", "", tuple(samples), ("a", "b")), 20)
    kept = [(s.split, s.label) for s in thin.samples]
    assert {kept.count((s, label)) for s in ("train", "test") for label in "ab"} == {5}
    assert spread(list(range(10)), 3) == [0, 4, 9]
