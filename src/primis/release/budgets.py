"""What is sealed whole has one budget for a whole release, so that no size tells of one image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from primis.bundle.settings import (
    MAX_FRAME_HEADER_BYTES,
    MAX_HEADER_BYTES,
    MAX_ORIGINAL_BITS,
    MIN_HEADER_BYTES,
    Settings,
)
from primis.errors import InputError, OverBudget
from primis.imaging.image import SERIES, Image
from primis.imaging.levels import find_levels
from primis.imaging.padding import find_padding
from primis.keys.seal import LENGTH_BYTES
from primis.sharing.fit import header_budget, power_of_two
from primis.sharing.sections.original import original_times
from primis.sharing.sections.source_header import pack_header

_FAR_LARGER = 4
_OF_SERIES = 4096
"""Least `header_bytes` where there are series: about what their slices have in common."""


@cache
def _the_same(names: tuple[str, ...]) -> tuple[str, ...]:
    """One object for all files alike: there may be many."""
    return names


@dataclass(frozen=True, slots=True)  # there may be many
class Need:
    """What one image takes besides its code. original_times: bits for the file itself, as a
    multiple of what its samples take uncompressed. slices: of a series, 1 for all else.
    identifying: as of Image."""

    header_bytes: int
    original_times: int
    slices: int = 1
    identifying: tuple[str, ...] = ()

    @classmethod
    def of(cls, image: Image, name: str, original_size: int) -> Need:
        """original_size: bytes of the file, 0 where it is not sealed."""
        padding = None if find_levels(image.pixels) is not None else find_padding(image)
        packed = len(pack_header(image, name, padding)) + LENGTH_BYTES
        header_bytes = max(MIN_HEADER_BYTES, packed)
        times = original_times(original_size, image, header_bytes)
        slices = image.shape[0] if image.kind == SERIES else 1
        return cls(header_bytes, times, slices, _the_same(image.identifying))

    @classmethod
    def again(cls, header_bytes: int, original_times: int, slices: int, *identifying: str) -> Need:
        """Inverse of `record`."""
        return cls(header_bytes, original_times, slices, _the_same(identifying))

    def per_slice(self, header_bytes: int) -> int:
        """`frame_header_bytes` with which a series fits."""
        rest = max(0, self.header_bytes - header_bytes)
        return min(power_of_two(-(-rest // (self.slices - 1))), MAX_FRAME_HEADER_BYTES)

    @property
    def record(self) -> list[int | str]:
        """What a journal keeps of it."""
        return [self.header_bytes, self.original_times, self.slices, *self.identifying]


def _fits_all(needs: Sequence[Need]) -> int:
    """`header_bytes` that hold every header, and of series what their slices have in common."""
    alone = [need.header_bytes for need in needs if need.slices == 1]
    fits = header_budget(size for size in alone if size <= MAX_HEADER_BYTES)
    return max(fits, _OF_SERIES) if len(alone) < len(needs) else fits


@dataclass(frozen=True)
class Budgets:
    """What the settings of a release leave to its files, decided. fits_all: the `header_bytes` that
    would hold every header. lossless: every sample is sealed as it is."""

    settings: Settings
    original_times: int
    fits_all: int
    lossless: bool = False

    @classmethod
    def choose(
        cls, settings: Settings, needs: Sequence[Need], *, lossless: bool = False
    ) -> Budgets:
        fits_all = _fits_all(needs)
        series = [need for need in needs if need.slices > 1]
        times = max((need.original_times for need in needs), default=1)
        chosen = fits_all if settings.header_bytes is None else settings.header_bytes
        frame = max((need.per_slice(chosen) for need in series), default=0)
        settings = replace(settings, header_bytes=chosen, frame_header_bytes=frame)
        return cls(settings, times, fits_all, lossless)

    def outlier(self, needs: Mapping[str, Need]) -> str | None:
        """What to say of a file whose header makes every bundle of the release far larger."""
        alone = {name: need for name, need in needs.items() if need.slices == 1}
        if len(alone) < 2:
            return None
        name = max(alone, key=lambda name: alone[name].header_bytes)
        budget = self.settings.header_bytes or 0
        rest = _fits_all([need for other, need in needs.items() if other != name])
        if budget <= _FAR_LARGER * rest:
            return None
        return (
            f'the header of "{name}" takes {needs[name].header_bytes} bytes, so every image gets a '
            f"budget of {budget}: without it {rest} would do, "
            f"{(budget - rest) * len(needs)} bytes less in all"
        )

    def fit(self, need: Need | InputError) -> bool:
        """Whether an image's header fits, as far as it could be looked at."""
        if not isinstance(need, Need):
            return False
        return need.header_bytes <= self.settings.header_budget(need.slices)

    def require_fit(self, need: Need) -> None:
        """Raise InputError for a header that is too large for a budget that was given."""
        if not self.fit(need):
            raise OverBudget(
                f"the header takes {need.header_bytes} bytes compressed, "
                f"the settings leave {self.settings.header_budget(need.slices)}; for all files",
                "header_bytes",
                self.fits_all if need.header_bytes <= MAX_HEADER_BYTES else None,
            )

    def of(self, image: Image, *, with_original: bool) -> Settings:
        """The settings for one image."""
        settings, bits = self.settings, 8 * image.pixels.dtype.itemsize
        if self.lossless:  # whatever its levels are: the size is not to tell
            settings = replace(settings, exact_bits=bits)
        if not with_original or settings.original_bits is not None:
            return settings
        original = min(float(bits * self.original_times), float(MAX_ORIGINAL_BITS))
        return replace(settings, original_bits=original)

    @property
    def record(self) -> list[int]:
        """What a bundle must have been made with to belong to the release."""
        settings = self.settings
        return [settings.header_bytes or 0, settings.frame_header_bytes, self.original_times]
