"""An age file is looked at within bounds before age's library parses it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os

import pyrage
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from primis.errors import BadKey
from primis.keys.age_file import (
    MAX_STANZAS,
    Stanza,
    WrongPassphrase,
    inspect_age,
    scrypt_work,
)
from primis.keys.identity import Identity, passphrase_identity, read_identities
from tests.core.test_keys import ED, RSA, private, ssh_public

VERSION = b"age-encryption.org/v1\n"
END = b"--- " + b"A" * 43 + b"\n"
LINE = b"A" * 64 + b"\n"
BODY = b"A" * 43 + b"\n"


def stanza(arguments: bytes, body: bytes = BODY) -> bytes:
    return b"-> " + arguments + b"\n" + body


def base(data: bytes) -> bytes:
    return base64.b64encode(data).rstrip(b"=")


def sealed_to_passphrase(payload: bytes, passphrase: str, factor: int = 8) -> bytes:
    """An age file by the specification, with a work factor that takes no time."""
    key, salt, nonce = os.urandom(16), os.urandom(16), os.urandom(16)
    scrypt = Scrypt(b"age-encryption.org/v1/scrypt" + salt, 32, 1 << factor, 8, 1)
    wrapped = ChaCha20Poly1305(scrypt.derive(passphrase.encode())).encrypt(bytes(12), key, None)
    first = stanza(b"scrypt %b %d" % (base(salt), factor), base(wrapped) + b"\n")
    header = VERSION + first + b"---"
    mac_key = HKDF(SHA256(), 32, salt=None, info=b"header").derive(key)
    mac = hmac.new(mac_key, header, hashlib.sha256).digest()
    stream = HKDF(SHA256(), 32, salt=nonce, info=b"payload").derive(key)
    body = ChaCha20Poly1305(stream).encrypt(bytes(11) + b"\1", payload, None)
    return header + b" " + base(mac) + b"\n" + nonce + body


@pytest.fixture
def owner() -> Identity:
    key = pyrage.x25519.Identity.generate()
    return Identity("age", str(key.to_public()), "owner", key)


@pytest.fixture
def no_age(monkeypatch: pytest.MonkeyPatch) -> None:
    """age's library must not be asked."""

    def asked(*_: object) -> bytes:
        raise AssertionError("age was asked")

    monkeypatch.setattr(pyrage, "decrypt", asked)
    monkeypatch.setattr(pyrage.passphrase, "decrypt", asked)


def test_files_of_age_itself_are_read(owner: Identity) -> None:
    keys = [ssh_public(ED).decode(), ssh_public(RSA).decode()]
    ssh = [pyrage.ssh.Recipient.from_str(" ".join(key.split()[:2])) for key in keys]
    to = [pyrage.x25519.Recipient.from_str(owner.text), *ssh]
    for size in range(300):  # age adds a stanza at random: each file is another
        header = inspect_age(pyrage.encrypt(bytes(size), to))
        assert header.kinds[:3] == ("X25519", "ssh-ed25519", "ssh-rsa")


def test_the_header_is_what_stands_there() -> None:
    data = VERSION + stanza(b"X25519 abc") + stanza(b"x y z", b"A" * 64 + b"\n\n") + END
    header = inspect_age(data + b"payload")
    assert header.stanzas == (Stanza("X25519", ("abc",)), Stanza("x", ("y", "z")))
    assert header.bytes == len(data)
    assert scrypt_work(data) is None
    assert scrypt_work(sealed_to_passphrase(b"", "any", 12)) == 4096


HOSTILE = {
    "99 kB in one stanza": VERSION + stanza(b"X25519 abc", LINE * 1520),
    "2 MB in one stanza": VERSION + stanza(b"X25519 abc", LINE * 31_000) + END,
    "2 MB in many stanzas": VERSION + stanza(b"X25519 abc") * 36_000 + END,
    "2 MB in one line": VERSION + b"-> X25519 " + b"A" * 2_000_000 + b"\n" + BODY + END,
    "2 MB without a line": VERSION + b"A" * 2_000_000,
    "one stanza too many": VERSION + stanza(b"X25519 abc") * (MAX_STANZAS + 1) + END,
    "no stanza": VERSION + END,
    "no end": VERSION + stanza(b"X25519 abc"),
    "nothing": b"",
    "another version": b"age-encryption.org/v2\n" + stanza(b"X25519 abc") + END,
    "a control character": VERSION + stanza(b"X25519 a\x1bc") + END,
    "body that is no base64": VERSION + stanza(b"X25519 abc", b"!" * 43 + b"\n") + END,
    "a line that is too long": VERSION + stanza(b"X25519 abc", b"A" * 65 + b"\n") + END,
    "a passphrase beside a key": VERSION + stanza(b"scrypt abc 10") + stanza(b"X25519 abc") + END,
    "a work factor of nine digits": VERSION + stanza(b"scrypt abc 999999999") + END,
    "no work factor": VERSION + stanza(b"scrypt abc") + END,
}


@pytest.mark.usefixtures("no_age")
@pytest.mark.parametrize("name", HOSTILE)
def test_age_never_sees_a_header_beyond_the_bounds(name: str, owner: Identity) -> None:
    for identity in (owner, passphrase_identity("correct horse battery")):
        with pytest.raises(BadKey) as caught:
            identity.decrypt(HOSTILE[name])
        assert not isinstance(caught.value, WrongPassphrase)
        assert "\n" not in str(caught.value)
    with pytest.raises(BadKey):
        scrypt_work(HOSTILE[name])


@pytest.mark.usefixtures("no_age")
def test_only_files_that_can_be_for_a_key_are_tried(owner: Identity, tmp_path) -> None:
    others = ed25519.Ed25519PrivateKey.generate(), rsa.generate_private_key(65537, 2048)
    path = tmp_path / "keys"
    path.write_bytes(private(ED) + private(RSA))
    sealed = {"passphrase": sealed_to_passphrase(b"", "any")}
    sealed["age"] = pyrage.encrypt(b"", [pyrage.x25519.Recipient.from_str(owner.text)])
    for kind, key in zip(("ssh-ed25519", "ssh-rsa"), others, strict=True):
        text = " ".join(ssh_public(key).decode().split()[:2])
        sealed[kind] = pyrage.encrypt(b"", [pyrage.ssh.Recipient.from_str(text)])
    for ssh in read_identities(path):  # the same kind, but another key
        assert [ssh.decrypt(data) for data in sealed.values()] == [None] * 4
    for kind, data in sealed.items():
        if kind != "age":
            assert owner.decrypt(data) is None
        if kind != "passphrase":
            assert passphrase_identity("any").decrypt(data) is None


def test_a_wrong_passphrase_is_told_from_no_passphrase_and_from_damage(owner: Identity) -> None:
    sealed = sealed_to_passphrase(b"payload", "right")
    assert passphrase_identity("right").decrypt(sealed) == b"payload"
    with pytest.raises(WrongPassphrase):
        passphrase_identity("wrong").decrypt(sealed)
    damaged = sealed[:-1] + bytes([sealed[-1] ^ 1])
    with pytest.raises(BadKey) as caught:
        passphrase_identity("right").decrypt(damaged)
    assert not isinstance(caught.value, WrongPassphrase)
    assert owner.decrypt(sealed) is None


@pytest.mark.usefixtures("no_age")
def test_a_work_factor_that_takes_minutes_is_not_tried() -> None:
    sealed = VERSION + stanza(b"scrypt abc 21") + END
    assert scrypt_work(sealed) == 1 << 21
    with pytest.raises(BadKey, match="work factor is over 20"):
        passphrase_identity("any").decrypt(sealed)
