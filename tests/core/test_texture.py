"""Texture that is put back: what it restores, whom it tells, and that it is the specification's."""

from __future__ import annotations

import hashlib
import io
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

import primis
from primis.bundle.geometry import Geometry
from primis.bundle.header import INFO_BASE, INFO_PER_FRAME
from primis.bundle.settings import Settings
from primis.codec import Codec, Scale
from primis.errors import DamagedSection, NoTexture, UsageError
from primis.imaging.image import Image
from primis.imaging.padding import find_padding
from primis.imaging.phantom import phantom_dicom
from primis.jobs.rekey.run import rekey
from primis.jobs.restore import restore
from primis.jobs.share.run import share
from primis.keys.identity import parse_recipient, read_identities
from primis.keys.seal import Secret, image_secrets, release_secrets
from primis.keys.tier import Tier
from primis.release.reader import Release
from primis.sharing.opened import OpenedBundle
from primis.sharing.reseal import reseal
from primis.sharing.restore import decode_image, read_image, read_info, restore_image
from primis.sharing.share import share_image
from primis.sharing.texture import add_texture, measure_texture, unpack_texture
from tests.conftest import SETTINGS, TINY, VECTORS
from tests.core.test_padding import OUTSIDE, ct
from tests.core.test_vectors import FACTS, GOOD, secrets

BUNDLE_ID = "b" * 32
RELEASE_SECRETS = release_secrets(Secret(bytes(32)), Tier.ORIGINAL)
OPENED = image_secrets(RELEASE_SECRETS, BUNDLE_ID)
SIDE = 256


def grain(shape: tuple[int, ...] = (1, SIDE, SIDE, 1), seed: int = 0) -> np.ndarray:
    """A smooth slope; fine grain on its left half, three times as strong on its right."""
    rng = np.random.default_rng(seed)
    strength = np.where(np.arange(shape[2]) < shape[2] // 2, 4.0, 12.0)
    slope = np.linspace(200, 500, shape[1])[:, None]
    return slope[None, :, :, None] + strength[:, None] * rng.standard_normal(shape)


def as_image(pixels: np.ndarray, dtype: str = "uint16", photometric: str = "MONOCHROME2") -> Image:
    whole = np.round(pixels).astype(dtype)
    return Image(whole, 8 * whole.dtype.itemsize, photometric, "tiff", None, b"{}")


def shared(
    image: Image, codec: Codec, *, measure: bool = True, bundle_id: str = BUNDLE_ID
) -> bytes:
    settings = replace(SETTINGS, sparsity=1.0, header_bytes=4096)
    tiers = image_secrets(RELEASE_SECRETS, bundle_id)
    how = {"alone": True, "bundle_id": bundle_id, "name": "x", "measure": measure}
    return share_image(image, settings, tiers, codec, **how).data


def opened(data: bytes, bundle_id: str = BUNDLE_ID) -> OpenedBundle:
    return OpenedBundle.read(data, image_secrets(RELEASE_SECRETS, bundle_id))


def read(bundle: OpenedBundle, codec: Codec, *, texture: bool) -> np.ndarray:
    return read_image(bundle, Tier.DIAGNOSTIC, lambda _: codec, texture=texture)[0].pixels


def fine_energy(pixels: np.ndarray) -> np.ndarray:
    """Mean square of the difference of neighbours, of the left and the right half."""
    squares = np.diff(pixels[0, ..., 0].astype(float), axis=0) ** 2
    middle = squares.shape[1] // 2
    return np.array([squares[:, :middle].mean(), squares[:, middle:].mean()])


@pytest.mark.parametrize(
    ("dtype", "photometric", "shift"),
    [
        ("uint16", "MONOCHROME2", 0),
        ("uint16", "MONOCHROME1", 0),
        ("int16", "MONOCHROME2", 2000),
    ],
)
def test_the_energy_comes_back_where_it_was_lost(codec, dtype, photometric, shift) -> None:
    image = as_image(grain() - shift, dtype, photometric)
    bundle = opened(shared(image, codec))
    source = fine_energy(image.pixels)
    plain, textured = (fine_energy(read(bundle, codec, texture=t)) for t in (False, True))
    assert (plain < 0.25 * source).all()
    assert (textured > 0.6 * source).all()
    assert (textured < 1.1 * source).all()


def test_it_has_the_spectrum_of_what_was_lost() -> None:
    """Coarse grain comes back coarse, fine grain fine."""
    rng, scale = np.random.default_rng(3), Scale(0, 4095)
    flat = np.full((SIDE, SIDE, 1), 2000, np.uint16)
    fine = rng.standard_normal((SIDE, SIDE))
    coarse = sum(np.roll(fine, k, 0) for k in range(4)) / 2
    coarse = sum(np.roll(coarse, k, 1) for k in range(4)) / 2
    found = []
    for lost in (fine, coarse):
        frame = (flat[..., 0] + 40 * lost).round().astype(np.uint16)[..., None]
        noisy = flat.copy()
        add_texture(noisy, measure_texture(frame, flat, scale), scale, bytes(16))
        noise = noisy.astype(float) - 2000
        assert noise.std() == pytest.approx(0.9 * 40, rel=0.15)
        found.append(np.diff(noise, axis=0).std() / noise.std())
    assert found[0] == pytest.approx(math.sqrt(2), rel=0.05)
    assert found[1] < 0.7 * found[0]


def test_colours_and_frames_each_get_their_own(codec) -> None:
    pixels = grain((2, 64, 64, 3)) / 20
    pixels[..., 2] += np.linspace(0, 30, 64)[:, None]
    pixels[1] *= 0.9
    image = as_image(pixels, "uint8", "RGB")
    bundle = opened(shared(image, codec))
    plain, textured = (read(bundle, codec, texture=t).astype(int) for t in (False, True))
    noise = (textured - plain).reshape(2, -1, 3)
    assert (noise.std(axis=1) > 0.1).all()
    between = np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]
    assert abs(between) < 0.05


