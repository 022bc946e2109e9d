"""Secrets, sealing, masks and the kinds of recipients."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from primis.canonical import canonical
from primis.errors import BadGrant, BadKey, DamagedSection
from primis.keys.age_file import scrypt_work
from primis.keys.grant import SignedGrant, read_grant
from primis.keys.identity import (
    generate,
    parse_recipient,
    passphrase_identity,
    passphrase_recipient,
    read_identities,
    read_signer,
    verify,
)
from primis.keys.seal import Secret, derive, mask, pad, release_secrets, seal, unpad, unseal
from primis.keys.tier import TIERS

PEM, SSH, NONE = (
    serialization.Encoding.PEM,
    serialization.Encoding.OpenSSH,
    serialization.NoEncryption(),
)
RSA = rsa.generate_private_key(65537, 2048)
ED = ed25519.Ed25519PrivateKey.generate()


def private(key: object, form: str = "PKCS8") -> bytes:
    chosen = getattr(serialization.PrivateFormat, form)
    return key.private_bytes(PEM, chosen, NONE)  # type: ignore[attr-defined]


def ssh_public(key: object) -> bytes:
    return (
        key.public_key().public_bytes(SSH, serialization.PublicFormat.OpenSSH)
        + b" alice@hospital\n"
    )  # type: ignore[attr-defined]


def certificate() -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hospital")])
    day = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder(
        name, name, RSA.public_key(), 1, day, day + datetime.timedelta(days=9999)
    )
    return builder.sign(RSA, hashes.SHA256()).public_bytes(PEM)


RSA_PUBLIC_PEM = RSA.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
PAIRS = {
    "age": None,
    "ssh-ed25519": (ssh_public(ED), private(ED, "OpenSSH")),
    "ssh-rsa": (ssh_public(RSA), private(RSA, "OpenSSH")),
    "rsa-pem": (RSA_PUBLIC_PEM, private(RSA)),
    "rsa-pkcs1": (RSA_PUBLIC_PEM, private(RSA, "TraditionalOpenSSL")),
    "x509": (certificate(), private(RSA)),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_every_kind_of_recipient_opens_what_was_sealed_to_it(kind: str, tmp_path: Path) -> None:
    public, key = tmp_path / "key.pub", tmp_path / "key"
    if PAIRS[kind] is None:
        key.write_text(generate())
        public.write_text(read_signer(key).recipient.text)
    else:
        public.write_bytes(PAIRS[kind][0])
        key.write_bytes(PAIRS[kind][1])
    recipient = parse_recipient(str(public))
    sealed = recipient.encrypt(b"payload")
    [identity] = read_identities(key)
    assert identity.decrypt(sealed) == b"payload"
    assert identity.label == recipient.label
    other = tmp_path / "other"
    other.write_text(generate())
    assert read_identities(other)[0].decrypt(sealed) is None
    if kind == "age" or kind.startswith("ssh"):
        assert parse_recipient(public.read_text().strip()).text == recipient.text


def test_guessing_a_passphrase_takes_the_work_that_age_asks_for() -> None:
    """Seconds a guess; that the right one opens, and a wrong one does not: test_age_bounds."""
    sealed = passphrase_recipient("correct horse battery").encrypt(b"payload")
    assert scrypt_work(sealed) >= 1 << 15


def test_a_short_passphrase_is_refused() -> None:
    with pytest.raises(BadKey, match="shorter than 12"):
        passphrase_recipient("short")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nobody", "neither a file nor a public key"),
        ("age1qqqq", "not a valid public key"),
        ("ssh-rsa AAAA", "not a valid public key"),
        ("FILE:nothing here", "holds no public key"),
        (
            "FILE:-----BEGIN PUBLIC KEY-----\nxx\n-----END PUBLIC KEY-----\n",
            "a public key that cannot be read",
        ),
        ("FILE:" + private(rsa.generate_private_key(65537, 1024)).decode(), "1024 bits"),
        ("FILE:" + private(ec.generate_private_key(ec.SECP256R1())).decode(), "another kind"),
    ],
)
def test_a_bad_recipient_is_one_line(text: str, why: str, tmp_path: Path) -> None:
    if text.startswith("FILE:"):
        (tmp_path / "k").write_text(text[5:])
        text = str(tmp_path / "k")
    with pytest.raises(BadKey, match=why) as caught:
        parse_recipient(text)
    assert "\n" not in str(caught.value)


def test_a_bad_identity_is_one_line(tmp_path: Path) -> None:
    locked = ED.private_bytes(
        PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
    )
    cases = {
        "missing": None,
        "public": ssh_public(ED),
        "locked": locked,
        "damaged": b"AGE-SECRET-KEY-1QQQ\n",
        "empty": b"",
    }
    for name, data in cases.items():
        path = tmp_path / name
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(BadKey) as caught:
            read_identities(path)
        assert "\n" not in str(caught.value)


def test_a_private_key_typed_by_mistake_is_not_repeated(tmp_path: Path) -> None:
    key = next(line for line in generate().splitlines() if line.startswith("AGE-SECRET"))
    for typed in (key, f"bob={key}", key.lower()):
        with pytest.raises(BadKey) as caught:
            parse_recipient(typed)
        assert key[16:30].lower() not in str(caught.value).lower()
    with pytest.raises(BadKey) as caught:
        read_identities(Path(key))
    assert key[16:30] not in str(caught.value)


def test_no_secret_in_any_repr(tmp_path: Path) -> None:
    path = tmp_path / "k"
    path.write_text(generate())
    line = path.read_text().splitlines()[-1]
    signer, secret = read_signer(path), Secret.new()
    shown = repr(
        [
            signer,
            read_identities(path),
            secret,
            passphrase_recipient("correct horse"),
            passphrase_identity("correct horse"),
        ]
    )
    assert line not in shown
    assert secret.value.hex() not in shown
    assert repr(secret.value) not in shown
    assert "correct horse" not in shown


def test_signatures_verify_and_do_not_for_others(keys: dict[str, Path]) -> None:
    one, two = read_signer(keys["owner"]), read_signer(keys["alice"])
    signature = one.sign(b"message")
    assert verify(one.public, b"message", signature)
    assert not verify(one.public, b"another", signature)
    assert not verify(two.public, b"message", signature)
    assert not verify("zz", b"message", signature)


def test_a_tier_gives_those_below_and_not_those_above() -> None:
    top = release_secrets(Secret.new(), "original")
    middle = release_secrets(top["diagnostic"], "diagnostic")
    assert list(top) == list(reversed(TIERS))
    assert middle == {t: top[t] for t in ("diagnostic", "preview")}
    assert len({s.value for s in top.values()}) == 3


@given(st.binary(max_size=200))
def test_seal_and_unseal(plain: bytes) -> None:
    secret = Secret.new()
    sealed = seal(plain, secret, "info", b"binding")
    assert unseal(sealed, secret, "info", b"binding") == plain
    for other in (
        (derive(secret, "x"), "info", b"binding"),
        (secret, "index", b"binding"),
        (secret, "info", b""),
    ):
        with pytest.raises(DamagedSection):
            unseal(sealed, *other)


@given(st.binary(max_size=200), st.integers(4, 300))
def test_pad_and_unpad(plain: bytes, spare: int) -> None:
    padded = pad(plain, len(plain) + spare)
    assert (len(padded), unpad(padded)) == (len(plain) + spare, plain)
    with pytest.raises(ValueError, match="do not fit"):
        pad(plain, len(plain) + 3)


def test_malformed_padding_is_refused() -> None:
    good = pad(b"abc", 64)
    for bad in (good[:3], b"\xff" * 64, good[:-1] + b"x"):
        with pytest.raises(DamagedSection):
            unpad(bad)


@given(st.binary(max_size=400))
def test_the_mask_is_its_own_inverse(values: bytes) -> None:
    secret = Secret.new()
    assert mask(mask(values, secret), secret) == values


def test_the_mask_is_uniform_whatever_the_values() -> None:
    masked = b"".join(mask(bytes([7]) * 8192, Secret.new()) for _ in range(16))
    counts = np.bincount(np.frombuffer(masked, np.uint8), minlength=256)
    assert float(((counts - 512) ** 2 / 512).sum()) < 380  # 255 degrees of freedom


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("format", True),
        ("note", 1),
        ("note", ["a"]),
        ("recipient", None),
        ("recipient", {}),
        ("label", 7),
        ("not_after", "20300131"),
        ("not_after", "2030-W05-4"),
        ("not_after", 0),
    ],
)
def test_a_field_of_a_grant_is_of_its_type_and_a_day_in_one_form(name: str, value) -> None:
    body = {
        "format": 1,
        "images": {},
        "keys": "b" * 32,
        "label": "alice",
        "not_after": "2030-01-31",
        "note": "hi",
        "recipient": "age1x",
        "release": "a" * 32,
        "secret": "c" * 64,
        "tier": "diagnostic",
    }
    assert read_grant(SignedGrant("", canonical(body)), "it").not_after.year == 2030
    with pytest.raises(BadGrant, match="not a grant of format 1"):
        read_grant(SignedGrant("", canonical(body | {name: value})), "it")
