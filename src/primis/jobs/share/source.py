"""Files to images: which files are slices of one series, and what is read of them."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeVar

from primis.codec import Done
from primis.datasets.files import File, Source
from primis.errors import TooManyPixels, UnreadableImage
from primis.imaging.apart import WORKERS
from primis.imaging.files import read
from primis.imaging.image import Image, NamedFile, pixel_limit
from primis.imaging.minimal import minimal
from primis.imaging.series import Slice, in_order, slice_in
from primis.jobs.journal import Record
from primis.jobs.result import unexpected
from primis.sharing.frames import each_frame

_SERIES = "series"

AnyPath = TypeVar("AnyPath", Path, PurePosixPath)


def gather(
    files: Sequence[File],
    *,
    series: bool = True,
    on_file: Callable[[int, int], None] = lambda done, total: None,
) -> list[Source]:
    """What each image is made of, in the order of the first files. series: slices of one series and
    one geometry become one image; else each file is one."""
    if not series or len(files) < 2:
        return [Source.of(file) for file in files]
    groups: dict[object, list[tuple[File, Slice | None]]] = defaultdict(list)
    for number, file in enumerate(files):
        there = slice_in(file[0])
        groups[number if there is None else there.alike].append((file, there))
        on_file(number + 1, len(files))
    return _Names(files).sources(list(groups.values()))


class _Names:
    """Names of series: the folder of their files, with the number of the series where several lie
    in one."""

    def __init__(self, files: Sequence[File]) -> None:
        self._taken = Counter(name for _, name in files)

    def sources(self, groups: Sequence[Sequence[tuple[File, Slice | None]]]) -> list[Source]:
        """Of files that belong together."""
        folders = [_folder_of([file for file, _ in g]) if len(g) > 1 else None for g in groups]
        count = Counter(folders)
        return [
            Source.of(group[0][0]) if folder is None else self._series(group, folder, count[folder])
            for group, folder in zip(groups, folders, strict=True)
        ]

    def _series(
        self, members: Sequence[tuple[File, Slice | None]], folder: str, count: int
    ) -> Source:
        slices = [there for _, there in members if there is not None]
        ordered = _named_apart([members[k][0] for k in in_order(slices)])
        number = slices[0].number
        inside = f"{folder}/{_SERIES}-{number}" if number.isalnum() else f"{folder}/{_SERIES}"
        return Source(self._free(folder if count == 1 else inside, inside), ordered)

    def _free(self, *wished: str) -> str:
        """The first that no other has, or the last with a number."""
        free = next((name for name in wished if not self._taken[name]), "")
        if not free:
            self._taken[wished[-1]] += 1
            free = f"{wished[-1]}-{self._taken[wished[-1]]}"
        self._taken[free] += 1
        return free


def _named_apart(files: Sequence[File]) -> tuple[File, ...]:
    """Under names of their own: files of several inputs may have one, all but the first of which
    get a number."""
    given, places = {name for _, name in files}, dict[str, Path]()
    for place, name in files:
        path, own, number = PurePosixPath(name), name, 1
        while own in places or (number > 1 and own in given):
            number += 1
            own = str(path.with_name(f"{path.stem}-{number}{path.suffix}"))
        places[own] = place
    return tuple((place, name) for name, place in places.items())


def _folder_of(files: Sequence[File]) -> str:
    """The folder that all of them lie in, as their names have it; where these have none, what it is
    called where it lies."""
    common = _common([PurePosixPath(name) for _, name in files]).as_posix().lstrip("/.")
    return common or _common([Path(os.path.abspath(place)) for place, _ in files]).name or _SERIES


def _common(paths: Sequence[AnyPath]) -> AnyPath:
    common = paths[0].parent
    while not all(path.is_relative_to(common) for path in paths):
        common = common.parent
    return common


@dataclass(frozen=True)
class Reading:
    """How files are read. max_pixels: None for the reader's default. original: the files are kept,
    as tier original has them. minimal: of headers only what is needed to show the image."""

    max_pixels: int | None = None
    original: bool = False
    minimal: bool = False

    def read(self, path: Path) -> tuple[Image, bytes]:
        """One file. Raises UnreadableImage, which names it."""
        image, data = read(path, max_pixels=self.max_pixels)
        return minimal(image) if self.minimal else image, data if self.original else b""


def _refuse(file: Source, error: UnreadableImage) -> None:
    raise error


def read_source(
    source: Source, how: Reading, on_bad: Callable[[Source, UnreadableImage], None] = _refuse
) -> tuple[Image, bytes]:
    """An image, and the file or files if they are kept. on_bad: is told of each file of a series
    that cannot be read; the image is without it. Raises UnreadableImage, which names the file."""
    if not source.is_series:
        return how.read(source.place)
    sound = read_slices(source, how)
    for file, error in sound.bad.items():
        on_bad(file, error)
    if len(sound.files) < 2:
        raise UnreadableImage(f"{source} has no two slices that can be read")
    return joined(sound.source, sound.files)


class Sound(NamedTuple):
    """What of a series can be read, and why the rest cannot."""

    source: Source
    files: list[tuple[Image, bytes]]
    bad: dict[Source, UnreadableImage]


def read_slices(source: Source, how: Reading, stopped: Callable[[], bool] = lambda: False) -> Sound:
    """Each file of a series. stopped: whether no more are to be read. Raises TooManyPixels where
    all together have too many."""

    def read_one(number: int, file: File, done: Done) -> tuple[Image, bytes] | UnreadableImage:
        try:
            if stopped():
                raise UnreadableImage(f'image "{file[0]}" was not read')
            return how.read(file[0])
        except UnreadableImage as error:
            return error
        except Exception as error:  # whatever it is, it must not stop the others
            return UnreadableImage(f'image "{file[0]}" {unexpected(error, "read")}')

    good: list[tuple[Image, bytes]] = []
    sound: list[File] = []
    bad: dict[Source, UnreadableImage] = {}
    limit, samples = pixel_limit(how.max_pixels, _size(source)), 0
    each = each_frame(read_one, source.files, len(source.files), at_once=WORKERS)
    for file, one in zip(source.files, each, strict=True):
        if isinstance(one, UnreadableImage):
            bad[Source.of(file)] = one
            continue
        samples += one[0].pixels.size
        if samples > limit:
            raise TooManyPixels(f"{source} has over {limit} samples, expected at most as many")
        sound.append(file)
        good.append(one)
    return Sound(replace(source, files=tuple(sound)), good, bad)


def _size(source: Source) -> int:
    """Bytes of all files; 0 for one that is not there: reading it says why."""
    return sum(stamp["size"] for stamp in map(_stamp, source.files) if stamp["size"] > 0)


def joined(source: Source, read_files: Sequence[tuple[Image, bytes]]) -> tuple[Image, bytes]:
    """The image of a series, and its files. Raises UnreadableImage."""
    from primis.imaging.dicom_series import join, pack_files  # a large library

    names = [name for _, name in source.files]
    data = [one for _, one in read_files]
    try:
        image = join([image for image, _ in read_files], names)
    except UnreadableImage as error:
        raise UnreadableImage(f"{source} {error}") from None
    return image, pack_files(map(NamedFile, names, data))


def stamp_of(source: Source) -> Record:
    """Tells whether files are still as they were."""
    if not source.is_series:
        return _stamp(source.files[0])
    stamps = [_stamp(file) | {"name": file[1]} for file in source.files]
    told = repr([sorted(stamp.items()) for stamp in stamps]).encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(told, digest_size=16).hexdigest()
    return {"file": stamps[0]["file"], "size": len(stamps), "mtime": digest}


def _stamp(file: File) -> Record:
    try:
        stat = file[0].stat()
        return {"file": str(file[0].resolve()), "size": stat.st_size, "mtime": stat.st_mtime_ns}
    except OSError:
        return {"file": str(file[0]), "size": -1, "mtime": -1}  # reading it says why


def key(record: Record) -> bytes:
    """Tells sources apart, and states of one."""
    told = "\n".join(str(record[name]) for name in ("file", "size", "mtime", "name"))
    return hashlib.blake2b(told.encode("utf-8", "surrogatepass"), digest_size=16).digest()
