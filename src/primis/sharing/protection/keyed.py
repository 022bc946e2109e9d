"""Level keyed: masked values and sealed supports of all records in one budget of bytes.

Whoever lacks the secret of a record sees bytes that are independent of the image: the values are
masked with a keystream of their own key, supports are sealed, what is left is random, and all sizes
follow from geometry and settings. docs/threat-model.md holds the proof.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product

import numpy as np

from primis.bundle.header import Header
from primis.bundle.index import IndexRecord, run_digest
from primis.codec import Codec, Done, silent
from primis.codes.ambiguation import Draw
from primis.codes.coder import decode_code, encode_code
from primis.codes.sparse import SparseCode
from primis.keys.seal import Secret, mask
from primis.sharing.opened import OpenedBundle, Place, Run, places, verified
from primis.sharing.protection.layout import lay_out
from primis.sharing.protection.level import OpenedRecord, Published


@dataclass(frozen=True)
class KeyedGroup:
    """supports, values: streams of each record, in clear."""

    supports: list[bytes] = field(repr=False)
    values: list[bytes] = field(repr=False)

    @property
    def size(self) -> int:
        """Bytes of all streams."""
        return sum(map(len, self.supports)) + sum(map(len, self.values))

    def publish(
        self, header: Header, secrets: list[Secret], sealed: list[bytes], draw: Draw
    ) -> Published:
        """Masked values and sealed supports, those of a record side by side, in their budget."""
        masked = [mask(stream, secret) for stream, secret in zip(self.values, secrets, strict=True)]
        parts = [values + support for values, support in zip(masked, sealed, strict=True)]
        frames = len(parts) // header.records
        data, laid = lay_out(parts, frames * header.code_budget, draw, frames=frames)
        both = list(zip(laid, map(len, masked), strict=True))
        runs = [Run(place.at, length) for place, length in both]
        streams = [Run(place.at + length, place.length - length) for place, length in both]
        return Published(data, b"", runs, [run_digest(values) for values in masked], streams)


@dataclass(frozen=True)
class KeyedCode:
    """Masked values of all frames."""

    bundle: OpenedBundle

    def levels(
        self, frame: int, number: int, record: IndexRecord, place: Place, opened: OpenedRecord
    ) -> np.ndarray:
        """Unmask and decode a record's tile. Raises DamagedSection."""
        values = mask(_run(self.bundle, frame, record), opened.secret)
        layout, tables = opened.codec.layout, opened.codec.checkpoint.tables
        return decode_code(
            opened.support, values, opened.known, place.atoms, record.entries, layout, tables
        )


class Keyed:
    """The level."""

    def encode(
        self, code: SparseCode, header: Header, codec: Codec, draw: Draw, done: Done = silent
    ) -> KeyedGroup:
        """Two streams for each record."""
        layout, tables = codec.layout, codec.checkpoint.tables
        channels, coded = header.geometry.channels, []
        frames = len(code.levels) // channels
        for frame, p in product(range(frames), places(header)):
            tile = code.levels[frame * channels + p.plane][:, p.rows, p.columns]
            coded.append(encode_code(tile, p.atoms, layout, tables))
            done(len(coded) / (frames * header.records))
        return KeyedGroup([support for support, _ in coded], [values for _, values in coded])

    def open(self, bundle: OpenedBundle) -> KeyedCode:
        """Nothing is read before a record is asked for."""
        return KeyedCode(bundle)

    def reseal(
        self, bundle: OpenedBundle, frame: int, record: IndexRecord, was: Secret, now: Secret
    ) -> bytes:
        """Masked anew."""
        return mask(mask(_run(bundle, frame, record), was), now)


def _run(bundle: OpenedBundle, frame: int, record: IndexRecord) -> bytes:
    """A record's masked values, verified."""
    at = bundle.part_of(frame).at + record.at
    with bundle.named():
        return verified(bundle.parts["public"][at : at + record.length], record.digest)
