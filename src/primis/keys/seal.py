"""From secrets to sealed bytes: derivation, sealing and the mask of level `keyed`.

    release secret, per tier --HKDF, salt = bundle id--> image secret, per tier
    image secret, per tier --HKDF--> tile secret
    release secret of a tier --HKDF--> release secret of the tier below
    release secret, tier diagnostic --HKDF, salt = page id--> secret of a page of the catalogue
    image secret, tier preview --HKDF--> info secret

Each key that reaches a cipher is derived for one use: a fresh bundle id (128 random bits) at each
sharing, the name of the section or the number of the tile. No key meets two messages, so the nonce
is constant. docs/format.md, section 4, is the specification; docs/threat-model.md the proof.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from primis.errors import DamagedSection, InputError
from primis.keys.tier import Tier

TAG_BYTES = 16
LENGTH_BYTES = 4
_MAX_SEALED = 2**31 - 64
_PREFIX = b"primis/1 "


@dataclass(frozen=True)
class Secret:
    """32 bytes that open something; they show in no repr. Raises ValueError for other lengths."""

    value: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.value) != 32:
            raise ValueError(f"a secret has {len(self.value)} bytes, expected 32")

    @classmethod
    def new(cls) -> Secret:
        """From the operating system's generator."""
        return cls(secrets.token_bytes(32))


TierSecrets = dict[Tier, Secret]
"""The secret of each tier that is opened, of a release or of an image."""


def derive(secret: Secret, purpose: str, salt: bytes = b"") -> Secret:
    """HKDF-SHA256 (RFC 5869) of a secret for one purpose."""
    kdf = HKDF(SHA256(), 32, salt=salt or None, info=_PREFIX + purpose.encode())
    return Secret(kdf.derive(secret.value))


def release_secrets(secret: Secret, tier: str) -> TierSecrets:
    """The release secrets of this tier and of all below it, from the one of this tier."""
    highest, *lower = reversed(Tier(tier).opened)
    opened = {highest: secret}
    for below in lower:
        secret = opened[below] = derive(secret, f"tier {below}")
    return opened


def image_secret(release_secret: Secret, bundle_id: str) -> Secret:
    """The secret of one image at the tier of the release secret."""
    return derive(release_secret, "image", salt=bytes.fromhex(bundle_id))


def image_secrets(release: Mapping[Tier, Secret], bundle_id: str) -> TierSecrets:
    """The secrets of one image, from the release secrets."""
    return {tier: image_secret(secret, bundle_id) for tier, secret in release.items()}


def info_secret(secret: Secret) -> Secret:
    """What opens `info` alone, for grants of tiles: from the image secret of tier preview."""
    return derive(secret, "info")


def page_secret(release_secret: Secret, page_id: bytes) -> Secret:
    """What opens one page of the catalogue, from the release secret of tier diagnostic."""
    return derive(release_secret, "catalogue", salt=page_id)


def tile_secret(secret: Secret, tile: int) -> Secret:
    """The secret of one tile of an image at the tier of the image secret."""
    return derive(secret, f"tile {tile}")


def seal(plaintext: bytes, secret: Secret, purpose: str, binding: bytes) -> bytes:
    """ChaCha20-Poly1305 (RFC 8439) under a key derived for `purpose`; 16 bytes longer.

    binding is authenticated with it: the bundle's header. A pair (secret, purpose) seals one
    message.
    """
    if len(plaintext) > _MAX_SEALED:
        raise InputError(
            f"a part of {len(plaintext)} bytes cannot be sealed, expected at most {_MAX_SEALED}"
        )
    return ChaCha20Poly1305(derive(secret, f"seal {purpose}").value).encrypt(
        bytes(12), plaintext, binding
    )


def unseal(sealed: bytes, secret: Secret, purpose: str, binding: bytes) -> bytes:
    """Inverse of `seal`; raises DamagedSection where a byte, the key or the binding differs."""
    try:
        return ChaCha20Poly1305(derive(secret, f"seal {purpose}").value).decrypt(
            bytes(12), sealed, binding
        )
    except InvalidTag:
        raise DamagedSection(
            f'section "{purpose}" does not verify under the key offered: '
            "it was altered, or sealed for another"
        ) from None


def pad(plaintext: bytes, size: int) -> bytes:
    """Length, plaintext, zeros: `size` bytes in all."""
    if len(plaintext) + LENGTH_BYTES > size:
        raise ValueError(f"{len(plaintext)} bytes do not fit in {size} with their length")
    return (
        struct.pack(">I", len(plaintext)) + plaintext + bytes(size - LENGTH_BYTES - len(plaintext))
    )


def unpad(padded: bytes) -> bytes:
    """Inverse of `pad`; raises DamagedSection if it is none."""
    length = struct.unpack(">I", padded[:LENGTH_BYTES])[0] if len(padded) >= LENGTH_BYTES else -1
    if not 0 <= length <= len(padded) - LENGTH_BYTES or padded[LENGTH_BYTES + length :].strip(
        b"\0"
    ):
        raise DamagedSection(f"a padded part of {len(padded)} bytes is malformed")
    return padded[LENGTH_BYTES : LENGTH_BYTES + length]


def mask(values: bytes, secret: Secret) -> bytes:
    """Level `keyed`: the values of a tile under a keystream. Its own inverse."""
    return (
        Cipher(algorithms.ChaCha20(derive(secret, "mask").value, bytes(16)), mode=None)
        .encryptor()
        .update(values)
    )
