"""The parts of a report: each takes a study, measures, and gives sections, figures for JSON and tables for CSV."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from primis.attacks.attribute_inference import traits_of
from primis.attacks.learning import SPLITS, squared
from primis.attacks.mechanism import MECHANISMS, Subject, attack
from primis.audit.pictures import rows_of
from primis.datasets.corpus import Corpus, splits_of
from primis.datasets.sample import Grey, Sample, read_grey, read_mask
from primis.errors import TextureUnavailable, UsageError
from primis.imaging.files import read
from primis.metrics.fidelity import data_range
from primis.metrics.part import Part
from primis.metrics.statistics import Estimate, mean_of
from primis.study import classification, restoration, segmentation, texture
from primis.study.report import attacks as attacks_report
from primis.study.report import classification as classification_report
from primis.study.report import fidelity as fidelity_report
from primis.study.report import paper as paper_report
from primis.study.report import segmentation as segmentation_report
from primis.study.report import texture as texture_report
from primis.study.report.document import Block, Document, Section, Table, Text
from primis.study.report.numbers import with_sd
from primis.study.report.write import Csv
from primis.study.study import PARTS, RIVALS, Study, labelled, spread
from primis.study.versions import LOSSLESS, ORIGINAL, Versions

_SHOWN, _BEST = 2, 4
_LEAST_ATTACKED = 8

_SAME = (
    "Levels keyed and sca protect the same code, and who holds the key restores the same image at either, so fidelity, "
    "classification, segmentation and texture are of both. Lossless images, as tier original gives them, are the originals, "
    "and so are their figures."
)


@dataclass(frozen=True, eq=False)
class Chapter:
    """What a part gave. figures: for JSON; csvs: by name of file; beside: fields of report.paper.Ours."""

    sections: tuple[Section, ...]
    figures: dict[str, Any] = field(default_factory=dict)
    csvs: dict[str, Csv] = field(default_factory=dict)
    beside: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, dict[str, str]] = field(default_factory=dict)


def document(
    study: Study, parts: Sequence[str] = PARTS
) -> tuple[Document, dict[str, Any], dict[str, Csv]]:
    """The report, its figures for JSON, its tables for CSV.

    Raises UsageError where the only part that was asked for has nothing to work on; of several, one that has is left out, and
    the report says why.
    """
    made = {part: _made(study, part, alone=len(parts) == 1) for part in parts}
    beside = {key: value for chapter in made.values() for key, value in chapter.beside.items()}
    facts = {key: value for chapter in made.values() for key, value in chapter.facts.items()}
    sections = [
        _data(study),
        *(section for chapter in made.values() for section in chapter.sections),
    ]
    sections.append(paper_report.section(paper_report.Ours(**beside, facts=facts)))
    figures: dict[str, Any] = {"facts": study.about} | {
        part: chapter.figures for part, chapter in made.items()
    }
    csvs = {key: value for chapter in made.values() for key, value in chapter.csvs.items()}
    csvs["splits"] = splits_of(study.corpora)
    return Document("primis: every table and figure", study.about, tuple(sections)), figures, csvs


def _made(study: Study, part: str, *, alone: bool) -> Chapter:
    try:
        return _CHAPTERS[part](study)
    except UsageError as error:
        if alone:
            raise
        said = str(error) if isinstance(error, TextureUnavailable) else f"left out: {error}"
        return Chapter(
            (
                Section(
                    part, part.capitalize(), (Text(f"{said[0].upper()}{said[1:]}.", caution=True),)
                ),
            )
        )


def _data(study: Study) -> Section:
    """What the report is of."""
    rows = []
    for corpus in study.corpora:
        labels = Counter(s.label or "no label" for s in corpus.samples)
        count = Counter(s.split for s in corpus.samples)
        rows.append((
            corpus.name, corpus.title, ", ".join(f"{n} {name}" for name, n in labels.items()),
            str(sum(bool(s.masks) for s in corpus.samples)), " / ".join(str(count[p]) for p in SPLITS),
            str(len({s.patient for s in corpus.samples})), corpus.licence or "–",
        ))  # fmt: skip
    head = ("corpus", "what", "labels", "with masks", "train / val / test", "patients", "licence")
    blocks: list[Block] = [
        Table(
            "The images", head, tuple(rows), {"split": "by patient", "seed": str(study.plan.seed)}
        )
    ]
    blocks += [
        Text(f"{corpus.name}: {note}.", caution=True)
        for corpus in study.corpora
        for note in corpus.notes
    ]
    blocks += [Text(f"Left out: {reason}.", caution=True) for reason in study.left_out.values()]
    return Section("data", "Data", (*blocks, Text(_SAME)))


def _fidelity(study: Study) -> Chapter:
    """Table 1, Figs. 5 and 6, Supp. Fig. 1, for each corpus; preset `paper` on a few images of each."""
    sections: list[Section] = []
    figures: dict[str, Any] = {}
    csvs: dict[str, Csv] = {}
    beside: dict[str, Any] = {}
    facts: dict[str, dict[str, str]] = {}
    for corpus in study.largest_first:
        test = [s for s in corpus.samples if s.split == "test"]
        for preset, rivals, chosen in (
            ("default", RIVALS, test),
            ("paper", (), spread(test, study.plan.slow)),
        ):
            title = f"{corpus.name}, preset {preset}"
            part, known = _restored(
                study, corpus, chosen, study.versions((preset,), rivals), f"fidelity, {title}"
            )
            under = study.facts([corpus], "test", part.body["n"])
            section = fidelity_report.section(
                part, under, _printed() if preset == "paper" else None
            )
            sections.append(
                replace(
                    section,
                    name=f"fidelity-{len(sections) + 1}",
                    title=f"Fidelity of restored images: {title}",
                )
            )
            measures, squares = (
                _by_version(part),
                dict(zip(part.body["versions"], part.body["r_squared"], strict=True)),
            )
            figures[title] = {"n": part.body["n"], "r_squared": squares, "measures": measures}
            csvs[f"fidelity-{corpus.name}-{preset}"] = _per_image(part, known)
            if not beside:
                beside = {
                    "fidelity": measures,
                    "correlation": {k: v for k, v in squares.items() if v is not None},
                }
                facts = {"fidelity": under}
    return Chapter(tuple(sections), figures, csvs, beside, facts)


def _restored(
    study: Study, corpus: Corpus, samples: Sequence[Sample], versions: Versions, what: str
) -> tuple[Part, list[str]]:
    """restoration.measure, and the names of the images that could be read."""
    names: list[str] = []

    def images() -> Iterator[restoration.Original]:
        for _, sample, grey in study.read([(corpus, s) for s in samples], what, read_grey):
            names.append(sample.name)
            depth, inside = grey.bit_depth, grey.inside
            yield restoration.Original(sample.name, grey.pixels, depth, inside)

    def make() -> Part:
        part = restoration.measure(images(), versions, len(samples), progress=study.telling(what))
        return Part(part.body | {"names": names}, part.arrays)

    part = study.part(what, make)
    return part, part.body["names"]


def _by_version(part: Part) -> dict[str, dict[str, Estimate]]:
    """Means over images of a restoration's measures; infinite ones (identical images) left out of theirs."""
    found: dict[str, dict[str, Estimate]] = {}
    for version, rows in zip(part.body["versions"], part.arrays["measures"], strict=True):
        columns = {
            name: rows[np.isfinite(rows[:, m]), m] for m, name in enumerate(part.body["measures"])
        }
        found[version] = {name: mean_of(values) for name, values in columns.items() if len(values)}
    return found


