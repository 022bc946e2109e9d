"""A journal: what was done, a line each, so that the same call again goes on where it stopped. It
names input files, so it never lies in what is published."""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from primis.atomic import reason, require_ours, write_new
from primis.errors import OutputError
from primis.keys.seal import Secret, derive

Record = dict[str, Any]


class Journal:
    """For one process at a time. Records stay on the disk: there may be many."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._first = ""
        self._key: bytes | None = None
        self._joined: list[Journal] = []

    def start(self, head: Record) -> None:
        """A new one. head: what it is of."""
        self._first = json.dumps(head)
        write_new(self.path, self._first.encode() + b"\n", 0o600)

    def head(self) -> Record:
        """What it is of. Raises OutputError where it is not this user's."""
        require_ours(self.path)
        with self.path.open(encoding="utf-8", errors="replace") as file:
            self._first = file.readline().rstrip("\n")
        return _record(self._first) or {}

    def records(self) -> Iterator[Record]:
        """Those that count, in order; then those of the journals that were joined."""
        with self.path.open(encoding="utf-8", errors="replace") as file:
            file.readline()
            for line in file:
                if (record := _record(line)) is not None and self._counts(record):
                    yield record
        for journal in self._joined:
            yield from journal.records()

    def count_only_ours(self, secret: Secret) -> None:
        """From here on a record carries a tag under the release secret, or it does not count."""
        self._key = derive(secret, "journal").value

    def join(self, others: Sequence[Journal]) -> None:
        """Have the records of others count as well."""
        self._joined += others

    def _counts(self, record: Record) -> bool:
        return self._key is None or hmac.compare_digest(
            str(record.get("tag")).encode(), self._tag(record).encode()
        )

    def _tag(self, record: Record) -> str:
        body = {name: value for name, value in record.items() if name != "tag"}
        return hmac.new(
            self._key or b"", json.dumps(body, sort_keys=True).encode(), "sha256"
        ).hexdigest()

    def note(self, **record: Any) -> Record:
        """One more thing is done."""
        if self._key is not None:
            record["tag"] = self._tag(record)
        try:
            with self.path.open("r+b") as file:  # one that was removed meanwhile is not made anew
                file.seek(0, os.SEEK_END)
                file.write(b"\n" + json.dumps(record).encode())  # a torn line stays its own
        except OSError as error:
            raise OutputError(f'"{self.path}" cannot be written: {reason(error)}') from None
        return record

    def clear(self) -> None:
        """Keep the head alone: no names may stay."""
        write_new(self.path, self._first.encode() + b"\n", 0o600)

    def drop(self) -> None:
        """Remove it, if it is a file of this user's."""
        if self.path.is_file() and not self.path.is_symlink():
            require_ours(self.path)
            self.path.unlink()


def _record(line: str) -> Record | None:
    try:
        record = json.loads(line)
    except ValueError:  # cut off in the middle of a line
        return None
    return record if isinstance(record, dict) else None
