"""Many bundles to files: one result line each, resumable (`work`)."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from primis.atomic import write_new
from primis.codec import Codec, Done, OnnxEngine
from primis.errors import (
    AccessError,
    FormatError,
    NotCovered,
    OutputError,
    PrimisError,
    UnreadableImage,
)
from primis.imaging.files import parse
from primis.jobs.names import FreeNames, safe_name
from primis.jobs.restore_task import RestoreTask, restore_bundle
from primis.jobs.result import OnPart, OnResult, Result, of_all
from primis.jobs.work import Work
from primis.keys.grant import Grant
from primis.keys.identity import Identity
from primis.keys.seal import TierSecrets
from primis.keys.tier import Tier
from primis.metrics.fidelity import Quality
from primis.network.checkpoint import find_checkpoint
from primis.release.grants import secrets_for
from primis.release.naming import ids_of
from primis.release.reader import Release
from primis.sharing.restore import CodecFor, Restored, tier_of_texture
from primis.stores.local import LocalStore

Access = tuple[Tier, TierSecrets]
"""The tier to restore, and the image's secrets."""


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
    on_result: OnResult = lambda result, done, total: None,
    on_part: OnPart = lambda done, total: None,
    today: datetime.date | None = None,
) -> list[Result]:
    """Restore all images that the identities' grants open, or those named, into a new folder.

    images: ids, or how they begin, or names where a grant opens the catalogue. tier None gives the
    highest that the grant opens and the bundle holds. texture: as of `read_image`, at tier
    diagnostic. An image that fails is reported; the others are restored. Raises AccessError if the
    grants open no image as asked for.
    """
    tier = tier_of_texture(tier and Tier(tier)) if texture else tier
    store = release.store
    if isinstance(store, LocalStore) and out.resolve().is_relative_to(store.folder):
        raise OutputError(
            f'folder "{out}" lies in the release, where anyone can see it: expected another place'
        )
    grants = release.open_grants(identities)
    chosen = ids_of(release, grants, images) or [
        i for i in release.ids if any(g.covers(i) for g in grants)
    ]
    access = _accesses(grants, chosen, tier and Tier(tier), today)
    tiers = {i: None if isinstance(a, AccessError) else a[0] for i, a in access.items()}
    codec_for = codecs(models)
    if set(tiers.values()) != {Tier.ORIGINAL}:
        for model in release.manifest.models:  # once, and not once per image, if it is not here
            codec_for(model)
    with Work(out, "primis restore") as work:
        work.begin(
            {
                "work": "restore",
                "release": release.digest,
                "tier": tier,
                "tiers": tiers,
                "texture": texture,
            }
        )
        names = FreeNames(record["name"] for record in work.records)
        batch = _Batch(release, tier and Tier(tier), codec_for, max_pixels, texture, work, names)
        results = []
        for number, bundle_id in enumerate(chosen, start=1):
            done = of_all(on_part, number - 1, len(chosen))
            result = batch.before(bundle_id) or batch.restore(bundle_id, access[bundle_id], done)
            results.append(result)
            on_result(result, number, len(chosen))
        if all(r.error for r in results):
            work.give_up()
        else:
            work.finish(0o700)
        return results


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
    grants: list[Grant], chosen: list[str], tier: Tier | None, today: datetime.date | None
) -> dict[str, Access | AccessError]:
    """For each image. Raises AccessError where none can be restored."""
    day = today or datetime.datetime.now(datetime.UTC).date()
    access: dict[str, Access | AccessError] = {}
    for bundle_id in chosen:
        try:
            access[bundle_id] = secrets_for(grants, bundle_id, tier, day)
        except AccessError as error:
            access[bundle_id] = error
    refused = [a for a in access.values() if isinstance(a, AccessError)]
    if len(refused) == len(chosen):
        nothing = f'grant "{grants[0].label}" covers no image that the release has'
        raise refused[0] if refused else NotCovered(nothing)
    return access


@dataclass(frozen=True)
class _Batch:
    """Restores bundles of a release into a folder in the making."""

    release: Release
    tier: Tier | None
    codec_for: CodecFor
    max_pixels: int | None
    texture: bool
    work: Work
    names: FreeNames

    def before(self, bundle_id: str) -> Result | None:
        """What an earlier run restored."""
        for record in self.work.records:
            if record["id"] != bundle_id:
                continue
            name, size, tier = record["name"], record["bytes"], Tier(record["tier"])
            if _is_whole(self.work.partial / name, record["sha256"]):
                known = record.get("quality")
                quality = None if known is None else Quality(*known)
                return Result(
                    name,
                    bundle_id,
                    size,
                    tier=tier,
                    resumed=True,
                    quality=quality,
                    texture=record["texture"],
                )
        return None

    def restore(self, bundle_id: str, access: Access | AccessError, done: Done) -> Result:
        """One image, or why not."""
        restored = self._open(bundle_id, access, done)
        if not isinstance(restored, Restored):
            return Result(bundle_id, bundle_id, error=restored)
        name, notes = self._name(restored, bundle_id)
        write_new(self.work.partial / name, restored.data, 0o600)
        size, digest = len(restored.data), hashlib.sha256(restored.data).hexdigest()
        tier, quality, texture = restored.tier, restored.quality, restored.texture
        self.work.note(
            id=bundle_id,
            name=name,
            bytes=size,
            tier=tier,
            sha256=digest,
            quality=quality,
            texture=texture,
        )
        return Result(
            name, bundle_id, size, tier=tier, notes=notes, quality=quality, texture=texture
        )

    def _open(
        self, bundle_id: str, access: Access | AccessError, done: Done
    ) -> Restored | PrimisError:
        if isinstance(access, AccessError):
            return access
        tier, secrets = access
        opened = {t: secrets[t] for t in tier.opened}
        try:
            data = self.release.bundle_for(bundle_id, self.tier, opened)
        except FormatError as error:
            return error
        task = RestoreTask(
            bundle_id=bundle_id,
            data=data,
            profiles=self.release.profiles,
            secrets=opened,
            tier=self.tier,
            release=self.release.manifest.release,
            max_pixels=self.max_pixels,
            texture=self.texture,
        )
        return restore_bundle(task, self.codec_for, done)

    def _name(self, restored: Restored, bundle_id: str) -> tuple[str, tuple[str, ...]]:
        """Where the file goes, and what to say of that. An original gets the name of an image only
        if it is one."""
        kind = restored.kind
        if restored.tier == Tier.ORIGINAL:
            try:
                kind = parse(restored.data, max_pixels=self.max_pixels).kind
            except UnreadableImage as error:
                return f"{bundle_id}.bin", (f'original "{bundle_id}" is no image: it {error}',)
        name = self.names.take(safe_name(restored.name, bundle_id, kind), bundle_id, kind)
        same = restored.name is None or restored.name == name
        return name, () if same else (f'"{restored.name}" is restored as "{name}"',)


def _is_whole(path: Path, sha256: str) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    except OSError:
        return False
