"""New secrets, ids and grants for a release, without decoding an image: for when someone is to lose
access, or a key was lost.

1  hold the release's lock, and take the release as it is now
2  make a folder of a random name beside it, which nobody can have laid there
3  seal every bundle anew, under a new id, in a random order            sharing/reseal
4  renew the grants that the owner signed, but for those withdrawn      release/grants
5  sign a manifest of the next version
6  read everything back
7  put the new folder in the old one's place, and remove the old one

For a host step 2 makes the folder here; step 7 sends it beside the old state, swaps the manifests,
and removes the old state (`publish`).
"""

from __future__ import annotations

import datetime
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from glob import escape as glob_escape
from pathlib import Path

from primis.atomic import (
    PARTIAL,
    is_ours,
    level,
    own_folder,
    reason,
    remove,
    remove_folder,
    sync_folder,
    write_new,
)
from primis.bundle.manifest import Entry
from primis.errors import BadBundle, OutputError, UsageError
from primis.imaging.dicom_uids import instance_uid
from primis.keys.grant import Grant
from primis.keys.home import work_folder
from primis.keys.identity import Recipient, Signer
from primis.keys.seal import TierSecrets, image_secrets, release_secrets
from primis.keys.tier import HIGHEST, Tier
from primis.metrics.progress import Progress, silent
from primis.release.catalogue import Catalogue, Listed
from primis.release.grants import GRANTS, Scope, make_grant, owner_grant, write_grant
from primis.release.old_states import MANIFEST, OLD, left_behind
from primis.release.owner import owner_scope
from primis.release.publish import parts_there, publish, remove_keys
from primis.release.reader import BUNDLES, PAGES, Release
from primis.release.writer import Contents, timestamp, write_contents
from primis.sharing.opened import OpenedBundle
from primis.sharing.reseal import reseal
from primis.stores.local import LocalStore
from primis.stores.store import Store


@dataclass(frozen=True)
class Rekeyed:
    """What `rekey` did.

    renewed: labels of the grants made anew. dropped: labels of those that could not be
    (passphrases) or were withdrawn. left_out: other things in the old folder that were not carried
    over. still_there: what holds old secrets and could not be removed: folders, or files on a host.
    """

    renewed: list[str]
    dropped: list[str]
    left_out: list[str]
    still_there: list[str]


def rekey(
    release: Release,
    signer: Signer,
    *,
    without: Iterable[str] = (),
    carry_others: bool = False,
    progress: Progress = silent,
    on_wait: Callable[[str], None] = lambda said: None,
    now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
) -> Rekeyed:
    """Give a release new secrets, new ids and new grants.

    Every grant that the owner signed for this release and that lies in it is renewed, but for those
    in `without` and all others to the same keys. carry_others: keep files in the folder that are
    not part of the format; links are never followed. on_wait: is told who else is changing it.
    """
    with release.changing("primis rekey", on_wait) as now_there:
        release = now_there
        scope = owner_scope(release, signer)
        withdrawn = _withdrawn(release, set(without))
        path = _place_of(release)
        _sweep(path)
        folder, granted = _own_folder(path), set(release.labels())
        try:
            done = _rebuild(release, folder, scope, signer, withdrawn, progress, now())
            _require_whole(folder, release, signer, progress)
            if isinstance(release.store, LocalStore):
                left_out = _carry(path, folder, wanted=carry_others)
                level(folder, 0o755)
                still_there = _replace(folder, path, release.manifest.release, signer)
            else:
                left_out, still_there = [], _swap(release, folder, granted, progress)
        finally:
            remove_folder(folder)
        release.again()  # remembers the new version
        return Rekeyed(*done, left_out, still_there)


def _place_of(release: Release) -> Path:
    """The folder that the new state is made beside."""
    if isinstance(release.store, LocalStore):
        return release.folder
    folder = work_folder()
    own_folder(folder)
    return folder / f"host-{release.manifest.release}"


def _swap(release: Release, folder: Path, granted: set[str], progress: Progress) -> list[str]:
    """Send the new state to its host and remove the old one; what of that is still there. granted:
    labels that were renewed, or withdrawn. Raises OutputError where there are others by now."""
    store = release.store
    if new := set(release.labels()) - granted:
        raise OutputError(
            f'"{release.place}" was granted to "{sorted(new)[0]}" meanwhile: give it new secrets '
            "once more"
        )
    old = parts_there(store)
    publish(folder, store, over=release.tag, on_sent=partial(progress, "sending"))
    return [f"{release.place}/{key}" for key in remove_keys(store, old)]


def _withdrawn(release: Release, without: set[str]) -> set[str]:
    if "owner" in without:
        raise UsageError('grant "owner" is your own and cannot be withdrawn')
    labels = release.labels()
    if unknown := without - set(labels):
        raise UsageError(
            f'grant "{sorted(unknown)[0]}" is not in the release, '
            f"expected one of: {', '.join(labels)}"
        )
    return without


def _own_folder(path: Path) -> Path:
    """A new folder beside the release, of a random name: nobody can lay another there first."""
    folder = path.with_name(f"{path.name}.rekey.{secrets.token_hex(8)}{PARTIAL}")
    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise OutputError(f'"{folder}" cannot be made: {reason(error)}') from None
    return folder


def _sweep(path: Path) -> None:
    """Remove what a `rekey` that was killed left behind; under the lock none is being made."""
    pattern = f"{glob_escape(path.name)}.rekey.{'[0-9a-f]' * 16}{PARTIAL}"
    for folder in path.parent.glob(pattern):
        if not folder.is_symlink() and is_ours(folder):
            remove_folder(folder)


