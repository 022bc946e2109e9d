"""What the owner chose, and the profile of bundles that have it in common (docs/format.md, 2)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

from primis.bundle import fields
from primis.bundle.geometry import Geometry
from primis.canonical import canonical


class Protection(StrEnum):
    """Level of protection: keyed, whose public code tells nothing to whoever lacks the key, or sca,
    the paper's sparse coding with ambiguation, which leaks."""

    KEYED = "keyed"
    SCA = "sca"


PROFILE_NAME = 8
MIN_HEADER_BYTES, MAX_HEADER_BYTES, MAX_FRAME_HEADER_BYTES = 64, 1 << 24, 1 << 20
MAX_ORIGINAL_BITS = 64
EXACT_BITS = (0, 1, 2, 4, 8, 16)
MAX_PER_POSITION = 4096
MAX_BITS_PER_ENTRY = 64
MAX_TILE_ENTRIES = 1 << 24
"""Places in a tile: a reader holds it in memory."""

_MAX_ATOMS = 1 << 13
_LIMITS = {"atoms_per_map": 1 << 12, "code_maps": 1 << 12, "stride": 64, "tile": 1 << 10}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What an owner chooses when sharing, with its defaults. All of it is public.

    sparsity: S_x, true entries per position of the grid, on average; in steps of 1/1000. decoys:
    S_n, decoys per position, at level sca; in steps of 1/1000, by default as many as S_x; 0 at
    level keyed. protection: the level. code_bits: budget for what is coded, in bits per true entry:
    at level keyed supports and values, at level sca the supports. header_bytes: budget for the name
    and the file's header, compressed. frame_header_bytes: what each frame but the first adds to
    that, for series, whose frames have headers of their own. original_bits: budget for the file
    itself, in bits per sample; 0 where it is not there. exact_bits: bits per sample of an image
    that is sealed exactly, by default one of few grey levels, 0 for all others. tile: pixels of the
    side of a tile, the smallest part that can be granted, a multiple of four strides (64 pixels
    with the models that come with primis); smaller ones cost bytes.

    The four that have no default are None where they are left to the weights and the images
    (`sharing.fit.settings_for`); in a bundle none is None.
    """

    sparsity: float = 8.0
    decoys: float | None = None  # by the level, as soon as it is made
    protection: Protection = Protection.KEYED
    code_bits: float | None = None
    header_bytes: int | None = None
    frame_header_bytes: int = 0
    original_bits: float | None = None
    exact_bits: int | None = None
    tile: int = 512

    def __post_init__(self) -> None:
        object.__setattr__(self, "protection", Protection(self.protection))
        if self.decoys is None:
            decoys = self.sparsity if self.protection is Protection.SCA else 0.0
            object.__setattr__(self, "decoys", decoys)
        if self.decoys and self.protection is Protection.KEYED:
            raise ValueError(f"decoys is {self.decoys:g}, expected 0 at level keyed")

    def at_level(self, protection: Protection) -> Settings:
        """The same at another level, with the default decoys and code budget of that level."""
        return replace(self, protection=protection, decoys=None, code_bits=None)

    def header_budget(self, frames: int) -> int:
        """Bytes for the header of an image of so many frames; 0 where that is left open."""
        return (self.header_bytes or 0) + self.frame_header_bytes * (frames - 1)

    def require_decided(self) -> None:
        """Raise ValueError while something is left to an image."""
        if None in (self.code_bits, self.header_bytes, self.original_bits, self.exact_bits):
            raise ValueError("settings leave something to an image that is not known here")

    @property
    def body(self) -> dict[str, Any]:
        """As JSON has it: fractions in thousandths. Raises ValueError while something is open."""
        self.require_decided()
        return {
            "code_bits": milli(self.code_bits),
            "decoys": milli(self.decoys),
            "exact_bits": self.exact_bits,
            "frame_header_bytes": self.frame_header_bytes,
            "header_bytes": self.header_bytes,
            "original_bits": milli(self.original_bits),
            "protection": self.protection.value,
            "sparsity": milli(self.sparsity),
        }


@dataclass(frozen=True)
class Profile:
    """What many bundles of a release have in common. model: SHA-256 of the weights that decode
    them; stride, tile, code_maps, atoms_per_map: as in Geometry."""

    model: str
    stride: int
    tile: int
    code_maps: int
    atoms_per_map: int
    settings: Settings

    @classmethod
    def parse(cls, body: Any) -> Profile:
        """From parsed JSON. Raises ValueError."""
        fields.record(body, {"code", "format", "model", "settings"})
        fields.whole(body["format"], 1, 1)
        code = fields.record(body["code"], _LIMITS)
        sizes = {name: fields.whole(code[name], 1, most) for name, most in _LIMITS.items()}
        if sizes["tile"] % 4:
            raise ValueError(f"has tiles of {sizes['tile']} positions, expected a multiple of 4")
        atoms = sizes["code_maps"] * sizes["atoms_per_map"]
        if atoms > _MAX_ATOMS:
            raise ValueError(f"has {atoms} atoms at a position, expected at most {_MAX_ATOMS}")
        if (entries := sizes["tile"] ** 2 * atoms) > MAX_TILE_ENTRIES:
            raise ValueError(f"has {entries} places in a tile, expected at most {MAX_TILE_ENTRIES}")
        model = fields.hexadecimal(body["model"], 64)
        settings = _settings(body["settings"], sizes["tile"] * sizes["stride"])
        return cls(model=model, settings=settings, **sizes)

    @property
    def body(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "code": {name: getattr(self, name) for name in _LIMITS},
            "format": 1,
            "model": self.model,
            "settings": self.settings.body,
        }

    @cached_property
    def data(self) -> bytes:
        """Canonical JSON."""
        return canonical(self.body)

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of `data`."""
        return hashlib.sha256(self.data).digest()

    @property
    def name(self) -> bytes:
        """How a bundle names its profile: the digest's first 8 bytes."""
        return self.digest[:PROFILE_NAME]

    def geometry(self, frames: int, height: int, width: int, channels: int) -> Geometry:
        """Of an image of this size. Raises ValueError where it is out of bounds."""
        geometry = Geometry(
            atoms_per_map=self.atoms_per_map,
            channels=channels,
            code_maps=self.code_maps,
            frames=frames,
            height=height,
            stride=self.stride,
            tile=self.tile,
            width=width,
        )
        geometry.require_sound()
        return geometry


