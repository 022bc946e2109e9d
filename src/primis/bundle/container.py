"""The bytes of a bundle (docs/format.md, section 2). Knows no key.

    head | bytes of profile | profile | bytes of public, at level sca | section | ... | end

Parses strictly: what this module writes is the only form it reads, so that no two files mean the
same. In a release the profile is left out: the manifest lists it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from primis.bundle.header import HEAD, MAGIC, Header, Section
from primis.bundle.ranged import Bytes, RangedBytes
from primis.bundle.settings import Profile, Protection
from primis.canonical import parse_canonical
from primis.errors import BadBundle

SAMPLES_PER_BYTE = 8192
"""A bundle that claims more samples for each of its bytes is refused: a small one may name
gigabytes."""

_PROFILE_SIZE, _PUBLIC_SIZE = struct.Struct(">H"), struct.Struct(">Q")
_MAX_PROFILE = 1 << 12
_MAX_BYTES = 1 << 50
_MOST_HEADER = HEAD.size + _PROFILE_SIZE.size + _MAX_PROFILE + _PUBLIC_SIZE.size

Parts = dict[str, Bytes]
"""Sections by their names."""

Profiles = Mapping[bytes, Profile]
"""Profiles of a release by their names."""


class ParsedHeader(NamedTuple):
    """A header, and where its sections start."""

    header: Header
    start: int


class Head(NamedTuple):
    """What a bundle calls itself, and the name of its profile."""

    id: str
    profile: bytes


def profiles_of(profiles: Iterable[Profile]) -> Profiles:
    """By their names."""
    return {profile.name: profile for profile in profiles}


def write_bundle(header: Header, parts: Mapping[str, bytes], *, alone: bool = False) -> bytes:
    """Header and sections as one file. alone: with its profile, for use without a release."""
    profile = header.profile.data if alone else b""
    public = _PUBLIC_SIZE.pack(len(parts["public"])) if _gives_public(header) else b""
    _require_sizes(header, parts)
    start = [header.head, _PROFILE_SIZE.pack(len(profile)), profile, public]
    data = b"".join([*start, *(parts[name] for name in header.names)])
    _require_bytes(header, len(data), header.id)
    return data


def _gives_public(header: Header) -> bool:
    """Whether the size of `public` does not follow from the rest."""
    return header.settings.protection is Protection.SCA


def _require_bytes(header: Header, size: int, name: str) -> None:
    """Raise BadBundle where a bundle claims more than its bytes can hold."""
    if header.geometry.samples > SAMPLES_PER_BYTE * size:
        raise BadBundle(
            f'bundle "{name}" has {size} bytes and claims {header.geometry.samples} samples, '
            f"expected at most {SAMPLES_PER_BYTE} for each byte"
        )


def _require_sizes(header: Header, parts: Mapping[str, bytes]) -> None:
    """Raise ValueError where a section is not of the size that geometry and settings dictate."""
    for name, size in header.fixed_sizes.items():
        if len(parts[name]) != size:
            raise ValueError(f'section "{name}" has {len(parts[name])} bytes, expected {size}')


def read_header(data: Bytes, name: str, profiles: Profiles | None = None) -> ParsedHeader:
    """The header of a bundle. name: for errors. profiles: of its release, None for a bundle that
    brings its own. Raises BadBundle."""
    try:
        return _parse(data[:_MOST_HEADER], profiles)
    except ValueError as error:
        raise BadBundle(f'bundle "{name}" {error}') from None


def read_bundle(
    data: bytes | RangedBytes, name: str, profiles: Profiles | None = None
) -> tuple[Header, Parts]:
    """Header and sections, each of its size, nothing after the last. Raises BadBundle."""
    parsed = read_header(data, name, profiles)
    return parsed.header, read_sections(data, name, parsed)


def read_sections(data: bytes | RangedBytes, name: str, parsed: ParsedHeader) -> Parts:
    """The sections of a bundle whose header was read, not yet fetched where they are fetched.

    Raises as `read_bundle` does.
    """
    header, at = parsed.header, parsed.start
    _require_bytes(header, len(data), name)
    parts: dict[str, Bytes] = {}
    for section in header.sections:
        there = max(0, min(section.bytes, len(data) - at))
        if there != section.bytes:
            raise BadBundle(
                f'bundle "{name}": section "{section.name}" has {there} bytes, '
                f"expected {section.bytes}"
            )
        if isinstance(data, RangedBytes):
            parts[section.name] = data.part(at, there)
        else:
            parts[section.name] = data[at : at + there]
        at += section.bytes
    if at != len(data):
        raise BadBundle(f'bundle "{name}": {len(data) - at} bytes follow the last section')
    return parts


def read_head(data: bytes, name: str) -> Head:
    """Of a bundle whose profile is not at hand. Raises BadBundle."""
    if len(data) < HEAD.size or data[: len(MAGIC)] != MAGIC:
        raise BadBundle(f'bundle "{name}" is none of format 1')
    _, bundle_id, profile, *_ = HEAD.unpack_from(data)
    return Head(bundle_id.hex(), profile)


def stands_alone(data: bytes) -> bool:
    """Whether a bundle brings its profile."""
    there = len(data) >= HEAD.size + _PROFILE_SIZE.size
    return there and _PROFILE_SIZE.unpack_from(data, HEAD.size)[0] > 0


def _parse(data: bytes, profiles: Profiles | None) -> ParsedHeader:
    if data[: len(MAGIC)] != MAGIC:
        raise ValueError(f"starts with {data[: len(MAGIC)].hex()!r}, expected that of format 1")
    start = HEAD.size + _PROFILE_SIZE.size
    if len(data) < start:
        raise ValueError(f"has {len(data)} bytes, expected at least {start}")
    _, bundle_id, named, *sides = HEAD.unpack_from(data)
    (length,) = _PROFILE_SIZE.unpack_from(data, HEAD.size)
    if (length == 0) != (profiles is not None) or length > _MAX_PROFILE:
        expected = "none in a release" if profiles is not None else "its own, as it stands alone"
        raise ValueError(f"has a profile of {length} bytes, expected {expected}")
    profile = _profile(data[start : start + length], named, profiles)
    header = Header(bundle_id.hex(), profile.geometry(*sides), profile.settings, profile.model)
    start += length
    sizes = header.fixed_sizes
    if _gives_public(header):
        if len(data) < start + _PUBLIC_SIZE.size:
            raise ValueError("ends in its header")
        (sizes["public"],) = _PUBLIC_SIZE.unpack_from(data, start)
        start += _PUBLIC_SIZE.size
        if sizes["public"] > _MAX_BYTES:
            raise ValueError(f'gives section "public" {sizes["public"]} bytes')
    sections = tuple(Section(name, sizes[name]) for name in header.names)
    return ParsedHeader(replace(header, sections=sections), start)


def _profile(own: bytes, named: bytes, profiles: Profiles | None) -> Profile:
    """The one that a bundle brings, or names. Raises ValueError."""
    if profiles is not None:
        if named not in profiles:
            raise ValueError(f'has profile "{named.hex()}", which its release does not list')
        return profiles[named]
    profile = Profile.parse(parse_canonical(bytes(own)))
    if profile.name != named:
        raise ValueError(f'has profile "{profile.name.hex()}", its head names "{named.hex()}"')
    return profile
