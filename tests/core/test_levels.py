"""Masks and label maps come back sample by sample at tier diagnostic."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest

import primis
from primis.bundle.container import read_bundle
from primis.codec import Codec
from primis.errors import DamagedSection
from primis.imaging.files import parse
from primis.imaging.image import Image
from primis.imaging.levels import bits_of, find_levels, pack_levels, unpack_levels
from primis.imaging.phantom import draw_phantom
from primis.keys.seal import Secret, image_secret, release_secrets, seal
from primis.keys.tier import Tier
from primis.sharing.opened import OpenedBundle
from primis.sharing.reseal import reseal
from primis.sharing.restore import restore_image
from primis.sharing.share import share_image
from tests.conftest import SETTINGS, TINY


def secrets_of(bundle_id: str) -> dict[str, Secret]:
    tiers = release_secrets(Secret(bytes(32)), "original")
    return {tier: image_secret(secret, bundle_id) for tier, secret in tiers.items()}


def labels(count: int, dtype: str = "uint8", channels: int = 1) -> np.ndarray:
    """Patches of `count` values."""
    rows, columns = np.mgrid[:90, :70] // 30
    numbers = (rows * 3 + columns)[None, ..., None] % count
    numbers = numbers + np.arange(channels)
    return (numbers % count * (60 if count <= 4 else 1)).astype(dtype)


@pytest.mark.parametrize("count", [1, 2, 3, 9])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("protection", ["keyed", "sca"])
def test_a_label_map_is_exact(codec: Codec, count: int, channels: int, protection: str) -> None:
    pixels = labels(count, channels=channels)
    meaning = "RGB" if channels == 3 else "MONOCHROME2"
    image = Image(pixels, 8, meaning, "tiff", None, b"{}")
    bundle_id, settings = "b" * 32, replace(SETTINGS, protection=protection)
    opened = secrets_of(bundle_id)
    data = share_image(
        image, settings, opened, codec, alone=True, bundle_id=bundle_id, name="x"
    ).data
    restored = restore_image(
        OpenedBundle.read(data, opened), Tier("diagnostic"), lambda _: codec, group="g"
    )
    assert (restored.image.pixels == pixels).all()
    again = reseal(OpenedBundle.read(data, opened), secrets_of("c" * 32), "c" * 32, alone=True)
    restored = restore_image(
        OpenedBundle.read(again, secrets_of("c" * 32)),
        Tier("diagnostic"),
        lambda _: codec,
        group="g",
    )
    assert (restored.image.pixels == pixels).all()
    preview = {"preview": opened["preview"]}
    restore_image(OpenedBundle.read(data, preview), Tier("preview"), lambda _: codec, group="g")


def test_the_size_of_a_mask_follows_from_geometry_and_settings(codec: Codec) -> None:
    masks = [np.zeros((1, 90, 70, 1), np.uint8), labels(2), labels(2)[:, ::-1, ::-1] * 0 + 255]
    masks.append(np.random.default_rng(0).integers(0, 2, (1, 90, 70, 1), np.uint8) * 255)
    sizes = set()
    for pixels in masks:
        image = Image(pixels, 8, "MONOCHROME2", "png", None, b"{}")
        opened = secrets_of("d" * 32)
        data = share_image(
            image, SETTINGS, opened, codec, alone=True, bundle_id="d" * 32, name="x"
        ).data
        header, _ = read_bundle(data, "x")
        assert header.settings.exact_bits == 1
        sizes.add((len(data), *((s.name, s.bytes) for s in header.sections)))
    assert len(sizes) == 1


def test_a_mask_needs_no_model(codec: Codec) -> None:
    opened = secrets_of("e" * 32)
    image = Image(labels(2), 8, "MONOCHROME2", "png", None, b"{}")
    data = share_image(
        image, SETTINGS, opened, codec, alone=True, bundle_id="e" * 32, name="x"
    ).data

    def none(digest: str) -> Codec:
        raise AssertionError("no codec is wanted")

    restored = restore_image(OpenedBundle.read(data, opened), Tier("diagnostic"), none, group="g")
    with PIL.Image.open(io.BytesIO(restored.data)) as file:
        assert (np.asarray(file) == labels(2)[0, ..., 0]).all()


def test_pictures_are_no_label_maps() -> None:
    chest = draw_phantom(128)[None, ..., None]
    assert find_levels(chest) is None
    assert find_levels((chest >> 4).astype(np.uint8)) is None
    assert find_levels((chest >> 8).astype(np.uint8)) is not None  # 16 grey levels and no more
    many = np.repeat(np.arange(200, dtype=np.uint8), 40)[None, :, None, None]
    assert find_levels(np.repeat(many, 50, axis=2)) is not None


def patches(count: int, height: int = 96, width: int = 80) -> np.ndarray:
    """A label map (height, width): every pixel has the number of the nearest of `count` points."""
    rng = np.random.default_rng(count)
    points = rng.integers(0, (height, width), (count, 2))
    rows, columns = np.mgrid[:height, :width]
    away = (rows[..., None] - points[:, 0]) ** 2 + (columns[..., None] - points[:, 1]) ** 2
    return away.argmin(axis=2)


def in_order(labels: np.ndarray) -> np.ndarray:
    """Numbered again as they are met, row by row."""
    _, first, numbers = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[numbers.reshape(labels.shape)]


def outlined(labels: np.ndarray) -> np.ndarray:
    """With a background of 0 between neighbours."""
    out = labels + 1
    out[:, 1:][labels[:, 1:] != labels[:, :-1]] = 0
    out[1:][labels[1:] != labels[:-1]] = 0
    return out


COLOURS = np.random.default_rng(7).integers(0, 256, (120, 3)).astype(np.uint8)
LABELS = {
    "200 on few pixels": (patches(200, 38, 33).astype(np.uint8), 8),
    "200": (patches(200).astype(np.uint8), 8),
    "250 in order": (in_order(patches(250)).astype(np.uint8), 8),
    "300 of 16 bits": ((patches(300) * 211).astype(np.uint16), 16),
    "600 in order": (in_order(patches(600)).astype(np.int16), 16),
    "600 outlined": (outlined(patches(600)).astype(np.uint16), 16),
    "120 colours": (COLOURS[patches(120)], 8),
    "16 colours, noise": (COLOURS[np.random.default_rng(0).integers(0, 16, (64, 64))], 8),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_are_exact_however_many(codec: Codec, name: str) -> None:
    pixels, bits = LABELS[name]
    pixels = pixels.reshape(1, *pixels.shape[:2], -1)
    meaning = "RGB" if pixels.shape[3] == 3 else "MONOCHROME2"
    depth = 8 * pixels.dtype.itemsize
    image = Image(pixels, depth, meaning, "tiff", None, b"{}")
    opened = secrets_of("a" * 32)
    data = share_image(
        image, SETTINGS, opened, codec, alone=True, bundle_id="a" * 32, name="x"
    ).data
    header, parts = read_bundle(data, "x")
    assert header.settings.exact_bits == bits
    table = 2 * 2**bits if bits < 16 else 0
    assert len(parts["exact"]) == bits * pixels.size // 8 + table + 16
    restored = restore_image(
        OpenedBundle.read(data, opened), Tier("diagnostic"), lambda _: codec, group="g"
    )
    assert (restored.image.pixels == pixels).all()


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_smooth_picture_is_no_label_map(dtype: str) -> None:
    rows, columns = np.mgrid[:1200, :1100]
    shades = 120 + 60 * np.sin(rows / 300) + 50 * np.cos(columns / 270)  # 3 of 4 neighbours equal
    noise = np.random.default_rng(0).random(shades.shape) < 0.02
    picture = (shades + noise).astype(dtype)[None, ..., None]
    assert (picture[:, 1:] == picture[:, :-1]).mean() > 0.7
    assert find_levels(picture) is None


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
@pytest.mark.parametrize("count", [1, 2, 4, 5, 17, 256, 257, 1200])
def test_levels_pack_and_unpack(dtype: str, count: int) -> None:
    limits = np.iinfo(dtype)
    levels = np.unique(np.linspace(limits.min, limits.max, count).astype(dtype))
    pixels = np.resize(np.random.default_rng(1).permutation(levels), (2, 37, 39, 1))
    levels, bits = np.unique(pixels), bits_of(np.unique(pixels))
    data = pack_levels(pixels, levels, bits)
    assert len(data) == (2 * 2**bits if bits < 16 else 0) + -(-bits * pixels.size // 8)
    assert (unpack_levels(data, pixels.shape, pixels.dtype, bits) == pixels).all()


def test_levels_that_the_samples_cannot_have_are_refused(codec: Codec) -> None:
    opened = secrets_of("f" * 32)
    image = Image(labels(2), 8, "MONOCHROME2", "png", None, b"{}")
    data = share_image(
        image, SETTINGS, opened, codec, alone=True, bundle_id="f" * 32, name="x"
    ).data
    header, parts = read_bundle(data, "x")
    size = header.plain_sizes["exact"]
    parts["exact"] = seal(b"\xff" * size, opened["diagnostic"], "exact", header.binding)
    from primis.bundle.container import write_bundle

    with pytest.raises(DamagedSection, match='"exact"'):
        restore_image(
            OpenedBundle.read(write_bundle(header, parts, alone=True), opened),
            Tier("diagnostic"),
            lambda _: codec,
            group="g",
        )


@pytest.mark.parametrize(
    "bad", [b"\0\1\0\0", b"\0\1\0\1\0\0\0\1", b"\0\0\0\0\0\1\0\1", b"\0\1\0\3\0\2\0\2"]
)
def test_there_is_one_table_for_some_levels(bad: bytes) -> None:
    bits = {4: 1, 8: 2}[len(bad)]
    with pytest.raises(ValueError, match="do not ascend"):
        unpack_levels(bad + bytes(2), (1, 1, 8, 1), np.dtype(np.uint8), bits)


def test_a_last_byte_is_filled_with_zeros() -> None:
    table, shape = b"\0\0\0\1", (1, 1, 3, 1)
    assert unpack_levels(table + b"\xa0", shape, np.dtype(np.uint8), 1).ravel().tolist() == [
        1,
        0,
        1,
    ]
    with pytest.raises(ValueError, match="filled with zeros"):
        unpack_levels(table + b"\xb0", shape, np.dtype(np.uint8), 1)


def test_a_png_mask_is_read_as_one() -> None:
    out = io.BytesIO()
    PIL.Image.fromarray(labels(2)[0, ..., 0]).save(out, "PNG")
    assert bits_of(find_levels(parse(out.getvalue()).pixels)) == 1


def test_levels_that_lie_in_later_parts_are_found() -> None:
    pixels = np.zeros((2, 1100, 1000, 1), np.int16)  # more than are looked at in one go
    pixels[1, -1, -1] = -7
    assert find_levels(pixels).tolist() == [-7, 0]


def test_lossless_seals_every_sample_whatever_the_image(keys, tmp_path) -> None:
    """And no size tells how many levels it has."""
    noise = np.random.default_rng(0)
    shapes = {"few": (4, np.uint8), "many": (256, np.uint8), "deep": (60_000, np.uint16)}
    for name, (levels, dtype) in shapes.items():
        pixels = noise.integers(0, levels, (40, 56)).astype(dtype)
        PIL.Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    files = [tmp_path / f"{name}.png" for name in shapes]
    how = {"to": [], "owner": keys["owner"], "model": TINY}
    results = {r.name: r for r in primis.share(files, tmp_path / "r", lossless=True, **how)}
    assert {(r.error, r.quality.psnr, r.kept) for r in results.values()} == {(None, None, None)}
    assert results["few.png"].bytes == results["many.png"].bytes
    primis.restore(tmp_path / "r", tmp_path / "o", identity=keys["owner"], models=[TINY])
    for path in files:
        restored = np.asarray(PIL.Image.open(tmp_path / "o" / path.name))
        assert (restored == np.asarray(PIL.Image.open(path))).all()
