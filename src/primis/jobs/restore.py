"""Many bundles to files: one result line each, resumable (`work`)."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from primis.atomic import is_whole, reason, temporary_beside, write_new
from primis.codec import Codec, OnnxEngine
from primis.errors import (
    AccessError,
    FormatError,
    NoRegion,
    NotCovered,
    OutputError,
    UsageError,
)
from primis.imaging.image import NamedFile
from primis.imaging.region import Region
from primis.jobs.executors.executor import Executor
from primis.jobs.executors.serial import Serial
from primis.jobs.journal import Record
from primis.jobs.names import FreeNames, safe_name
from primis.jobs.restore_task import (
    Kind,
    Refusal,
    RestoredFiles,
    RestoreTask,
    RestoreWorker,
    codecs_of,
)
from primis.jobs.result import OnPart, OnResult, Result
from primis.jobs.shards import Shard, dealt
from primis.jobs.work import Work
from primis.keys.grant import Grant, ImageKeys, RegionSecrets, keys_up_to
from primis.keys.identity import Identity
from primis.keys.tier import Tier
from primis.metrics.fidelity import Quality
from primis.network.checkpoint import find_checkpoint
from primis.release.grants import secrets_for
from primis.release.naming import ids_of
from primis.release.reader import Release
from primis.sharing.region import require_decoded
from primis.sharing.restore import CodecFor, tier_of_texture
from primis.stores.local import LocalStore

Access = tuple[Tier, ImageKeys]
"""The tier to restore, and what opens the image."""


def restore(
    release: Release,
    identities: Iterable[Identity],
    out: Path,
    *,
    tier: Tier | None = None,
    images: Sequence[str] = (),
    models: tuple[Path, ...] = (),
    max_pixels: int | None = None,
    texture: bool = False,
    region: Region | None = None,
    shard: Shard | None = None,
    executor: Executor | None = None,
    on_result: OnResult = lambda result, done, total: None,
    on_part: OnPart = lambda done, total: None,
    today: datetime.date | None = None,
) -> list[Result]:
    """Restore all images that the identities' grants open, or those named, into a new folder.

    images: ids, or how they begin, or names where a grant opens the catalogue. tier None gives the
    highest that the grant opens and the bundle holds. texture: as of `read_image`, at tier
    diagnostic. region: restore this part of each image, without the header of its file; None for
    all that the grants open. shard: restore this part of them alone. executor: what works on the
    images, by default this process. An image that fails is reported; the others are restored.
    Raises AccessError if the grants open no image as asked for.
    """
    tier = tier_of_texture(tier and Tier(tier)) if texture else tier
    if region is not None:
        require_decoded(tier, texture=texture)
    store = release.store
    if isinstance(store, LocalStore) and out.resolve().is_relative_to(store.folder):
        raise OutputError(
            f'folder "{out}" lies in the release, where anyone can see it: expected another place'
        )
    grants = release.open_grants(identities)
    chosen = ids_of(release, grants, images) or [
        i for i in release.ids if any(g.covers(i) for g in grants)
    ]
    if shard is not None:
        numbers = dealt(chosen, str, shard.of)
        chosen = [i for i, number in zip(chosen, numbers, strict=True) if number == shard.number]
        if not chosen:
            raise UsageError(f"shard {shard} has no image, expected fewer shards")
    access = _accesses(grants, chosen, tier and Tier(tier), today, region)
    if region is None:
        _tell_other_regions(release, grants, access)
    tiers = {i: None if isinstance(a, AccessError) else a[0] for i, a in access.items()}
    files = all(profile.settings.original_bits for profile in release.manifest.profiles)
    decodes = set(tiers.values()) != {Tier.ORIGINAL} or not (files or tier == Tier.ORIGINAL)
    decodes = decodes or region is not None
    worker = _worker(release, models, decodes=decodes)
    with Work(out, "primis restore") as work:
        work.begin(
            {
                "work": "restore",
                "release": release.digest,
                "tier": tier,
                "tiers": tiers,
                "texture": texture,
                "region": None if region is None else str(region),
            }
        )
        restored = map(_files_of, work.journal.records())
        names = FreeNames(file.name for files in restored for file in files)
        batch = _Batch(release, tier and Tier(tier), max_pixels, texture, region, work, names)
        results = batch.restore_all(access, worker, executor or Serial(), on_result, on_part)
        if all(r.error for r in results):
            work.give_up()
        else:
            work.finish(0o700)
        return results


def _worker(release: Release, models: tuple[Path, ...], *, decodes: bool) -> RestoreWorker:
    """Raises ModelError: once, and not once per image, if a model is not here or cannot be run."""
    if not decodes:
        return RestoreWorker((), codecs(models))
    checkpoints = tuple(find_checkpoint(model, models) for model in release.manifest.models)
    codec_for = codecs_of(checkpoints)
    for checkpoint in checkpoints:
        codec_for(checkpoint.digest)
    return RestoreWorker(checkpoints, codec_for)


def codecs(models: Iterable[Path] = (), threads: int = 0) -> CodecFor:
    """A codec for each model that is asked for, made once. threads: as of `OnnxEngine`."""
    loaded: dict[str, Codec] = {}

    def codec_for(digest: str) -> Codec:
        if digest not in loaded:
            checkpoint = find_checkpoint(digest, tuple(models))
            loaded[digest] = Codec(checkpoint, OnnxEngine(checkpoint, threads))
        return loaded[digest]

    return codec_for


def _accesses(
    grants: list[Grant],
    chosen: list[str],
    tier: Tier | None,
    today: datetime.date | None,
    region: Region | None,
) -> dict[str, Access | AccessError]:
    """For each image. Raises AccessError where none can be restored."""
    day = today or datetime.datetime.now(datetime.UTC).date()
    access: dict[str, Access | AccessError] = {}
    for bundle_id in chosen:
        try:
            access[bundle_id] = secrets_for(grants, bundle_id, tier, day, region)
        except AccessError as error:
            access[bundle_id] = error
    refused = [a for a in access.values() if isinstance(a, AccessError)]
    if len(refused) == len(chosen):
        nothing = f'grant "{grants[0].label}" covers no image that the release has'
        raise refused[0] if refused else NotCovered(nothing)
    return access


def _tell_other_regions(
    release: Release, grants: list[Grant], access: dict[str, Access | AccessError]
) -> None:
    """Of an image that is opened in several parts one is restored, unless another is asked for."""
    for bundle_id, opened in access.items():
        if isinstance(opened, AccessError) or not isinstance(opened[1], RegionSecrets):
            continue
        restored = opened[1].region
        parts = [g.regions[bundle_id].region for g in grants if bundle_id in g.regions]
        for part in parts:
            if not restored.holds(part):
                release.note(
                    f'of image "{bundle_id}" region "{restored}" is restored: another grant opens '
                    f'region "{part}", which is restored when it is asked for'
                )


@dataclass(frozen=True)
class _Batch:
    """Restores bundles of a release into a folder in the making."""

    release: Release
    tier: Tier | None
    max_pixels: int | None
    texture: bool
    region: Region | None
    work: Work
    names: FreeNames

    def restore_all(
        self,
        access: dict[str, Access | AccessError],
        worker: RestoreWorker,
        executor: Executor,
        on_result: OnResult,
        on_part: OnPart,
    ) -> list[Result]:
        """A result for each image, in order; what an earlier run restored is told first."""
        results: dict[str, Result] = {}

        def tell(bundle_id: str, result: Result) -> None:
            results[bundle_id] = result
            on_result(result, len(results), len(access))

        before = self._before()
        for bundle_id in access:
            if bundle_id in before:
                tell(bundle_id, before[bundle_id])
        left = [bundle_id for bundle_id in access if bundle_id not in before]

        def tasks() -> Iterator[tuple[int, RestoreTask]]:
            fetched = self.release.fetched(lambda i: self._task(i, access[i]), left)
            for number, (bundle_id, one) in enumerate(zip(left, fetched, strict=True)):
                task = one.result()
                if isinstance(task, RestoreTask):
                    yield number, task
                else:
                    tell(bundle_id, Result(bundle_id, bundle_id, error=task))

        def done(share: float) -> None:
            on_part(len(results) + share, len(access))

        with closing(executor.run(worker, tasks(), len(left), done)) as outcomes:
            for number, outcome in outcomes:
                tell(left[number], self._keep(left[number], outcome))
        return self._settle([results[bundle_id] for bundle_id in access])

    def _before(self) -> dict[str, Result]:
        """What an earlier run restored."""
        found: dict[str, Result] = {}
        for record in self.work.journal.records():
            files = _files_of(record)
            if all(is_whole(self.work.partial / file.name, file.sha256) for file in files):
                found[record["id"]] = _result(record, files, resumed=True)
        return found

    def _task(
        self, bundle_id: str, access: Access | AccessError
    ) -> RestoreTask | AccessError | FormatError:
        if isinstance(access, AccessError):
            return access
        tier, keys = access
        opened = keys_up_to(keys, tier)
        try:
            data = self.release.bundle_for(bundle_id, self.tier, opened, self.region)
        except (FormatError, NoRegion, NotCovered) as error:
            return error
        return RestoreTask(
            bundle_id=bundle_id,
            data=data,
            profiles=self.release.profiles,
            keys=opened,
            tier=self.tier,
            release=self.release.manifest.release,
            max_pixels=self.max_pixels,
            texture=self.texture,
            region=self.region,
        )

    def _keep(self, bundle_id: str, outcome: RestoredFiles | Refusal) -> Result:
        """Write the files of one image, and note them."""
        if not isinstance(outcome, RestoredFiles):
            return Result(bundle_id, bundle_id, error=outcome)
        restored = outcome.restored
        files = [
            self._write(bundle_id, file, kind)
            for file, kind in zip(restored.files, outcome.kinds, strict=True)
        ]
        record = self.work.journal.note(
            id=bundle_id,
            name=restored.name,
            files=files,
            tier=restored.tier,
            quality=restored.quality,
            texture=restored.texture,
        )
        return _result(record, files)

    def _write(self, bundle_id: str, file: NamedFile, kind: Kind) -> _File:
        if kind.name is None:  # an original gets the name of an image only if it is one
            wanted = name = f"{bundle_id}.bin"
        else:
            wanted = safe_name(file.name, bundle_id, kind.name)
            name = self.names.take(wanted, bundle_id, kind.name)
        write_new(self.work.partial / name, file.data, 0o600, sync=False)  # `Work.finish` does
        digest = hashlib.sha256(file.data).hexdigest()
        return _File(name, wanted, file.name, kind.name, kind.why, len(file.data), digest)

    def _settle(self, results: list[Result]) -> list[Result]:
        """Where several wanted one name the first in order gets it, whichever was done first."""
        records = {record["id"]: record for record in self.work.journal.records()}
        names, settled = FreeNames(), []
        moves: list[tuple[str, str]] = []
        for result in results:
            if result.error is not None:
                settled.append(result)
                continue
            record = records[result.id]
            before = _files_of(record)
            after = [file.settled(names, result.id) for file in before]
            moves += [(b.name, a.name) for b, a in zip(before, after, strict=True) if a != b]
            settled.append(_result(record, after, resumed=result.resumed))
        _move(self.work.partial, moves)
        return settled


class _File(NamedTuple):
    """A restored file, as the journal has it. name: in the folder; wanted: where no other had it;
    sealed: what it was shared under; kind: None where it is no image, and why."""

    name: str
    wanted: str
    sealed: str | None
    kind: str | None
    why: str
    bytes: int
    sha256: str

    def settled(self, names: FreeNames, bundle_id: str) -> _File:
        """Under the name that is free for it."""
        if self.kind is None:
            return self
        return self._replace(name=names.take(self.wanted, bundle_id, self.kind))


def _files_of(record: Record) -> list[_File]:
    return [_File(*file) for file in record["files"]]


def _result(record: Record, files: Sequence[_File], *, resumed: bool = False) -> Result:
    """What the journal says of an image that was restored, its files under these names."""
    quality = record["quality"]
    return Result(
        _name_of(record, files),
        record["id"],
        sum(file.bytes for file in files),
        tier=Tier(record["tier"]),
        resumed=resumed,
        notes=_notes(record["id"], files),
        quality=None if quality is None else Quality(*quality),
        texture=record["texture"],
    )


def _name_of(record: Record, files: Sequence[_File]) -> str:
    """Of a series the name it was shared under, which may be a folder's."""
    return files[0].name if len(files) == 1 else str(record["name"])


