"""A folder in the making, with a journal of what is done in it beside it, so that the same call
again goes on where it stopped.

Where several processes make it in shards, each holds the folder's lock while it begins, and from
then on its shard's, with a journal of its own. The last holds the folder's, so no shard can begin.
"""

from __future__ import annotations

import hmac
import json
import os
import re
import secrets
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from primis.atomic import (
    PARTIAL,
    finish_folder,
    is_ours,
    is_temporary,
    level,
    read_regular,
    reason,
    remove,
    remove_folder,
    require_ours,
    sweep,
    sweep_all,
    write_new,
)
from primis.errors import OutputError
from primis.jobs.journal import Journal, Record
from primis.jobs.shards import Shard
from primis.release.lock import locked

JOURNAL = ".journal"
_MARK = ".primis-mark"
_MAX_NAME = 200


class Work:
    """A folder in the making and, beside it, the journal of what is done in it; for one process at
    a time, but for shards. on_wait: is told who holds the lock, and it is waited for; without it a
    held lock is an OutputError."""

    def __init__(
        self, out: Path, doing: str, *, on_wait: Callable[[str], None] | None = None
    ) -> None:
        self._said = out
        self.out = out = Path(os.path.abspath(out))
        if not out.name:
            raise OutputError(f'"{out}" is no name for a new folder')
        if len(os.fsencode(out.name)) > _MAX_NAME:
            raise OutputError(f'"{out.name[:40]}..." is too long a name for a new folder')
        self.partial = out.with_name(out.name + PARTIAL)
        self.journal = Journal(out.with_name(out.name + PARTIAL + JOURNAL))
        self.head = self._mark = ""
        self._lock = ExitStack()
        self._doing, self._on_wait = doing, on_wait

    def __enter__(self) -> Work:
        try:
            self.out.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f'"{self.out.parent}" cannot be made: {reason(error)}') from None
        self._lock.enter_context(locked(self.out, self._doing, on_wait=self._on_wait))
        sweep(self.out.parent)
        if os.path.lexists(self.out):
            if not os.path.lexists(self.partial):
                self._drop_journals()  # of a run that was killed at its very end
            self._lock.close()
            raise OutputError(f'folder "{self._said}" exists, expected a new one')
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    def planned(self) -> dict[str, Any]:
        """The plan of what is in the making here, {} where nothing is."""
        if not os.path.lexists(self.partial) or not self.journal.path.is_file():
            return {}
        try:
            plan = json.loads(str(self.journal.head().get("plan")))
        except ValueError:
            return {}
        return plan if isinstance(plan, dict) else {}

    def require_same_shards(self, work: str, shards: int | None, doing: str) -> None:
        """Raise OutputError where such work was begun here in another number of shards. doing: what
        is done, for people."""
        planned = self.planned()
        if planned.get("work") == work and planned.get("shards") != shards:
            how = f"in {planned['shards']} shards" if "shards" in planned else "without shards"
            raise OutputError(
                f'"{self.partial}" is being {doing} {how}: finish that, or delete the folder'
            )

    def begin(self, plan: dict[str, Any]) -> bool:
        """Start, or go on with work of the same plan; whether it had begun."""
        self.head = json.dumps(plan, sort_keys=True)
        if not os.path.lexists(self.partial):
            self._start()
            return False
        if not self.journal.path.is_file():
            raise OutputError(
                f'"{self.partial}" exists and has no journal "{self.journal.path.name}": '
                "move it away"
            )
        require_ours(self.partial)
        begun = self.journal.head()
        if begun.get("plan") != self.head:
            raise OutputError(
                f'"{self.partial}" was started with different settings, key, images or model: '
                "finish that run or delete the folder"
            )
        self._mark = str(begun.get("mark"))
        self._require_mark()
        return True

    def _start(self) -> None:
        self._mark = secrets.token_hex(16)
        self._drop_journals()
        head = {"plan": self.head, "mark": self._mark}
        self.journal.start(head)
        try:
            self.partial.mkdir(mode=0o700)
        except OSError as error:
            raise OutputError(f'"{self.partial}" cannot be written: {reason(error)}') from None
        self.journal.start(head | {"inode": self._inode()})
        write_new(self.partial / _MARK, self._mark.encode(), 0o600)

    def _require_mark(self) -> None:
        """Raise OutputError unless the folder is the one that the journal is of: another that was
        put in its place would be published."""
        is_new = all(is_temporary(path) for path in self.partial.iterdir())
        if is_new or self._was_unmarked():  # killed before it was marked, or put in its place
            write_new(self.partial / _MARK, self._mark.encode(), 0o600)
        try:
            found = read_regular(self.partial / _MARK, 100).decode("ascii", "replace")
        except OSError:
            found = ""
        if not hmac.compare_digest(found.encode(), self._mark.encode()):
            raise OutputError(
                f'"{self.partial}" is not the folder that "{self.journal.path.name}" is of: '
                "look what it is, and remove it"
            )

    def _was_unmarked(self) -> bool:
        """Whether it is the folder that was made, and lost its mark to `finish`."""
        same = self.journal.head().get("inode") == self._inode()
        return same and not os.path.lexists(self.partial / _MARK)

    @contextmanager
    def shard(self, shard: Shard) -> Iterator[Journal]:
        """The journal of a shard, under the shard's lock; the folder's may be given up meanwhile.
        Raises OutputError where another process works on it."""
        journal = self._journal_of(shard)
        with self._alone(shard):
            if not self._is_of(journal, shard):
                journal.start(self._head_of(shard))
            yield journal

    def shards(self, of: int) -> list[Journal]:
        """The journals of all shards that were begun. Raises OutputError where a process works on
        one of them; none can begin while this one holds the folder's lock."""
        found = []
        for shard in (Shard(number, of) for number in range(1, of + 1)):
            journal = self._journal_of(shard)
            if self._is_of(journal, shard):
                with self._alone(shard):
                    found.append(journal)
        return found

    def _alone(self, shard: Shard) -> AbstractContextManager[None]:
        """Hold the lock of a shard."""
        lock = self.out.with_name(f"{self.out.name}.shard-{shard.number}-of-{shard.of}")
        return locked(lock, f"{self._doing} {shard}")

    def _journal_of(self, shard: Shard) -> Journal:
        name = f"{self.journal.path.name}-{shard.number}-of-{shard.of}"
        return Journal(self.journal.path.with_name(name))

    def _is_of(self, journal: Journal, shard: Shard) -> bool:
        """Whether there is one, of this shard and folder."""
        return journal.path.is_file() and journal.head() == self._head_of(shard)

    def _head_of(self, shard: Shard) -> Record:
        return {"shard": list(shard), "mark": self._mark}

    def finish(
        self,
        mode: int,
        *,
        keep: Collection[str] | None = None,
        put: Callable[[Path, Path], None] | None = None,
    ) -> None:
        """Give the folder its name, and all files one time: when each was made would tell how hard
        its image was. keep: all that belongs into it, None for whatever is there. put: puts the
        folder, its first argument, in its place."""
        sweep_all(self.partial)
        if keep is not None:
            self.keep_only(keep)
        level(self.partial, mode)
        (self.partial / _MARK).unlink()
        try:
            (put or finish_folder)(self.partial, self.out)
        finally:
            if os.path.lexists(self.partial):  # to be gone on with
                write_new(self.partial / _MARK, self._mark.encode(), 0o600)
            else:
                self.journal.clear()  # no names may stay
        self._drop_journals()

    def keep_only(self, names: Collection[str]) -> None:
        """Remove what lies in the folder besides."""
        for path in self.partial.iterdir():
            if path.name not in {_MARK, *names}:
                remove(path)

    def _inode(self) -> int:
        """What the disk tells the folder by: no other has it while this one is there."""
        return self.partial.lstat().st_ino

    def give_up(self) -> None:
        """Remove a folder in which nothing came about."""
        remove_folder(self.partial)
        self._drop_journals()

    def _drop_journals(self) -> None:
        self.journal.drop()
        form = re.compile(re.escape(self.journal.path.name) + "-[0-9]+-of-[0-9]+")
        for path in self.journal.path.parent.iterdir():
            if form.fullmatch(path.name) and is_ours(path):  # what is not, no shard goes on with
                Journal(path).drop()
