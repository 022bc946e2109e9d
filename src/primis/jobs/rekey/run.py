"""New secrets, ids and grants for a release, without decoding an image: for when someone is to lose
access, or a key was lost.

1  hold the release's lock, and take the release as it is now
2  begin a folder beside it, or go on with the one that an interrupted call left      work, begun
3  seal every bundle anew, under a new id, in a random order                          seal
4  renew the grants that the owner signed, but for those withdrawn                    renew
5  sign a manifest of the next version
6  read everything back                                                               read
7  put the new folder in the old one's place, and remove the old one                  swap

For a host step 2 makes the folder here; step 7 sends it beside the old state, swaps the manifests,
and removes the old state (`publish`).

In shards, each call does 1 to 3 for its part of the bundles, on any machine, and holds the
release's lock only for 1 and 2. One more call does the rest. A bundle's shard follows from the
place of its id among all of them: ids are random.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from primis.atomic import keep_named, keep_only, require_ours
from primis.errors import BadBundle, BadManifest, FormatError, OutputError, UsageError
from primis.imaging.dicom_uids import instance_uid
from primis.jobs.begun import begin_release, release_begun
from primis.jobs.destination import beside
from primis.jobs.executors.executor import Executor
from primis.jobs.executors.serial import Serial
from primis.jobs.journal import Journal
from primis.jobs.rekey.read import Reading
from primis.jobs.rekey.renew import opens_of, renew, to_renew, withdrawn_of
from primis.jobs.rekey.seal import Sealing
from primis.jobs.rekey.swap import put, swap
from primis.jobs.rekey.table import Table
from primis.jobs.shards import Shard, listed
from primis.jobs.work import Work
from primis.keys.grant import Grant
from primis.keys.identity import Signer
from primis.keys.seal import release_secrets
from primis.keys.tier import HIGHEST, Tier
from primis.metrics.progress import Progress, silent
from primis.release.catalogue import Catalogue, Listed
from primis.release.grants import GRANTS, Scope, write_index
from primis.release.owner import owner_scope
from primis.release.reader import BUNDLES, Release
from primis.release.writer import Contents, timestamp, write_contents
from primis.stores.local import LocalStore

_DOING = "primis rekey"


@dataclass(frozen=True)
class Rekeyed:
    """What `rekey` did.

    renewed: labels of the grants made anew. dropped: labels of those that could not be
    (passphrases) or were withdrawn. left_out: other things in the old folder that were not carried
    over. still_there: what holds old secrets and could not be removed: folders, or files on a host.
    images: how many there are; of a shard, which does nothing else, how many it has.
    """

    renewed: list[str]
    dropped: list[str]
    left_out: list[str]
    still_there: list[str]
    images: int


def rekey(
    release: Release,
    signer: Signer,
    *,
    without: Iterable[str] = (),
    carry_others: bool = False,
    executor: Executor | None = None,
    shard: Shard | None = None,
    finish: bool = False,
    progress: Progress = silent,
    on_wait: Callable[[str], None] = lambda said: None,
    now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
) -> Rekeyed:
    """Give a release new secrets, new ids and new grants. A call that was interrupted goes on.

    Every grant that the owner signed for this release and that lies in it is renewed, but for those
    in `without` and all others to the same keys. carry_others: keep files in the folder that are
    not part of the format; links are never followed. executor: what works on the bundles, by
    default this process. shard: seal this part of the bundles alone; the release stays as it is.
    finish: do all else, once all shards are done, with what `without` and carry_others are in this
    call. on_wait: is told who else is changing it.

    Raises UsageError where shards have work left.
    """
    if shard is not None and finish:
        raise UsageError("a shard and the end of all were asked for, expected one of them")
    rekeying = _Rekeying(signer, executor or Serial(), progress, on_wait)
    if shard is not None:
        return rekeying.seal_shard(release, shard, set(without))
    made = rekeying.renew(release, set(without), now, carry_others=carry_others, finish=finish)
    release.again()  # remembers the new version
    return made


@dataclass(frozen=True)
class _Rekeying:
    """Who gives new secrets, and by what means."""

    signer: Signer
    executor: Executor
    progress: Progress
    on_wait: Callable[[str], None]

    def seal_shard(self, release: Release, shard: Shard, without: set[str]) -> Rekeyed:
        """Work on the bundles of a shard. without: is only looked at, so that nobody is told at the
        end of all that a label is not there."""
        with ExitStack() as held:
            with (
                release.changing(_DOING, self.on_wait) as now_there,
                Work(beside(now_there, "rekey"), _DOING, on_wait=self.on_wait) as work,
            ):
                if now_there.digest != release.digest:  # it may be what the last call made
                    raise OutputError(
                        f'"{release.place}" was changed meanwhile: give the command again'
                    )
                withdrawn_of(now_there, without)
                new = self._begin(work, now_there, shard.of)
                journal = held.enter_context(work.shard(shard))
            journal.count_only_ours(new.fresh.secret)
            entries = enumerate(now_there.each_entry())
            table = Table(e for row, e in entries if _shard_of(row, shard.of) == shard.number)
            sealing = self._sealing(new, journal)
            sealing.go_on(table)
            sealing.seal(table)
            return Rekeyed([], [], [], [], len(table))

    def renew(
        self,
        release: Release,
        without: set[str],
        now: Callable[[], datetime.datetime],
        *,
        carry_others: bool,
        finish: bool,
    ) -> Rekeyed:
        """Work on all bundles, or on none where shards did; then on all else."""
        with (
            release.changing(_DOING, self.on_wait) as now_there,
            Work(beside(now_there, "rekey"), _DOING) as work,
        ):
            withdrawn, granted = withdrawn_of(now_there, without), set(now_there.labels())
            table = Table(now_there.each_entry())
            grants = to_renew(now_there, self.signer, withdrawn, table)
            opens = {opens_of(grant) for grant in grants}
            new = self._sealed(work, now_there, table, opens, finish=finish)
            renewed = new.write(table, grants, now(), self.progress)
            try:
                new.require_whole(table, self.executor, self.progress)
            except FormatError:
                if not finish:
                    work.give_up()  # what does not verify is not gone on with
                raise
            work.journal.note(shown=sorted(opens))  # from here on others may read what is made
            if isinstance(now_there.store, LocalStore):
                left_out, still_there = put(now_there, self.signer, work, carry_others=carry_others)
            else:
                left_out, still_there = [], swap(now_there, work.partial, granted, self.progress)
                work.give_up()
            dropped = sorted(granted - {*renewed, "owner"})
            return Rekeyed(renewed, dropped, left_out, still_there, len(table))

    def _sealed(
        self, work: Work, release: Release, table: Table, opens: set[str], *, finish: bool
    ) -> _New:
        """With all bundles. opens: what the grants to come open (`opens_of`). Raises UsageError
        where shards have work left."""
        shards = self._shards_begun(work, release, opens) if finish else None
        new = self._begin(work, release, shards, opens)
        if shards is not None:
            journals = work.shards(shards)
            for journal in journals:
                journal.count_only_ours(new.fresh.secret)
            work.journal.join(journals)
        sealing = self._sealing(new, work.journal)
        sealing.go_on(table)
        if shards is not None:
            _require_sealed(table, shards)
        sealing.seal(table)
        return new

    def _sealing(self, new: _New, journal: Journal) -> Sealing:
        folder = new.work.partial
        return Sealing(
            new.before, folder, journal, new.old, new.fresh, self.executor, self.progress
        )

    def _begin(
        self, work: Work, release: Release, shards: int | None, opens: set[str] | None = None
    ) -> _New:
        """The new secrets: of what an interrupted call began of the very same state, or new ones.
        opens: None where nothing is shown to anyone yet."""
        old = owner_scope(release, self.signer)
        plan = self._plan(release)
        if self._is_stale(work, plan, opens):
            work.give_up()
        work.require_same_shards("rekey", shards, "sealed anew")
        start = release_begun if work.begin(plan | _in_shards(shards)) else begin_release
        fresh = start(work, self.signer, release.manifest.release)
        work.journal.count_only_ours(fresh.secret)
        return _New(release, self.signer, work, old, fresh)

    def _plan(self, release: Release) -> dict[str, Any]:
        return {"work": "rekey", "state": release.digest, "signer": self.signer.public}

    def _is_stale(self, work: Work, plan: dict[str, Any], opens: set[str] | None) -> bool:
        """Whether what was begun is of another state; or a call may have shown others a grant that
        opens more: whoever took it could open all that is made under its secrets."""
        if not os.path.lexists(work.partial):
            return False
        require_ours(work.partial)
        begun = work.planned()
        begun.pop("shards", None)
        if begun.get("work") != "rekey":
            return False
        return begun != plan or (opens is not None and bool(_shown(work) - opens))

    def _shards_begun(self, work: Work, release: Release, opens: set[str]) -> int:
        """How many there are in all. Raises UsageError where there are none that can be used."""
        shards = work.planned().get("shards")
        if shards is None:
            raise UsageError(
                f'no shard of "{release.place}" is sealed anew in "{work.partial}", '
                "expected all shards to be run first"
            )
        if self._is_stale(work, self._plan(release), opens):
            work.give_up()
            raise UsageError(
                f'"{release.place}" was changed since its shards were sealed anew, or grants are '
                "withdrawn that others may have read: expected all shards to be run once more"
            )
        return int(shards)


def _shown(work: Work) -> set[str]:
    """What grants open that others may have read."""
    return {opened for record in work.journal.records() for opened in record.get("shown", ())}


def _shard_of(row: int, shards: int) -> int:
    """The number of the shard of a bundle, by its place among all."""
    return row % shards + 1


def _in_shards(shards: int | None) -> dict[str, int]:
    """What a plan says of shards."""
    return {} if shards is None else {"shards": shards}


def _require_sealed(table: Table, shards: int) -> None:
    """Raise UsageError where a shard has work left."""
    if left := table.left():
        numbers = (_shard_of(row, shards) for row in left)
        raise UsageError(
            f"{len(left)} of {len(table)} images were not sealed anew yet, "
            f"expected shards {listed(numbers, shards)} to be run to their end"
        )


@dataclass(frozen=True)
class _New:
    """The new state of a release, in the making. before: as it is. old, fresh: its secrets."""

    before: Release
    signer: Signer
    work: Work
    old: Scope = field(repr=False)
    fresh: Scope = field(repr=False)

    def write(
        self, table: Table, grants: Sequence[Grant], now: datetime.datetime, progress: Progress
    ) -> list[str]:
        """All but the bundles, which are there; the labels of the grants that are renewed."""
        folder, manifest = self.work.partial, self.before.manifest
        keep_named(folder / BUNDLES, {f"{entry.id}.primis" for _, entry in table.all_made()})
        keep_only(folder / GRANTS, "owner.*.age")
        store = LocalStore(folder)
        renewed = renew(grants, store, self.fresh, self.signer, table)
        write_index(store)
        entries = (entry for _, entry in table.all_made())
        contents = Contents(entries, self._listed(table, progress), manifest.profiles)
        version = manifest.version + 1
        write_contents(folder, contents, self.fresh, self.signer, version, timestamp(now))
        return renewed

    def _listed(self, table: Table, progress: Progress) -> Iterator[Listed]:
        """The catalogue under new ids, from which the instances' UIDs are made."""
        manifest = self.before.manifest
        diagnostic = release_secrets(self.old.secret, HIGHEST)[Tier.DIAGNOSTIC]
        catalogue = Catalogue(manifest.catalogue, self.before.page, diagnostic, manifest.release)
        for done, image in enumerate(catalogue):
            progress("listing", done, len(table))
            after = table.renamed(image.id)
            if after is None:
                raise BadManifest(f'the catalogue lists image "{image.id}", the pages do not')
            instance = instance_uid(after, Tier.DIAGNOSTIC) if image.instance else ""
            yield replace(image, id=after, instance=instance)

    def require_whole(self, table: Table, executor: Executor, progress: Progress) -> None:
        """Read everything back before the old state goes. Raises what does not verify."""
        made = Release(self.work.partial)
        if len(made) != len(self.before):
            raise BadBundle(f'"{made.place}" has {len(made)} bundles, expected {len(self.before)}')
        reading = Reading(made.folder, made.profiles, executor, progress)
        for _, error in reading.wrong("reading back", made.each_entry(), len(made), table.bytes):
            raise error
        owner_scope(made, self.signer)