def test_a_bundle_always_gives_the_same_noise(codec) -> None:
    image = as_image(grain())
    data = shared(image, codec)
    one, same = (read(opened(data), codec, texture=True) for _ in range(2))
    assert (one == same).all()
    other_id = "c" * 32
    other = read(opened(shared(image, codec, bundle_id=other_id), other_id), codec, texture=True)
    assert (one != other).mean() > 0.5


def test_it_survives_new_secrets(codec) -> None:
    """With another id the noise is another, of the same statistics."""
    image, new_id = as_image(grain()), "d" * 32
    before = opened(shared(image, codec))
    tiers = image_secrets(RELEASE_SECRETS, new_id)
    after = OpenedBundle.read(reseal(before, tiers, new_id, alone=True), tiers)
    assert read_info(after).textures == read_info(before).textures
    one, other = (read(bundle, codec, texture=True) for bundle in (before, after))
    assert (one != other).mean() > 0.5
    assert fine_energy(one) == pytest.approx(fine_energy(other), rel=0.1)


def test_padding_stays_as_it_was(codec) -> None:
    image = replace(ct(-2000), padding_range=(-2000, -2000))
    bundle = opened(shared(image, codec))
    plain, textured = (read(bundle, codec, texture=t)[0, ..., 0] for t in (False, True))
    assert (textured[OUTSIDE] == -2000).all()
    assert (textured[~OUTSIDE] != -2000).all()
    assert (textured[~OUTSIDE] != plain[~OUTSIDE]).mean() > 0.3
    again = find_padding(replace(image, pixels=textured[None, ..., None]))
    assert again is not None
    assert (again.mask[0] == OUTSIDE).all()


def test_blocks_of_padding_do_not_thin_what_is_lost() -> None:
    rng, scale = np.random.default_rng(5), Scale(0, 4095)
    flat = np.full((128, 128, 1), 2000, np.uint16)
    frame = (flat + 30 * rng.standard_normal(flat.shape)).round().astype(np.uint16)
    outside = np.zeros((128, 128), bool)
    outside[:, 32:] = True
    noisy = flat.copy()
    add_texture(noisy, measure_texture(frame, flat, scale, outside), scale, bytes(16))
    assert noisy[:, :32].std() == pytest.approx(0.9 * 30, rel=0.15)


def test_images_that_were_not_measured_have_none(codec) -> None:
    bundle = opened(shared(as_image(grain()), codec, measure=False))
    assert read(bundle, codec, texture=False).any()
    with pytest.raises(NoTexture, match=f'bundle "{BUNDLE_ID}" holds no texture') as caught:
        read(bundle, codec, texture=True)
    assert "\n" not in str(caught.value)


def test_it_is_of_tier_diagnostic_alone(codec) -> None:
    bundle = opened(shared(as_image(grain()), codec))
    for tier in (Tier.PREVIEW, Tier.ORIGINAL):
        with pytest.raises(UsageError, match=f'at tier "{tier}", expected tier "diagnostic"'):
            restore_image(bundle, tier, lambda _: codec, group="g", texture=True)


