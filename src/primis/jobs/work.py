"""A folder in the making, with a journal of what is done in it beside it, so that the same call
again goes on where it stopped. The journal names input files, so it never lies in what is
published."""

from __future__ import annotations

import hmac
import json
import os
import secrets
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from primis.atomic import (
    PARTIAL,
    finish_folder,
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
from primis.keys.seal import Secret, derive
from primis.release.lock import locked

JOURNAL = ".journal"
_MARK = ".primis-mark"
_MAX_NAME = 200


class Work:
    """A folder in the making and, beside it, the journal of what is done in it; for one process at
    a time."""

    def __init__(self, out: Path, doing: str) -> None:
        self._said = out
        self.out = out = Path(os.path.abspath(out))
        if not out.name:
            raise OutputError(f'"{out}" is no name for a new folder')
        if len(os.fsencode(out.name)) > _MAX_NAME:
            raise OutputError(f'"{out.name[:40]}..." is too long a name for a new folder')
        self.partial = out.with_name(out.name + PARTIAL)
        self.journal = out.with_name(out.name + PARTIAL + JOURNAL)
        self.head = self._first = ""
        self.begun: list[dict[str, Any]] = []
        self.records: list[dict[str, Any]] = []
        self._key: bytes | None = None
        self._lock = ExitStack()
        self._doing = doing

    def __enter__(self) -> Work:
        try:
            self.out.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f'"{self.out.parent}" cannot be made: {reason(error)}') from None
        self._lock.enter_context(locked(self.out, self._doing))
        sweep(self.out.parent)
        if os.path.lexists(self.out):
            if not os.path.lexists(self.partial):
                self._drop_journal()  # of a run that was killed at its very end
            self._lock.close()
            raise OutputError(f'folder "{self._said}" exists, expected a new one')
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    def begin(self, plan: dict[str, Any]) -> bool:
        """Start, or go on with work of the same plan; whether it had begun."""
        self.head = json.dumps(plan, sort_keys=True)
        if not os.path.lexists(self.partial):
            self._start()
            return False
        if not self.journal.is_file():
            raise OutputError(
                f'"{self.partial}" exists and has no journal "{self.journal.name}": move it away'
            )
        for path in (self.partial, self.journal):
            require_ours(path)
        first, *lines = self.journal.read_text("utf-8", "replace").splitlines() or [""]
        begun = _record(first) or {}
        if begun.get("plan") != self.head:
            raise OutputError(
                f'"{self.partial}" was started with different settings, key, images or model: '
                "finish that run or delete the folder"
            )
        self._first = first
        self._require_mark(str(begun.get("mark")))
        sweep_all(self.partial)
        found = [record for line in lines if (record := _record(line))]
        self.begun = [record for record in found if "begun" in record]
        kinds = (
            {"id", "name", "bytes"},
            {"need", "name", "file", "size", "mtime"},
            {"chosen"},
        )
        self.records = [r for r in found if any(kind <= r.keys() for kind in kinds)]
        return True

    def _start(self) -> None:
        mark = secrets.token_hex(16)
        self._first = json.dumps({"plan": self.head, "mark": mark})
        write_new(self.journal, self._first.encode() + b"\n", 0o600)
        try:
            self.partial.mkdir(mode=0o700)
        except OSError as error:
            raise OutputError(f'"{self.partial}" cannot be written: {reason(error)}') from None
        write_new(self.partial / _MARK, mark.encode(), 0o600)

    def _require_mark(self, mark: str) -> None:
        """Raise OutputError unless the folder is the one that the journal is of: another that was
        put in its place would be published."""
        sweep_all(self.partial)
        if not any(self.partial.iterdir()):  # killed before it was marked
            write_new(self.partial / _MARK, mark.encode(), 0o600)
        try:
            found = read_regular(self.partial / _MARK, 100).decode("ascii", "replace")
        except OSError:
            found = ""
        if not hmac.compare_digest(found.encode(), mark.encode()):
            raise OutputError(
                f'"{self.partial}" is not the folder that "{self.journal.name}" is of: '
                "look what it is, and remove it"
            )

    def count_only_ours(self, secret: Secret) -> None:
        """From here on a record carries a tag under the release secret, or it does not count."""
        self._key = derive(secret, "journal").value
        self.records = [
            record
            for record in self.records
            if hmac.compare_digest(str(record.get("tag")), self._tag(record))
        ]

    def _tag(self, record: dict[str, Any]) -> str:
        body = {name: value for name, value in record.items() if name != "tag"}
        return hmac.new(
            self._key or b"", json.dumps(body, sort_keys=True).encode(), "sha256"
        ).hexdigest()

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

    def finish(self, mode: int, *, keep: Collection[str] | None = None) -> None:
        """Give the folder its name, and all files one time: when each was made would tell how hard
        its image was. keep: all that belongs into it, None for whatever is there."""
        sweep_all(self.partial)
        for path in self.partial.iterdir():
            if path.name == _MARK or (keep is not None and path.name not in keep):
                remove(path)
        write_new(self.journal, self._first.encode() + b"\n", 0o600)  # no names may stay
        level(self.partial, mode)
        finish_folder(self.partial, self.out)
        self.journal.unlink()

    def _drop_journal(self) -> None:
        if self.journal.is_file() and not self.journal.is_symlink():
            require_ours(self.journal)
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
