"""A record of section `index`, before it is sealed (docs/format.md, section 6)."""

from __future__ import annotations

import hashlib
import struct
from typing import NamedTuple

_RECORD = struct.Struct(">5I16s")


class IndexRecord(NamedTuple):
    """Where a record's values and its sealed stream lie, in bytes, in the parts that its frame, or
    the group of frames that it is coded with, has of the sections.

    entries: true entries of the record. digest: of the values as they are published.
    """

    at: int
    length: int
    entries: int
    stream_at: int
    stream_length: int
    digest: bytes

    @classmethod
    def unpack(cls, data: bytes) -> IndexRecord:
        """From its 36 bytes."""
        return cls._make(_RECORD.unpack(data))

    def pack(self) -> bytes:
        """Its 36 bytes."""
        return _RECORD.pack(*self)


def run_digest(run: bytes) -> bytes:
    """What a record says of the published values that it stands for: 16 bytes of SHA-256."""
    return hashlib.sha256(run).digest()[:16]
