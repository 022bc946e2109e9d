"""Section `original`: the file itself, and how much of a budget it needs."""

from __future__ import annotations

import math

from primis.bundle.header import ORIGINAL_SLACK, Header
from primis.bundle.settings import MAX_HEADER_BYTES, MAX_ORIGINAL_BITS
from primis.errors import OverBudget
from primis.imaging.image import Image
from primis.keys.seal import LENGTH_BYTES


def original_times(size: int, image: Image, header_bytes: int) -> int:
    """How many times the bits of its uncompressed samples hold a file of so many bytes: 1, 2, 4, 8
    or more."""
    spare = size + LENGTH_BYTES - ORIGINAL_SLACK * header_bytes
    times = max(1, math.ceil(spare / image.raw_bytes))
    return int(1 << (times - 1).bit_length())


def fit_original(data: bytes, header: Header) -> bytes:
    """The file, if it fits. Raises OverBudget."""
    need, budget = len(data) + LENGTH_BYTES, header.plain_sizes["original"]
    if need <= budget:
        return data
    header_bytes = header.plain_sizes["header"]
    samples = header.geometry.samples
    bits = math.ceil((need - ORIGINAL_SLACK * header_bytes) * 80 / samples) / 10
    wider = _hundreds(header_bytes + (need - budget) / ORIGINAL_SLACK)
    remedies = (
        ("original_bits", bits, MAX_ORIGINAL_BITS),
        ("header_bytes", wider, MAX_HEADER_BYTES),
    )
    setting, value = next(((s, v) for s, v, most in remedies if v <= most), ("", None))
    raise OverBudget(f"the file takes {need} bytes, the settings leave {budget}", setting, value)


def _hundreds(number: float) -> int:
    """Rounded up to hundreds."""
    return 100 * math.ceil(number / 100)
