"""Many images: share and restore whole folders, one result line each, resumable.

Work in progress lies in "<out>.partial" with a journal of what is done; the same call again goes on
where it stopped. The journal names input files, so it is removed before the folder gets its name.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from primis.bundle.layout import Entry, Settings
from primis.codec import Codec
from primis.datasets import collect
from primis.errors import OutputError, PrimisError, UsageError
from primis.imaging.files import read
from primis.keys.grant import Grant, read_grant
from primis.keys.identity import Identity, Recipient, Signer
from primis.keys.seal import TIERS, Secret, image_secret, release_secrets
from primis.network.checkpoint import find_checkpoint, read_checkpoint, shipped
from primis.sharing.image_bundle import CodecFor, restore_image, share_image
from primis.sharing.release import (
    PARTIAL,
    Release,
    finish_folder,
    make_grant,
    owner_grant,
    secrets_for,
    write_grant,
    write_manifest,
    write_new,
)

JOURNAL = "journal.jsonl"


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

    Raises OutputError if `out` exists or cannot be written; what was done stays in "<out>.partial".
    """
    files = collect(inputs)
    if out.exists():
        raise OutputError(f'folder "{out}" exists, expected a new one')
    codec = Codec(read_checkpoint(model or shipped()))
    partial = out.with_name(out.name + PARTIAL)
    plan = {"settings": asdict(settings), "model": codec.checkpoint.digest, "original": with_original, "signer": signer.public}
    release_id, secret, done = _resume(partial, plan, signer)
    opened = release_secrets(secret, TIERS[-1])
    results = []
    with (partial / JOURNAL).open("a") as journal:
        for number, (file, name) in enumerate(files, start=1):
            result = _done_before(done, file, name) or _share_file(
                file, name, partial, settings, opened, codec, with_original, journal
            )
            results.append(result)
            on_result(result, number, len(files))
    good = [r for r in results if r.error is None]
    if not good:
        raise UsageError(f'no image could be shared; "{partial}" holds no bundle')
    for recipient in to:
        made = make_grant(release_id, secret, recipient, signer, tier)
        write_grant(partial, made, recipient, signer.recipient)
    entries = [_entry(partial, r.id) for r in good]
    _forget_others(partial, {r.id for r in good})
    write_manifest(partial, release_id, codec.checkpoint.digest, entries, signer, now())
    (partial / JOURNAL).unlink()
    os.chmod(partial, 0o755)
    finish_folder(partial, out)
    return results


def _resume(partial: Path, plan: dict[str, Any], signer: Signer) -> tuple[str, Secret, dict[str, dict[str, Any]]]:
    """Start a folder, or go on with one of the same plan: (release id, secret, done files)."""
    journal = partial / JOURNAL
    if not journal.exists():
        try:
            (partial / "bundles").mkdir(parents=True, exist_ok=True)
            os.chmod(partial, 0o700)
        except OSError as error:
            raise OutputError(f'"{partial}" cannot be written: {error.strerror}') from None
        release_id, secret = secrets.token_hex(16), Secret.new()
        write_grant(partial, owner_grant(release_id, secret, signer), signer.recipient, signer.recipient)
        write_new(journal, json.dumps(plan | {"release": release_id}, sort_keys=True).encode() + b"\n", 0o600)
        return release_id, secret, {}
    first, *lines = journal.read_bytes().splitlines()
    begun = json.loads(first)
    release_id = begun.pop("release")
    if begun != json.loads(json.dumps(plan)):
        raise OutputError(f'"{partial}" was begun with other settings, model or key: finish it with those, or remove it')
    payload = signer.identity.decrypt(next((partial / "grants").glob("owner.*.age")).read_bytes())
    grant = read_grant(payload or b"", str(partial))
    assert grant.secret is not None
    done = [record for line in lines if (record := _record(line))]
    return release_id, grant.secret, {d["file"]: d for d in done}


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        return dict(json.loads(line))
    except ValueError:  # cut off in the middle of a line
        return None


def _stamp(file: Path) -> dict[str, Any]:
    stat = file.stat()
    return {"file": str(file.resolve()), "size": stat.st_size, "mtime": stat.st_mtime_ns}


def _done_before(done: dict[str, dict[str, Any]], file: Path, name: str) -> Result | None:
    stamp = _stamp(file)
    record = done.get(stamp["file"])
    if record is None or any(record[k] != v for k, v in stamp.items()) or record["name"] != name:
        return None
    return Result(name, record["id"], record["bytes"], record["kept"], resumed=True)


