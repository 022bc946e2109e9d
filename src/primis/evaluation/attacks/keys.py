"""Attackers who hold keys, but not this one; and what a key used twice would give them.

strangers' keys     every sealed part of an image, with the secrets of other images                    opens none
a lower tier's key  the parts of the higher tiers, with the secrets of tier preview                     opens none
keystream moved     an image that the attacker knows gives its keystream (published xor plain), which is
                    then tried on another image. Finds keys and nonces that meet two messages.          opens none
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

from primis.bundle.layout import TAG, Header, read_bundle
from primis.codec import Codec
from primis.codes.coder import decode_code
from primis.errors import PrimisError
from primis.evaluation.attacks.protocol import Case
from primis.keys.seal import Secret, tile_secret, unseal
from primis.sharing.image_bundle import plain_records

_NEIGHBOURS = 2
_TIER_OF = {"info": "preview", "header": "diagnostic", "original": "original"}


def sealed_parts(bundle: bytes) -> Iterator[tuple[str, str, int, bytes]]:
    """(section, tier, tile, sealed bytes) of what is sealed whole; index records stand for their tiles."""
    header, parts = read_bundle(bundle, "")
    for name, tier in _TIER_OF.items():
        if name in parts:
            yield name, tier, -1, parts[name]
    size, tiles = header.fixed_sizes["index"] // (header.geometry.frames * header.records), header.geometry.tile_count
    for number in range(header.records):  # of the first frame
        tier = "preview" if number < tiles else "diagnostic"
        yield "index", tier, number % tiles, parts["index"][number * size : (number + 1) * size]


def opened(bundle: bytes, offered: dict[str, Secret], *, above: str | None = None) -> tuple[int, int]:
    """(parts opened, parts tried) with any of the secrets offered. above: leave out what belongs to this tier."""
    header, _ = read_bundle(bundle, "")
    hits, tried = 0, 0
    for name, tier, tile, sealed in sealed_parts(bundle):
        if tier == above:
            continue
        tried += 1
        keys = [tile_secret(s, tile) if tile >= 0 else s for s in offered.values()]
        hits += any(_opens(sealed, key, name, header) for key in keys)
    return hits, tried


def _opens(sealed: bytes, key: Secret, name: str, header: Header) -> bool:
    try:
        unseal(sealed, key, name, header.binding)
    except PrimisError:
        return False
    return True


def strangers(cases: Sequence[Case]) -> tuple[int, int]:
    """Each bundle's parts with the secrets of the next few images."""
    steps = range(1, min(_NEIGHBOURS, len(cases) - 1) + 1)
    found = [opened(case.view.bundle, cases[(i + step) % len(cases)].secrets) for i, case in enumerate(cases) for step in steps]
    return sum(hits for hits, _ in found), sum(tried for _, tried in found)


def lower_tier(cases: Sequence[Case]) -> tuple[int, int]:
    """The parts of higher tiers with the secret of tier preview."""
    found = [opened(case.view.bundle, {"preview": case.secrets["preview"]}, above="preview") for case in cases]
    return sum(hits for hits, _ in found), sum(tried for _, tried in found)


def keystream_moved(known: Case, target: Case, codec: Codec) -> np.ndarray | None:
    """The levels (LM, h, w) of the target as the keystream of a known image decodes them, None where that gives nonsense.

    What the attacker knows of the known image: all its plain parts, as its encoder makes them.
    """
    header, parts = read_bundle(target.view.bundle, "")
    theirs, ours = read_bundle(known.view.bundle, ""), plain_records(*read_bundle(known.view.bundle, ""), known.secrets)
    levels = np.zeros((header.geometry.atoms, *header.geometry.grid), np.int16)
    try:
        for number, (atoms, (_, rows, columns), record, stream, values) in enumerate(ours):
            size = len(record) + TAG
            place = slice(number * size, number * size + len(record))
            at, length, entries, stream_at, stream_length = np.frombuffer(
                _moved(theirs[1]["index"][place], record, parts["index"][place]), ">u4"
            ).tolist()
            head = np.frombuffer(record, ">u4")
            support = _moved(
                theirs[1]["supports"][int(head[3]) :], stream, parts["supports"][stream_at : stream_at + stream_length - TAG]
            )
            coded = _moved(theirs[1]["public"][int(head[0]) :], values, parts["public"][at : at + length])
            tile = decode_code(support, coded, levels[:, rows, columns], atoms, entries, codec.layout, codec.checkpoint.tables)
            levels[:, rows, columns] = tile
    except (PrimisError, ValueError, MemoryError):
        return None
    return levels


def _moved(published: bytes, plain: bytes, other: bytes) -> bytes:
    """`other` under the keystream that made `published` of `plain`, as far as that reaches."""
    n = min(len(published), len(plain), len(other))
    a, b, c = (np.frombuffer(x[:n], np.uint8) for x in (published, plain, other))
    return (a ^ b ^ c).tobytes()


def pairs(cases: Sequence[Case], most: int) -> list[tuple[Case, Case]]:
    """Known image and target, a few of all."""
    return [(a, b) for a, b in product(cases, cases) if a is not b][:most]
