"""What anyone sees of a bundle, and the sizes that follow from it (docs/format.md, section 2).

At level keyed every size follows from geometry and settings, so that no size tells of an image.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from primis.bundle.geometry import Geometry
from primis.bundle.settings import Profile, Protection, Settings, milli

MAGIC = b"PRIMIS1\n"
SECTIONS = ("info", "index", "public", "supports", "header", "exact", "original")
"""All sections, in their order; the last two are there if the settings say so, `supports` at level
sca: at level keyed all of the code is in `public`."""

CODE_TIERS = 2
"""Tiers that have a part of the code: preview and diagnostic."""

TAG = 16
"""Bytes that sealing adds."""

DEFLATE = -15
"""Bare deflate (RFC 1951), as zlib calls it: the seal is checksum enough."""

RECORD = 36
STREAM_SLACK = 8
"""Bytes of a budget for each record beyond what its entries take: small images need them."""

INFO_BASE, INFO_PER_FRAME = 36, 16
ORIGINAL_SLACK = 4
HEAD = struct.Struct(">8s16s8s4I")
"""Magic, id, name of the profile, frames, height, width, channels."""


class Section(NamedTuple):
    """One section: its name and its length."""

    name: str
    bytes: int


@dataclass(frozen=True)
class Header:
    """What anyone can see of a bundle. id: 32 hex digits; model: SHA-256 of the weights that decode
    it, 64 hex digits. sections: empty until the bundle is written."""

    id: str
    geometry: Geometry
    settings: Settings
    model: str
    sections: tuple[Section, ...] = ()

    @cached_property
    def profile(self) -> Profile:
        """What it has in common with others of its release."""
        g = self.geometry
        return Profile(self.model, g.stride, g.tile, g.code_maps, g.atoms_per_map, self.settings)

    @cached_property
    def head(self) -> bytes:
        """The first bytes of the bundle."""
        names = bytes.fromhex(self.id), self.profile.name
        return HEAD.pack(MAGIC, *names, *self.geometry.shape)

    @cached_property
    def binding(self) -> bytes:
        """SHA-256 of `head` and the profile: sealed sections authenticate it."""
        return hashlib.sha256(self.head + self.profile.digest).digest()

    @property
    def names(self) -> tuple[str, ...]:
        """Sections that the settings ask for, in their order."""
        there = (
            ("supports", self.settings.protection is Protection.SCA),
            ("exact", self.settings.exact_bits),
            ("original", self.settings.original_bits),
        )
        absent = {name for name, wanted in there if not wanted}
        return tuple(name for name in SECTIONS if name not in absent)

    @property
    def entries(self) -> int:
        """K: S_x entries per position of one frame. At level sca there are no more, at level keyed
        as many as fit what these take on average."""
        wanted = _round_half_even(milli(self.settings.sparsity) * self.geometry.positions)
        return max(1, min(wanted, self._all))

    @property
    def slots(self) -> int:
        """n: entries of one frame that are published: S_x + S_n per position."""
        each = milli(self.settings.sparsity) + milli(self.settings.decoys)
        return max(self.entries, min(-(-each * self.geometry.positions // 1000), self._all))

    @property
    def records(self) -> int:
        """R: index records of one frame: one per tile and tier of the code."""
        return CODE_TIERS * self.geometry.tile_count

    @property
    def code_budget(self) -> int:
        """B: bytes of one frame for the sealed supports, and at level keyed the values."""
        return self.code_bytes + self.records * TAG

    @property
    def code_bytes(self) -> int:
        """The same without what sealing adds."""
        streams = -(-milli(self.settings.code_bits) * self.entries // 8000)
        return streams + self.records * STREAM_SLACK

    @property
    def code_section(self) -> str:
        """The section that holds the sealed supports."""
        return "public" if self.settings.protection is Protection.KEYED else "supports"

    @property
    def plain_sizes(self) -> dict[str, int]:
        """Bytes before sealing of the sections that are sealed whole and are there.

        Raises ValueError where the settings leave something to an image.
        """
        self.settings.require_decided()
        sizes = {
            "info": INFO_BASE + self.geometry.frames * (INFO_PER_FRAME + self._texture_bytes),
            "header": self.settings.header_budget(self.geometry.frames),
        }
        if exact := self.settings.exact_bits:
            table = 2 * 2**exact if exact < 16 else 0
            sizes["exact"] = -(-exact * self.geometry.samples // 8) + table
        if self.settings.original_bits:
            samples = -(-milli(self.settings.original_bits) * self.geometry.samples // 8000)
            sizes["original"] = samples + ORIGINAL_SLACK * sizes["header"]
        return sizes

    @property
    def fixed_sizes(self) -> dict[str, int]:
        """Bytes of all sections; at level sca of all but `public`."""
        frames = self.geometry.frames
        sizes = {name: size + TAG for name, size in self.plain_sizes.items()}
        sizes["index"] = frames * self.records * (RECORD + TAG)
        sizes[self.code_section] = frames * self.code_budget
        return sizes

    @property
    def _texture_bytes(self) -> int:
        """Of a frame in `info`; where samples are exact no texture is lost."""
        if self.settings.exact_bits:
            return 0
        return self.geometry.channels * self.geometry.texture_bytes

    @property
    def _all(self) -> int:
        return self.geometry.positions * self.geometry.atoms


def _round_half_even(thousandths: int) -> int:
    whole, rest = divmod(thousandths, 1000)
    return whole + (rest > 500 or (rest == 500 and whole % 2 == 1))