def _printed() -> dict[str, dict[str, str]]:
    """The paper's Table 1, for preset `paper`, whose S_x counts as the paper's does."""
    fidelity = paper_report.paper().fidelity
    return {
        f"preset paper, {v}": {m: with_sd(p.mean, p.sd) for m, p in row.items()}
        for v, row in fidelity.items()
    }


def _per_image(part: Part, names: Sequence[str]) -> Csv:
    columns = ("version", "image", *part.body["measures"])
    rows = [
        (version, name, *row)
        for version, measured in zip(part.body["versions"], part.arrays["measures"], strict=True)
        for name, row in zip(names, measured, strict=True)
    ]
    return columns, rows


def _classification(study: Study) -> Chapter:
    """Table 2, Supp. Tables 1-3, Fig. 7, Supp. Figs. 2-9: networks trained on originals and at each S_x, tested on these and
    on other codecs' images at the same bits."""
    versions = study.versions(study.plan.presets, RIVALS[:1])
    trained, tested = _trained_and_tested(versions)
    made: dict[int, Part] = {}
    known: dict[tuple[str, ...], _Material] = {}
    under: dict[int, dict[str, str]] = {}
    for task in classification.TASKS:
        corpora = labelled(study.corpora, task.groups)
        samples = [
            (c, s)
            for c in corpora
            for s in c.samples
            if any(s.label in group for group in task.groups)
        ]
        if not classification.applies(
            task, _examples(samples, {ORIGINAL: np.zeros((len(samples), 1, 1))})
        ):
            continue
        material = known.setdefault(
            tuple(corpus.name for corpus in corpora), _Material(study, versions, trained)
        )

        def make(
            task: classification.Task = task, material: _Material = material, samples: Any = samples
        ) -> Part:
            readable, images = material.of(samples, study.plan.classifier.side)
            report = study.telling(f"classification, task {task.number}")
            part = classification.cross_grid(
                task,
                _examples(readable, images),
                trained,
                study.plan.classifier,
                report,
                tested=tested,
                keep=study.parts.get,
            )
            return Part(part.body | {"names": _tested(readable)}, part.arrays)

        part = made[task.number] = study.part(f"task {task.number}", make)
        under[task.number] = study.facts(corpora, "test", len(part.arrays["labels"]))
    if not made:
        raise UsageError("no task of the paper has a few images of each class in each split")
    every = {name for facts in under.values() for name in facts["data"].split(", ")}
    taken = "; ".join(f"{n} from {facts['data']}" for n, facts in under.items())
    facts = study.facts([c for c in study.corpora if c.name in every], "test", 0) | {
        "data": f"task {taken}",
        "n": "by task",
    }
    section = classification_report.section(made, facts)
    cells = {number: classification.metrics(part) for number, part in made.items()}
    wanted = ("auc", "accuracy", "sensitivity", "specificity")
    beside = {
        m: {
            (n, *pair): getattr(c, m) for n, of in cells.items() if n <= 8 for pair, c in of.items()
        }
        for m in wanted
    }
    figures = {
        f"task {n}": {f"{a} -> {b}": cell for (a, b), cell in of.items()} | made[n].body
        for n, of in cells.items()
    }
    return Chapter(
        (section,),
        figures,
        {"classification": _scores(made)},
        {"classification": beside},
        {"classification": facts},
    )