def _notes(bundle_id: str, files: Sequence[_File]) -> tuple[str, ...]:
    """What to say of files and their names."""
    odd = [file for file in files if file.kind is None]
    moved = [f for f in files if f.kind is not None and f.sealed not in (None, f.name)]
    notes = [f'original "{bundle_id}" is no image: it {file.why}' for file in odd]
    if moved:
        more = f", and {len(moved) - 1} more files under other names" if len(moved) > 1 else ""
        notes.append(f'"{moved[0].sealed}" is restored as "{moved[0].name}"{more}')
    return tuple(notes)


def _move(folder: Path, moves: Sequence[tuple[str, str]]) -> None:
    """Rename files that may take the places of each other."""
    aside = [temporary_beside(folder / "file") for _ in moves]
    try:
        for (before, _), place in zip(moves, aside, strict=True):
            os.rename(folder / before, place)
            for parent in PurePosixPath(before).parents:
                with contextlib.suppress(OSError):  # the folder itself, and what is not empty
                    if parent.parts:
                        (folder / parent).rmdir()
        for (_, after), place in zip(moves, aside, strict=True):
            (folder / after).parent.mkdir(parents=True, exist_ok=True)
            os.rename(place, folder / after)
    except OSError as error:
        raise OutputError(f'"{folder}" cannot be written: {reason(error)}') from None