def _share_file(
    file: Path,
    name: str,
    partial: Path,
    settings: Settings,
    opened: dict[str, Secret],
    codec: Codec,
    with_original: bool,
    journal: Any,
) -> Result:
    bundle_id = secrets.token_hex(16)
    try:
        stamp = _stamp(file)
        image, source = read(file)
        shared = share_image(
            image, settings, {t: image_secret(s, bundle_id) for t, s in opened.items()}, codec,
            bundle_id=bundle_id, name=name, original=source if with_original else None,
        )  # fmt: skip
    except OutputError:
        raise
    except PrimisError as error:
        return Result(name, bundle_id, error=error)
    write_new(partial / "bundles" / f"{bundle_id}.primis", shared.data)
    result = Result(name, bundle_id, len(shared.data), shared.kept)
    record = stamp | {"name": name, "id": bundle_id, "bytes": result.bytes, "kept": result.kept}
    journal.write(json.dumps(record) + "\n")
    journal.flush()
    return result


def _entry(partial: Path, bundle_id: str) -> Entry:
    data = (partial / "bundles" / f"{bundle_id}.primis").read_bytes()
    return Entry(len(data), bundle_id, hashlib.sha256(data).hexdigest())


def _forget_others(partial: Path, ids: set[str]) -> None:
    """Bundles of an earlier run whose input is gone or changed do not belong to the release."""
    for path in (partial / "bundles").iterdir():
        if path.stem not in ids:
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
    reported; the others are restored.
    """
    grants = release.open_grants(identities)
    day = today or datetime.datetime.now(datetime.UTC).date()
    chosen = [release.resolve(i) for i in images] or [i for i in release.ids if any(g.covers(i) for g in grants)]
    if out.exists():
        raise OutputError(f'folder "{out}" exists, expected a new one')
    for bundle_id in chosen:  # before any work: what no image can be opened for is one error
        secrets_for(grants, bundle_id, tier, day)
    partial = out.with_name(out.name + PARTIAL)
    done = _restored_before(partial, release, tier)
    codecs = _codecs(models)
    results = []
    for number, bundle_id in enumerate(chosen, start=1):
        result = done.get(bundle_id) or _restore_one(release, grants, bundle_id, tier, day, partial, codecs)
        results.append(result)
        on_result(result, number, len(chosen))
    if all(r.error for r in results):
        _clear(partial)
        return results
    (partial / JOURNAL).unlink()
    finish_folder(partial, out)
    return results


def _restored_before(partial: Path, release: Release, tier: str | None) -> dict[str, Result]:
    plan = json.dumps({"release": release.manifest.release, "signature": release.manifest.signature, "tier": tier}).encode()
    journal = partial / JOURNAL
    if journal.exists():
        first, *lines = journal.read_bytes().splitlines()
        if first == plan:
            records = [record for line in lines if (record := _record(line))]
            return {r["id"]: Result(**r, resumed=True) for r in records if (partial / r["name"]).is_file()}
        raise OutputError(f'"{partial}" was begun for another release or tier: finish that, or remove it')
    write_new(journal, plan + b"\n", 0o600)
    return {}


def _restore_one(
    release: Release, grants: list[Grant], bundle_id: str, tier: str | None, day: datetime.date, partial: Path, codecs: CodecFor
) -> Result:
    try:
        wanted, image_secrets = secrets_for(grants, bundle_id, tier, day)
        data = release.bundle(bundle_id)
        if tier is None and wanted == "original" and not _has_original(data, bundle_id):
            wanted = "diagnostic"
        restored = restore_image(data, image_secrets, wanted, codecs, group=release.manifest.release)
    except PrimisError as error:
        return Result(bundle_id, bundle_id, error=error)
    name = _free_name(partial, restored.name, bundle_id, restored.kind)
    write_new(partial / name, restored.data)
    result = Result(name, bundle_id, len(restored.data), tier=wanted)
    with (partial / JOURNAL).open("a") as journal:
        journal.write(json.dumps({"name": name, "id": bundle_id, "bytes": result.bytes, "tier": wanted}) + "\n")
    return result


def _has_original(data: bytes, bundle_id: str) -> bool:
    from primis.bundle.layout import read_header

    return any(s.name == "original" for s in read_header(data, bundle_id)[0].sections)


def _free_name(folder: Path, name: str | None, bundle_id: str, kind: str) -> str:
    """A relative path inside the folder, whatever the sealed name says; the id where it is taken."""
    from primis.imaging.image import KINDS

    if name is None:
        return f"{bundle_id}{KINDS[kind]}"
    parts = ["".join(c for c in part if c.isprintable() and c not in '\\:*?"<>|') for part in PurePosixPath(name).parts]
    safe = [part[:120] for part in parts if part.strip(". ") and not part.startswith("/")]
    path = PurePosixPath(*safe) if safe else PurePosixPath(f"{bundle_id}{KINDS[kind]}")
    if (folder / path).exists() or path.name == JOURNAL:
        path = path.with_name(f"{path.stem}-{bundle_id[:8]}{path.suffix}")
    return str(path)


def _codecs(models: tuple[Path, ...]) -> CodecFor:
    loaded: dict[str, Codec] = {}

    def codec_for(digest: str) -> Codec:
        if digest not in loaded:
            loaded[digest] = Codec(find_checkpoint(digest, models))
        return loaded[digest]

    return codec_for


def _clear(partial: Path) -> None:
    import shutil

    shutil.rmtree(partial, ignore_errors=True)
