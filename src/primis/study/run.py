"""All that was asked for: each part measured, and the report made of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from primis.datasets.corpus import Corpus, splits_of
from primis.errors import TextureUnavailable, UsageError
from primis.study.attacks import report as attacks
from primis.study.chapter import Chapter
from primis.study.classification import report as classification
from primis.study.fidelity import report as fidelity
from primis.study.names import PartName
from primis.study.paper import tables as paper
from primis.study.paper.tables import Ours
from primis.study.report.document import Block, Document, Section, Table, Text
from primis.study.report.write import Csv
from primis.study.segmentation import report as segmentation
from primis.study.study import Study, counted
from primis.study.texture import report as texture

_CHAPTERS: Mapping[PartName, Callable[[Study], Chapter]] = {
    PartName.FIDELITY: fidelity.chapter,
    PartName.CLASSIFICATION: classification.chapter,
    PartName.SEGMENTATION: segmentation.chapter,
    PartName.TEXTURE: texture.chapter,
    PartName.ATTACKS: attacks.chapter,
}

_SAME = (
    "Levels keyed and sca protect the same code, and who holds the key restores the same image at "
    "either, so {parts} hold for both. Lossless images, as tier original gives them, are the "
    "originals."
)
_QUICK = (
    "This is a quick run: a few images and networks that learned next to nothing. It "
    "shows what the report looks like and proves nothing."
)


@dataclass(frozen=True, eq=False)
class Report:
    """document: for people; data: for report.json; csvs: by name of file."""

    document: Document
    data: dict[str, Any]
    csvs: dict[str, Csv]


def report(study: Study) -> Report:
    """Measures what the study is asked for.

    Raises UsageError where the only part that was asked for has nothing to work on; of several, one
    that has is left out, and the report says why.
    """
    made = {part: _made(study, part) for part in study.wanted}
    ours, sections = Ours(), [_data(study)]
    data: dict[str, Any] = {"facts": study.about}
    csvs: dict[str, Csv] = {"splits": splits_of(study.corpora)}
    for part, chapter in made.items():
        ours = ours.with_(chapter.ours)
        sections += chapter.sections
        data |= {str(part): chapter.data}
        csvs |= chapter.csvs
    sections.append(paper.section(ours, study.wanted))
    return Report(Document(_title(study), study.about, tuple(sections)), data, csvs)


def _title(study: Study) -> str:
    whole = len(study.wanted) == len(PartName)
    return f"primis: {'every table and figure' if whole else ', '.join(study.wanted)}"


def _made(study: Study, part: PartName) -> Chapter:
    try:
        return _CHAPTERS[part](study)
    except UsageError as error:
        if len(study.wanted) == 1:
            raise
        said = str(error) if isinstance(error, TextureUnavailable) else f"left out: {error}"
        text = Text(f"{said[0].upper()}{said[1:]}.", caution=True)
        return Chapter((Section(part, part.capitalize(), (text,)),))


def _data(study: Study) -> Section:
    """What the report is of."""
    head = ("corpus", "what", "labels", "with masks", "train / val / test", "patients", "licence")
    facts = {"split": study.split, "seed": str(study.plan.seed)}
    table = Table("The images", head, tuple(_row(corpus) for corpus in study.corpora), facts)
    cautions = [_QUICK] if study.plan.quick else []
    for corpus in study.corpora:
        cautions += [f"{corpus.name}: {note}." for note in corpus.notes]
    cautions += [f"Left out: {reason}." for reason in study.left_out.values()]
    blocks: list[Block] = [table, *(Text(caution, caution=True) for caution in cautions)]
    if parts := [part for part in study.wanted if part != PartName.ATTACKS]:
        blocks.append(Text(_SAME.format(parts=_listed(parts))))
    return Section("data", "Data", tuple(blocks))


def _listed(parts: Sequence[PartName]) -> str:
    *first, last = (f"results of {part}" if i == 0 else part for i, part in enumerate(parts))
    return f"{', '.join(first)} and {last}" if first else last


def _row(corpus: Corpus) -> tuple[str, ...]:
    labels = Counter(sample.label or "no label" for sample in corpus.samples)
    return (
        corpus.name,
        corpus.title,
        ", ".join(f"{n} {name}" for name, n in labels.items()),
        str(sum(bool(sample.masks) for sample in corpus.samples)),
        counted(corpus),
        str(len({sample.patient for sample in corpus.samples})),
        corpus.licence or "–",
    )