def _trained_and_tested(versions: Versions) -> tuple[list[str], list[str]]:
    """Names of what networks are trained on (preset default, S_x rising, then originals), and of all that they are tested on."""
    own = [v.name for v in versions.list if v.group == "preset default"]
    others = [
        v.name for v in versions.list if v.name not in own and v.name not in (ORIGINAL, LOSSLESS)
    ]
    return [*own, ORIGINAL], [*own, ORIGINAL, *others]


class _Material:
    """Images at a network's size, in the versions that it is trained on and, of test images, tested on; made once."""

    def __init__(self, study: Study, versions: Versions, trained: Sequence[str]) -> None:
        self._study, self._versions, self._trained = study, versions, set(trained)
        self._made: dict[tuple[str, str, int], dict[str, np.ndarray] | None] = {}

    def of(
        self, samples: Sequence[tuple[Corpus, Sample]], side: int
    ) -> tuple[list[tuple[Corpus, Sample]], dict[str, np.ndarray]]:
        """The samples that can be read, and (n, side, side) of each version; zeros where a version is for tests alone."""
        readable, rows = [], []
        for number, (corpus, sample) in enumerate(samples):
            self._study.progress("versions of images", number, len(samples))
            key = corpus.name, sample.name, side
            if key not in self._made:
                self._made[key] = self._small(corpus, sample, side)
            if (made := self._made[key]) is not None:
                readable.append((corpus, sample))
                rows.append(made)
        blank = np.zeros((side, side), np.float32)
        return readable, {
            v.name: np.stack([row.get(v.name, blank) for row in rows]) for v in self._versions.list
        }

    def _small(self, corpus: Corpus, sample: Sample, side: int) -> dict[str, np.ndarray] | None:
        for _, _, grey in self._study.read([(corpus, sample)], "versions of images", read_grey):
            wanted = [
                v for v in self._versions.list if sample.split == "test" or v.name in self._trained
            ]
            return {
                v.name: _at_side(
                    grey, self._versions.get(sample.name, grey.pixels, grey.bit_depth, v)[0], side
                )
                for v in wanted
            }
        return None