def milli(value: float | None) -> int:
    """A setting in thousandths."""
    return round(1000 * (value or 0))


def _settings(body: Any, tile: int) -> Settings:
    """From parsed JSON. tile: of the code, in pixels. Raises ValueError."""
    names = {"decoys", "exact_bits", "header_bytes", "original_bits", "protection"}
    fields.record(body, names | {"sparsity", "code_bits", "frame_header_bytes"})
    return Settings(
        sparsity=fields.thousandths(body["sparsity"], 0.001, MAX_PER_POSITION),
        decoys=fields.thousandths(body["decoys"], 0, MAX_PER_POSITION),
        protection=Protection(fields.one_of(body["protection"], [p.value for p in Protection])),
        code_bits=fields.thousandths(body["code_bits"], 0, MAX_BITS_PER_ENTRY),
        header_bytes=fields.whole(body["header_bytes"], MIN_HEADER_BYTES, MAX_HEADER_BYTES),
        frame_header_bytes=fields.whole(body["frame_header_bytes"], 0, MAX_FRAME_HEADER_BYTES),
        original_bits=fields.thousandths(body["original_bits"], 0, MAX_ORIGINAL_BITS),
        exact_bits=fields.one_of(body["exact_bits"], EXACT_BITS),
        tile=tile,
    )
