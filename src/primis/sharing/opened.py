"""A bundle with the secrets at hand: what sharing, restoring and resealing read of it.

The code of a frame is divided into records: one for each tile of what tier preview opens, then one
for each tile of what tier diagnostic adds. A record's secret opens its index record, its support
and its values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from primis.bundle.container import Profiles, read_bundle
from primis.bundle.header import RECORD, TAG, Header
from primis.bundle.index import IndexRecord, run_digest
from primis.bundle.ranged import Bytes, RangedBytes
from primis.bundle.settings import Protection
from primis.errors import DamagedSection, NotCovered, TierTooLow
from primis.imaging.region import Region
from primis.keys.grant import ImageKeys, RegionSecrets
from primis.keys.seal import (
    Secret,
    TierSecrets,
    info_secret,
    pad,
    seal,
    tile_secret,
    unpad,
    unseal,
)
from primis.keys.tier import Tier
from primis.sharing.groups import group_of, may_group
from primis.sharing.sections.info import Info

SEALED_WHOLE = {
    "info": Tier.PREVIEW,
    "header": Tier.DIAGNOSTIC,
    "exact": Tier.DIAGNOSTIC,
    "original": Tier.ORIGINAL,
}
"""Sections that are sealed whole, and the tier that opens each."""


class Run(NamedTuple):
    """Where bytes lie in a section, or in the part of it that a group of frames has."""

    at: int
    length: int


class Place(NamedTuple):
    """Where a record's entries lie in the code of its frame."""

    atoms: range
    plane: int
    rows: slice
    columns: slice


def places(header: Header) -> list[Place]:
    """Of each record of a frame, in order."""
    first, every = header.geometry.atoms_per_map, header.geometry.atoms
    tiers = range(first), range(first, every)
    return [Place(atoms, *tile) for atoms in tiers for tile in header.geometry.tiles]


def record_secrets(
    header: Header, secrets: TierSecrets, frame: int, tier: Tier = Tier.DIAGNOSTIC
) -> list[Secret]:
    """Of each record of a frame that the tier opens, in order. Raises TierTooLow."""
    require_tier(secrets, tier)
    count = header.geometry.tile_count
    numbers = range(frame * count, (frame + 1) * count)
    return [tile_secret(secrets[t], number) for t in tier.opened for number in numbers]


_PADDED = ("header", "original")


def seal_whole(name: str, plain: bytes, header: Header, secrets: TierSecrets) -> bytes:
    """A section that is sealed whole, padded to its budget."""
    data = pad(plain, header.plain_sizes[name]) if name in _PADDED else plain
    return seal(data, whole_secret(name, secrets), name, header.binding)


def whole_secret(name: str, secrets: TierSecrets) -> Secret:
    """What opens a section that is sealed whole. Raises TierTooLow."""
    tier = SEALED_WHOLE[name]
    require_tier(secrets, tier)
    return info_secret(secrets[tier]) if name == "info" else secrets[tier]


def require_tier(secrets: TierSecrets, tier: Tier) -> None:
    """Raise TierTooLow unless the secrets open a tier and all below it."""
    if missing := [t for t in tier.opened if t not in secrets]:
        raise TierTooLow(
            f'tier "{tier}" was asked for, but the secrets offered do not open "{missing[-1]}"'
        )


