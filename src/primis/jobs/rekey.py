"""New secrets, ids and grants for a release, without decoding an image: for when someone is to lose
access, or a key was lost.

1  hold the release's lock, and take the release as it is now
2  begin a folder beside it, or go on with the one that an interrupted call left      work, begun
3  seal every bundle anew, under a new id, in a random order                          sharing/reseal
4  renew the grants that the owner signed, but for those withdrawn                    release/grants
5  sign a manifest of the next version
6  read everything back
7  put the new folder in the old one's place, and remove the old one

For a host step 2 makes the folder here; step 7 sends it beside the old state, swaps the manifests,
and removes the old state (`publish`).
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from primis.atomic import (
    is_ours,
    is_whole,
    keep_only,
    reason,
    remove,
    remove_folder,
    require_ours,
    sync_folder,
    write_new,
)
from primis.bundle.manifest import Entry
from primis.errors import BadBundle, FormatError, OutputError, UsageError
from primis.imaging.dicom_uids import instance_uid
from primis.jobs.begun import begin_release, release_begun
from primis.jobs.destination import beside
from primis.jobs.work import Work
from primis.keys.grant import Grant, RegionSecrets
from primis.keys.identity import Recipient, Signer
from primis.keys.seal import TierSecrets, image_secrets, release_secrets
from primis.keys.tier import HIGHEST, Tier
from primis.metrics.progress import Progress, silent
from primis.release.catalogue import Catalogue, Listed
from primis.release.grants import GRANTS, Scope, make_grant, write_grant, write_index
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
    """Give a release new secrets, new ids and new grants. A call that was interrupted goes on.

    Every grant that the owner signed for this release and that lies in it is renewed, but for those
    in `without` and all others to the same keys. carry_others: keep files in the folder that are
    not part of the format; links are never followed. on_wait: is told who else is changing it.
    """
    with (
        release.changing("primis rekey", on_wait) as now_there,
        Work(beside(now_there, "rekey"), "primis rekey") as work,
    ):
        old = owner_scope(now_there, signer)
        withdrawn, granted = _withdrawn(now_there, set(without)), set(now_there.labels())
        grants = _to_renew(now_there, signer, withdrawn)
        opens = {_opens(grant) for grant in grants}
        making = _Rekeying(
            now_there, signer, work, old, _begin(work, now_there, signer, opens), progress
        )
        done = making.rebuild(grants, now())
        work.journal.note(shown=sorted(opens))  # from here on others may read what is made
        if isinstance(now_there.store, LocalStore):
            left_out, still_there = _put(now_there, signer, work, carry_others=carry_others)
        else:
            left_out, still_there = [], _swap(now_there, work.partial, granted, progress)
            work.give_up()
        release.again()  # remembers the new version
        return Rekeyed(*done, left_out, still_there)


def _begin(work: Work, release: Release, signer: Signer, opens: set[str]) -> Scope:
    """The new secrets: of what an interrupted call began of the very same state, or new ones.
    opens: what the grants to come open (`_opens`). If that call may have shown others a grant that
    opens more, whoever took it could open all that is made under its secrets."""
    plan = {"work": "rekey", "state": release.digest, "signer": signer.public}
    if os.path.lexists(work.partial):
        require_ours(work.partial)
        begun = work.planned()
        if begun.get("work") == "rekey" and (begun != plan or _shown(work) - opens):
            work.give_up()
    start = release_begun if work.begin(plan) else begin_release
    scope = start(work, signer, release.manifest.release)
    work.journal.count_only_ours(scope.secret)
    return scope


def _shown(work: Work) -> set[str]:
    """What grants open that others may have read."""
    return {opened for record in work.journal.records() for opened in record.get("shown", ())}


def _opens(grant: Grant) -> str:
    """What a grant opens and for whom, without a name in it."""
    images = "all" if grant.secret is not None else " ".join(sorted(grant.images))
    said = f"{grant.recipient}\n{grant.tier}\n{images}"
    for bundle_id, opened in sorted(grant.regions.items()):
        tiles = sorted({number for numbers in opened.tiles.values() for number in numbers})
        said += f"\n{bundle_id} {opened.region} {tiles}"
    return hashlib.sha256(said.encode()).hexdigest()


def _put(
    release: Release, signer: Signer, work: Work, *, carry_others: bool
) -> tuple[list[str], list[str]]:
    """Put the new state in the place of the old one: (what was left out, what is still there)."""
    path, still_there = release.folder, list[str]()
    work.keep_only((MANIFEST, PAGES, BUNDLES, GRANTS))  # an interrupted call may have carried more
    left_out = _carry(path, work.partial, wanted=carry_others)

    def put(fresh: Path, _: Path) -> None:
        still_there.extend(_replace(fresh, path, release.manifest.release, signer))

    work.finish(0o755, put=put)
    return left_out, still_there


def _swap(release: Release, folder: Path, granted: set[str], progress: Progress) -> list[str]:
    """Send the new state to its host and remove the old one; what of that is still there. granted:
    labels that were renewed, or withdrawn. Raises OutputError where there are others by now."""
    store = release.store
    if new := set(release.labels()) - granted:
        raise OutputError(
            f'"{release.place}" was granted to "{sorted(new)[0]}" meanwhile: give it new secrets '
            "once more"
        )
    ours = {path.relative_to(folder).as_posix() for path in folder.glob("*/*")}
    old = parts_there(store) - ours  # an interrupted call may have sent some of ours
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


@dataclass(frozen=True)
class _Rekeying:
    """Makes the new state of a release. old, fresh: its secrets before and after."""

    release: Release
    signer: Signer
    work: Work
    old: Scope = field(repr=False)
    fresh: Scope = field(repr=False)
    progress: Progress

    def rebuild(
        self, grants: Sequence[Grant], now: datetime.datetime
    ) -> tuple[list[str], list[str]]:
        """Write the new state into the folder; (labels renewed, labels dropped)."""
        release, folder, signer = self.release, self.work.partial, self.signer
        made = self._seal_anew()
        keep_only(folder / BUNDLES, *(f"{entry.id}.primis" for entry in made.values()))
        keep_only(folder / GRANTS, "owner.*.age")
        renamed = {bundle_id: entry.id for bundle_id, entry in made.items()}
        store = LocalStore(folder)
        renewed = _renew(grants, store, self.fresh, signer, renamed)
        write_index(store)
        listed = _relisted(release, release_secrets(self.old.secret, HIGHEST), renamed)
        contents = Contents([*made.values()], listed, release.manifest.profiles)
        version = release.manifest.version + 1
        write_contents(folder, contents, self.fresh, signer, version, timestamp(now))
        try:
            _require_whole(folder, release, signer, self.progress)
        except FormatError:
            self.work.give_up()  # what does not verify is not gone on with
            raise
        return renewed, sorted({*release.labels()} - {*renewed, "owner"})

    def _seal_anew(self) -> dict[str, Entry]:
        """Every bundle as the new state lists it, by the id that it had."""
        release = self.release
        made = self._before()
        left = [bundle_id for bundle_id in release.ids if bundle_id not in made]
        secrets.SystemRandom().shuffle(left)
        old, new = (release_secrets(x.secret, HIGHEST) for x in (self.old, self.fresh))
        for bundle_id, fetched in zip(left, release.bundles(left), strict=True):
            self.progress("sealing anew", len(made), len(release))
            after = secrets.token_hex(16)
            opened = image_secrets(old, bundle_id)
            bundle = OpenedBundle.read(fetched.result(), opened, release.profiles, bundle_id)
            data = reseal(bundle, image_secrets(new, after), after)
            write_new(self._path(after), data)
            made[bundle_id] = entry = Entry.of(after, data)
            self.work.journal.note(before=bundle_id, entry=entry)
        return made

    def _before(self) -> dict[str, Entry]:
        """What an interrupted call sealed anew."""
        noted = (r for r in self.work.journal.records() if "before" in r)
        known = {record["before"]: Entry(*record["entry"]) for record in noted}
        return {
            i: entry for i, entry in known.items() if is_whole(self._path(entry.id), entry.digest)
        }

    def _path(self, bundle_id: str) -> Path:
        return self.work.partial / BUNDLES / f"{bundle_id}.primis"


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


def _to_renew(release: Release, signer: Signer, withdrawn: set[str]) -> list[Grant]:
    """One for each label: those that open an image, with a key that none was withdrawn from."""
    grants = release.open_grants([signer.identity], trust=signer.public)
    gone = {g.recipient for g in grants if g.label in withdrawn and g.recipient}
    chosen: dict[str, Grant] = {}
    for grant in grants:
        out = grant.label in {"owner", *withdrawn} or grant.recipient in {"", *gone}
        if not out and any(map(grant.covers, release.ids)):
            chosen.setdefault(grant.label, grant)
    return [*chosen.values()]


def _renew(
    grants: Sequence[Grant], store: Store, fresh: Scope, signer: Signer, renamed: dict[str, str]
) -> list[str]:
    """Write them under the new secrets; their labels."""
    for grant in grants:
        images = regions = None
        if grant.secret is None:
            images = [renamed[i] for i in grant.images if i in renamed]
            regions = _renewed(grant, fresh, renamed)
        kind = grant.recipient.split()[0] if " " in grant.recipient else "age"
        recipient = Recipient(kind, grant.recipient, grant.label)
        again = make_grant(
            fresh, recipient, signer, grant.tier, images, grant.note, grant.not_after, regions
        )
        write_grant(store, again, recipient, signer)
    return [grant.label for grant in grants]


def _renewed(grant: Grant, fresh: Scope, renamed: dict[str, str]) -> dict[str, RegionSecrets]:
    """The same regions of images under their new ids and secrets."""
    secrets = release_secrets(fresh.secret, HIGHEST)
    there = {i: opened for i, opened in grant.regions.items() if i in renamed}
    return {
        renamed[i]: opened.renewed(image_secrets(secrets, renamed[i]))
        for i, opened in there.items()
    }


def _require_whole(folder: Path, before: Release, signer: Signer, progress: Progress) -> None:
    """Read everything back before the old state goes. Raises what does not verify."""
    made = Release(folder)
    ids = made.ids
    if len(ids) != len(before):
        raise BadBundle(f'"{folder}" has {len(ids)} bundles, expected {len(before)}')
    for number, bundle_id in enumerate(ids):
        progress("reading back", number, len(ids))
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
    """Grants go first. The manifest goes last: what is cut off here can still be told for what it
    is."""
    with contextlib.suppress(OSError):
        for path in sorted(folder.iterdir(), key=lambda path: path.name != GRANTS):
            if path.name != MANIFEST:
                with contextlib.suppress(OSError):
                    remove(path)
        if [path.name for path in folder.iterdir()] == [MANIFEST]:
            remove_folder(folder)