def _at_side(grey: Grey, pixels: np.ndarray, side: int) -> np.ndarray:
    """Square, bright where much was absorbed."""
    low = float(grey.pixels.min()) if pixels.dtype.kind == "i" else 0.0
    high = low + data_range(grey.pixels, grey.bit_depth)
    return squared(
        pixels, side, *((high, low) if grey.photometric == "MONOCHROME1" else (low, high))
    )


def _examples(
    samples: Sequence[tuple[Corpus, Sample]], images: Mapping[str, np.ndarray]
) -> classification.Examples:
    return classification.Examples(
        images, tuple(s.label or "" for _, s in samples), tuple(s.split or "" for _, s in samples),
        tuple(s.patient for _, s in samples), tuple(corpus.name for corpus, _ in samples),
    )  # fmt: skip


def _scores(parts: Mapping[int, Part]) -> Csv:
    """Mean probability over seeds of each test image and class."""
    rows = []
    for number, part in parts.items():
        for t, trained in enumerate(part.body["versions"]):
            for v, tested in enumerate(part.body["tested"]):
                for name, label, scores in zip(
                    part.body["names"],
                    part.arrays["labels"],
                    part.arrays["scores"][t, v].mean(0),
                    strict=True,
                ):
                    told = (number, trained, tested, name, part.body["classes"][int(label)])
                    rows += [
                        (*told, c, p) for c, p in zip(part.body["classes"], scores, strict=True)
                    ]
    return ("task", "trained on", "tested on", "image", "truth", "class", "probability"), rows


