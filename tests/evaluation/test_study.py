"""Every table and figure, from one command: on a small corpus with labels and masks."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from PIL import Image as Pillow

from primis.attacks.mechanism import MECHANISMS
from primis.datasets.corpus import Corpus
from primis.datasets.sample import Sample
from primis.errors import UsageError
from primis.imaging.phantom import draw_phantom
from primis.study import study as module
from primis.study.classification.measure import TaskResult
from primis.study.classification.tasks import labelled
from primis.study.fidelity.measure import FidelityResult
from primis.study.names import PARTS, MechanismName, PartName
from primis.study.plan import Plan
from primis.study.report import html
from primis.study.report.document import Text
from primis.study.report.write import as_json, write
from primis.study.run import Report, report
from primis.study.software import software
from primis.study.study import Kept, Study, spread

SIDE = 64
COUNTS = {"train": 10, "val": 4, "test": 4}
PLAN = Plan(mechanisms=(MechanismName.KEYED,), sparsities=(8.0, 16.0), presets=("default", "paper"))
PLAN = replace(PLAN.cut_down(), slow=1)
FIDELITY = (PartName.FIDELITY,)

_OTHERS = ("preset paper, ", "JPEG 2000 at the bits of ")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms, the ill ones with a bright spot, and an ellipse for a lung."""
    folder = tmp_path_factory.mktemp("data")
    down, right = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    mask = (255 * (down**2 / 400 + right**2 / 220 < 1)).astype(np.uint8)
    rows, number = [], 0
    for part, count in COUNTS.items():
        for label in ("normal", "pneumonia"):
            for _ in range(count):
                pixels = (draw_phantom(SIDE, seed=number) >> 4).astype(np.uint8)
                if label == "pneumonia":
                    pixels[27:37, 20:30] = 255
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
    made = report(study)
    write(made.document, folder / "report", made.data, made.csvs)
    return study, folder, seen


def test_every_part_is_in_the_report(whole: tuple[Study, Path, list[str]]) -> None:
    _, folder, _ = whole
    written = folder / "report"
    page = (written / "index.html").read_text()
    figures = json.loads((written / "report.json").read_text())
    assert set(PARTS) < set(figures)
    assert (written / "report.pdf").read_bytes().startswith(b"%PDF")
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
            ("p28", "test"),
        }


def test_finished_parts_are_not_done_twice(
    whole: tuple[Study, Path, list[str]], data: Path, monkeypatch
) -> None:
    _, folder, _ = whole

    def never(*_: object, **__: object) -> None:
        raise AssertionError

    for name in (
        "fidelity.measure.measure",
        "classification.measure.cross_grid",
        "segmentation.measure.cross_grid",
        "texture.measure.measure",
    ):
        monkeypatch.setattr(f"primis.study.{name}", never)
    again = report(Study(data, PLAN, folder / "kept", parts=PARTS[:4]))
    first = json.loads((folder / "report" / "report.json").read_text())
    assert len(again.document.sections) > 5
    made = json.loads(as_json(again.data))
    assert {part: made[part] for part in PARTS[:4]} == {part: first[part] for part in PARTS[:4]}


def test_another_plan_takes_nothing_from_this_one(
    whole: tuple[Study, Path, list[str]], data: Path
) -> None:
    study, folder, _ = whole
    other = Study(data, replace(PLAN, seed=1), folder / "kept")
    kept = study.parts.get("fidelity, phantoms, preset default", _fail, Kept[FidelityResult])
    assert kept.result.n == 2 * COUNTS["test"]
    with pytest.raises(LookupError):
        other.parts.get("fidelity, phantoms, preset default", _fail, Kept[FidelityResult])
    with pytest.raises(LookupError):  # what is kept of another type is not taken
        study.parts.get("fidelity, phantoms, preset default", _fail, Kept[TaskResult])


def _fail() -> NoReturn:
    raise LookupError


