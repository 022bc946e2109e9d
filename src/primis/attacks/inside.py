"""What lies behind the seals and what anyone reads of a public code, for attackers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from primis.bundle.geometry import Geometry
from primis.bundle.settings import Protection
from primis.codes.sparse import LEVEL_LIMIT, SparseCode
from primis.keys.seal import mask
from primis.sharing.groups import GroupCode
from primis.sharing.opened import OpenedBundle, Place, places, record_secrets
from primis.sharing.protection.sca import read_plain


class OpenRecord(NamedTuple):
    """An index record in clear: its place in the code, its bytes, its stream of supports and, at
    level keyed, its values."""

    place: Place
    record: bytes
    support: bytes
    values: bytes


def open_records(bundle: OpenedBundle) -> list[OpenRecord]:
    """Those of the first frame."""
    header, opened = bundle.header, []
    keyed = header.settings.protection == Protection.KEYED
    secrets = record_secrets(header, bundle.secrets, 0)
    for number, (place, secret) in enumerate(zip(places(header), secrets, strict=True)):
        record = bundle.record(0, number, secret)
        run = bundle.parts["public"][record.at : record.at + record.length]
        values = mask(run, secret) if keyed else b""
        support = bundle.support(0, record, secret)
        opened.append(OpenRecord(place, record.pack(), support, values))
    return opened


def code_of_frame(group: GroupCode) -> SparseCode:
    """Of the first frame of a group. Where it is coded with others, what its coefficients give at
    the same threshold: a code of its own it does not have."""
    if group.count == 1:
        return group.code
    q, t = group.coefficients_of(0), np.float32(group.code.threshold)
    levels = np.minimum(np.floor(np.abs(q) / t), LEVEL_LIMIT) * np.sign(q)
    return SparseCode(levels.astype(np.int16), group.code.threshold, group.code.offset)


def read_public_code(bundle: OpenedBundle) -> list[np.ndarray]:
    """Z_p as anyone reads it, (c, LM, h, w) of int16 per frame.

    At level keyed there are no entries to see, only bytes; here each half byte is a level, at a
    place that is the same in all bundles of a geometry and settings, so that what bundles have in
    common can be found.
    """
    header = bundle.header
    if header.settings.protection == Protection.SCA:
        return [frame.code for frame in read_plain(bundle)]
    geometry = header.geometry
    frames = np.frombuffer(bundle.parts["public"][:], np.uint8).reshape(geometry.frames, -1)
    return [_scattered(data, header.slots, geometry) for data in frames]


def _scattered(data: np.ndarray, count: int, geometry: Geometry) -> np.ndarray:
    halves = np.stack([data >> 4, data & 15], axis=1).ravel().astype(np.int16) - 8
    values = np.resize(np.where(halves >= 0, halves + 1, halves), count)
    code = np.zeros(geometry.positions * geometry.atoms, np.int16)
    code[np.random.default_rng(0).choice(len(code), count, replace=False)] = values
    return code.reshape(geometry.channels, geometry.atoms, *geometry.grid)
