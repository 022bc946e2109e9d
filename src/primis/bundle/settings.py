"""What the owner chose, and the profile of bundles that have it in common (docs/format.md, 3)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

from primis.bundle import fields
from primis.bundle.geometry import Geometry
from primis.canonical import canonical


class Protection(StrEnum):
    """Level of protection: keyed, whose public code tells nothing without the key, or the paper's
    sparse coding with ambiguation, which leaks."""

    KEYED = "keyed"
    SCA = "sca"


MIN_HEADER_BYTES, MAX_HEADER_BYTES = 128, 1 << 24
MAX_ORIGINAL_BITS = 64
EXACT_BITS = (0, 1, 2, 4, 8, 16)
MAX_PER_POSITION = 4096
MAX_BITS_PER_ENTRY = 64
_MAX_ATOMS = 1 << 13
_LIMITS = {"atoms_per_map": 1 << 12, "code_maps": 1 << 12, "stride": 64, "tile": 1 << 10}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Dials of `share`, and their defaults. All are public.

    sparsity: S_x, true entries per position on average; decoys: S_n, likewise, as many unless told
    otherwise; both multiples of 1/1000. support_bits: budget for the sealed supports, in bits per
    true entry. value_bits: at level keyed, budget for the values, in bits per published entry.
    header_bytes: budget for the name and the source's header, compressed. original_bits: budget for
    the file itself, in bits per sample; 0 where it is not there. exact_bits: bits per sample of an
    image of few grey levels that is sealed exactly, 0 for all others. The last three are None,
    which stands in no bundle, where they are left to the image (`sharing.fit.settings_for`).
    """

    sparsity: float = 8.0
    decoys: float = None  # type: ignore[assignment]  # as many as S_x
    protection: Protection = Protection.KEYED
    support_bits: float = 2.75
    value_bits: float = 4.0
    header_bytes: int | None = None
    original_bits: float | None = None
    exact_bits: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "protection", Protection(self.protection))
        if self.decoys is None:
            object.__setattr__(self, "decoys", self.sparsity)

    def require_decided(self) -> None:
        """Raise ValueError while something is left to an image."""
        if None in (self.header_bytes, self.original_bits, self.exact_bits):
            raise ValueError("settings leave something to an image that is not known here")

    @property
    def body(self) -> dict[str, Any]:
        """As JSON has it: fractions in thousandths. Raises ValueError while something is open."""
        self.require_decided()
        return {
            "decoys": milli(self.decoys),
            "exact_bits": self.exact_bits,
            "header_bytes": self.header_bytes,
            "original_bits": milli(self.original_bits),
            "protection": self.protection.value,
            "sparsity": milli(self.sparsity),
            "support_bits": milli(self.support_bits),
            "value_bits": milli(self.value_bits),
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
        model = fields.hexadecimal(body["model"], 64)
        return cls(model=model, settings=_settings(body["settings"]), **sizes)

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
        """SHA-256 of `data`: how a bundle names its profile."""
        return hashlib.sha256(self.data).digest()

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


def _settings(body: Any) -> Settings:
    names = {"decoys", "exact_bits", "header_bytes", "original_bits", "protection"}
    fields.record(body, names | {"sparsity", "support_bits", "value_bits"})
    return Settings(
        sparsity=fields.thousandths(body["sparsity"], 0.001, MAX_PER_POSITION),
        decoys=fields.thousandths(body["decoys"], 0, MAX_PER_POSITION),
        protection=Protection(fields.one_of(body["protection"], [p.value for p in Protection])),
        support_bits=fields.thousandths(body["support_bits"], 0, MAX_BITS_PER_ENTRY),
        value_bits=fields.thousandths(body["value_bits"], 0, MAX_BITS_PER_ENTRY),
        header_bytes=fields.whole(body["header_bytes"], MIN_HEADER_BYTES, MAX_HEADER_BYTES),
        original_bits=fields.thousandths(body["original_bits"], 0, MAX_ORIGINAL_BITS),
        exact_bits=fields.one_of(body["exact_bits"], EXACT_BITS),
    )
