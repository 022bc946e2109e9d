"""Many images: share and restore whole folders, one result line each, resumable (sharing/work).

What others may have laid where a share goes on is not gone on with: it would decide what is signed,
and under which secrets.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from primis.atomic import remove, remove_folder, write_new
from primis.bundle.layout import Entry, Manifest, Settings, read_header
from primis.codec import Codec
from primis.datasets.files import collect
from primis.errors import (
    AccessError,
    BadBundle,
    FormatError,
    InputError,
    ModelError,
    NotCovered,
    OutputError,
    PrimisError,
    UnreadableImage,
    UsageError,
)
from primis.imaging.files import parse, read
from primis.imaging.image import PER_BYTE_OF_BUNDLE, pixel_limit, require_size
from primis.jobs.names import FreeNames, safe_name
from primis.jobs.work import Work
from primis.keys.grant import Grant, read_grant, split_grant
from primis.keys.identity import Identity, Recipient, Signer, verify
from primis.keys.seal import TIERS, Secret, image_secret, release_secrets
from primis.network.checkpoint import find_checkpoint, named, read_checkpoint, shipped
from primis.release.budgets import Budgets, Need
from primis.release.release import (
    MANIFEST,
    Release,
    Scope,
    make_grant,
    owner_grant,
    require_free_label,
    require_nothing_cut_off,
    secrets_for,
    timestamp,
    write_grant,
    write_manifest,
)
from primis.sharing.image_bundle import CodecFor, Restored, restore_image, share_image


@dataclass(frozen=True)
class Result:
    """What became of one image.

    kept: S_x that it got; sparsity asked may be more. error: one line. notes: what a person should
    know of it, one line each.
    """

    name: str
    id: str
    bytes: int = 0
    kept: float | None = None
    tier: str | None = None
    error: PrimisError | None = None
    resumed: bool = False
    notes: tuple[str, ...] = ()


OnResult = Callable[[Result, int, int], None]
"""(result, number done, number of all)."""


def share(
    inputs: Sequence[Path],
    out: Path,
    to: Sequence[Recipient],
    signer: Signer,
    settings: Settings,
    *,
    tier: str = "diagnostic",
    with_original: bool = False,
    model: Path | None = None,
    max_pixels: int | None = None,
    on_result: OnResult = lambda result, done, total: None,
    on_look: Callable[[int, int], None] = lambda done, total: None,
    on_note: Callable[[str], None] = lambda said: None,
    now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
) -> list[Result]:
    """Make a release of images and grant it to recipients. A bad image is reported and skipped.

    What `settings` leave open is chosen for the release by a pass over its files, so that all of
    them fit. on_look: is told of its progress; on_note: of a file that makes all bundles larger.
    Raises OutputError if `out` exists, is being made by another process or cannot be written; what
    was done stays in "<out>.partial".
    """
    _require_labels(to)
    require_nothing_cut_off(out)
    files = collect(inputs)
    codec = Codec(read_checkpoint(named(model) if model else shipped()))
    with Work(out, "primis share") as work:
        plan = {
            "settings": asdict(settings),
            "model": codec.checkpoint.digest,
            "original": with_original,
            "signer": signer.public,
        }
        begun = work.begin(plan | {"work": "share"})
        scope = _release_begun(work, signer) if begun else _begin_release(work, signer)
        work.count_only_ours(scope.secret)
        needs = _look(files, work, with_original, max_pixels, on_look)
        sound = {name: n for (_, name), n in needs.items() if isinstance(n, Need)}
        budgets = Budgets.choose(settings, list(sound.values()))
        if settings.header_bytes is None and (said := budgets.outlier(sound)):
            on_note(said)
        opened = release_secrets(scope.secret, TIERS[-1])
        order = list(range(len(files)))
        secrets.SystemRandom().shuffle(order)  # a folder may be listed as it was filled
        order.sort(key=lambda k: budgets.fit(needs[files[k]]))  # those that fail are told first
        shared: dict[int, Result] = {}
        for number, k in enumerate(order, start=1):
            file, name = files[k]
            task = _Task(file, name, needs[file, name], budgets, with_original, max_pixels)
            shared[k] = _shared_before(work, task) or _share_file(task, work, opened, codec)
            on_result(shared[k], number, len(files))
        results = [shared[k] for k in range(len(files))]
        good = [r for r in results if r.error is None]
        if not good:
            work.give_up()
            raise UsageError("no image could be shared")
        _keep_only(work.partial / "grants", "owner.*.age")
        for recipient in to:
            granted = make_grant(scope, recipient, signer, tier)
            write_grant(work.partial, granted, recipient, signer)
        _keep_only(work.partial / "bundles", *(f"{r.id}.primis" for r in good))
        digests = {record["id"]: record["sha256"] for record in work.records if "id" in record}
        entries = tuple(Entry(r.bytes, r.id, digests[r.id]) for r in good)
        digest, created = codec.checkpoint.digest, timestamp(now())
        manifest = Manifest(scope.release, 1, scope.keys, created, digest, entries, signer.public)
        write_manifest(work.partial, manifest, signer)
        work.finish(0o755, keep=(MANIFEST, "bundles", "grants"))
        return results


def _require_labels(to: Sequence[Recipient]) -> None:
    """Raise UsageError where labels would clash, before anything is encoded."""
    labels = [recipient.label for recipient in to]
    for recipient in to:
        require_free_label(recipient)
        if labels.count(recipient.label) > 1:
            raise UsageError(f'label "{recipient.label}" is given to two recipients')


def _look(
    files: Sequence[tuple[Path, str]],
    work: Work,
    with_original: bool,
    max_pixels: int | None,
    on_look: Callable[[int, int], None],
) -> dict[tuple[Path, str], Need | InputError]:
    """What each file needs, or why it cannot be shared: known before anything is encoded."""
    before = {
        (record["file"], record["name"], record["size"], record["mtime"]): record
        for record in work.records
        if "need" in record
    }
    needs: dict[tuple[Path, str], Need | InputError] = {}
    for number, (file, name) in enumerate(files, start=1):
        try:
            stamp = _stamp(file)
            key = (stamp["file"], name, stamp["size"], stamp["mtime"])
            if key not in before:
                found = _need(file, name, with_original, max_pixels)
                work.note(**stamp, name=name, need=[found.header_bytes, found.original_times])
                needs[file, name] = found
            else:
                needs[file, name] = Need(*before[key]["need"])
        except InputError as error:
            needs[file, name] = error
        on_look(number, len(files))
    return needs


def _need(file: Path, name: str, with_original: bool, max_pixels: int | None) -> Need:
    try:
        image, source = read(file, max_pixels=max_pixels)
        return Need.of(image, name, len(source) if with_original else 0)
    except InputError:
        raise
    except Exception as error:  # whatever it is, it must not stop the others
        raise InputError(f'image "{file}" {_unexpected(error, "read")}') from None


def _begin_release(work: Work, signer: Signer) -> Scope:
    scope = Scope.new()
    remove_folder(work.partial / "grants")
    write_grant(work.partial, owner_grant(scope, signer), signer.recipient, signer)
    signature = signer.sign(_begun_message(work, scope.release, scope.keys))
    work.note(begun=scope.release, keys=scope.keys, signature=signature)
    return scope


def _begun_message(work: Work, release_id: str, keys: str) -> bytes:
    return f"primis/1 begun\n{work.out}\n{release_id}\n{keys}\n{work.head}".encode()


def _release_begun(work: Work, signer: Signer) -> Scope:
    """What was begun; a new start if it had not got that far.

    It must be what this owner began with here: under a secret that another knows all would be laid
    open to them.
    """
    files = list((work.partial / "grants").glob("owner.*.age"))
    if not files or not work.begun:
        return _begin_release(work, signer)
    begun, keys, signature = (
        str(work.begun[-1].get(name)) for name in ("begun", "keys", "signature")
    )
    sealed = signer.identity.decrypt(files[0].read_bytes()) or b""
    grant = read_grant(split_grant(sealed, str(files[0])), str(files[0]))
    said = (grant.release, grant.keys, grant.signer, grant.label, grant.tier)
    ours = said == (begun, keys, signer.public, "owner", TIERS[-1])
    message = _begun_message(work, begun, keys)
    if grant.secret is None or not ours or not verify(signer.public, message, signature):
        raise OutputError(
            f'"{work.partial}" was not begun with your key: look what it is, and remove it'
        )
    return Scope(grant.release, grant.keys, grant.secret)


def _stamp(file: Path) -> dict[str, Any]:
    try:
        stat = file.stat()
        return {"file": str(file.resolve()), "size": stat.st_size, "mtime": stat.st_mtime_ns}
    except OSError:
        return {"file": str(file), "size": -1, "mtime": -1}  # reading it says why


@dataclass(frozen=True)
class _Task:
    """One file to share."""

    file: Path
    name: str
    need: Need | InputError
    budgets: Budgets
    with_original: bool
    max_pixels: int | None


def _shared_before(work: Work, task: _Task) -> Result | None:
    wanted = _stamp(task.file) | {"name": task.name, "budget": task.budgets.record}
    for record in reversed(work.records):
        same = "id" in record and wanted.items() <= record.items()
        if same and _is_whole(work.partial / "bundles" / f"{record['id']}.primis", record):
            done = record["id"], record["bytes"], record["kept"]
            return Result(task.name, *done, resumed=True, notes=tuple(record["notes"]))
    return None


def _is_whole(path: Path, record: dict[str, Any]) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == record["sha256"]
    except OSError:
        return False


def _share_file(task: _Task, work: Work, opened: dict[str, Secret], codec: Codec) -> Result:
    bundle_id = secrets.token_hex(16)
    try:
        if isinstance(task.need, InputError):
            raise task.need
        task.budgets.require_fit(task.need)
        stamp = _stamp(task.file)
        image, source = read(task.file, max_pixels=task.max_pixels)
        shared = share_image(
            image,
            task.budgets.of(image, with_original=task.with_original),
            {t: image_secret(s, bundle_id) for t, s in opened.items()},
            codec,
            bundle_id=bundle_id,
            name=task.name,
            original=source if task.with_original else None,
        )
    except InputError as error:
        return Result(task.name, bundle_id, error=error)
    except Exception as error:  # whatever it is, it must not stop the others
        why = _unexpected(error, "encoded")
        return Result(task.name, bundle_id, error=InputError(f'image "{task.file}" {why}'))
    write_new(work.partial / "bundles" / f"{bundle_id}.primis", shared.data)
    digest, size = hashlib.sha256(shared.data).hexdigest(), len(shared.data)
    work.note(
        **stamp,
        name=task.name,
        budget=task.budgets.record,
        id=bundle_id,
        bytes=size,
        kept=shared.kept,
        notes=list(image.notes),
        sha256=digest,
    )
    return Result(task.name, bundle_id, size, shared.kept, notes=image.notes)


def _unexpected(error: Exception, done: str) -> str:
    """What to say of an error that nobody expected."""
    if isinstance(error, MemoryError):
        return "does not fit in memory"
    if os.environ.get("PRIMIS_DEBUG"):
        raise error
    return f"cannot be {done}: this is a defect of primis (PRIMIS_DEBUG=1 shows where)"


def _keep_only(folder: Path, *patterns: str) -> None:
    """What an earlier, interrupted run left and this one does not name does not belong to the release."""
    kept = {path for pattern in patterns for path in folder.glob(pattern)}
    for path in folder.iterdir():
        if path not in kept:
            remove(path)


def restore(
    release: Release,
    identities: Iterable[Identity],
    out: Path,
    *,
    tier: str | None = None,
    images: Sequence[str] = (),
    models: tuple[Path, ...] = (),
    max_pixels: int | None = None,
    on_result: OnResult = lambda result, done, total: None,
    today: datetime.date | None = None,
) -> list[Result]:
    """Restore all images that the identities' grants open, or those named, into a new folder.

    tier None gives the highest that the grant opens and the bundle holds. An image that fails is
    reported; the others are restored. Raises AccessError if the grants open no image as asked for.
    """
    if out.resolve().is_relative_to(release.path):
        raise OutputError(
            f'folder "{out}" lies in the release, where anyone can see it: expected another place'
        )
    grants = release.open_grants(identities)
    day = today or datetime.datetime.now(datetime.UTC).date()
    chosen = list(dict.fromkeys(release.resolve(i) for i in images)) or [
        i for i in release.ids if any(g.covers(i) for g in grants)
    ]
    access = {bundle_id: _access(grants, bundle_id, tier, day) for bundle_id in chosen}
    refused = [a for a in access.values() if isinstance(a, AccessError)]
    if len(refused) == len(chosen):
        label = grants[0].label
        nothing = NotCovered(f'grant "{label}" covers no image that the release has')
        raise refused[0] if refused else nothing
    tiers = {i: None if isinstance(a, AccessError) else a[0] for i, a in access.items()}
    codecs = _codecs(models)
    if set(tiers.values()) != {"original"}:
        codecs(release.manifest.model)  # once, and not once per image, if it is not here
    with Work(out, "primis restore") as work:
        plan = {"work": "restore", "release": release.digest, "tier": tier, "tiers": tiers}
        work.begin(plan)
        reader = _Reader(release, tier, codecs, max_pixels, work)
        results = []
        for number, bundle_id in enumerate(chosen, start=1):
            before = _restored_before(work, bundle_id)
            result = before or reader.restore(bundle_id, access[bundle_id])
            results.append(result)
            on_result(result, number, len(chosen))
        if all(r.error for r in results):
            work.give_up()
        else:
            work.finish(0o700)
        return results


def _access(
    grants: list[Grant], bundle_id: str, tier: str | None, day: datetime.date
) -> tuple[str, dict[str, Secret]] | AccessError:
    try:
        return secrets_for(grants, bundle_id, tier, day)
    except AccessError as error:
        return error


def _restored_before(work: Work, bundle_id: str) -> Result | None:
    for record in work.records:
        if record["id"] == bundle_id and _is_whole(work.partial / record["name"], record):
            name, size, tier = record["name"], record["bytes"], record["tier"]
            return Result(name, bundle_id, size, tier=tier, resumed=True)
    return None


class _Reader:
    """Restores bundles of a release into a folder in the making."""

    def __init__(
        self,
        release: Release,
        tier: str | None,
        codecs: CodecFor,
        max_pixels: int | None,
        work: Work,
    ) -> None:
        self._release, self._tier, self._codecs = release, tier, codecs
        self._max_pixels, self._work = max_pixels, work
        self._names = FreeNames(record["name"] for record in work.records)

    def restore(
        self, bundle_id: str, access: tuple[str, dict[str, Secret]] | AccessError
    ) -> Result:
        """One image, or why not."""
        try:
            if isinstance(access, AccessError):
                raise access
            restored = self._open(bundle_id, *access)
            name, notes = self._name(restored, bundle_id)
        except (FormatError, AccessError, ModelError) as error:
            return Result(bundle_id, bundle_id, error=error)
        except Exception as error:  # whatever it is, it must not stop the others
            why = _unexpected(error, "restored")
            return Result(bundle_id, bundle_id, error=BadBundle(f'bundle "{bundle_id}" {why}'))
        write_new(self._work.partial / name, restored.data, 0o600)
        size, digest = len(restored.data), hashlib.sha256(restored.data).hexdigest()
        self._work.note(id=bundle_id, name=name, bytes=size, tier=restored.tier, sha256=digest)
        return Result(name, bundle_id, size, tier=restored.tier, notes=notes)

    def _open(self, bundle_id: str, wanted: str, image_secrets: dict[str, Secret]) -> Restored:
        data = self._release.bundle(bundle_id)
        geometry = read_header(data, bundle_id)[0].geometry
        shape = geometry.frames, geometry.height, geometry.width, geometry.channels
        try:
            limit = pixel_limit(self._max_pixels, len(data), PER_BYTE_OF_BUNDLE)
            require_size(shape, limit)
        except UnreadableImage as error:
            raise BadBundle(f'bundle "{bundle_id}" {error}') from None
        if self._tier is None and wanted == "original" and not _has_original(data, bundle_id):
            wanted = "diagnostic"
        group = self._release.manifest.release
        return restore_image(data, image_secrets, wanted, self._codecs, group=group)

    def _name(self, restored: Restored, bundle_id: str) -> tuple[str, tuple[str, ...]]:
        """Where the file goes, and what to say of that. An original gets the name of an image only
        if it is one."""
        kind = restored.kind
        if restored.tier == "original":
            try:
                kind = parse(restored.data, max_pixels=self._max_pixels).kind
            except UnreadableImage as error:
                return f"{bundle_id}.bin", (f'original "{bundle_id}" is no image: it {error}',)
        name = self._names.take(safe_name(restored.name, bundle_id, kind), bundle_id, kind)
        same = restored.name is None or restored.name == name
        return name, () if same else (f'"{restored.name}" is restored as "{name}"',)


def _has_original(data: bytes, bundle_id: str) -> bool:
    return any(s.name == "original" for s in read_header(data, bundle_id)[0].sections)


def _codecs(models: tuple[Path, ...]) -> CodecFor:
    loaded: dict[str, Codec] = {}

    def codec_for(digest: str) -> Codec:
        if digest not in loaded:
            loaded[digest] = Codec(find_checkpoint(digest, models))
        return loaded[digest]

    return codec_for
