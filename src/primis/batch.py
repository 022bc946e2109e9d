"""Many images: share and restore whole folders, one result line each, resumable.

Work in progress lies in "<out>.partial", with a journal of what is done beside it; the same call again
goes on where it stopped. The journal names input files, so it never lies in what is published. What others may have laid
there is not gone on with: it would decide what is signed, and under which secrets.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from primis.bundle.layout import Entry, Settings, read_header
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
    UsageError,
)
from primis.imaging.files import read
from primis.imaging.image import KINDS
from primis.keys.grant import Grant, read_grant
from primis.keys.identity import Identity, Recipient, Signer, verify
from primis.keys.seal import TIERS, Secret, derive, image_secret, release_secrets
from primis.network.checkpoint import find_checkpoint, named, read_checkpoint, shipped
from primis.sharing.image_bundle import CodecFor, restore_image, share_image
from primis.sharing.output import PARTIAL, finish_folder, level_times, remove_folder, write_new
from primis.sharing.release import (
    Release,
    make_grant,
    owner_grant,
    secrets_for,
    write_grant,
    write_manifest,
)

JOURNAL = ".journal"
_MAX_NAME = 200
_MAX_DEPTH = 16


@dataclass(frozen=True)
class Result:
    """What became of one image. kept: S_x that it got; sparsity asked may be more. error: one line."""

    name: str
    id: str
    bytes: int = 0
    kept: float | None = None
    tier: str | None = None
    error: PrimisError | None = None
    resumed: bool = False


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
    on_result: OnResult = lambda result, done, total: None,
    now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
) -> list[Result]:
    """Make a release of images and grant it to recipients. A bad image is reported and skipped.

    What `settings` leave open follows from each image's kind of file (sharing/contents, `settings_for`).
    Raises OutputError if `out` exists or cannot be written; what was done stays in "<out>.partial".
    """
    files = collect(inputs)
    work = _Work(out)
    codec = Codec(read_checkpoint(named(model) if model else shipped()))
    plan = {"settings": asdict(settings), "model": codec.checkpoint.digest, "original": with_original, "signer": signer.public}
    begun = work.begin(plan | {"work": "share"})
    release_id, secret = _release_begun(work, signer) if begun else _begin_release(work, signer)
    work.count_only_ours(secret)
    opened = release_secrets(secret, TIERS[-1])
    order = list(range(len(files)))
    secrets.SystemRandom().shuffle(order)  # a folder may be listed as it was filled, and names lie by patient
    shared: dict[int, Result] = {}
    for number, k in enumerate(order, start=1):
        file, name = files[k]
        shared[k] = _shared_before(work, file, name) or _share_file(file, name, work, settings, opened, codec, with_original)
        on_result(shared[k], number, len(files))
    results = [shared[k] for k in range(len(files))]
    good = [r for r in results if r.error is None]
    if not good:
        work.give_up()
        raise UsageError("no image could be shared")
    _keep_only(work.partial / "grants", "owner.*.age")
    for recipient in to:
        write_grant(work.partial, make_grant(release_id, secret, recipient, signer, tier), recipient, signer)
    _keep_only(work.partial / "bundles", *(f"{r.id}.primis" for r in good))
    digests = {record["id"]: record["sha256"] for record in work.records}
    entries = [Entry(r.bytes, r.id, digests[r.id]) for r in good]
    write_manifest(work.partial, release_id, codec.checkpoint.digest, entries, signer, now())
    work.finish(0o755)
    return results


class _Work:
    """A folder in the making and, beside it, the journal of what is done in it."""

    def __init__(self, out: Path) -> None:
        if out.exists():
            raise OutputError(f'folder "{out}" exists, expected a new one')
        self.out = out
        self.partial = out.with_name(out.name + PARTIAL)
        self.journal = out.with_name(out.name + PARTIAL + JOURNAL)
        self.head = ""
        self.begun: list[dict[str, Any]] = []
        self.records: list[dict[str, Any]] = []
        self._key: bytes | None = None

    def begin(self, plan: dict[str, Any]) -> bool:
        """Start, or go on with work of the same plan; whether it had begun."""
        self.head = head = json.dumps(plan, sort_keys=True)
        if not self.partial.exists():
            write_new(self.journal, head.encode() + b"\n", 0o600)
            try:
                self.partial.mkdir(mode=0o700)
            except OSError as error:
                raise OutputError(f'"{self.partial}" cannot be written: {error.strerror}') from None
            return False
        if not self.journal.is_file():
            raise OutputError(f'"{self.partial}" exists and has no journal "{self.journal.name}": move it away')
        for path in (self.partial, self.journal):
            _require_ours(path)
        first, *lines = self.journal.read_text("utf-8", "replace").splitlines() or [""]
        if first != head:
            raise OutputError(f'"{self.partial}" was begun otherwise (settings, key, images or model): finish that, or remove it')
        found = [record for line in lines if (record := _record(line))]
        self.begun = [record for record in found if "begun" in record]
        self.records = [record for record in found if {"id", "name", "bytes"} <= record.keys()]
        return True

    def count_only_ours(self, secret: Secret) -> None:
        """From here on a record carries a tag under the release secret, and one without it does not count."""
        self._key = derive(secret, "journal").value
        self.records = [record for record in self.records if hmac.compare_digest(str(record.get("tag")), self._tag(record))]

    def _tag(self, record: dict[str, Any]) -> str:
        body = {name: value for name, value in record.items() if name != "tag"}
        return hmac.new(self._key or b"", json.dumps(body, sort_keys=True).encode(), "sha256").hexdigest()

    def note(self, **record: Any) -> None:
        """One more thing is done."""
        if self._key is not None:
            record["tag"] = self._tag(record)
        self.records.append(record)
        try:
            with self.journal.open("a") as file:
                file.write("\n" + json.dumps(record))  # a torn line before it stays its own
        except OSError as error:
            raise OutputError(f'"{self.journal}" cannot be written: {error.strerror}') from None

    def finish(self, mode: int) -> None:
        """Give the folder its name, and all files one time: when each was made would tell how hard its image was."""
        level_times(self.partial)
        self.partial.chmod(mode)
        finish_folder(self.partial, self.out)
        self.journal.unlink()

    def give_up(self) -> None:
        """Remove a folder in which nothing came about."""
        remove_folder(self.partial)
        self.journal.unlink(missing_ok=True)


def _record(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:  # cut off in the middle of a line
        return None
    return record if isinstance(record, dict) else None


def _require_ours(path: Path) -> None:
    """Raises OutputError where others own it or may write in it."""
    stat = path.lstat()
    if stat.st_uid != os.getuid() or stat.st_mode & 0o022:
        raise OutputError(f'"{path}" belongs to others, or they may write in it: look what it is, and remove it')


def _begin_release(work: _Work, signer: Signer) -> tuple[str, Secret]:
    release_id, secret = secrets.token_hex(16), Secret.new()
    remove_folder(work.partial / "grants")
    write_grant(work.partial, owner_grant(release_id, secret, signer), signer.recipient, signer)
    work.note(begun=release_id, signature=signer.sign(_begun_message(work, release_id)))
    return release_id, secret


def _begun_message(work: _Work, release_id: str) -> bytes:
    return f"primis/1 begun\n{work.out.resolve()}\n{release_id}\n{work.head}".encode()


def _release_begun(work: _Work, signer: Signer) -> tuple[str, Secret]:
    """The id and secret of the release that was begun; a new start if it had not got that far.

    Both must be those that this owner began with here: under a secret that another knows all would be laid open to them.
    """
    files = list((work.partial / "grants").glob("owner.*.age"))
    if not files or not work.begun:
        return _begin_release(work, signer)
    begun, signature = (str(work.begun[-1].get(name)) for name in ("begun", "signature"))
    grant = read_grant(signer.identity.decrypt(files[0].read_bytes()) or b"", str(files[0]))
    ours = (grant.release, grant.signer, grant.label, grant.tier) == (begun, signer.public, "owner", TIERS[-1])
    if grant.secret is None or not ours or not verify(signer.public, _begun_message(work, begun), signature):
        raise OutputError(f'"{work.partial}" was not begun with your key: look what it is, and remove it')
    return grant.release, grant.secret


def _stamp(file: Path) -> dict[str, Any]:
    stat = file.stat()
    return {"file": str(file.resolve()), "size": stat.st_size, "mtime": stat.st_mtime_ns}


def _shared_before(work: _Work, file: Path, name: str) -> Result | None:
    wanted = _stamp(file) | {"name": name}
    for record in reversed(work.records):
        if wanted.items() <= record.items() and _is_whole(work.partial / "bundles" / f"{record['id']}.primis", record):
            return Result(name, record["id"], record["bytes"], record["kept"], resumed=True)
    return None


def _is_whole(path: Path, record: dict[str, Any]) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == record["sha256"]
    except OSError:
        return False


def _share_file(
    file: Path, name: str, work: _Work, settings: Settings, opened: dict[str, Secret], codec: Codec, with_original: bool
) -> Result:
    bundle_id = secrets.token_hex(16)
    try:
        stamp = _stamp(file)
        image, source = read(file)
        shared = share_image(
            image, settings, {t: image_secret(s, bundle_id) for t, s in opened.items()}, codec,
            bundle_id=bundle_id, name=name, original=source if with_original else None,
        )  # fmt: skip
    except InputError as error:
        return Result(name, bundle_id, error=error)
    except MemoryError:
        return Result(name, bundle_id, error=InputError(f'image "{file}" does not fit in memory'))
    write_new(work.partial / "bundles" / f"{bundle_id}.primis", shared.data)
    digest = hashlib.sha256(shared.data).hexdigest()
    work.note(**stamp, name=name, id=bundle_id, bytes=len(shared.data), kept=shared.kept, sha256=digest)
    return Result(name, bundle_id, len(shared.data), shared.kept)


def _keep_only(folder: Path, *patterns: str) -> None:
    """What an earlier, interrupted run left and this one does not name does not belong to the release."""
    kept = {path for pattern in patterns for path in folder.glob(pattern)}
    for path in folder.iterdir():
        if path not in kept:
            path.unlink()


def restore(
    release: Release,
    identities: Iterable[Identity],
    out: Path,
    *,
    tier: str | None = None,
    images: Sequence[str] = (),
    models: tuple[Path, ...] = (),
    on_result: OnResult = lambda result, done, total: None,
    today: datetime.date | None = None,
) -> list[Result]:
    """Restore all images that the identities' grants open, or those named, into a new folder.

    tier None gives the highest that the grant opens and the bundle holds. An image that fails is
    reported; the others are restored. Raises AccessError if the grants open no image as asked for.
    """
    if out.resolve().is_relative_to(release.path):
        raise OutputError(f'folder "{out}" lies in the release, where anyone can see it: expected another place')
    work = _Work(out)
    grants = release.open_grants(identities)
    day = today or datetime.datetime.now(datetime.UTC).date()
    chosen = [release.resolve(i) for i in images] or [i for i in release.ids if any(g.covers(i) for g in grants)]
    access = {bundle_id: _access(grants, bundle_id, tier, day) for bundle_id in chosen}
    refused = [a for a in access.values() if isinstance(a, AccessError)]
    if len(refused) == len(chosen):
        raise refused[0] if refused else NotCovered(f'grant "{grants[0].label}" covers no image that the release has')
    tiers = {i: None if isinstance(a, AccessError) else a[0] for i, a in access.items()}
    codecs = _codecs(models)
    if set(tiers.values()) != {"original"}:
        codecs(release.manifest.model)  # once, and not once per image, if it is not here
    work.begin({"work": "restore", "signature": release.manifest.signature, "tier": tier, "tiers": tiers})
    results = []
    for number, bundle_id in enumerate(chosen, start=1):
        result = _restored_before(work, bundle_id) or _restore_one(release, access[bundle_id], bundle_id, tier, work, codecs)
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


def _restored_before(work: _Work, bundle_id: str) -> Result | None:
    for record in work.records:
        if record["id"] == bundle_id and _is_whole(work.partial / record["name"], record):
            return Result(record["name"], bundle_id, record["bytes"], tier=record["tier"], resumed=True)
    return None


def _restore_one(
    release: Release,
    access: tuple[str, dict[str, Secret]] | AccessError,
    bundle_id: str,
    tier: str | None,
    work: _Work,
    codecs: CodecFor,
) -> Result:
    if isinstance(access, AccessError):
        return Result(bundle_id, bundle_id, error=access)
    wanted, image_secrets = access
    try:
        data = release.bundle(bundle_id)
        if tier is None and wanted == "original" and not _has_original(data, bundle_id):
            wanted = "diagnostic"
        restored = restore_image(data, image_secrets, wanted, codecs, group=release.manifest.release)
    except (FormatError, AccessError, ModelError) as error:
        return Result(bundle_id, bundle_id, error=error)
    except MemoryError:
        return Result(bundle_id, bundle_id, error=BadBundle(f'bundle "{bundle_id}" does not fit in memory'))
    name = _free_name(work.partial, restored.name, bundle_id, restored.kind)
    write_new(work.partial / name, restored.data, 0o600)
    digest = hashlib.sha256(restored.data).hexdigest()
    work.note(id=bundle_id, name=name, bytes=len(restored.data), tier=wanted, sha256=digest)
    return Result(name, bundle_id, len(restored.data), tier=wanted)


def _has_original(data: bytes, bundle_id: str) -> bool:
    return any(s.name == "original" for s in read_header(data, bundle_id)[0].sections)


def _free_name(folder: Path, name: str | None, bundle_id: str, kind: str) -> str:
    """A relative path inside the folder, whatever the sealed name says; the id where it is taken."""
    plain = f"{bundle_id}{KINDS[kind]}"
    parts = ["".join(c for c in part if c.isprintable() and c not in '/\\:*?"<>|') for part in PurePosixPath(name or "").parts]
    safe = [part for part in parts if part.strip(". ")]
    if not safe or len(safe) > _MAX_DEPTH or any(len(part.encode()) > _MAX_NAME for part in safe):
        return plain
    path = PurePosixPath(*safe)
    if any((folder / parent).is_file() for parent in path.parents):
        return plain
    if (folder / path).exists():
        path = path.with_name(f"{path.stem}-{bundle_id[:8]}{path.suffix}")
    return plain if (folder / path).exists() else str(path)


def _codecs(models: tuple[Path, ...]) -> CodecFor:
    loaded: dict[str, Codec] = {}

    def codec_for(digest: str) -> Codec:
        if digest not in loaded:
            loaded[digest] = Codec(find_checkpoint(digest, models))
        return loaded[digest]

    return codec_for
