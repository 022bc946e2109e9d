"""The code of a frame, or of frames that are coded together, as large as its budget allows.

At level keyed the bytes of a frame follow from geometry and settings, and an encoder that leaves
some of them unused wastes them: it keeps as many entries as fit. A complex image keeps fewer than
S_x per position, a plain one more. At level sca there are S_x at most, so that decoys have theirs.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

import numpy as np

from primis.bundle.header import STREAM_SLACK, Header
from primis.bundle.settings import MAX_BITS_PER_ENTRY, Protection
from primis.codec import Codec, Done, within
from primis.codes.ambiguation import Draw
from primis.codes.sparse import SparseCode
from primis.errors import OverBudget
from primis.sharing.protection import LEVELS
from primis.sharing.protection.level import EncodedGroup

FILLED = 0.985
"""A code that takes this part of its budget is large enough."""

_AIM, _FIRST_AIM = 0.996, 0.992
"""Parts of the budget: of a try that follows others, and of the first, by what prices say."""

_GROWTH = 0.85
"""Entries grow like bytes to this power."""

_TRIES = 12
_STRANGE = 1.4
"""Beyond this factor of the entries that they were made for, prices are made anew."""

_SHORT = 0.97
"""Less than this part of the entries that were asked for: prices left out too many."""

_STALLED = 2
"""More tries in a row that fit, or that do not, are too many once there is one of each."""


class Fitted(NamedTuple):
    """A code, and its streams."""

    code: SparseCode
    encoded: EncodedGroup


def fit_code(z: np.ndarray, header: Header, codec: Codec, draw: Draw, done: Done) -> Fitted:
    """The best code of coefficients z (n · c, LM, h, w) that the budget of n frames holds.

    How many tries it takes is not known: each counts for half of what is left. Raises OverBudget
    where none fits.
    """
    level, frames = LEVELS[header.settings.protection], len(z) // header.geometry.channels
    budget, entries = frames * header.code_bytes, frames * header.entries
    most = entries if header.settings.protection is Protection.SCA else z.size
    tile = header.geometry.tile
    selector = codec.selector(z, entries, tile)
    search, best, short = _Search(entries, budget, most), None, False
    if selector.bits and header.settings.protection is Protection.KEYED:
        search.expect(selector.bits / 8)
    sizes = []
    for number in range(_TRIES):
        step = within(done, 1 - 0.5**number, 1 - 0.5 ** (number + 1))
        if short or not 1 / _STRANGE < search.entries / selector.entries < _STRANGE:
            selector = codec.selector(z, search.entries, tile)
        code = selector.keep(search.entries)
        step(0.5)
        encoded = level.encode(code, header, codec, draw, within(step, 0.5, 1))
        kept = int(np.count_nonzero(code.levels))
        short = kept < _SHORT * search.entries
        sizes.append(encoded.size)
        if encoded.size <= budget and (best is None or encoded.size > best.encoded.size):
            best = Fitted(code, encoded)
        if not search.go_on(kept, encoded.size, adapts=codec.architecture.over_image):
            break
    done(1)
    if best is None:
        said = "the code needs more than the settings leave"
        raise OverBudget(said, "code_bits", _bits_for(min(sizes) / frames, header))
    return best


def _bits_for(size: float, header: Header) -> float | None:
    """The `code_bits` with which a code of so many bytes for a frame fits, and a tenth more; None
    if none."""
    streams = size - header.records * STREAM_SLACK
    bits = ceil(10 * 1.1 * 8 * streams / header.entries) / 10
    return bits if bits <= MAX_BITS_PER_ENTRY else None


def _in_proportion(entries: int, ratio: float) -> int:
    """How many take so many times the bytes: the more are kept, the more the next ones take."""
    return int(entries * ratio ** (_GROWTH if ratio > 1 else 1))


class _Search:
    """How many entries to try, from what others took: bytes grow almost in proportion."""

    def __init__(self, entries: int, budget: int, most: int) -> None:
        self.entries = entries
        self._budget, self._most = budget, most
        self._fits, self._over = (0, 0), (0, 0)  # entries kept, and the bytes they took
        self._last, self._alike = False, 0  # whether the last fitted; how many in a row were so

    def expect(self, size: float) -> None:
        """Begin with as many as should fit, if so many as were asked for take `size` bytes."""
        ratio = min(max(_FIRST_AIM * self._budget / size, 1 / _STRANGE), _STRANGE)
        self.entries = min(max(1, _in_proportion(self.entries, ratio)), self._most)

    def go_on(self, kept: int, size: int, *, adapts: bool) -> bool:
        """Choose what to try next; False where that is enough, or nothing else can be."""
        fits, asked = size <= self._budget, self.entries
        if fits and (size >= FILLED * self._budget or kept >= self._most or not adapts):
            return False
        if not fits and not adapts:
            return False
        if fits and asked > kept <= self._fits[0]:  # there is no more to keep
            return False
        self._alike = self._alike + 1 if fits == self._last else 1
        self._last = fits
        if fits:
            self._fits = max(self._fits, (kept, size))
        else:
            self._over = min(self._over, (kept, size)) if self._over[0] else (kept, size)
        self.entries = min(self._next(kept, size), self._most)
        return self._fits[0] < self.entries != asked

    def _next(self, kept: int, size: int) -> int:
        """On the line between what fits and what does not, in the middle where the line leads on to
        one side again and again; in proportion where one is missing."""
        (low, less), (high, more) = self._fits, self._over
        aim = _AIM * self._budget
        if not low or not high:
            least = 1 if size > self._budget else kept + 1
            return max(_in_proportion(kept, aim / max(size, 1)), least)
        between = low + (high - low) * (aim - less) / max(more - less, 1)
        if self._alike > _STALLED:
            between = (low * high) ** 0.5
        return int(min(max(between, low + 1), high - 1))
