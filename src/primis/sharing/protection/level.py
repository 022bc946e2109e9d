"""A level of protection, as sharing and restoring see it.

code --encode--> EncodedGroup --publish--> a group's part of the code's sections
bundle --open--> PublicCode --levels--> true levels of a record, for who has its secret
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from primis.bundle.header import Header
from primis.bundle.index import IndexRecord
from primis.codec import Codec, Done
from primis.codes.ambiguation import Draw
from primis.codes.sparse import SparseCode
from primis.keys.seal import Secret
from primis.sharing.opened import OpenedBundle, Place, Run


class Published(NamedTuple):
    """The part of a group of frames of sections `public` and `supports`.

    runs, digests: of each record's values; streams: of each record's sealed support.
    """

    public: bytes
    supports: bytes
    runs: list[Run]
    digests: list[bytes]
    streams: list[Run]


class EncodedGroup(Protocol):
    """The coded streams of the records of a group, frame by frame, not yet sealed."""

    @property
    def supports(self) -> list[bytes]:
        """Of each record."""

    @property
    def size(self) -> int:
        """Bytes of all that counts against the budget."""

    def publish(
        self, header: Header, secrets: list[Secret], sealed: list[bytes], draw: Draw
    ) -> Published:
        """What anyone may see. sealed: supports, one for each record."""


class PublicCode(Protocol):
    """What is published of all frames of a bundle."""

    def levels(
        self, frame: int, number: int, record: IndexRecord, place: Place, opened: OpenedRecord
    ) -> np.ndarray:
        """True levels (atoms, rows, columns) of a record. Raises DamagedSection."""


class OpenedRecord(NamedTuple):
    """What opens a record. known: levels of the tiers below in its tile; support: its stream."""

    secret: Secret
    support: bytes
    known: np.ndarray
    codec: Codec


class Level(Protocol):
    """A level of protection."""

    def encode(
        self, code: SparseCode, header: Header, codec: Codec, draw: Draw, done: Done
    ) -> EncodedGroup:
        """Code a group: levels (n · c, LM, h, w) of its n frames."""

    def open(self, bundle: OpenedBundle) -> PublicCode:
        """Read what a bundle publishes. Raises DamagedSection."""

    def reseal(
        self, bundle: OpenedBundle, frame: int, record: IndexRecord, was: Secret, now: Secret
    ) -> bytes:
        """A record's published values under another secret. Raises DamagedSection."""
