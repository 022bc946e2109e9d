"""Corpora: folders and tables of images with labels, patients and splits, whatever layout they come
in.

for corpus in open_corpora(Path("data")):
    corpus = split(corpus, seed=0)
    training = [sample for sample in corpus.samples if sample.split == "train"]
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from primis.datasets.catalogue import CLASSES, Layout, catalogue, named_like
from primis.datasets.files import collect
from primis.datasets.readers import read_layout
from primis.datasets.sample import Grey, Sample, read_grey, read_mask
from primis.datasets.tables import REQUIRED, Reading, header_of, part_of, read_table
from primis.errors import UsageError

__all__ = [
    "SHARES",
    "Corpus",
    "Grey",
    "Sample",
    "open_corpora",
    "read_grey",
    "read_mask",
    "split",
    "splits_of",
]

SHARES: Mapping[str, float] = {"train": 0.7, "val": 0.1, "test": 0.2}
"""Of the images, where a corpus has no split of its own."""

_OWN = ("table", "images", "classes")
_ADULT, _NEARLY_ALL, _DEPTH = 18, 0.9, 2
_WORDS = {
    "adult": True,
    "adults": True,
    "child": False,
    "children": False,
    "paediatric": False,
    "pediatric": False,
}


@dataclass(frozen=True)
class Corpus:
    """Images from one source.

    classes: labels that occur. adult: whether (nearly) all patients are adults, or children; None
    where mixed or unknown. notes: traps and losses that belong beside every figure from it.
    """

    name: str
    title: str
    citation: str
    licence: str
    samples: tuple[Sample, ...] = field(repr=False)
    classes: tuple[str, ...]
    adult: bool | None = None
    notes: tuple[str, ...] = ()


def open_corpora(data: Path, *, layout: str | None = None, seed: int | None = None) -> list[Corpus]:
    """The corpora in a folder or a table. None of their images is read.

    `data` is a table with the columns file, label and patient (tables.py); a folder in a layout of
    the catalogue; a folder of such tables, a corpus each; a folder of such folders; or else a
    folder of images without labels. `layout` is the name of a layout, or "table", "images" or
    "classes": sub-folders named for classes, perhaps in folders train, val and test. With a seed
    each corpus comes split by it.

    Raises UsageError where nothing is recognised, more than one layout is, or what a table names is
    not there.
    """
    if not data.exists():
        raise UsageError(f'data "{data}" does not exist, expected a folder of images or a table')
    if layout is not None and layout not in (*_OWN, *catalogue()):
        raise UsageError(
            f'layout "{layout}" is unknown, expected {", ".join((*_OWN, *catalogue()))}'
        )
    corpora = _distinct(
        _told(data, layout)
        if layout or data.is_file()
        else _below(data, _DEPTH) or [_of_images(data)]
    )
    return corpora if seed is None else [split(corpus, seed) for corpus in corpora]


def split(corpus: Corpus, seed: int = 0) -> Corpus:
    """The corpus with every sample in train, val or test, and no patient in two of them.

    A published split is kept, and what it lacks is carved out of its training set (of train and
    test: an eighth of train becomes val). Where a published split has a patient in two parts, what
    is in test stays, or else what is in val, and the other images are left out, with a note.
    Without one, patients are dealt 70 / 10 / 20 by number of images: in the order of their most
    frequent label and, within it, of SHA-256(seed, patient), each goes to the part that is furthest
    behind its share; so labels are spread evenly as far as patients allow, and the same seed and
    patients give the same split in whatever order they are read.

    Raises UsageError where a part stays empty.
    """
    published = {s.split for s in corpus.samples if s.split}
    if len(published) < 2:
        published, samples = set(), tuple(replace(s, split=None) for s in corpus.samples)
    else:
        samples = corpus.samples
    missing = [part for part in SHARES if part == "train" or part not in published]
    fixed = _published_parts(samples)
    fixed |= _deal([s for s in samples if s.patient not in fixed], missing, seed)
    kept = [s for s in samples if _stays(s, fixed[s.patient], missing)]
    if empty := set(SHARES) - {fixed[s.patient] for s in kept}:
        raise UsageError(
            f'corpus "{corpus.name}" has {len(set(fixed))} patients, '
            f'too few for a part "{min(empty)}"'
        )
    lost = len(samples) - len(kept)
    note = f"{lost} images left out by the split: their patients are in a part that is judged"
    return replace(
        corpus,
        samples=tuple(replace(s, split=fixed[s.patient]) for s in kept),
        notes=(*corpus.notes, note) if lost else corpus.notes,
    )


def splits_of(corpora: Iterable[Corpus]) -> tuple[tuple[str, ...], list[Sequence[str]]]:
    """(columns, rows): corpus, file, patient as the corpus writes it, label, split."""
    rows: list[Sequence[str]] = [
        (c.name, s.name, s.patient, s.label or "", s.split or "")
        for c in corpora
        for s in c.samples
    ]
    return ("corpus", "file", "patient", "label", "split"), rows


def _published_parts(samples: Iterable[Sample]) -> dict[str, str]:
    """Patient -> part, of those who are judged in a published split."""
    parts: dict[str, str] = {}
    for part in ("val", "test"):  # the later wins
        parts |= dict.fromkeys((s.patient for s in samples if s.split == part), part)
    return parts


def _stays(sample: Sample, part: str, missing: Collection[str]) -> bool:
    """Whether a sample goes where its patient went. missing: parts that a published split lacks."""
    return sample.split == part or (sample.split in (None, "train") and part in missing)


def _deal(samples: Sequence[Sample], parts: Sequence[str], seed: int) -> dict[str, str]:
    """patient -> part."""
    patients = defaultdict[str, list[str]](list)
    for sample in samples:
        patients[sample.patient].append(sample.label or "")

    def place(patient: str) -> tuple[str, bytes]:
        counts = Counter(sorted(patients[patient]))
        return counts.most_common(1)[0][0], hashlib.sha256(f"{seed}:{patient}".encode()).digest()

    whole = sum(SHARES[part] for part in parts)
    dealt, has, total = dict[str, str](), dict.fromkeys(parts, 0), 0
    for patient in sorted(patients, key=place):
        count = len(patients[patient])
        total += count
        behind = {p: round(SHARES[p] / whole * total - has[p], 9) for p in parts}
        part = max(parts, key=lambda p: (behind[p], -has[p]))
        has[part] += count
        dealt[patient] = part
    return dealt


def _told(data: Path, layout: str | None) -> list[Corpus]:
    """Of a table, or of a folder whose layout is known."""
    if data.is_file():
        if data.suffix.lower() != ".csv" or layout not in (None, "table"):
            raise UsageError(f'data "{data}" is a file, expected a folder, or a table (.csv)')
        return [_of_table(data)]
    if layout == "table":
        if not (tables := _tables(data)):
            raise UsageError(
                f'folder "{data}" has no table (.csv) with columns "{", ".join(REQUIRED)}"'
            )
        return [_of_table(table) for table in tables]
    if layout in ("images", "classes"):
        return [_of_images(data, classes=layout == "classes")]
    known = catalogue()[layout or ""]
    if not known.fits(data):
        raise UsageError(
            f'folder "{data}" is not of layout "{layout}", '
            f'expected "{", ".join(known.recognised)}" in it'
        )
    return [_of_layout(data, known)]


def _below(folder: Path, depth: int) -> list[Corpus]:
    """Of a folder, or of those in it, as far as they are recognised."""
    if found := [layout for layout in catalogue().values() if layout.fits(folder)]:
        if len(found) > 1:
            names = ", ".join(layout.name for layout in found)
            raise UsageError(
                f'folder "{folder}" fits the layouts "{names}", expected one; '
                "tell which by its name"
            )
        return [_of_layout(folder, found[0])]
    if tables := _tables(folder):
        return [_of_table(table) for table in tables]
    inner = (
        sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
        if depth
        else []
    )
    return [corpus for sub in inner for corpus in _below(sub, depth - 1)]


def _tables(folder: Path) -> list[Path]:
    """Tables of our own kind."""
    return [
        p
        for p in sorted(folder.glob("*.csv"))
        if p.is_file() and set(REQUIRED) <= set(header_of(p))
    ]


def _of_layout(folder: Path, layout: Layout) -> Corpus:
    reading = read_layout(folder, layout)
    return _corpus(layout.name, layout.title, layout, layout.adult, reading)


def _of_table(table: Path) -> Corpus:
    """Its place is told by how its files are named, adults and children by ages or its own name."""
    reading = read_table(table)
    source = named_like([s.file.stem for s in reading.samples])
    words = re.split(r"[-_. ]", table.stem.lower())
    told = next(
        (_WORDS[word] for word in words if word in _WORDS), source.adult if source else None
    )
    if any(s.age is not None for s in reading.samples):
        told = None  # ages know better
    notes = (*(source.notes if source else ()), *reading.notes)
    return _corpus(
        table.stem, f"{table.stem}{_part(source)}", source, told, Reading(reading.samples, notes)
    )


def _of_images(folder: Path, *, classes: bool = False) -> Corpus:
    """Of files alone. Masks lie beside their images: chest.png, chest.mask.png."""
    found = _collected(folder)
    masks = {
        path.with_name(path.name.replace(".mask.", ".")): path
        for path in found
        if ".mask." in path.name
    }
    images = {path: name for path, name in found.items() if path not in masks.values()}
    source = named_like([path.stem for path in images])
    samples = []
    for path, name in images.items():
        told = (source and source.parse(path.stem)) or {}
        *folders, _ = Path(name).parts
        label = folders[-1].lower() if classes and folders else None
        part = part_of(folders[0]) if classes and len(folders) > 1 else None
        mask = (masks[path],) if path in masks else ()
        samples.append(Sample(path, name, told.get("patient", name), label, part, mask))
    unknown = ("patients are unknown: each image is taken for a patient of its own",)
    notes = (*(source.notes if source else unknown), *_unread_tables(folder))
    name, adult = folder.resolve().name, source.adult if source else None
    return _corpus(name, f"{name}{_part(source)}", source, adult, Reading(tuple(samples), notes))


def _collected(folder: Path) -> dict[Path, str]:
    """The files of a folder and their names. Raises UsageError where there is none."""
    try:
        return dict(collect([folder]))
    except UsageError:
        patterns = [layout.recognised[0].split("|")[0] for layout in catalogue().values()]
        looked = ", ".join(f'"{pattern}"' for pattern in patterns)
        wanted = f'images, a table with columns "{", ".join(REQUIRED)}", or one of {looked}'
        raise UsageError(f'folder "{folder}" holds no corpus, expected {wanted}') from None


def _unread_tables(folder: Path) -> list[str]:
    """A note on each table beside the images."""
    lacks = f"it lacks one of the columns {', '.join(REQUIRED)}"
    return [f'table "{p.name}" was not read: {lacks}' for p in sorted(folder.glob("*.csv"))]


def _part(source: Layout | None) -> str:
    return f" (images of {source.title})" if source else ""


def _corpus(
    name: str, title: str, source: Layout | None, adult: bool | None, reading: Reading
) -> Corpus:
    labels = {s.label for s in reading.samples if s.label}
    classes = (*(c for c in CLASSES if c in labels), *sorted(labels - set(CLASSES)))
    ages = [s.age >= _ADULT for s in reading.samples if s.age is not None]
    grown = sum(ages) / len(ages) if ages else 0.5
    if adult is None and max(grown, 1 - grown) >= _NEARLY_ALL:
        adult = grown > 0.5
    citation, licence = (source.citation, source.licence) if source else ("", "")
    return Corpus(name, title, citation, licence, reading.samples, classes, adult, reading.notes)


def _distinct(corpora: Sequence[Corpus]) -> list[Corpus]:
    """With a number behind the names of all but the first of the same name."""
    seen, named = Counter[str](), []
    for corpus in corpora:
        seen[corpus.name] += 1
        named.append(
            replace(corpus, name=f"{corpus.name}-{seen[corpus.name]}")
            if seen[corpus.name] > 1
            else corpus
        )
    return named
