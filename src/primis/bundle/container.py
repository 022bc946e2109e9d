"""The bytes of a bundle (docs/format.md, section 2). Knows no key.

    head | bytes of public | bytes of profile | profile | digests | section | section | ... | end

Parses strictly: what this module writes is the only form it reads, so that no two files mean the
same. In a release the profile is left out: the manifest lists it.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from primis.bundle.header import HEAD, MAGIC, Header, Section
from primis.bundle.settings import Profile
from primis.canonical import parse_canonical
from primis.errors import BadBundle, DamagedSection

SAMPLES_PER_BYTE = 8192
"""A bundle that claims more samples for each of its bytes is refused: a small one may name
gigabytes."""

_SIZES = struct.Struct(">QI")
_DIGEST = 32
_MAX_PROFILE = 1 << 12
_MAX_BYTES = 1 << 50
MAX_HEADER = HEAD.size + _SIZES.size + 7 * _DIGEST + _MAX_PROFILE
"""Bytes of a bundle before its first section, at most."""

Profiles = Mapping[bytes, Profile]
"""Profiles of a release by their digests."""


class ParsedHeader(NamedTuple):
    """A header, where its sections start, and SHA-256 of what comes before them."""

    header: Header
    start: int
    digest: str


def profiles_of(profiles: Iterable[Profile]) -> Profiles:
    """By their digests."""
    return {profile.digest: profile for profile in profiles}


def write_bundle(header: Header, parts: Mapping[str, bytes], *, alone: bool = False) -> bytes:
    """Header and sections as one file. alone: with its profile, for use without a release."""
    profile = header.profile.data if alone else b""
    sizes = _SIZES.pack(len(parts["public"]), len(profile))
    digests = b"".join(hashlib.sha256(parts[name]).digest() for name in header.names)
    _require_sizes(header, parts)
    data = b"".join([header.head, sizes, profile, digests, *(parts[n] for n in header.names)])
    _require_bytes(header, len(data), header.id)
    return data


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


def read_header(data: bytes, name: str, profiles: Profiles | None = None) -> ParsedHeader:
    """The header of a bundle. name: for errors. profiles: of its release, None for a bundle that
    brings its own. Raises BadBundle."""
    try:
        return _parse(data, profiles)
    except ValueError as error:
        raise BadBundle(f'bundle "{name}" {error}') from None


def read_bundle(
    data: bytes, name: str, profiles: Profiles | None = None
) -> tuple[Header, dict[str, bytes]]:
    """Header and sections, each of its size and digest, nothing after the last.

    Raises BadBundle, and DamagedSection where a section's bytes differ from its digest.
    """
    parsed = read_header(data, name, profiles)
    return parsed.header, read_sections(data, name, parsed)


def read_sections(data: bytes, name: str, parsed: ParsedHeader) -> dict[str, bytes]:
    """The sections of a bundle whose header was read. Raises as `read_bundle` does."""
    header, at = parsed.header, parsed.start
    _require_bytes(header, len(data), name)
    parts = {}
    for section in header.sections:
        part = data[at : at + section.bytes]
        if len(part) != section.bytes:
            raise BadBundle(
                f'bundle "{name}": section "{section.name}" has {len(part)} bytes, '
                f"expected {section.bytes}"
            )
        if hashlib.sha256(part).hexdigest() != section.sha256:
            raise DamagedSection(
                f'bundle "{name}": section "{section.name}" does not match its digest in the header'
            )
        parts[section.name] = part
        at += section.bytes
    if at != len(data):
        raise BadBundle(f'bundle "{name}": {len(data) - at} bytes follow the last section')
    return parts


def header_digest(header: Header, data: bytes) -> str:
    """SHA-256, hex, of what comes before the first section of a bundle of a release."""
    size = HEAD.size + _SIZES.size + _DIGEST * len(header.names)
    return hashlib.sha256(data[:size]).hexdigest()


def read_head(data: bytes, name: str) -> tuple[str, bytes]:
    """(id, digest of the profile) of a bundle whose profile is not at hand. Raises BadBundle."""
    if len(data) < HEAD.size or data[: len(MAGIC)] != MAGIC:
        raise BadBundle(f'bundle "{name}" is none of format 1')
    _, bundle_id, digest, *_ = HEAD.unpack_from(data)
    return bundle_id.hex(), digest


def stands_alone(data: bytes) -> bool:
    """Whether a bundle brings its profile."""
    return len(data) >= HEAD.size + _SIZES.size and _SIZES.unpack_from(data, HEAD.size)[1] > 0


def _parse(data: bytes, profiles: Profiles | None) -> ParsedHeader:
    if data[: len(MAGIC)] != MAGIC:
        raise ValueError(f"starts with {data[: len(MAGIC)].hex()!r}, expected that of format 1")
    start = HEAD.size + _SIZES.size
    if len(data) < start:
        raise ValueError(f"has {len(data)} bytes, expected at least {start}")
    _, bundle_id, digest, *sides = HEAD.unpack_from(data)
    public, length = _SIZES.unpack_from(data, HEAD.size)
    if (length == 0) != (profiles is not None) or length > _MAX_PROFILE:
        expected = "none in a release" if profiles is not None else "its own, as it stands alone"
        raise ValueError(f"has a profile of {length} bytes, expected {expected}")
    profile = _profile(data[start : start + length], digest, profiles)
    header = Header(bundle_id.hex(), profile.geometry(*sides), profile.settings, profile.model)
    digests = start + length
    start = digests + _DIGEST * len(header.names)
    if len(data) < start:
        raise ValueError("ends in its header")
    sizes = header.fixed_sizes
    if sizes.setdefault("public", public) != public or public > _MAX_BYTES:
        raise ValueError(f'gives section "public" {public} bytes, expected {sizes["public"]}')
    sections = tuple(
        Section(name, sizes[name], data[at : at + _DIGEST].hex())
        for name, at in zip(header.names, range(digests, start, _DIGEST), strict=True)
    )
    whole = hashlib.sha256(data[:start]).hexdigest()
    return ParsedHeader(replace(header, sections=sections), start, whole)


def _profile(own: bytes, digest: bytes, profiles: Profiles | None) -> Profile:
    """The one that a bundle brings, or names. Raises ValueError."""
    if profiles is None:
        if hashlib.sha256(own).digest() != digest:
            raise ValueError("has a profile that does not match its digest")
        return Profile.parse(parse_canonical(bytes(own)))
    if digest not in profiles:
        raise ValueError(f'has profile "{digest.hex()[:16]}", which its release does not list')
    return profiles[digest]
