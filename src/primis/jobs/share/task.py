"""One image to share: a picklable task and a worker that depends on nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from primis.bundle.manifest import Entry
from primis.bundle.settings import Profile
from primis.codec import Codec, Done, OnnxEngine, silent
from primis.datasets.files import Source
from primis.errors import InputError, UnreadableImage
from primis.imaging.dicom_uids import instance_uid, series_uid
from primis.imaging.image import SERIES, Image
from primis.jobs.result import lost, unexpected
from primis.jobs.share.source import Reading, read_source
from primis.keys.seal import TierSecrets
from primis.keys.tier import Tier
from primis.metrics.fidelity import Quality
from primis.network.checkpoint import Checkpoint
from primis.release.budgets import Budgets, Need
from primis.release.catalogue import Listed, spacing_of
from primis.sharing.share import share_image

if TYPE_CHECKING:
    from primis.imaging.dicom import Origin


@dataclass(frozen=True)
class ShareTask:
    """secrets: of this image alone. release: its id. measure: seal what the image loses.
    frames_alone: code each frame by itself."""

    source: Source
    bundle_id: str
    release: str
    secrets: TierSecrets = field(repr=False)
    budgets: Budgets
    need: Need | InputError
    reading: Reading
    measure: bool
    frames_alone: bool


@dataclass(frozen=True)
class SharedFile:
    """A bundle and what the release lists of it. left_out: files of its series that could be read
    before, and no more."""

    data: bytes = field(repr=False)
    entry: Entry
    profile: Profile
    listed: Listed = field(repr=False)
    kept: float | None
    notes: tuple[str, ...]
    quality: Quality | None = field(repr=False)
    left_out: tuple[tuple[str, UnreadableImage], ...] = ()


@dataclass(frozen=True)
class ShareWorker:
    """A Worker (`executors`)."""

    codec: Codec

    def __reduce__(self) -> tuple[Callable[[Checkpoint], ShareWorker], tuple[Checkpoint]]:
        return _single_threaded, (self.codec.checkpoint,)

    def __call__(self, task: ShareTask, done: Done = silent) -> SharedFile | InputError:
        """See `share_file`."""
        return share_file(task, self.codec, done)

    def lost(self, task: ShareTask, tries: int) -> SharedFile | InputError:
        """See Worker."""
        return InputError(f"{task.source} {lost(tries)}")

    def size(self, task: ShareTask) -> int:
        """See Worker."""
        try:
            return sum(file.stat().st_size for file, _ in task.source.files)
        except OSError:  # sharing it says why
            return 0

    def sent(self, task: ShareTask) -> ShareTask:
        """With paths from the root."""
        files = tuple((Path(os.path.abspath(file)), name) for file, name in task.source.files)
        return replace(task, source=replace(task.source, files=files))

    def elsewhere(self, task: ShareTask, machine: str) -> SharedFile | InputError:
        """See Worker. A file that is not there is told with the machine."""
        missing = [file for file, _ in task.source.files if not os.path.lexists(file)]
        if missing and not isinstance(task.need, InputError):
            return UnreadableImage(
                f'image "{missing[0]}" is not there for the worker on "{machine}": '
                "files must lie at the same path on all machines"
            )
        return self(task)


def _single_threaded(checkpoint: Checkpoint) -> ShareWorker:
    return ShareWorker(Codec(checkpoint, OnnxEngine(checkpoint, threads=1)))


def share_file(task: ShareTask, codec: Codec, done: Done = silent) -> SharedFile | InputError:
    """The bundle, or why there is none: whatever it is, it must not stop the others."""
    try:
        return _share(task, codec, done)
    except InputError as error:
        return error
    except Exception as error:
        return InputError(f"{task.source} {unexpected(error, 'encoded')}")


def _share(task: ShareTask, codec: Codec, done: Done) -> SharedFile:
    if isinstance(task.need, InputError):
        raise task.need
    task.budgets.require_fit(task.need)
    left_out: dict[Source, UnreadableImage] = {}
    image, data = read_source(task.source, task.reading, left_out.__setitem__)
    shared = share_image(
        image,
        task.budgets.of(image, with_original=task.reading.original),
        task.secrets,
        codec,
        bundle_id=task.bundle_id,
        name=task.source.name,
        original=data if task.reading.original else None,
        measure=task.measure,
        group=1 if task.frames_alone else None,
        done=done,
    )
    return SharedFile(
        shared.data,
        Entry.of(task.bundle_id, shared.data),
        shared.header.profile,
        listed_of(image, task),
        shared.kept,
        image.notes,
        shared.quality,
        tuple((file.name, error) for file, error in left_out.items()),
    )


def listed_of(image: Image, task: ShareTask) -> Listed:
    """The image as the catalogue lists it."""
    frames, height, width, channels = image.shape
    told: dict[str, Any] = {}
    if origin := _origin(image):
        told = {
            "modality": origin.modality,
            "study": origin.study,
            "series": series_uid(origin.series, task.release, Tier.DIAGNOSTIC),
            "instance": instance_uid(task.bundle_id, Tier.DIAGNOSTIC),
        }
    return Listed(
        id=task.bundle_id,
        name=task.source.name,
        kind=image.kind,
        frames=frames,
        height=height,
        width=width,
        channels=channels,
        spacing=spacing_of(image.spacing_mm),
        **told,
    )


def _origin(image: Image) -> Origin | None:
    """Of DICOM with its header; that of a series has in common what is needed here."""
    if image.kind not in ("dicom", SERIES) or not image.header:
        return None
    from primis.imaging.dicom import origin_of  # a large library, which no other kind needs
    from primis.imaging.dicom_series import unpack_files

    if image.kind == SERIES:
        return origin_of(unpack_files(image.header, image.shape[0])[1])
    return origin_of(image.header)
