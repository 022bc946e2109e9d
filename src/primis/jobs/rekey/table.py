"""Which bundle becomes which: all that is held of each image of a release, 113 bytes."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator

from primis.bundle.manifest import ENTRY_BYTES, Entry


class Table:
    """Bundles as they are listed, by id, and beside each what it became. A row is a number."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._before, self.bytes = bytearray(), 0
        for entry in entries:
            self._before += entry.packed
            self.bytes += entry.size
        self._after = bytearray(len(self._before))
        self._is_made = bytearray(len(self))
        self.made = 0

    def __len__(self) -> int:
        return len(self._before) // ENTRY_BYTES

    def before(self, row: int) -> Entry:
        """As it was."""
        return Entry.unpack(bytes(self._before[row * ENTRY_BYTES : (row + 1) * ENTRY_BYTES]))

    def after(self, row: int) -> Entry | None:
        """What it became, None where that is not made yet."""
        if not self._is_made[row]:
            return None
        return Entry.unpack(bytes(self._after[row * ENTRY_BYTES : (row + 1) * ENTRY_BYTES]))

    def put(self, row: int, entry: Entry | None) -> None:
        """What it became; None: it has to be made."""
        self.made += (entry is not None) - self._is_made[row]
        self._is_made[row] = entry is not None
        if entry is not None:
            self._after[row * ENTRY_BYTES : (row + 1) * ENTRY_BYTES] = entry.packed

    def find(self, bundle_id: str) -> int | None:
        """The row of a bundle by the id that it had."""
        wanted = bytes.fromhex(bundle_id)
        row = bisect_left(range(len(self)), wanted, key=self._id)
        return row if row < len(self) and self._id(row) == wanted else None

    def renamed(self, bundle_id: str) -> str | None:
        """The id that a bundle has now, by the one that it had; None where it is not there."""
        row = self.find(bundle_id)
        entry = None if row is None else self.after(row)
        return None if entry is None else entry.id

    def left(self) -> array[int]:
        """Rows that have to be made."""
        return array("L", (row for row in range(len(self)) if not self._is_made[row]))

    def all_made(self) -> Iterator[tuple[int, Entry]]:
        """Rows that are made, and what they became."""
        for row in range(len(self)):
            if entry := self.after(row):
                yield row, entry

    def _id(self, row: int) -> bytes:
        return bytes(self._before[row * ENTRY_BYTES : row * ENTRY_BYTES + 16])
