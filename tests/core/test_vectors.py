"""The files in tests/vectors against docs/format.md: the good ones are read, each bad one is refused."""

from __future__ import annotations

import json

import pytest

from primis.bundle.layout import read_bundle, read_manifest, split_manifest, write_bundle
from primis.errors import BadManifest, FormatError
from primis.keys.identity import verify
from primis.keys.seal import Secret, image_secret, release_secrets, unseal
from primis.sharing.image_bundle import restore_image
from tests.conftest import VECTORS
from tests.make_vectors import phantom

GOOD = VECTORS / "bundles" / "good.primis"
BAD_BUNDLES = sorted(p for p in (VECTORS / "bundles").glob("*.primis") if p != GOOD)
BAD_MANIFESTS = sorted(p for p in (VECTORS / "manifests").glob("*.json") if p.stem != "good")
FACTS = json.loads((VECTORS / "good.json").read_text())


def secrets() -> dict[str, Secret]:
    opened = release_secrets(Secret(bytes.fromhex(FACTS["release_secret"])), "original")
    return {tier: image_secret(secret, FACTS["bundle_id"]) for tier, secret in opened.items()}


def test_there_are_vectors() -> None:
    assert len(BAD_BUNDLES) >= 30
    assert len(BAD_MANIFESTS) >= 8


def test_secrets_are_derived_as_specified() -> None:
    assert {tier: secret.value.hex() for tier, secret in secrets().items()} == FACTS[
        "image_secrets"
    ]


@pytest.mark.parametrize("tier", ["preview", "diagnostic", "original"])
def test_good_bundle_restores(tier, codec) -> None:
    restored = restore_image(
        GOOD.read_bytes(), secrets(), tier, lambda digest: codec, group="vectors"
    )
    if tier == "original":
        assert (restored.data, restored.name) == (b"the original file", "phantom.tif")
        return
    error = restored.image.pixels.astype(float) - phantom().pixels
    assert abs(error).mean() < {"preview": 0.08, "diagnostic": 0.05}[tier] * 4095
    assert list(restored.image.shape) == FACTS["shape"]


def test_writing_what_was_read_gives_the_same_bytes() -> None:
    data = GOOD.read_bytes()
    assert write_bundle(*read_bundle(data, "good")) == data


@pytest.mark.parametrize("path", BAD_BUNDLES, ids=lambda p: p.stem)
def test_bad_bundle_is_refused(path, codec) -> None:
    with pytest.raises(FormatError) as caught:
        for tier in ("diagnostic", "original"):
            restore_image(path.read_bytes(), secrets(), tier, lambda digest: codec, group="vectors")
    message = str(caught.value)
    assert "\n" not in message
    if path.stem.endswith("_altered"):
        assert f'"{path.stem.removesuffix("_altered")}"' in message


def test_altered_public_section_is_caught_by_its_digest() -> None:
    data = bytearray(GOOD.read_bytes())
    header, _ = read_bundle(bytes(data), "good")
    after = sum(s.bytes for s in header.sections if s.name in ("supports", "header", "original"))
    data[len(data) - after - 1] ^= 1
    with pytest.raises(FormatError, match='"public"'):
        read_bundle(bytes(data), "good")


@pytest.mark.parametrize("path", BAD_MANIFESTS, ids=lambda p: p.stem)
def test_bad_manifest_is_refused(path) -> None:
    with pytest.raises(BadManifest):
        signed = split_manifest(path.read_bytes(), path.name)
        if not verify(signed.signer, signed.message, signed.signature):
            raise BadManifest("signature")
        read_manifest(signed, path.name)


def test_good_manifest_verifies() -> None:
    data = (VECTORS / "manifests" / "good.json").read_bytes()
    signed = split_manifest(data, "good")
    assert verify(signed.signer, signed.message, signed.signature)
    assert signed.write() == data
    assert read_manifest(signed, "good").write() == signed.body


def test_sealed_bytes_are_bound_to_the_header() -> None:
    header, parts = read_bundle(GOOD.read_bytes(), "good")
    assert header.binding.hex() == FACTS["binding"]
    unseal(parts["info"], secrets()["preview"], "info", header.binding)
    with pytest.raises(FormatError):
        unseal(parts["info"], secrets()["preview"], "info", b"another header")
    with pytest.raises(FormatError):
        unseal(parts["info"], secrets()["diagnostic"], "info", header.binding)
