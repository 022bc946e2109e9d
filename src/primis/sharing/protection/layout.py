"""Parts of many records in a budget of fixed size, in an order that tells nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from primis.codes.ambiguation import Draw, order
from primis.sharing.opened import Run


class LaidOut(NamedTuple):
    """The bytes, and where each part lies in them."""

    data: bytes
    places: list[Run]


def lay_out(parts: Sequence[bytes], size: int, draw: Draw, *, frames: int = 1) -> LaidOut:
    """The parts of tier preview, which are the first half of each frame's, end to end in a random
    order, then those of tier diagnostic in another, then random bytes up to `size`.

    Were the tiers mixed, what lies between its own parts would tell a holder of tier preview of the
    finer ones.
    """
    preview, diagnostic = np.arange(len(parts)).reshape(frames, 2, -1).swapaxes(0, 1)
    tiers = (preview.ravel(), diagnostic.ravel())
    chosen = np.concatenate([numbers[order(len(numbers), draw)] for numbers in tiers])
    starts = np.zeros(len(parts), np.int64)
    starts[chosen] = np.cumsum([0, *(len(parts[i]) for i in chosen[:-1])])
    data = b"".join(parts[i] for i in chosen)
    places = [Run(int(start), len(part)) for start, part in zip(starts, parts, strict=True)]
    return LaidOut(data + draw(size - len(data)), places)