@dataclass(frozen=True, eq=False)
class OpenedBundle:
    """header and parts: of the bundle; secrets: of the tiers that are opened, none where `region`,
    and nothing else, is."""

    header: Header
    parts: Mapping[str, Bytes] = field(repr=False)
    secrets: TierSecrets = field(repr=False)
    region: RegionSecrets | None = field(default=None, repr=False)

    @classmethod
    def of(cls, header: Header, parts: Mapping[str, Bytes], keys: ImageKeys) -> OpenedBundle:
        """With what opens it, or a region of it."""
        if isinstance(keys, RegionSecrets):
            return cls(header, parts, {}, keys)
        return cls(header, parts, keys)

    @classmethod
    def read(
        cls,
        data: bytes | RangedBytes,
        keys: ImageKeys,
        profiles: Profiles | None = None,
        name: str = "",
    ) -> OpenedBundle:
        """From a bundle's bytes. profiles: of its release, None for a bundle that stands alone.

        Raises BadBundle, DamagedSection.
        """
        return cls.of(*read_bundle(data, name, profiles), keys)

    @property
    def whole_parts(self) -> dict[str, bytes]:
        """All sections, fetched if they were not."""
        return {name: part[:] for name, part in self.parts.items()}

    @property
    def sealed_whole(self) -> list[str]:
        """Sections that are sealed whole and are there."""
        return [name for name in SEALED_WHOLE if name in self.parts]

    def unseal(self, name: str) -> bytes:
        """A section sealed whole, without its padding. Raises DamagedSection, TierTooLow."""
        data = self.unseal_padded(name)
        return unpad(data) if name in _PADDED else data

    def unseal_padded(self, name: str) -> bytes:
        """The same with its padding, for who seals it again."""
        secret = whole_secret(name, self.secrets)
        with self.named():
            return unseal(self.parts[name][:], secret, name, self.header.binding)

    @cached_property
    def info(self) -> Info:
        """Section `info`, or what the grant of a region has in its place. Raises DamagedSection,
        TierTooLow."""
        if self.region is None:
            return Info.unpack(self.unseal("info"), self.header)
        opened = self.region.region
        with self.named():
            _require_region(opened, self.header)
        first, last = opened.first, opened.first if opened.last is None else opened.last
        return Info.unpack_frames(self.region.info, self.header, first, last)

    @property
    def group(self) -> int:
        """G: how many frames are coded together. Raises DamagedSection, TierTooLow."""
        return self.info.group if may_group(self.header) else 1

    def part_of(self, frame: int) -> Run:
        """Where the records of a frame and of those coded with it lie in the section of the
        code."""
        frames = group_of(frame, self.group, self.header.geometry.frames)
        budget = self.header.code_budget
        return Run(frames.start * budget, len(frames) * budget)

    def tile_secret(self, tier: Tier, number: int) -> Secret:
        """Of a tile, numbered across frames. Raises NotCovered, TierTooLow."""
        if self.region is None:
            require_tier(self.secrets, tier)
            return tile_secret(self.secrets[tier], number)
        if number not in self.region.tiles.get(tier, {}):
            raise NotCovered(
                f'bundle "{self.header.id}": tile {number} at tier "{tier}" is not opened'
            )
        return self.region.tiles[tier][number]

    def record(self, frame: int, number: int, secret: Secret) -> IndexRecord:
        """An index record. Raises DamagedSection."""
        header, size = self.header, RECORD + TAG
        at = (frame * header.records + number) * size
        sealed = self.parts["index"][at : at + size]
        with self.named():
            record = IndexRecord.unpack(unseal(sealed, secret, "index", header.binding))
        _, part = self.part_of(frame)
        values = part if header.settings.protection is Protection.KEYED else 0
        streams = record.stream_at + record.stream_length
        if record.at + record.length > values or streams > part:
            raise DamagedSection(
                f'bundle "{header.id}": section "index": a record points outside its section'
            )
        return record

    def support(self, frame: int, record: IndexRecord, secret: Secret) -> bytes:
        """The stream of a record's support. Raises DamagedSection."""
        if not record.stream_length:
            return b""
        at = self.part_of(frame).at + record.stream_at
        sealed = self.parts[self.header.code_section][at : at + record.stream_length]
        with self.named():
            return unseal(sealed, secret, "supports", self.header.binding)

    @contextmanager
    def named(self) -> Iterator[None]:
        """What is damaged is damaged in this bundle."""
        try:
            yield
        except DamagedSection as error:
            raise DamagedSection(f'bundle "{self.header.id}": {error}') from None


def _require_region(region: Region, header: Header) -> None:
    """Raise DamagedSection where an image cannot have such a region: its owner may be hostile."""
    geometry, last = header.geometry, region.first if region.last is None else region.last
    across, down = region.x + region.width, region.y + region.height
    within = across <= geometry.width and down <= geometry.height and last < geometry.frames
    keyed = header.settings.protection is Protection.KEYED
    if not within or header.settings.exact_bits or not keyed:
        raise DamagedSection("a grant opens a region that the image does not have")


def seal_support(stream: bytes, secret: Secret, header: Header) -> bytes:
    """A record's support; one without entries has none."""
    return seal(stream, secret, "supports", header.binding) if stream else b""


def seal_record(record: IndexRecord, secret: Secret, header: Header) -> bytes:
    """An index record."""
    return seal(record.pack(), secret, "index", header.binding)


def verified(run: bytes, digest: bytes) -> bytes:
    """Published values, if they are those that were sealed for. Raises DamagedSection."""
    if run_digest(run) != digest:
        raise DamagedSection('section "public" has values that were altered')
    return run
