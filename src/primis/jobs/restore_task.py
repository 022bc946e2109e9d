"""One bundle to restore: a picklable task and a worker that depends on nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from primis.bundle.container import Profiles, read_header, read_sections
from primis.bundle.ranged import RangedBytes
from primis.codec import Codec, Done, OnnxEngine, silent
from primis.errors import (
    AccessError,
    BadBundle,
    FormatError,
    ModelError,
    NoTexture,
    TooManyPixels,
    UnreadableImage,
)
from primis.imaging.files import parse
from primis.imaging.image import SERIES, reading_up_to
from primis.imaging.region import Region
from primis.jobs.result import lost, unexpected
from primis.keys.grant import ImageKeys, highest
from primis.keys.tier import Tier
from primis.network.checkpoint import Checkpoint
from primis.sharing.opened import OpenedBundle
from primis.sharing.region import restore_region
from primis.sharing.restore import CodecFor, Restored, require_few_pixels, restore_image


@dataclass(frozen=True)
class RestoreTask:
    """data: the bundle's bytes. tier: None for the highest that the keys open and the bundle
    holds. release: its id. max_pixels: None for the default. texture: as of `read_image`. region:
    None for all that the keys open."""

    bundle_id: str
    data: bytes | RangedBytes = field(repr=False)
    profiles: Profiles = field(repr=False)
    keys: ImageKeys = field(repr=False)
    tier: Tier | None
    release: str
    max_pixels: int | None
    texture: bool = False
    region: Region | None = None


class Kind(NamedTuple):
    """Of a restored file: one of `KINDS`; None where an original is no image, and why."""

    name: str | None
    why: str = ""


@dataclass(frozen=True)
class RestoredFiles:
    """What came of a bundle. kinds: of its files."""

    restored: Restored
    kinds: tuple[Kind, ...]


Refusal = FormatError | AccessError | ModelError | TooManyPixels


@dataclass(frozen=True)
class RestoreWorker:
    """A Worker (`executors`) for bundles of these models."""

    checkpoints: tuple[Checkpoint, ...]
    codec_for: CodecFor

    def __reduce__(
        self,
    ) -> tuple[Callable[[tuple[Checkpoint, ...]], RestoreWorker], tuple[tuple[Checkpoint, ...]]]:
        return _single_threaded, (self.checkpoints,)

    def __call__(self, task: RestoreTask, done: Done = silent) -> RestoredFiles | Refusal:
        """See `restore_bundle`."""
        return restore_bundle(task, self.codec_for, done)

    def lost(self, task: RestoreTask, tries: int) -> RestoredFiles | Refusal:
        """See Worker."""
        return BadBundle(f'bundle "{task.bundle_id}" {lost(tries)}')

    def size(self, task: RestoreTask) -> int:
        """See Worker."""
        return len(task.data)

    def sent(self, task: RestoreTask) -> RestoreTask:
        """It has all that it takes."""
        return task

    def elsewhere(self, task: RestoreTask, machine: str) -> RestoredFiles | Refusal:
        """See Worker."""
        return self(task)


def codecs_of(checkpoints: Iterable[Checkpoint], threads: int = 0) -> CodecFor:
    """A codec for each of these models, made when it is asked for. threads: of ONNX Runtime."""
    known = {checkpoint.digest: checkpoint for checkpoint in checkpoints}
    made: dict[str, Codec] = {}

    def codec_for(digest: str) -> Codec:
        if digest not in made:
            if digest not in known:
                raise ModelError(f'model "{digest}" is not one that the release names')
            made[digest] = Codec(known[digest], OnnxEngine(known[digest], threads))
        return made[digest]

    return codec_for


def _single_threaded(checkpoints: tuple[Checkpoint, ...]) -> RestoreWorker:
    return RestoreWorker(checkpoints, codecs_of(checkpoints, threads=1))


def restore_bundle(
    task: RestoreTask, codec_for: CodecFor, done: Done = silent
) -> RestoredFiles | Refusal:
    """The file, or why there is none: whatever it is, it must not stop the others."""
    try:
        with reading_up_to(task.max_pixels):
            return _restore(task, codec_for, done)
    except (FormatError, AccessError, ModelError, TooManyPixels) as error:
        return error
    except Exception as error:
        return BadBundle(f'bundle "{task.bundle_id}" {unexpected(error, "restored")}')


def _restore(task: RestoreTask, codec_for: CodecFor, done: Done) -> RestoredFiles:
    parsed = read_header(task.data, task.bundle_id, task.profiles)
    parts = read_sections(task.data, task.bundle_id, parsed)
    bundle = OpenedBundle.of(parsed.header, parts, task.keys)
    tier = task.tier or highest(task.keys)
    if task.region is not None or bundle.region is not None:
        if task.texture:
            raise NoTexture(f'grant of a region of "{task.bundle_id}" opens no texture')
        part = restore_region(bundle, tier, codec_for, task.region, group=task.release, done=done)
        return RestoredFiles(part, (_kind(part.kind),))
    require_few_pixels(parsed.header, len(task.data))
    if task.tier is None and tier == Tier.ORIGINAL and "original" not in parts:
        tier = Tier.DIAGNOSTIC
    restored = restore_image(
        bundle, tier, codec_for, group=task.release, texture=task.texture, done=done
    )
    if restored.tier == Tier.ORIGINAL:
        kinds = tuple(_kind_of(file.data, task.max_pixels) for file in restored.files)
    else:
        kinds = (_kind(restored.kind),) * len(restored.files)
    return RestoredFiles(restored, kinds)


def _kind(kind: str) -> Kind:
    """Of a file of an image of a kind."""
    return Kind("dicom" if kind == SERIES else kind)


def _kind_of(data: bytes, max_pixels: int | None) -> Kind:
    try:
        return Kind(parse(data, max_pixels=max_pixels).kind)
    except UnreadableImage as error:
        return Kind(None, str(error))