def _segmentation(study: Study) -> Chapter:
    """Table 3, Supp. Table 4, Fig. 9."""
    samples = [(corpus, s) for corpus in study.corpora for s in corpus.samples if s.masks]
    if any(not any(s.split == part for _, s in samples) for part in SPLITS):
        raise UsageError("segmentation needs images with masks in each split")
    versions = study.versions(study.plan.presets, RIVALS[:1])
    trained, tested = _trained_and_tested(versions)

    def make() -> Part:
        masked = {
            (c.name, s.name): (grey, mask)
            for c, s, (grey, mask) in study.read(samples, "masks", _masked)
        }
        known = [(c, s) for c, s in samples if (c.name, s.name) in masked]
        readable, images = _Material(study, versions, trained).of(known, study.plan.segmenter.side)
        greys, masks = zip(*(masked[c.name, s.name] for c, s in readable), strict=True)
        shown = zip(readable, greys, strict=True)
        pictures = {s.name: _shown(grey) for (_, s), grey in shown if s.split == "test"}
        examples = segmentation.Examples(
            images, masks, tuple(s.name for _, s in readable), tuple(s.split or "" for _, s in readable),
            tuple(f"{c.name} {s.patient}" for c, s in readable), tuple(grey.spacing_mm for grey in greys), pictures,
        )  # fmt: skip
        report = study.telling("segmentation")
        part = segmentation.cross_grid(
            examples, trained, study.plan.segmenter, report, tested=tested, keep=study.parts.get
        )
        return Part(part.body | {"names": _tested(readable)}, part.arrays)

    part = study.part("segmentation", make)
    facts = study.facts(
        list({c.name: c for c, _ in samples}.values()), "test", part.body["counts"]["test"]
    )
    cells = segmentation.metrics(part)
    said = {
        "here": "false positive is the part of the marked that is wrong, as the paper's must be, going by its Dice"
    }
    beside = {
        pair: cell.measures | {"false_positive": cell.measures["false_discovery"]}
        for pair, cell in cells.items()
    }
    figures = {f"{a} -> {b}": cell for (a, b), cell in cells.items()} | part.body
    section = segmentation_report.section(part, facts)
    return Chapter(
        (section,),
        figures,
        {"segmentation": _overlaps(part)},
        {"segmentation": beside},
        {"segmentation": facts | said},
    )


def _masked(sample: Sample) -> tuple[Grey, np.ndarray]:
    """An image and its mask, (H, W) of bool."""
    grey = read_grey(sample)
    return grey, read_mask(sample, (grey.pixels.shape[0], grey.pixels.shape[1]))


def _tested(samples: Sequence[tuple[Corpus, Sample]]) -> list[str]:
    """Names of the test images, in order."""
    return [f"{corpus.name}/{s.name}" for corpus, s in samples if s.split == "test"]


def _shown(grey: Grey) -> np.ndarray:
    """(H, W) uint8, as people look at it."""
    low, high = float(grey.pixels.min()), float(grey.pixels.max())
    scaled = (grey.pixels.astype(np.float32) - low) * (255 / max(high - low, 1))
    return np.round(255 - scaled if grey.photometric == "MONOCHROME1" else scaled).astype(np.uint8)


def _overlaps(part: Part) -> Csv:
    """Of each test image, means over seeds."""
    values = part.arrays["measures"].mean(2)
    rows = [
        (trained, tested, name, *values[t, v, i])
        for t, trained in enumerate(part.body["versions"])
        for v, tested in enumerate(part.body["tested"])
        for i, name in enumerate(part.body["names"])
    ]
    return ("trained on", "tested on", "image", *part.body["measures"]), rows


def _texture(study: Study) -> Chapter:
    """Fig. 8, on the test images that have a mask."""
    corpora = [c for c in study.corpora if any(s.masks and s.split == "test" for s in c.samples)]
    samples = [
        (corpus, s) for corpus in corpora for s in corpus.samples if s.masks and s.split == "test"
    ]
    versions = study.versions(study.plan.presets, RIVALS[:1])
    texture.require_pyradiomics()

    def images() -> Iterator[texture.Masked]:
        for corpus, sample, (grey, mask) in study.read(samples, "texture", _masked):
            yield texture.Masked(
                f"{corpus.name}/{sample.name}", grey.pixels, grey.bit_depth, mask, grey.spacing_mm
            )

    part = study.part(
        "texture",
        lambda: texture.measure(
            images(),
            versions,
            len(samples),
            keep=study.parts.get,
            progress=study.telling("texture"),
        ),
    )
    facts = study.facts(corpora, "test", part.body["n"])
    shares = {
        v: s
        for v, s in zip(part.body["versions"], part.body["share_excellent"], strict=True)
        if s is not None
    }
    figures = part.body | {
        "icc": part.arrays["icc"],
        "re": part.arrays["re"],
        "are": part.arrays["are"],
    }
    rows = [
        (
            version,
            name,
            *(part.arrays[key][v, f] for key in ("icc", "icc_low", "icc_high", "re", "are")),
        )
        for v, version in enumerate(part.body["versions"])
        for f, name in enumerate(part.body["features"])
    ]
    csv: Csv = ("version", "feature", "ICC", "ICC low", "ICC high", "RE %", "ARE %"), rows
    return Chapter(
        (texture_report.section(part, facts),),
        figures,
        {"texture": csv},
        {"texture": shares},
        {"texture": facts},
    )


