"""Splits that no patient crosses: 70 / 10 / 20, published ones kept, and written down."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from primis.atomic import write_new
from primis.datasets.corpus import SHARES, Corpus, split, splits_of
from primis.datasets.sample import Sample
from primis.errors import OutputError, UsageError
from primis.study.report.write import as_csv


def invented(count: int, *, per_patient: int = 3, published: str | None = None) -> Corpus:
    """A corpus whose files do not exist: three labels, the third of them rare."""
    labels = ["normal"] * 6 + ["pneumonia"] * 3 + [None]
    samples = tuple(
        Sample(
            Path(f"{n}.png"),
            f"{n}.png",
            f"p{n // per_patient}",
            labels[n // per_patient % len(labels)],
            published,
        )
        for n in range(count)
    )
    return Corpus("invented", "", "", "", samples, ("normal", "pneumonia"))


def patients_of(corpus: Corpus, part: str) -> set[str]:
    return {s.patient for s in corpus.samples if s.split == part}


@pytest.mark.parametrize("per_patient", [1, 3, 7])
def test_a_split_is_70_10_20_in_all_and_for_each_label_without_crossing_patients(
    per_patient: int,
) -> None:
    corpus = split(invented(2100, per_patient=per_patient), seed=4)
    assert len(corpus.samples) == 2100
    parts = [patients_of(corpus, part) for part in SHARES]
    assert sum(map(len, parts)) == len(set.union(*parts))
    for label in ("normal", "pneumonia", None):
        of_label = [s.split for s in corpus.samples if s.label == label]
        for part, share in SHARES.items():
            assert abs(of_label.count(part) - share * len(of_label)) <= 2 * per_patient


def test_the_seed_and_the_patients_make_the_split_not_the_order() -> None:
    corpus = invented(300)
    turned = Corpus("turned", "", "", "", corpus.samples[::-1], corpus.classes)
    one = {s.name: s.split for s in split(corpus, 1).samples}
    assert (
        one
        == {s.name: s.split for s in split(corpus, 1).samples}
        == {s.name: s.split for s in split(turned, 1).samples}
    )
    assert one != {s.name: s.split for s in split(corpus, 2).samples}


def test_five_patients_are_enough_and_two_are_not() -> None:
    assert {s.split for s in split(invented(5, per_patient=1)).samples} == set(SHARES)
    with pytest.raises(UsageError, match='"invented" has 2 patients, too few'):
        split(invented(2, per_patient=1))


def with_parts(corpus: Corpus, parts: dict[int, str]) -> Corpus:
    """Published parts, by the patient's number modulo 10."""
    return replace(
        corpus,
        samples=tuple(replace(s, split=parts.get(int(s.patient[1:]) % 10)) for s in corpus.samples),
    )


def test_val_is_carved_out_of_a_published_training_set() -> None:
    parts = dict.fromkeys(range(7), "train") | dict.fromkeys((7, 8, 9), "test")
    published = with_parts(invented(1200), parts)
    corpus = split(published, 3)
    assert patients_of(corpus, "test") == patients_of(published, "test")
    assert len(corpus.samples) == 1200 and corpus.notes == ()
    assert sum(s.split == "val" for s in corpus.samples) == pytest.approx(840 / 8, abs=6)
    assert not patients_of(corpus, "val") & patients_of(corpus, "train")


def test_test_is_carved_where_only_that_is_missing() -> None:
    corpus = split(with_parts(invented(900), dict.fromkeys(range(9), "train") | {9: "val"}))
    assert sum(s.split == "test" for s in corpus.samples) == pytest.approx(810 * 2 / 9, abs=6)


def test_a_whole_published_split_is_kept_and_so_is_a_split_of_ours() -> None:
    published = with_parts(
        invented(300), dict.fromkeys(range(7), "train") | {7: "val", 8: "test", 9: "test"}
    )
    assert split(published, 5) == published
    ours = split(invented(300), 1)
    assert split(ours, 2) == ours


def test_one_part_alone_is_no_split() -> None:
    corpus = split(invented(300, published="train"))
    assert sum(s.split == "test" for s in corpus.samples) == pytest.approx(60, abs=3)


def test_a_patient_on_both_sides_is_judged_and_not_trained_on() -> None:
    samples = [
        replace(s, split="test" if n % 30 == 0 else "train")
        for n, s in enumerate(invented(300).samples)
    ]
    corpus = split(replace(invented(300), samples=tuple(samples)))
    assert len(corpus.samples) == 280 and "20 images left out by the split" in corpus.notes[-1]
    assert not patients_of(corpus, "test") & (
        patients_of(corpus, "train") | patients_of(corpus, "val")
    )


def test_splits_are_written_down(tmp_path: Path) -> None:
    corpus = split(invented(30, per_patient=1))
    write_new(tmp_path / "out" / "splits.csv", as_csv(*splits_of([corpus])))
    with (tmp_path / "out" / "splits.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [r["split"] for r in rows] == [s.split for s in corpus.samples]
    assert rows[0] == {
        "corpus": "invented",
        "file": "0.png",
        "patient": "p0",
        "label": "normal",
        "split": rows[0]["split"],
    }
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["splits.csv"]
    with pytest.raises(OutputError):
        write_new(tmp_path / "out" / "splits.csv" / "below.csv", as_csv(*splits_of([corpus])))