def test_exact_samples_get_nothing(codec) -> None:
    pixels = (np.mgrid[:90, :70][0] // 30)[None, ..., None]
    image = as_image(pixels, "uint8")
    bundle = opened(shared(image, codec))
    back = restore_image(bundle, Tier.DIAGNOSTIC, lambda _: codec, group="g", texture=True)
    assert not back.texture
    assert (back.image.pixels == image.pixels).all()
    assert not read_info(bundle).textures


def geometry(height: int, width: int, channels: int = 1) -> Geometry:
    return Geometry(4, channels, 64, 1, height, 16, 32, width)


def test_its_size_follows_from_the_geometry() -> None:
    """A flat image, grain and an edge take as many bytes; 13 for 512 x 512."""
    assert geometry(512, 512).texture_bytes == 13
    rng = np.random.default_rng(1)
    for side in (1, 15, 16, 130, 300):
        size = (side, side + 7, 1)
        flat, its = np.full(size, 90, np.uint8), geometry(*size[:2])
        edge = np.where(np.arange(size[1]) < 9, 30, 200).astype(np.uint8)[None, :, None]
        frames = (flat, rng.integers(0, 255, size).astype(np.uint8), np.repeat(edge, side, 0))
        for frame in frames:
            [plane] = measure_texture(frame, flat, Scale(0, 255))
            assert len(plane.pack()) == its.texture_bytes
            assert unpack_texture(plane.pack(), its) == (plane,)


@pytest.mark.parametrize("scale", [Scale(0, 0), Scale(0, 255), Scale(-32768, 32767)])
def test_whatever_is_sealed_gives_pixels_in_range_or_an_error(scale: Scale) -> None:
    """Random bytes, and the least and the largest numbers: no nan, no overflow."""
    rng, its = np.random.default_rng(2), geometry(40, 150)
    frame = rng.integers(scale.low, scale.high + 1, (40, 150, 1)).astype(np.int16)
    flat = np.full_like(frame, scale.low)
    size, sound = its.texture_bytes, 0
    drawn = [rng.integers(0, 256, size, np.uint8).tobytes() for _ in range(30)]
    ends = [bytes([d, s]) + b"\xff" * (size - 2) for d in (1, 255) for s in (1, 255)]
    for data in (*drawn, *ends):
        try:
            texture = unpack_texture(data, its)
        except ValueError:
            continue
        sound += 1
        for pixels in (frame.copy(), flat.copy()):
            with np.errstate(all="raise"):
                add_texture(pixels, texture, scale, bytes(16))
            assert scale.low <= pixels.min() <= pixels.max() <= scale.high
    assert sound >= len(ends)


def test_damaged_texture_is_an_error_of_the_section(codec) -> None:
    for name in ("not_measured", "without_loss", "without_spread", "goes_on"):
        data = (VECTORS / "bundles" / f"info_texture_{name}.primis").read_bytes()
        with pytest.raises(DamagedSection, match='section "info"'):
            decode_image(OpenedBundle.read(data, secrets()), Tier.DIAGNOSTIC, lambda _: codec)


def spec_noise(plane: np.ndarray, info: bytes, bundle_id: str, width: int) -> np.ndarray:
    """The noise of a plane of frame 0, sentence by sentence as in docs/format.md."""
    d, s = (width * 2 ** ((1 - number) / 8) for number in info[:2])
    numbers = [half for byte in info[2:] for half in (byte >> 4, byte & 15)]
    contrast = numbers[0]
    bands = [2 ** ((n - 10) / 3) if n else 0 for n in numbers[1:6]]
    regions = [2 ** ((n - 9) / 3) if n else 0 for n in numbers[6:]]
    height, across = plane.shape
    whole = np.pad(plane, [(0, -height % 16), (0, -across % 16)], mode="edge")
    noise = np.zeros(whole.shape)
    for top in range(0, height, 16):
        for left in range(0, across, 16):
            block = whole[top : top + 16, left : left + 16]
            squares = np.mean(np.diff(block, axis=0) ** 2), np.mean(np.diff(block) ** 2)
            v = math.sqrt(sum(squares) / 2)
            m = math.sqrt(min(1 - contrast / 16 + contrast / 16 * v / s, 4))
            of = b"primis/1 texture" + bytes.fromhex(bundle_id) + bytes(8)
            place = (top // 16).to_bytes(4, "big") + (left // 16).to_bytes(4, "big")
            bits = int.from_bytes(hashlib.sha256(of + place).digest(), "big")
            region = top // 128 * math.ceil(across / 128) + left // 128
            for u in range(16):
                for w in range(16):
                    band = sum(limit < u * u + w * w for limit in (9, 30, 72, 144))
                    size = d * m * regions[region] * bands[band] if u or w else 0
                    sign = -1 if bits >> (255 - 16 * u - w) & 1 else 1
                    wave = np.outer(cosine(u), cosine(w))
                    noise[top : top + 16, left : left + 16] += sign * size * wave
    return noise[:height, :across]


def cosine(u: int) -> np.ndarray:
    size = math.sqrt((1 if u == 0 else 2) / 16)
    return size * np.cos(np.pi * u * (2 * np.arange(16) + 1) / 32)


def test_noise_is_that_of_the_specification(codec) -> None:
    bundle = OpenedBundle.read(GOOD.read_bytes(), secrets())
    plain, textured = (
        decode_image(bundle, Tier.DIAGNOSTIC, lambda _: codec, texture=t).pixels[0, ..., 0]
        for t in (False, True)
    )
    info = bytes.fromhex(FACTS["info"])
    low, high = np.frombuffer(info[INFO_BASE : INFO_BASE + 8], ">i4").astype(int)
    noise = spec_noise(
        plain.astype(float), info[INFO_BASE + INFO_PER_FRAME :], FACTS["bundle_id"], high - low
    )
    assert noise.std() > 5
    assert (np.clip(np.round(plain + noise), low, high) == textured).all()
    right = np.frombuffer(bytes.fromhex(FACTS["pixels with texture, 16 bits each"]), ">u2")
    assert np.abs(textured.ravel().astype(int) - right).max() <= 2  # decoded in floating point


def test_noise_goes_on_across_regions_and_odd_sides() -> None:
    """More regions than one, and what is worked on at a time is no multiple of them."""
    rng, scale = np.random.default_rng(4), Scale(0, 4095)
    plane = rng.integers(1000, 1100, (150, 270, 1)).astype(np.uint16)
    lost = (plane + rng.standard_normal(plane.shape) * np.linspace(5, 60, 270)[:, None]).round()
    [texture] = measure_texture(lost.astype(np.uint16), plane, scale)
    textured = plane.copy()
    add_texture(textured, (texture,), scale, bytes.fromhex(BUNDLE_ID))
    noise = spec_noise(plane[..., 0].astype(float), texture.pack(), BUNDLE_ID, 4095)
    assert (np.clip(np.round(plane[..., 0] + noise), 0, 4095) == textured[..., 0]).all()
    assert len(set(texture.regions)) > 2


@pytest.fixture
def release(tmp_path: Path, signer, keys) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "chest.dcm").write_bytes(phantom_dicom(96, seed=1))
    to = [parse_recipient(f"alice={keys['alice']}")]
    share([folder], tmp_path / "r", to, signer, Settings(sparsity=2.0), model=TINY)
    return tmp_path / "r"


def dicom(path: Path) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(path.read_bytes()))