def test_what_data_lacks_is_left_out_of_a_whole_report_and_refused_alone(tmp_path: Path) -> None:
    for number in range(12):
        Pillow.fromarray((draw_phantom(64, seed=number) >> 4).astype(np.uint8)).save(
            tmp_path / f"{number}.png"
        )
    kept = tmp_path.with_suffix(".kept")
    with pytest.raises(UsageError, match="masks"):
        report(Study(tmp_path, PLAN, kept, parts=(PartName.SEGMENTATION,)))
    made = report(Study(tmp_path, replace(PLAN, presets=("default",)), kept, parts=PARTS[:3]))
    assert sum(text.startswith("Left out:") for text in texts_of(made)) == 2


def texts_of(made: Report) -> list[str]:
    blocks = chain.from_iterable(section.blocks for section in made.document.sections)
    return [block.text for block in blocks if isinstance(block, Text)]


def test_fidelity_alone_needs_no_split(tmp_path: Path) -> None:
    for number in range(2):
        pixels = (draw_phantom(64, seed=number) >> 4).astype(np.uint8)
        Pillow.fromarray(pixels).save(tmp_path / f"{number}.png")
    kept = tmp_path.with_suffix(".kept")
    with pytest.raises(UsageError, match="too few for a part"):
        Study(tmp_path, PLAN, kept, parts=PARTS[:2])
    made = report(Study(tmp_path, PLAN, kept, parts=FIDELITY))
    name = f"{tmp_path.name}, preset default"
    assert made.data["fidelity"][name]["n"] == 2
    assert made.document.facts["split"] == "none"
    said = " ".join(texts_of(made))
    assert "all images are measured" in said and "This is a quick run:" in said
    assert "network" not in " ".join([*made.document.facts, *made.document.facts.values()])
    assert {section.name for section in made.document.sections} == {
        "data",
        "fidelity-1",
        "fidelity-2",
        "paper",
    }
    page = html.page(made.document)
    assert not any(f"Table {n}" in page for n in (2, 3, 4))
    assert page.count("run quick") >= 5  # under every table and figure


def test_an_image_that_cannot_be_read_is_named_and_the_rest_is_measured(
    data: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(data, tmp_path / "some")
    (folder / "30.png").write_bytes(b"no image")
    plan = replace(PLAN, sparsities=(8.0,))
    study = Study(folder, plan, tmp_path / "kept", parts=FIDELITY)
    data_ = report(study).data
    assert list(study.left_out) == ["phantoms/30.png"]
    assert data_["fidelity"]["phantoms, preset default"]["n"] == 2 * COUNTS["test"] - 1
    again = Study(folder, plan, tmp_path / "kept", parts=FIDELITY)
    report(again)
    assert again.left_out == study.left_out  # also when nothing is measured anew


def test_an_image_whose_mask_cannot_be_read_is_named_and_the_rest_is_outlined(
    data: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(data, tmp_path / "some")
    (folder / "31.mask.png").write_bytes(b"no mask")
    plan = replace(PLAN, presets=("default",), sparsities=(8.0,))
    study = Study(folder, plan, tmp_path / "kept", parts=(PartName.SEGMENTATION,))
    made = report(study)
    found = made.data["segmentation"]
    assert list(study.left_out) == ["phantoms/31.png"]
    assert found["counts"].test == 2 * COUNTS["test"] - 1
    assert {row[2] for row in made.csvs["segmentation"][1]} == set(found["names"])
    assert "phantoms/31.png" not in found["names"]


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


def test_wrong_arguments_are_told_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from primis.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 2, end.code\n"
        "print(sorted({'torch', 'scipy', 'matplotlib', 'monai', 'numpy'} & set(sys.modules)))"
    )
    for words, said in (
        (("fidelity", "x", "--sparsity", "99"), '--sparsity is "99"'),
        (("fidelity", "x", "--mechanism", "none"), '--mechanism is "none"'),
        (("everything", "x"), 'part "everything" is unknown'),
        (("all", "x"), 'data "x" does not exist'),
    ):
        command = [sys.executable, "-c", code, "evaluate", *words, "-o", "out"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert said in done.stderr
        assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_every_mechanism_has_a_name() -> None:
    assert set(MechanismName) == set(MECHANISMS)
