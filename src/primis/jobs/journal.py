"""A journal: what was done, a line each, so that the same call again goes on where it stopped. It
names input files, so it never lies in what is published."""

from __future__ import annotations

import hmac
import json
from pathlib import Path
from typing import Any

from primis.atomic import require_ours, write_new
from primis.errors import OutputError
from primis.keys.seal import Secret, derive

Record = dict[str, Any]


class Journal:
    """For one process at a time. records: what counts of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: list[Record] = []
        self._first = ""
        self._key: bytes | None = None

    def start(self, head: Record) -> None:
        """A new one. head: what it is of."""
        self._first = json.dumps(head)
        write_new(self.path, self._first.encode() + b"\n", 0o600)

    def read(self) -> Record:
        """Its head. Raises OutputError where it is not this user's."""
        require_ours(self.path)
        self._first, *lines = self.path.read_text("utf-8", "replace").splitlines() or [""]
        self.records = [record for line in lines if (record := _record(line))]
        return _record(self._first) or {}

    def count_only_ours(self, secret: Secret) -> None:
        """From here on a record carries a tag under the release secret, or it does not count."""
        self._key = derive(secret, "journal").value
        self.records = [
            record
            for record in self.records
            if hmac.compare_digest(str(record.get("tag")), self._tag(record))
        ]

    def _tag(self, record: Record) -> str:
        body = {name: value for name, value in record.items() if name != "tag"}
        return hmac.new(
            self._key or b"", json.dumps(body, sort_keys=True).encode(), "sha256"
        ).hexdigest()

    def note(self, **record: Any) -> Record:
        """One more thing is done."""
        if self._key is not None:
            record["tag"] = self._tag(record)
        self.records.append(record)
        try:
            with self.path.open("a") as file:
                file.write("\n" + json.dumps(record))  # a torn line before it stays its own
        except OSError as error:
            raise OutputError(f'"{self.path}" cannot be written: {error.strerror}') from None
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