def _rebuild(
    release: Release,
    folder: Path,
    scope: Scope,
    signer: Signer,
    withdrawn: set[str],
    progress: Progress,
    now: datetime.datetime,
) -> tuple[list[str], list[str]]:
    """Write the new state into a folder; (labels renewed, labels dropped)."""
    grants = release.open_grants([signer.identity], trust=signer.public)
    fresh = Scope.new(release.manifest.release)
    old, new = (release_secrets(x.secret, HIGHEST) for x in (scope, fresh))
    entries, renamed = [], {}
    ids = secrets.SystemRandom().sample(release.ids, len(release.ids))
    for number, (bundle_id, fetched) in enumerate(zip(ids, release.bundles(ids), strict=True)):
        progress("sealing anew", number, len(ids))
        renamed[bundle_id] = after = secrets.token_hex(16)
        opened = image_secrets(old, bundle_id)
        bundle = OpenedBundle.read(fetched.result(), opened, release.profiles, bundle_id)
        data = reseal(bundle, image_secrets(new, after), after)
        write_new(folder / BUNDLES / f"{after}.primis", data)
        entries.append(Entry.of(after, data))
    store = LocalStore(folder)
    write_grant(store, owner_grant(fresh, signer), signer.recipient, signer)
    renewed = _renew(grants, store, fresh, signer, withdrawn, renamed)
    contents = Contents(entries, _relisted(release, old, renamed), release.manifest.profiles)
    version = release.manifest.version + 1
    write_contents(folder, contents, fresh, signer, version, timestamp(now))
    return renewed, sorted({*release.labels()} - {*renewed, "owner"})


def _relisted(release: Release, old: TierSecrets, renamed: dict[str, str]) -> list[Listed]:
    """The catalogue under new ids, from which the instances' UIDs are made."""
    manifest = release.manifest
    diagnostic = old[Tier.DIAGNOSTIC]
    listed = []
    for image in Catalogue(manifest.catalogue, release.page, diagnostic, manifest.release):
        after = renamed[image.id]
        instance = instance_uid(after, Tier.DIAGNOSTIC) if image.instance else ""
        listed.append(replace(image, id=after, instance=instance))
    return listed


def _renew(
    grants: Sequence[Grant],
    store: Store,
    fresh: Scope,
    signer: Signer,
    withdrawn: set[str],
    renamed: dict[str, str],
) -> list[str]:
    gone = {g.recipient for g in grants if g.label in withdrawn and g.recipient}
    renewed: list[str] = []
    for grant in grants:
        images = None
        if grant.secret is None:
            images = [renamed[i] for i in grant.images if i in renamed]
        done = {"owner", *withdrawn, *renewed}
        if grant.label in done or not grant.recipient or grant.recipient in gone or images == []:
            continue
        kind = grant.recipient.split()[0] if " " in grant.recipient else "age"
        recipient = Recipient(kind, grant.recipient, grant.label)
        again = make_grant(
            fresh, recipient, signer, grant.tier, images, grant.note, grant.not_after
        )
        write_grant(store, again, recipient, signer)
        renewed.append(grant.label)
    return renewed


def _require_whole(folder: Path, before: Release, signer: Signer, progress: Progress) -> None:
    """Read everything back before the old state goes. Raises what does not verify."""
    made = Release(folder)
    if len(made.ids) != len(before.ids):
        raise BadBundle(f'"{folder}" has {len(made.ids)} bundles, expected {len(before.ids)}')
    for number, bundle_id in enumerate(made.ids):
        progress("reading back", number, len(made.ids))
        made.sections(bundle_id)
    owner_scope(made, signer)


def _carry(old: Path, new: Path, *, wanted: bool) -> list[str]:
    """Copy other files, if wanted; what is left out. Links are not followed: whoever stores the
    release may have laid them, and what they point to would be published."""
    others = sorted(
        path.name for path in old.iterdir() if path.name not in (MANIFEST, PAGES, BUNDLES, GRANTS)
    )
    if not wanted:
        return others
    left_out: list[str] = []

    def odd(folder: str, names: list[str]) -> list[str]:
        found = [name for name in names if _is_odd(Path(folder, name))]
        left_out.extend(str(Path(folder, name).relative_to(old)) for name in found)
        return found

    try:
        for name in sorted(set(others) - set(odd(str(old), others))):
            if (old / name).is_dir():
                shutil.copytree(old / name, new / name, ignore=odd)
            else:
                shutil.copy2(old / name, new / name, follow_symlinks=False)
    except (OSError, shutil.Error) as error:
        why = reason(error) if isinstance(error, OSError) and error.strerror else "see its files"
        raise OutputError(f'"{new}" cannot be written: {why}') from None
    return left_out


def _is_odd(path: Path) -> bool:
    """Whether it is neither a file nor a folder itself."""
    return path.is_symlink() or not (path.is_file() or path.is_dir())


def _replace(fresh: Path, path: Path, release_id: str, signer: Signer) -> list[str]:
    """Put the new state in the place of the old one; folders of old secrets that stay."""
    aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}{OLD}")
    try:
        os.rename(path, aside)
        try:
            os.rename(fresh, path)
        except BaseException:
            os.rename(aside, path)
            raise
    except OSError as error:
        raise OutputError(f'"{path}" cannot be replaced: {reason(error)}') from None
    sync_folder(path.parent)
    for old in left_behind(path, release_id):
        if old.signer == signer.public and is_ours(old.folder):
            _remove_state(old.folder)
    return [str(old.folder) for old in left_behind(path, release_id)]


def _remove_state(folder: Path) -> None:
    """The manifest goes last: what is cut off here can still be told for what it is."""
    for name in (GRANTS, BUNDLES):
        remove(folder / name)
    if not any(os.path.lexists(folder / name) for name in (GRANTS, BUNDLES)):
        remove_folder(folder)
