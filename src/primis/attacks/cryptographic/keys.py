"""Attackers who hold keys, but not this one; and what a key used twice would give them.

strangers' keys     every sealed part of an image, with the secrets of other images
a lower tier's key  the parts of each higher tier, with the secrets of preview, and of diagnostic
keystream moved     an image that the attacker knows gives its keystream (published xor plain);
                    tried on another image, it finds keys and nonces that meet two messages

None of them may open anything. `opened` and `moved_records` are the attackers, who get bytes and
the secrets that they hold; the functions that take cases are the harness's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from primis.attacks.harness import Holds, JudgedCase
from primis.attacks.inside import open_records
from primis.attacks.result import Result, counted
from primis.bundle.container import read_bundle
from primis.bundle.header import TAG, Header
from primis.errors import PrimisError
from primis.keys.seal import Secret, TierSecrets, info_secret, tile_secret, unseal
from primis.keys.tier import TIERS
from primis.sharing.opened import OpenedBundle

STRANGERS, LOWER_TIER = "keys of other images", "key of a lower tier"
KEYSTREAM = "keystream of a known image"

_NEIGHBOURS = 2
_TIER_OF = {"info": "preview", "header": "diagnostic", "original": "original"}


def sealed_parts(bundle: bytes) -> Iterator[tuple[str, str, int, bytes]]:
    """(section, tier, tile, sealed bytes) of sections sealed whole and of index records."""
    header, parts = read_bundle(bundle, "")
    for name, tier in _TIER_OF.items():
        if name in parts:
            yield name, tier, -1, parts[name][:]
    geometry, tiles = header.geometry, header.geometry.tile_count
    size = header.fixed_sizes["index"] // (geometry.frames * header.records)
    for number in range(geometry.frames * header.records):
        frame, record = divmod(number, header.records)
        tier = "preview" if record < tiles else "diagnostic"
        yield (
            "index",
            tier,
            frame * tiles + record % tiles,
            parts["index"][number * size : (number + 1) * size],
        )


def opened(bundle: bytes, offered: TierSecrets, *, but: Sequence[str] = ()) -> tuple[int, int]:
    """(parts opened, parts tried) with any of the secrets offered. but: tiers to leave out."""
    header, _ = read_bundle(bundle, "")
    hits, tried = 0, 0
    for name, tier, tile, sealed in sealed_parts(bundle):
        if tier in but:
            continue
        tried += 1
        keys = [tile_secret(s, tile) if tile >= 0 else s for s in offered.values()]
        keys += [info_secret(s) for s in offered.values() if name == "info"]
        hits += any(_opens(sealed, key, name, header) for key in keys)
    return hits, tried


def _opens(sealed: bytes, key: Secret, name: str, header: Header) -> bool:
    try:
        unseal(sealed, key, name, header.binding)
    except PrimisError:
        return False
    return True


def strangers(cases: Sequence[JudgedCase]) -> tuple[int, int]:
    """Each bundle's parts with the secrets of the next few images."""
    found = [opened(case.view.bundle, other.secrets) for case, other in pairs(cases)]
    return sum(hits for hits, _ in found), sum(tried for _, tried in found)


def lower_tier(cases: Sequence[JudgedCase]) -> tuple[int, int]:
    """The parts of higher tiers with the secrets of tier preview, and of tier diagnostic."""
    held = [TIERS[:count] for count in range(1, len(TIERS))]
    found = [
        opened(case.view.bundle, {t: case.secrets[t] for t in tiers}, but=tiers)
        for case in cases
        for tiers in held
    ]
    return sum(hits for hits, _ in found), sum(tried for _, tried in found)


def keystream_moved(known: JudgedCase, target: JudgedCase) -> int:
    """How many sealed index records of the target the keystream of a known image reads.

    A record says where the other parts lie and how long they are, so with one the rest follows in
    the same way.
    """
    plain, truth = _records(known), _records(target)
    guesses = moved_records(known.view.bundle, plain, target.view.bundle)
    return sum(guess == record for guess, record in zip(guesses, truth, strict=False))


def moved_records(known: bytes, plain: Sequence[bytes], target: bytes) -> list[bytes]:
    """The target's index records under the keystream of a known bundle. plain: the index records of
    the known one, as the attacker's encoder makes them."""
    sealed = [read_bundle(bundle, "")[1]["index"] for bundle in (known, target)]
    size = len(plain[0]) + TAG
    starts = range(0, min(len(plain) * size, len(sealed[1])), size)
    return [
        _moved(sealed[0][at:], record, sealed[1][at:])
        for at, record in zip(starts, plain, strict=False)
    ]


def _records(case: JudgedCase) -> list[bytes]:
    opened = open_records(OpenedBundle.read(case.view.bundle, case.secrets))
    return [record.record for record in opened]


def _moved(published: bytes, plain: bytes, other: bytes) -> bytes:
    """`other` under the keystream that made `published` of `plain`, as far as that reaches."""
    n = min(len(published), len(plain), len(other))
    a, b, c = (np.frombuffer(x[:n], np.uint8) for x in (published, plain, other))
    return (a ^ b ^ c).tobytes()


def pairs(cases: Sequence[JudgedCase]) -> list[tuple[JudgedCase, JudgedCase]]:
    """Known image and target: each image with the next few."""
    steps = range(1, min(_NEIGHBOURS, len(cases) - 1) + 1)
    return [
        (case, cases[(i + step) % len(cases)]) for i, case in enumerate(cases) for step in steps
    ]


def strangers_result(cases: Sequence[JudgedCase]) -> Result:
    """How many sealed parts the secrets of other images open."""
    return counted(STRANGERS, Holds.KEYS, "sealed parts opened", *strangers(cases))


def lower_tier_result(cases: Sequence[JudgedCase]) -> Result:
    """How many parts of higher tiers the secrets of lower ones open."""
    what = "parts of higher tiers opened"
    return counted(LOWER_TIER, Holds.PREVIEW, what, *lower_tier(cases))


def keystream_result(known: Sequence[tuple[JudgedCase, JudgedCase]]) -> Result:
    """How many images the keystream of another, which the attacker knows, begins to open."""
    hits = sum(keystream_moved(own, target) > 0 for own, target in known)
    return counted(KEYSTREAM, Holds.PAIRS, "images opened", hits, len(known))
