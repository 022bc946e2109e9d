"""The files in tests/vectors against docs/format.md: good ones are read, bad ones refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from primis.bundle.container import read_bundle, write_bundle
from primis.bundle.header import INFO_BASE, INFO_PER_FRAME
from primis.bundle.manifest import read_manifest, split_manifest
from primis.codes.coder import decode_code
from primis.errors import BadManifest, FormatError, ModelError
from primis.imaging.dicom_series import headers_in
from primis.imaging.image import Image
from primis.imaging.nifti import write_nifti
from primis.jobs.restore import restore
from primis.keys.grant import RegionSecrets
from primis.keys.identity import read_identities, verify
from primis.keys.seal import (
    Secret,
    TierSecrets,
    image_secrets,
    info_secret,
    release_secrets,
    unseal,
)
from primis.keys.tier import Tier
from primis.release.reader import Release
from primis.sharing.opened import OpenedBundle
from primis.sharing.region import read_region
from primis.sharing.restore import decode_image, restore_image
from tests.conftest import TINY, VECTORS
from tests.make_vectors.known import phantom

GOOD = VECTORS / "bundles" / "good.primis"
GROUP = VECTORS / "bundles" / "good_group.primis"
BAD_BUNDLES = sorted(p for p in GOOD.parent.glob("*.primis") if not p.stem.startswith("good"))
BAD_MANIFESTS = sorted(p for p in (VECTORS / "manifests").glob("*.json") if p.stem != "good")
FACTS = json.loads((VECTORS / "good.json").read_text())
KINDS = FACTS["kinds"]


def secrets() -> TierSecrets:
    opened = release_secrets(Secret(bytes.fromhex(FACTS["release_secret"])), Tier.ORIGINAL)
    return image_secrets(opened, FACTS["bundle_id"])


def test_there_are_vectors() -> None:
    assert len(BAD_BUNDLES) >= 30
    assert len(BAD_MANIFESTS) >= 8


def test_secrets_are_derived_as_specified() -> None:
    assert {tier: secret.value.hex() for tier, secret in secrets().items()} == FACTS[
        "image_secrets"
    ]


@pytest.mark.parametrize(
    "region",
    [
        (10, 20, 2**17, 16, 0, 0),
        (10, 20, 30, 2**50, 0, 0),
        (2**40, 0, 1, 1, 0, 0),
        (0, 0, 1, 1, 7, 7),
    ],
)
def test_a_region_that_the_image_does_not_have_is_refused(region) -> None:
    told = FACTS["region, as a grant has it"] | {"region": list(region)}
    opened = RegionSecrets.parse(told, Tier.DIAGNOSTIC)
    bundle = OpenedBundle.read(GOOD.read_bytes(), opened)
    with pytest.raises(FormatError, match="a region that the image does not have"):
        _ = bundle.info


def test_an_image_of_level_sca_has_no_regions() -> None:
    opened = RegionSecrets.parse(FACTS["region, as a grant has it"], Tier.DIAGNOSTIC)
    bundle = OpenedBundle.read((GOOD.parent / "good_sca.primis").read_bytes(), opened)
    with pytest.raises(FormatError, match="a region that the image does not have"):
        _ = bundle.info


@pytest.mark.parametrize("tier", ["preview", "diagnostic", "original"])
def test_good_bundle_restores(tier, codec) -> None:
    restored = restore_image(
        OpenedBundle.read(GOOD.read_bytes(), secrets()),
        Tier(tier),
        lambda digest: codec,
        group="vectors",
    )
    if tier == "original":
        assert (restored.data, restored.name) == (b"the original file", "phantom.tif")
        return
    error = restored.image.pixels.astype(float) - phantom().pixels
    assert abs(error).mean() < {"preview": 0.08, "diagnostic": 0.05}[tier] * 4095
    assert list(restored.image.shape) == FACTS["shape"]


def test_the_header_of_a_series_gives_each_file_its_own() -> None:
    told = FACTS["source headers"]["dicom-series"]
    files = list(headers_in(bytes.fromhex(told["header"]), 2))
    assert [{"name": f.name, "header": f.data.hex()} for f in files] == told["files"]


def test_a_nifti_volume_comes_back_as_its_steps() -> None:
    told = FACTS["source headers"]["nifti"]
    samples = np.array(told["samples"], np.uint16).reshape(told["shape"])
    image = Image(samples, 16, "MONOCHROME2", "nifti", header=bytes.fromhex(told["header"]))
    file, restored = bytes.fromhex(told["file"]), write_nifti(image)
    before, after = (np.frombuffer(data[352:], "<f4") for data in (file, restored))
    assert restored[:352] == file[:352]
    assert abs(before - after).max() <= 1.75 / 65535


def test_writing_what_was_read_gives_the_same_bytes() -> None:
    data = GOOD.read_bytes()
    assert write_bundle(*read_bundle(data, "good"), alone=True) == data


@pytest.mark.parametrize("path", BAD_BUNDLES, ids=lambda p: p.stem)
def test_bad_bundle_is_refused(path, codec) -> None:
    with pytest.raises(FormatError) as caught:
        for tier in ("diagnostic", "original"):
            restore_image(
                OpenedBundle.read(path.read_bytes(), secrets()),
                Tier(tier),
                lambda digest: codec,
                group="vectors",
            )
    message = str(caught.value)
    assert "\n" not in message
    if path.stem.endswith("_altered"):
        assert f'"{path.stem.removesuffix("_altered")}"' in message


@pytest.mark.parametrize("tier", [Tier.PREVIEW, Tier.DIAGNOSTIC])
def test_the_code_decodes_to_the_planes_of_the_vector(tier: Tier, codec) -> None:
    bundle = OpenedBundle.read(GOOD.read_bytes(), secrets())
    pixels = decode_image(bundle, tier, lambda digest: codec).pixels
    right = bytes.fromhex(FACTS["pixels, 16 bits each"][tier])
    apart = np.abs(pixels.astype(int) - np.frombuffer(right, ">u2").reshape(FACTS["shape"]))
    assert apart.max() <= 1  # the decoder computes in floating point


@pytest.mark.parametrize("tier", [Tier.PREVIEW, Tier.DIAGNOSTIC])
def test_the_group_of_the_vector_decodes_to_its_frames(tier: Tier, codec) -> None:
    bundle, told = OpenedBundle.read(GROUP.read_bytes(), secrets()), FACTS["group"]
    assert (bundle.group, bundle.unseal("info").hex()) == (4, told["info"])
    right = np.frombuffer(bytes.fromhex(told["pixels, 16 bits each"][tier]), ">u2")
    pixels = decode_image(bundle, tier, lambda digest: codec).pixels
    assert np.abs(pixels.astype(int) - right.reshape(told["shape"])).max() <= 1


def test_the_region_of_a_group_opens_one_of_its_frames(codec) -> None:
    header, parts = read_bundle(GROUP.read_bytes(), "good_group")
    told = FACTS["group"]
    opened = RegionSecrets.parse(told["region, as a grant has it"], Tier.DIAGNOSTIC)
    assert opened.region.first == opened.region.last == 4
    assert [*opened.tiles[Tier.PREVIEW]] == [4, 5]
    bundle = OpenedBundle.of(header, parts, opened)
    pixels = read_region(bundle, Tier.DIAGNOSTIC, lambda digest: codec)[0].pixels
    x, y, width, height = told["region, as a grant has it"]["region"][:4]
    whole = np.frombuffer(bytes.fromhex(told["pixels, 16 bits each"]["diagnostic"]), ">u2")
    right = whole.reshape(told["shape"])[4:5, y : y + height, x : x + width]
    assert np.abs(pixels.astype(int) - right).max() <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_bundles_of_other_kinds_decode_to_their_samples(kind: str, codec) -> None:
    """A series with a stretched window and padding, exact labels, level sca."""
    told = KINDS[kind]
    bundle = OpenedBundle.read((VECTORS / "bundles" / f"{kind}.primis").read_bytes(), secrets())
    assert (bundle.unseal("info").hex(), bundle.unseal("header").hex()) == (
        told["info"],
        told["header"],
    )
    for tier, samples in told["samples"].items():
        right = np.frombuffer(bytes.fromhex(samples), ">i2" if told["signed"] else ">u2")
        pixels = decode_image(bundle, Tier(tier), lambda digest: codec).pixels
        assert np.abs(pixels.astype(int) - right.reshape(told["shape"])).max() <= 1
    restored = restore_image(bundle, Tier.DIAGNOSTIC, lambda digest: codec, group="vectors")
    assert [file.name for file in restored.files] == told["files"]


def test_streams_of_the_vector_decode_to_its_levels(codec) -> None:
    for record in FACTS["records"]:
        start, stop = record["atoms"]
        known = np.zeros((codec.preset.atoms, *record["shape"][1:]), np.int16)
        for lower in FACTS["records"][: FACTS["records"].index(record)]:
            known[lower["atoms"][0] : lower["atoms"][1]] = dense(lower)
        streams = bytes.fromhex(record["support"]), bytes.fromhex(record["values"])
        count, tables = len(record["levels"]), codec.checkpoint.tables
        levels = decode_code(*streams, known, range(start, stop), count, codec.layout, tables)
        assert (levels[start:stop] == dense(record)).all()


PIXELS = FACTS["pixels, 16 bits each"][Tier.DIAGNOSTIC]


@pytest.mark.parametrize("tier", [Tier.PREVIEW, Tier.DIAGNOSTIC])
def test_the_region_of_the_vector_opens_its_pixels(tier: Tier, codec) -> None:
    header, parts = read_bundle(GOOD.read_bytes(), "good")
    said = FACTS["region, as a grant has it"]
    opened = RegionSecrets.parse(said, Tier.DIAGNOSTIC)
    assert opened.body == said
    told, base = FACTS["info"], 2 * INFO_BASE
    assert opened.info.hex() == told[:40] + "0" * 12 + told[52 : base + 2 * INFO_PER_FRAME]
    bundle = OpenedBundle.of(header, parts, opened)
    pixels = read_region(bundle, tier, lambda digest: codec)[0].pixels
    whole = np.frombuffer(bytes.fromhex(FACTS["pixels, 16 bits each"][tier]), ">u2")
    x, y, width, height = said["region"][:4]
    right = whole.reshape(FACTS["shape"])[:, y : y + height, x : x + width]
    assert np.abs(pixels.astype(int) - right).max() <= 1


def dense(record: dict) -> np.ndarray:
    """(atoms, h, w) of a record of the vector."""
    levels = np.zeros(record["shape"], np.int16)
    for at, level in record["levels"]:
        levels.ravel()[at] = level
    return levels


def test_the_release_of_the_vectors_opens(tmp_path: Path) -> None:
    release = Release(VECTORS / "release")
    reader = read_identities(VECTORS / "keys" / "reader.key")
    assert len(release) == 3
    results = restore(release, reader, tmp_path / "out", models=(TINY,))
    assert sorted(r.name for r in results) == [f"chest-{k}.dcm" for k in range(3)]
    assert all(r.error is None for r in results)


def test_an_altered_byte_is_an_error_or_changes_nothing(codec) -> None:
    """What fills `public` stands for nothing; all else is verified where it is read."""
    data, refused = GOOD.read_bytes(), 0
    tier = Tier.ORIGINAL
    right = restore_image(OpenedBundle.read(data, secrets()), tier, lambda digest: codec, group="g")
    for at in np.linspace(0, len(data) - 1, 60).astype(int):
        bad = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        try:
            bundle = OpenedBundle.read(bad, secrets())
            restored = restore_image(bundle, tier, lambda digest: codec, group="g")
            image = decode_image(bundle, Tier.DIAGNOSTIC, lambda digest: codec)
        except (FormatError, ModelError) as error:
            refused += 1
            assert "\n" not in str(error)
        else:
            assert restored.data == right.data
            assert image.pixels.astype(">u2").tobytes().hex() == PIXELS
    assert refused > 40


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
    info = info_secret(secrets()[Tier.PREVIEW])
    assert info.value.hex() == FACTS["key_tree"]["info"]
    assert unseal(parts["info"], info, "info", header.binding).hex() == FACTS["info"]
    with pytest.raises(FormatError):
        unseal(parts["info"], info, "info", b"another header")
    with pytest.raises(FormatError):
        unseal(parts["info"], secrets()[Tier.PREVIEW], "info", header.binding)
