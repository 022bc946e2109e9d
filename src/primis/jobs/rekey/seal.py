"""Every bundle of a release sealed anew; what is done is noted in a journal, and not done again."""

from __future__ import annotations

import secrets
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path

from primis.bundle.manifest import Entry
from primis.errors import WorkerError
from primis.jobs.executors.executor import Executor
from primis.jobs.journal import Journal
from primis.jobs.rekey.read import Reading
from primis.jobs.rekey.table import Table
from primis.jobs.rekey.task import Anew, Sealed, SealTask, SealWorker, in_tasks, shared_out
from primis.keys.seal import TierSecrets, image_secrets, release_secrets
from primis.keys.tier import HIGHEST
from primis.metrics.progress import Progress
from primis.release.grants import Scope
from primis.release.reader import Release
from primis.stores.local import LocalStore
from primis.stores.store import ahead


@dataclass(frozen=True)
class Sealing:
    """release: as it is. folder, fresh: of the new state; old: the secrets that it has now."""

    release: Release
    folder: Path
    journal: Journal
    old: Scope = field(repr=False)
    fresh: Scope = field(repr=False)
    executor: Executor
    progress: Progress

    def go_on(self, table: Table) -> None:
        """Take over what was sealed before and is whole."""
        for record in self.journal.records():
            for before, *after in record.get("sealed", ()):
                if (row := table.find(before)) is not None:
                    table.put(row, Entry(*after))
        reading = Reading(self.folder, self.release.profiles, self.executor, self.progress)
        before = (entry for _, entry in table.all_made())
        made = table.made
        what = "reading what was sealed before"
        wrong = dict(reading.wrong(what, before, made, table.bytes * made // max(1, len(table))))
        for error in wrong.values():
            if isinstance(error, WorkerError):
                raise error
        for row, entry in table.all_made() if wrong else ():
            if entry.id in wrong:
                table.put(row, None)

    def seal(self, table: Table) -> None:
        """Seal what is left, in a random order. Raises why one of them cannot be."""
        left = table.left()
        secrets.SystemRandom().shuffle(left)
        each, tasks = shared_out(self.executor, len(left), table.bytes)
        out, given = LocalStore(self.folder), dict[int, list[int]]()
        there = self.release.store
        source = there if isinstance(there, LocalStore) else None
        worker = SealWorker(self.release.profiles, source, out)
        work = self._tasks(table, left, each, given)
        with closing(self.executor.run(worker, work, tasks)) as outcomes:
            for number, sealed in outcomes:
                self._keep(table, given.pop(number), sealed.written(out))

    def _tasks(
        self, table: Table, left: array[int], each: int, given: dict[int, list[int]]
    ) -> Iterator[tuple[int, SealTask]]:
        """given: gets the rows of each task."""
        old, new = (release_secrets(scope.secret, HIGHEST) for scope in (self.old, self.fresh))
        fetched = self._fetched(map(table.before, left))
        pairs = (
            (row, _anew(table.before(row), data, old, new))
            for row, data in zip(left, fetched, strict=False)
        )
        for number, part in enumerate(in_tasks(pairs, each, lambda pair: pair[1].entry.size)):
            self.progress("sealing anew", table.made, len(table))
            given[number] = [row for row, _ in part]
            yield number, tuple(bundle for _, bundle in part)

    def _fetched(self, entries: Iterable[Entry]) -> Iterator[bytes | None]:
        """The bytes of bundles that lie on a host: the next ones are on their way meanwhile."""
        if isinstance(self.release.store, LocalStore):
            return repeat(None)
        fetched = ahead(self.release.listed, entries, lambda entry: entry.size)
        return (one.result() for one in fetched)

    def _keep(self, table: Table, rows: Sequence[int], sealed: Sealed) -> None:
        """Note what was written."""
        done = list(zip(rows, sealed.entries, strict=False))  # fewer where one cannot be sealed
        if done:
            self.journal.note(sealed=[[table.before(row).id, *entry] for row, entry in done])
        for row, entry in done:
            table.put(row, entry)
        if sealed.error is not None:
            self.release.require_same()  # else that is why
            raise sealed.error


def _anew(entry: Entry, data: bytes | None, old: TierSecrets, new: TierSecrets) -> Anew:
    """With a new id. old, new: the release's secrets."""
    after = secrets.token_hex(16)
    return Anew(entry, image_secrets(old, entry.id), after, image_secrets(new, after), data)
