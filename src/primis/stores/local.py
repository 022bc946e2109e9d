"""Releases in a folder."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from primis.atomic import open_regular, read_regular, reason, write_new
from primis.errors import Changed, NotThere, OutputError, StoreError
from primis.stores.store import MOST_FILES, Found, Range, require_length

_MOST_REPLACED = 1 << 26


class LocalStore:
    """A folder, which need not exist. Whoever writes holds its lock (`release.lock`): `put_new` and
    `replace` look, then write."""

    lists = True

    def __init__(self, folder: Path) -> None:
        self.folder, self.place = folder, str(folder)
        self.tell: Callable[[str], None] = lambda said: None

    def __repr__(self) -> str:
        return f"LocalStore({self.place!r})"

    def __reduce__(self) -> tuple[type[LocalStore], tuple[Path]]:
        return LocalStore, (self.folder,)

    def path(self, key: str) -> Path:
        """Where a file lies."""
        return self.folder / key

    def get(self, key: str, most: int) -> Found:
        """See `Store`."""
        try:
            data = read_regular(self._no_link(key), most)
        except OSError as error:
            raise self._error(key, error) from None
        return Found(data, hashlib.sha256(data).hexdigest())

    def get_ranges(self, key: str, ranges: Sequence[Range], size: int) -> list[bytes]:
        """See `Store`."""
        parts = []
        try:
            with open_regular(self._no_link(key)) as file:
                for wanted in ranges:
                    file.seek(wanted.start)
                    parts.append(file.read(wanted.length))
        except OSError as error:
            raise self._error(key, error) from None
        pairs = zip(parts, ranges, strict=True)
        return [require_length(part, wanted, str(self.path(key))) for part, wanted in pairs]

    def _no_link(self, key: str) -> Path:
        """Where a file or folder lies. Raises OSError where it is a link, or lies in one: whoever
        stores the release may have laid it, to a file of the person who uses it."""
        path = self.folder
        for part in PurePosixPath(key).parts:
            path /= part
            if path.is_symlink():
                raise OSError(errno.ELOOP, "it is no regular file, but a link")
        return path

    def put(self, key: str, data: bytes) -> None:
        """See `Store`. Raises OutputError."""
        folder = str(PurePosixPath(key).parent)
        try:
            self._no_link(folder)
        except OSError:
            raise OutputError(f'"{self.path(folder)}" is a link, expected a folder') from None
        write_new(self.path(key), data)

    def put_new(self, key: str, data: bytes) -> None:
        """See `Store`. Raises OutputError."""
        if os.path.lexists(self.path(key)):
            raise Changed(str(self.path(key)), "it is there already")
        self.put(key, data)

    def replace(self, key: str, data: bytes, tag: str) -> None:
        """See `Store`. Raises OutputError."""
        if self.get(key, _MOST_REPLACED).tag != tag:
            raise Changed(str(self.path(key)), "it was changed meanwhile")
        self.put(key, data)

    def list(self, folder: str, most: int = MOST_FILES) -> dict[str, int]:
        """See `Store`."""
        try:
            with os.scandir(self.path(folder)) as found:
                return {entry.name: entry.stat().st_size for entry in found if entry.is_file()}
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise self._error(folder, error) from None

    def delete(self, key: str) -> None:
        """See `Store`."""
        try:
            self._no_link(str(PurePosixPath(key).parent))
            self.path(key).unlink(missing_ok=True)
        except OSError as error:
            raise self._error(key, error) from None

    def _error(self, key: str, error: OSError) -> StoreError:
        kind = NotThere if isinstance(error, FileNotFoundError) else StoreError
        return kind(str(self.path(key)), reason(error))