def _attacks(study: Study) -> Chapter:
    """Table 4 and Fig. 10, and the rest of the suite, for each mechanism, on images of one shape of the largest corpus."""
    corpus, train, test = _alike(study)
    dark = {subject.name for subject in test if subject.image.photometric == "MONOCHROME1"}
    sections: list[Section] = []
    figures: dict[str, Any] = {}
    beside: dict[str, dict[str, Estimate]] = {}
    under: dict[str, str] = {}
    for name in study.plan.mechanisms:
        mechanism = MECHANISMS[name]
        attacked = attack(
            mechanism,
            train,
            test,
            study.codec(mechanism.preset),
            study.plan.budget,
            study.parts.under(name),
            study.progress,
        )
        facts = study.facts([corpus], "test", len(test), **{
            "attackers own": f"{len(train)} images of split train",
            "budget": f"{study.plan.budget.steps} steps of {study.plan.budget.batch} images for each network",
        })  # fmt: skip
        rows = rows_of(attacked.harness, attacked.outcomes, dark, shown=_SHOWN, best=_BEST)
        section = attacks_report.section(
            mechanism.name,
            attacked.results,
            attacked.ceiling,
            rows,
            controls=attacked.checks,
            facts=facts,
        )
        sections.append(section)
        figures[name] = {
            "ceiling": attacked.ceiling,
            "controls": [f.as_dict() for f in attacked.checks],
        }
        figures[name] |= {"results": [f.as_dict() for f in attacked.results]}
        if not beside or name == "paper":
            beside, under = (
                attacks_report.by_network(attacked.results),
                facts | {"mechanism here": mechanism.name},
            )
    return Chapter(tuple(sections), figures, {}, {"attacks": beside}, {"attacks": under})


def _alike(study: Study) -> tuple[Corpus, list[Subject], list[Subject]]:
    """What attackers own and are judged on: grey images of the shape that is most common."""
    for corpus in study.largest_first:
        found: dict[str, list[Subject]] = {"train": [], "test": []}
        for part, most in (("train", study.plan.owned), ("test", study.plan.judged)):
            samples = spread([(corpus, s) for s in corpus.samples if s.split == part], most)
            for _, sample, image in study.read(
                samples, "attacks: reading", lambda sample: read(sample.file)[0]
            ):
                if image.shape[3] == 1 and np.ptp(image.pixels):
                    traits = traits_of(sample.label, sample.sex, sample.age)
                    found[part].append(
                        Subject(image, sample.name, f"{corpus.name} {sample.patient}", traits)
                    )
        shapes = Counter(s.image.shape for s in found["test"])
        if not shapes:
            continue
        common = shapes.most_common(1)[0][0]
        train, test = (
            [s for s in found[part] if s.image.shape == common] for part in ("train", "test")
        )
        if min(len(train), len(test)) >= _LEAST_ATTACKED:
            return corpus, train, test
    raise UsageError(
        f"no corpus has {_LEAST_ATTACKED} grey images of one shape in each of its splits train and test"
    )


_CHAPTERS: dict[str, Callable[[Study], Chapter]] = {
    "fidelity": _fidelity, "classification": _classification, "segmentation": _segmentation, "texture": _texture,
    "attacks": _attacks,
}  # fmt: skip