def test_restored_dicom_says_so(release: Path, keys, tmp_path: Path) -> None:
    alice, found = read_identities(keys["alice"]), []
    for texture in (False, True):
        out = tmp_path / f"out-{texture}"
        [result] = restore(Release(release), alice, out, models=(TINY,), texture=texture)
        assert (result.error, result.texture, result.tier) == (None, texture, Tier.DIAGNOSTIC)
        found.append(dicom(out / "chest.dcm"))
    plain, textured = found
    assert "synthetic texture" in textured.DerivationDescription
    assert "not for reading" in textured.DerivationDescription
    assert "texture" not in plain.DerivationDescription
    for uid in ("SOPInstanceUID", "SeriesInstanceUID"):
        assert plain[uid].value != textured[uid].value
    assert plain.StudyInstanceUID == textured.StudyInstanceUID
    assert (plain.pixel_array != textured.pixel_array).any()


def test_the_library_gives_it_to_who_asks(release: Path, keys) -> None:
    with primis.open(release, keys["alice"], models=[TINY], remember=False) as found:
        image = found["chest.dcm"]
        plain, textured = image.read(), image.read(texture=True)
        assert (plain.pixels != textured.pixels).any()
        assert (image.read("diagnostic", texture=True).pixels == textured.pixels).all()
        again = pydicom.dcmread(io.BytesIO(image.file(texture=True)))
        assert (again.pixel_array == textured.pixels[0, ..., 0]).all()
        with pytest.raises(UsageError, match='expected tier "diagnostic"'):
            image.read("preview", texture=True)


def test_a_release_with_new_keys_still_has_it(release: Path, keys, signer, tmp_path: Path) -> None:
    rekey(Release(release), signer)
    alice = read_identities(keys["alice"])
    [result] = restore(Release(release), alice, tmp_path / "out", models=(TINY,), texture=True)
    assert (result.error, result.texture) == (None, True)
