"""Ways to change a good bundle."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import rfc8785

from primis.bundle.container import read_bundle, write_bundle
from primis.bundle.header import HEAD, INFO_BASE
from primis.keys.seal import (
    pad,
    seal,
    tile_secret,
    unpad,
)
from primis.keys.tier import Tier
from primis.sharing.opened import OpenedBundle, whole_secret
from tests.make_vectors.known import (
    image_secrets,
)

PROFILE_AT = HEAD.size + 2
"""Where a bundle's own profile starts, after its size."""


def profile_of(data: bytes) -> bytes:
    """A bundle's own profile."""
    length = struct.unpack_from(">H", data, PROFILE_AT - 2)[0]
    return data[PROFILE_AT : PROFILE_AT + length]


def raw_profile(data: bytes, change) -> bytes:
    """The bundle with its profile changed as bytes, under its new name and length."""
    old = profile_of(data)
    new = change(old)
    head = data[:24] + hashlib.sha256(new).digest()[:8] + data[32 : PROFILE_AT - 2]
    return head + struct.pack(">H", len(new)) + new + data[PROFILE_AT + len(old) :]


def rebuild(data: bytes, change) -> bytes:
    """The bundle with its profile changed as JSON and written canonically again."""

    def rewritten(profile: bytes) -> bytes:
        body = json.loads(profile)
        change(body)
        return rfc8785.dumps(body)

    return raw_profile(data, rewritten)


def with_number(data: bytes, at: int, value: int) -> bytes:
    """The bundle with a number of 4 bytes in its head changed."""
    return data[:at] + struct.pack(">I", value) + data[at + 4 :]


def altered(data: bytes, name: str, part_of: float = 0.5) -> bytes:
    """One byte of a section flipped, by default in its middle."""
    header, parts = read_bundle(data, "good")
    part = bytearray(parts[name])
    part[int(len(part) * part_of)] ^= 1
    return write_bundle(header, parts | {name: bytes(part)}, alone=True)


def resealed(data: bytes, name: str, change) -> bytes:
    """A section changed before it was sealed: its seal and size are right."""
    bundle = OpenedBundle.read(data, image_secrets())
    plain = change(bundle.unseal_padded(name))
    sealed = seal(plain, whole_secret(name, bundle.secrets), name, bundle.header.binding)
    return write_bundle(bundle.header, bundle.parts | {name: sealed}, alone=True)


def support_at(data: bytes) -> float:
    """Where in `public` the first record's sealed support lies, as `altered` takes it."""
    bundle = OpenedBundle.read(data, image_secrets())
    secret = tile_secret(bundle.secrets[Tier.PREVIEW], 0)
    record = bundle.record(0, 0, secret)
    return (record.stream_at + record.stream_length / 2) / len(bundle.parts["public"])


GROUP = INFO_BASE - 1
"""Where `info` says how many frames are coded together."""

FRAMES, HEIGHT, WIDTH, CHANNELS = range(32, 48, 4)
"""Where numbers of the head lie."""


@dataclass(frozen=True)
class Good:
    """The good bundle, and ways to change it."""

    data: bytes

    def put(self, *keys: str, value: object) -> bytes:
        """With a field of its profile set."""

        def change(body: Any) -> None:
            for key in keys[:-1]:
                body = body[key]
            body[keys[-1]] = value

        return rebuild(self.data, change)

    def setting(self, name: str, value: object) -> bytes:
        """With another setting."""
        return self.put("settings", name, value=value)

    def replaced(self, old: bytes, new: bytes) -> bytes:
        """With its profile changed as bytes, once."""
        return raw_profile(self.data, lambda profile: profile.replace(old, new, 1))

    def number(self, at: int, value: int) -> bytes:
        """With a number of its head set."""
        return with_number(self.data, at, value)

    def info(self, start: int, new: bytes) -> bytes:
        """With bytes of section `info` replaced before it was sealed."""
        return resealed(
            self.data, "info", lambda info: info[:start] + new + info[start + len(new) :]
        )

    def quality(self, psnr: int, ssim: int) -> bytes:
        """With other figures of its quality."""
        return self.info(20, struct.pack(">Ih", psnr, ssim))

    def stretch(self, low: int, high: int, times: int) -> bytes:
        """With another stretch."""
        return self.info(26, struct.pack(">2iB", low, high, times))

    def header(self, change: Callable[[bytes], bytes]) -> bytes:
        """With section `header` changed before it was padded and sealed."""
        return resealed(self.data, "header", lambda padded: pad(change(unpad(padded)), len(padded)))

    def header_of(self, text: bytes) -> bytes:
        """With another section `header`."""
        return self.header(lambda packed: zlib.compress(text, wbits=-15))
