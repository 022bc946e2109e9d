"""An age file for a passphrase, with a work factor of our choice (age-encryption.org/v1).

The age library chooses the factor by the speed of the sealing machine: 2^20 on a fast one, which
costs a browser a gigabyte of memory and half a minute.
"""

from __future__ import annotations

import base64
import hmac
import secrets

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

_CHUNK = 1 << 16


def seal_to_passphrase(payload: bytes, passphrase: str, factor: int) -> bytes:
    """The file. factor: opening it takes 2^factor steps of scrypt and as many kilobytes."""
    key, salt, nonce = (secrets.token_bytes(16) for _ in range(3))
    label = b"age-encryption.org/v1/scrypt"
    wrap = Scrypt(salt=label + salt, length=32, n=1 << factor, r=8, p=1)
    body = ChaCha20Poly1305(wrap.derive(passphrase.encode())).encrypt(bytes(12), key, None)
    head = f"age-encryption.org/v1\n-> scrypt {_text(salt)} {factor}\n{_text(body)}\n---".encode()
    mac = hmac.digest(_derive(key, b"header"), head, "sha256")
    sealed = _stream(_derive(key, b"payload", nonce), payload)
    return head + b" " + _text(mac).encode() + b"\n" + nonce + sealed


def _stream(key: bytes, payload: bytes) -> bytes:
    """Pieces of 64 KiB, each under its number; the last one is marked as such."""
    cipher = ChaCha20Poly1305(key)
    starts = range(0, max(len(payload), 1), _CHUNK)
    return b"".join(
        cipher.encrypt(
            number.to_bytes(11, "big") + bytes([start == starts[-1]]),
            payload[start : start + _CHUNK],
            None,
        )
        for number, start in enumerate(starts)
    )


def _derive(key: bytes, info: bytes, salt: bytes | None = None) -> bytes:
    return HKDF(SHA256(), 32, salt=salt, info=info).derive(key)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")
