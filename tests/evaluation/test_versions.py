"""A version is what a recipient gets, its bits what it costs; a baseline has no more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from primis.bundle.container import read_bundle
from primis.bundle.settings import Settings
from primis.codec import Codec, OnnxEngine
from primis.codes.coder import decode_code, encode_code
from primis.errors import UsageError
from primis.imaging.image import Image
from primis.imaging.phantom import draw_phantom
from primis.keys.seal import Secret, image_secret, release_secrets
from primis.keys.tier import Tier
from primis.metrics.fidelity import psnr
from primis.network.checkpoint import read_checkpoint, shipped
from primis.sharing.opened import OpenedBundle
from primis.sharing.restore import decode_image
from primis.sharing.share import share_image
from primis.study.versions import (
    Version,
    Versions,
    code_bits,
    code_of,
    nominal_sparsity,
    version_list,
)


@pytest.fixture(scope="module")
def codecs() -> dict[str, Codec]:
    checkpoints = {name: read_checkpoint(shipped(name)) for name in ("default", "paper")}
    return {
        name: Codec(checkpoint, OnnxEngine(checkpoint, threads=1))
        for name, checkpoint in checkpoints.items()
    }


def named(versions: list[Version], name: str) -> Version:
    (version,) = (v for v in versions if v.name == name)
    return version


def test_names_and_groups() -> None:
    versions = version_list([4, 2.5], ["default", "paper"], ["JPEG 2000", "lossless"])
    assert [(v.name, v.group) for v in versions] == [
        ("original", "original"),
        ("S_x = 4", "preset default"),
        ("S_x = 2.5", "preset default"),
        ("preset paper, S_x = 4", "preset paper"),
        ("preset paper, S_x = 2.5", "preset paper"),
        ("JPEG 2000 at the bits of S_x = 4", "JPEG 2000"),
        ("JPEG 2000 at the bits of S_x = 2.5", "JPEG 2000"),
        ("lossless", "lossless"),
    ]


def test_texture_is_a_version_of_its_own(codecs) -> None:
    """Of the same bits; always the same noise; other codecs are still held to ours without it."""
    listed = version_list([2, 8], baselines=["JPEG 2000"], texture=True)
    assert [v.name for v in listed[1:5]] == [
        "S_x = 2",
        "S_x = 8",
        "S_x = 2, with texture",
        "S_x = 8, with texture",
    ]
    assert listed[3].group == "preset default, with texture"
    pixels = draw_phantom(96, seed=3)
    made = Versions(None, codecs, listed)
    plain, bits = made.get("x", pixels, 12, listed[2])
    textured, its_bits = made.get("x", pixels, 12, listed[4])
    assert bits == its_bits
    assert (plain != textured).mean() > 0.3
    assert (made.get("x", pixels, 12, listed[4])[0] == textured).all()
    assert made.get("x", pixels, 12, listed[-1])[1] <= bits


def test_what_makes_no_sense_is_refused(codecs) -> None:
    with pytest.raises(
        UsageError, match='"GIF" is unknown, expected one of JPEG 2000, JPEG XL, lossless'
    ):
        version_list([4], baselines=["GIF"])
    with pytest.raises(UsageError, match="at least one S_x"):
        version_list([])
    with pytest.raises(UsageError, match='"S_x = 4" needs a model of preset "default"'):
        Versions(None, {"paper": codecs["paper"]}, version_list([4]))


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_restoring_without_sharing_gives_what_tier_diagnostic_gives(codecs, preset) -> None:
    codec, sparsity = codecs[preset], 4.0
    pixels = draw_phantom(200, seed=3)[:, :150]
    version = version_list([sparsity], [preset])[1]
    out, _ = Versions(None, codecs, version_list([sparsity], [preset])).get(
        "x", pixels, 12, version
    )
    nominal = nominal_sparsity(codec, sparsity)
    settings = Settings(sparsity=nominal)
    bundle_id = "0" * 32
    secrets = {
        tier: image_secret(s, bundle_id)
        for tier, s in release_secrets(Secret.new(), "original").items()
    }
    image = Image(pixels[None, ..., None], 12, "MONOCHROME2", "png")
    header, parts = read_bundle(
        share_image(
            image, settings, secrets, codec, alone=True, bundle_id=bundle_id, name="x"
        ).data,
        "x",
    )
    restored = decode_image(
        OpenedBundle(header, parts, secrets), Tier("diagnostic"), lambda digest: codec
    )
    assert (out.dtype, out.shape) == (pixels.dtype, pixels.shape)
    assert np.array_equal(out, restored.pixels[0, ..., 0])
    assert psnr(pixels, out, 4095) > 20


def test_the_bits_are_enough_to_decode_the_code(codecs) -> None:
    codec = codecs["default"]
    pixels = draw_phantom(128, seed=4)
    z, _ = codec.encode(pixels[..., None])
    code = code_of(z, pixels.shape, codec, 4)
    known, spent = np.zeros_like(code.levels[0]), 0
    for atoms in codec.layout.split():
        support, values = encode_code(code.levels[0], atoms, codec.layout, codec.checkpoint.tables)
        count = int(np.count_nonzero(code.levels[0][atoms.start : atoms.stop]))
        known = decode_code(
            support, values, known, atoms, count, codec.layout, codec.checkpoint.tables
        )
        spent += 8 * (len(support) + len(values))
    assert np.array_equal(known, code.levels[0])
    versions = version_list([4])
    assert sum(code_bits(code, codec)) == spent
    assert Versions(None, codecs, versions).get("x", pixels, 12, versions[1])[1] == pytest.approx(
        spent / pixels.size
    )


@pytest.mark.parametrize("baseline", ["JPEG 2000", "JPEG XL"])
def test_a_baseline_takes_as_many_bits_and_no_more(codecs, baseline) -> None:
    pixels = (draw_phantom(256, seed=5) >> 4).astype(np.uint8)
    listed = version_list([8, 16], baselines=[baseline])
    versions = Versions(None, codecs, listed)
    quality = []
    for sparsity in (8, 16):
        _, ours = versions.get("x", pixels, 8, named(listed, f"S_x = {sparsity}"))
        out, bits = versions.get(
            "x", pixels, 8, named(listed, f"{baseline} at the bits of S_x = {sparsity}")
        )
        assert 0.9 * ours < bits <= ours
        quality.append(psnr(pixels, out, 255))
    assert 20 < quality[0] < quality[1]


def test_a_baseline_that_cannot_be_so_small_says_what_it_takes(codecs) -> None:
    listed = version_list([0.5], baselines=["JPEG 2000"])
    versions = Versions(None, codecs, listed)
    pixels = draw_phantom(32, seed=1)
    (_, ours), (out, bits) = (versions.get("x", pixels, 12, v) for v in listed[1:])
    assert bits > ours
    assert out.shape == pixels.shape


@pytest.mark.parametrize(
    ("dtype", "low", "depth"),
    [("uint8", 0, 8), ("uint16", 0, 16), ("uint16", 7, 10), ("int16", -1024, 12)],
)
def test_every_type_of_sample_comes_back_as_it_went(codecs, dtype, low, depth) -> None:
    drawn = draw_phantom(96, seed=2).astype(np.float64) / 4095
    pixels = np.round(drawn * (2**depth - 1 - max(low, 0)) + low).astype(dtype)
    listed = version_list([16], baselines=["JPEG 2000", "JPEG XL", "lossless"])
    versions = Versions(None, codecs, listed)
    found = {v.name: versions.get("x", pixels, depth, v) for v in listed}
    assert found["original"][0] is pixels
    assert found["original"][1] == depth
    assert np.array_equal(found["lossless"][0], pixels)
    assert found["JPEG XL at the bits of S_x = 16"][1] < found["lossless"][1] < depth + 1
    for out, _ in found.values():
        assert (out.dtype, out.shape) == (pixels.dtype, pixels.shape)
        assert psnr(pixels, out, 2**depth - 1) > 20


class Broken:
    """An engine that no one may call."""

    def encode(self, x):
        raise AssertionError("encoded again")

    def decode(self, q, threshold, opened):
        raise AssertionError("decoded again")


def test_what_was_made_once_is_taken_from_the_cache(codecs, tmp_path: Path) -> None:
    pixels = draw_phantom(96, seed=6)
    listed = version_list([4], baselines=["JPEG 2000", "lossless"])
    first = [Versions(tmp_path / "v", codecs, listed).get("a", pixels, 12, v) for v in listed]
    broken = {"default": Codec(codecs["default"].checkpoint, Broken())}
    again = Versions(tmp_path / "v", broken, listed)
    for version, (out, bits) in zip(listed, first, strict=True):
        kept, kept_bits = again.get("another name", pixels, 12, version)
        assert np.array_equal(kept, out)
        assert kept_bits == bits
    files = list((tmp_path / "v").iterdir())
    assert len(files) == 3  # the original is not kept
    assert all(file.stat().st_mode & 0o077 == 0 for file in files)


def test_the_cache_tells_images_sparsities_and_models_apart(codecs, codec, tmp_path: Path) -> None:
    pixels = draw_phantom(96, seed=6)
    listed = version_list([4])
    Versions(tmp_path, codecs, listed).get("a", pixels, 12, listed[1])
    broken = Versions(tmp_path, {"default": Codec(codecs["default"].checkpoint, Broken())}, listed)
    changed = pixels.copy()
    changed[0, 0] += 1
    for image, depth, version in (
        (changed, 12, listed[1]),
        (pixels, 12, version_list([8])[1]),
        (pixels, 16, listed[1]),
    ):
        with pytest.raises(AssertionError, match="encoded again"):
            broken.get("a", image, depth, version)
    other, _ = Versions(tmp_path, {"default": codec}, listed).get("a", pixels, 12, listed[1])
    assert not np.array_equal(
        other, Versions(tmp_path, codecs, listed).get("a", pixels, 12, listed[1])[0]
    )
