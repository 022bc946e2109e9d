"""Padding is no tissue: it costs nothing around it, and comes back exactly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from primis.codec import Codec
from primis.imaging.image import Image
from primis.imaging.padding import (
    Padding,
    fill_padding,
    find_padding,
    impose_padding,
    pack_padding,
    padding_bytes,
    unpack_padding,
)
from primis.imaging.phantom import draw_phantom
from primis.keys.seal import Secret, image_secret, release_secrets
from primis.keys.tier import Tier
from primis.network.checkpoint import read_checkpoint, shipped
from primis.sharing.opened import OpenedBundle
from primis.sharing.restore import restore_image
from primis.sharing.share import share_image
from tests.conftest import SETTINGS

SIDE = 256
Y, X = np.mgrid[:SIDE, :SIDE] - SIDE / 2
OUTSIDE = np.hypot(Y, X) > 0.45 * SIDE


def ct(padding: int, dtype: str = "int16") -> Image:
    """A round image of the phantom as Hounsfield units, with a value of padding around it."""
    pixels = np.where(OUTSIDE, padding, tissue(dtype)).astype(dtype)
    return Image(pixels[None, ..., None], 16, "MONOCHROME2", "tiff", None, b"{}")


def tissue(dtype: str) -> np.ndarray:
    """What would be there without padding."""
    units = draw_phantom(SIDE, seed=3).astype(np.int32) // 2 - 1000
    return (units if dtype == "int16" else units + 1024).astype(dtype)


def restored(image: Image, codec: Codec) -> np.ndarray:
    bundle_id = "a" * 32
    tiers = release_secrets(Secret(bytes(32)), "original")
    opened = {tier: image_secret(secret, bundle_id) for tier, secret in tiers.items()}
    settings = replace(SETTINGS, sparsity=8.0, header_bytes=4096)
    data = share_image(
        image, settings, opened, codec, alone=True, bundle_id=bundle_id, name="x"
    ).data
    back = restore_image(
        OpenedBundle.read(data, opened), Tier("diagnostic"), lambda _: codec, group="g"
    ).image
    assert back is not None
    return back.pixels[0, ..., 0]


@pytest.fixture(scope="module")
def shipped_codec() -> Codec:
    return Codec(read_checkpoint(shipped()))


@pytest.mark.parametrize(
    ("padding", "dtype", "declared"),
    [
        (-2000, "int16", True),
        (-2000, "int16", False),
        (-32768, "int16", False),
        (63536, "uint16", True),
        (65535, "uint16", False),
    ],
)
def test_tissue_is_as_good_as_with_the_padding_filled(
    padding: int, dtype: str, declared: bool, shipped_codec: Codec
) -> None:
    image = ct(padding, dtype)
    if declared:
        image = replace(image, padding_range=(padding, padding))
    whole = replace(image, pixels=tissue(dtype)[None, ..., None], padding_range=None)
    assert find_padding(whole) is None
    back, reference = restored(image, shipped_codec), restored(whole, shipped_codec)
    assert (back[OUTSIDE] == padding).all()
    right = tissue(dtype).astype(float)[~OUTSIDE]
    error, least = (np.sqrt(((x[~OUTSIDE] - right) ** 2).mean()) for x in (back, reference))
    assert error <= 1.1 * least
    left_in = image.pixels[0]
    z, scale = shipped_codec.encode(left_in)
    code = shipped_codec.sparsify(z, 8 * z.shape[2] * z.shape[3])
    ruined = shipped_codec.decode(code, scale, left_in.shape[:2], left_in.dtype)[..., 0]
    assert np.sqrt(((ruined[~OUTSIDE] - right) ** 2).mean()) > 1.3 * least


TOP, RIM = Y < 0, np.hypot(Y, X) > 0.4 * SIDE
METAL = np.hypot(Y, X) < 5


def with_values(*values: tuple[np.ndarray, int], dtype: str = "int16") -> np.ndarray:
    """The tissue with constant values put in, one after the other."""
    pixels = tissue(dtype)
    for where, value in values:
        pixels[where] = value
    return pixels


LAID = {
    "two at either end": [(OUTSIDE & TOP, -32768), (OUTSIDE & ~TOP, 32767)],
    "two on one side": [(OUTSIDE & TOP, -2000), (OUTSIDE & ~TOP, -3000)],
    "a ring in a ring": [(RIM, -1500), (OUTSIDE, -2000)],
    "three": [(OUTSIDE & TOP, -2000), (OUTSIDE & ~TOP, -3000), (METAL, 32767)],
    "a hole that reaches no border": [(np.maximum(abs(Y), abs(X)) < 20, -32768)],
    "two rows": [(Y < 2 - SIDE / 2, -32768)],
    "one row": [(Y < 1 - SIDE / 2, 32767)],
}


@pytest.mark.parametrize("laid", LAID)
def test_constant_values_far_outside_are_padding(laid: str) -> None:
    pixels = with_values(*LAID[laid])
    image = Image(pixels[None, ..., None], 16, "MONOCHROME2", "tiff", None, b"{}")
    padding = find_padding(image)
    assert padding is not None
    assert (padding.mask[0] == (pixels != tissue("int16"))).all()


def test_metal_inside_hides_no_padding_outside() -> None:
    metal = with_values((METAL, 30000))
    metal[METAL] += np.arange(METAL.sum(), dtype=np.int16)
    metal[OUTSIDE] = -2000
    padding = find_padding(Image(metal[None, ..., None], 16, "MONOCHROME2", "tiff", None, b"{}"))
    assert padding is not None
    assert (padding.mask[0] == OUTSIDE).all()


def test_each_frame_has_its_own_padding() -> None:
    frames = np.stack([with_values()] * 25)[..., None]
    frames[3, OUTSIDE], frames[4, RIM] = -32768, -2000
    image = Image(frames, 16, "MONOCHROME2", "tiff", None, b"{}")
    padding = find_padding(image)
    assert padding is not None
    wanted = np.zeros(frames.shape[:3], bool)
    wanted[3], wanted[4] = OUTSIDE, RIM
    assert (padding.mask == wanted).all()
    described, data = pack_padding(padding)
    again = unpack_padding(described, data, image.shape, frames.dtype)
    back = impose_padding(fill_padding(image, padding), again).pixels
    assert (back == frames).all()


@pytest.mark.parametrize(
    ("dtype", "colour", "declared"),
    [
        ("uint16", (65535, 65535, 65535), None),
        ("uint16", (0, 65535, 0), None),
        ("uint8", (255, 255, 255), None),
        ("uint8", (0, 0, 0), None),
        ("uint8", (130, 131, 130), (130, 131)),
    ],
)
def test_in_colour_a_pixel_is_padding_when_all_its_channels_are(
    dtype: str, colour: tuple[int, ...], declared: tuple[int, int] | None
) -> None:
    grey = 60 + draw_phantom(SIDE, seed=3) // 40
    pixels = np.stack([grey, grey // 2 + 40, 250 - grey], axis=-1).astype(dtype)
    pixels[OUTSIDE] = colour
    image = Image(pixels[None], 8, "RGB", "png", None, b"{}", declared)
    padding = find_padding(image)
    assert padding is not None
    assert (padding.mask[0] == OUTSIDE).all()
    filled = fill_padding(image, padding)
    assert (filled.pixels[0, ~OUTSIDE] == pixels[~OUTSIDE]).all()
    assert find_padding(replace(filled, padding_range=None)) is None
    described, data = pack_padding(padding)
    assert len(data) == padding_bytes(described, image.shape)
    again = unpack_padding(described, data, image.shape, pixels.dtype)
    assert (impose_padding(filled, again).pixels == image.pixels).all()


def test_filling_is_smooth_and_leaves_tissue_alone() -> None:
    image = ct(-32768)
    filled = fill_padding(image, find_padding(image)).pixels[0, ..., 0].astype(float)
    inside = image.pixels[0, ..., 0]
    assert (filled[~OUTSIDE] == inside[~OUTSIDE]).all()
    assert inside[~OUTSIDE].min() <= filled.min()
    assert filled.max() <= inside[~OUTSIDE].max()
    step = np.abs(np.diff(filled, axis=1))[OUTSIDE[:, 1:] & OUTSIDE[:, :-1]]
    assert step.mean() < 10


def test_what_is_no_padding_is_left_alone() -> None:
    chest = Image(draw_phantom(128)[None, ..., None], 12, "MONOCHROME2", "png")
    assert find_padding(chest) is None
    black = chest.pixels.copy()
    black[:, :40] = 0  # a collimator: no gap to the other samples
    assert find_padding(replace(chest, pixels=black)) is None
    inner = chest.pixels.copy()
    inner[:, 50:70, 50:70] = 6000  # metal, inside, and away by less than all others span
    assert find_padding(replace(chest, pixels=inner)) is None
    inner[:, 50:70, 50:70] += 100 * np.arange(20, dtype=np.uint16)[None, :, None, None]
    assert find_padding(replace(chest, pixels=inner * 6)) is None  # far off, not of one value
    colour = np.repeat(chest.pixels, 3, axis=3)
    colour[:, :40, :, 1] = 65535  # one channel of pixels that differ
    assert find_padding(replace(chest, pixels=colour, padding_range=(65535, 65535))) is None
    echo = np.maximum(chest.pixels >> 4, 1)
    echo[:, :, :50] = 0  # black beside samples from 1 on
    assert find_padding(replace(chest, pixels=echo.astype(np.uint8))) is None
    bright = np.minimum(chest.pixels, 2000)  # saturated beside 1999
    bright[:, :, :40] = 2000
    assert find_padding(replace(chest, pixels=bright)) is None


def test_a_declared_range_comes_back_value_by_value_and_takes_no_tissue() -> None:
    pixels = draw_phantom(64)[None, ..., None] % 4000 + 50
    pixels[:, :9] = np.arange(9)[None, :, None, None] % 3  # padding of three values
    image = Image(pixels, 12, "MONOCHROME2", "dicom", padding_range=(0, 5))
    padding = find_padding(image)
    assert padding is not None
    noisy = pixels.copy()
    noisy[:, 20, 20] = 3  # what a lossy codec may do to tissue
    noisy[:, 5, 5] = 900  # and to padding
    back = impose_padding(replace(image, pixels=noisy), padding).pixels
    assert (back[:, :9] == pixels[:, :9]).all()
    assert back[0, 20, 20, 0] == 6
    assert not ((back[:, 9:] >= 0) & (back[:, 9:] <= 5)).any()


def test_the_padding_that_all_slices_have_is_packed_once() -> None:
    """As the corners outside of the circle that a CT reconstructs."""
    mask = np.broadcast_to(OUTSIDE, (6, SIDE, SIDE)).copy()
    mask[3, SIDE // 2] = True
    values = np.array([[7]], np.uint16)
    alone, _ = pack_padding(Padding(mask[:1], values, None))
    described, data = pack_padding(Padding(mask, values, None))
    assert (alone["frames"], described["frames"]) == (0, 1)
    again = unpack_padding(described, data, (6, SIDE, SIDE, 1), np.dtype("uint16"))
    assert (again.mask == mask).all()
    with pytest.raises(ValueError, match="another kind"):
        padding_bytes(described | {"frames": 2}, (6, SIDE, SIDE, 1))


@pytest.mark.parametrize("values", [1, 3])
def test_padding_packs_and_unpacks(values: int) -> None:
    pixels = draw_phantom(48)[None, ..., None] + 10
    pixels[:, :5, :, 0] = np.arange(48) % values
    image = Image(pixels, 12, "MONOCHROME2", "png", padding_range=(0, 3))
    padding = find_padding(image)
    assert padding is not None
    described, data = pack_padding(padding)
    shape = (1, 48, 48, 1)
    assert len(data) == padding_bytes(described, shape)
    again = unpack_padding(described, data, shape, pixels.dtype)
    assert (again.mask == padding.mask).all()
    assert (again.values == padding.values).all()
    assert again.declared == (0, 3)
    with pytest.raises(ValueError, match="a range that is none"):
        unpack_padding(described | {"declared": [3, 0]}, data, shape, pixels.dtype)
    with pytest.raises(ValueError, match="without values"):
        padding_bytes(described | {"values": 0}, shape)
    with pytest.raises(ValueError, match="outside the range"):
        high = data[:-2] + b"\x7f\xff"
        unpack_padding(described, high, shape, np.dtype("uint8"))


@pytest.mark.parametrize("declared", [(0, 255), (0, 10**30), (-(10**30), 255)])
def test_a_declared_range_that_leaves_no_place_is_refused(declared: tuple[int, int]) -> None:
    """Whoever seals a header may write what they like into it."""
    pixels, mask = np.zeros((1, 4, 4, 1), np.uint8), np.zeros((1, 4, 4), bool)
    mask[0, 0] = True
    padding = Padding(mask, np.zeros((1, 1), np.uint8), declared)
    with pytest.raises(ValueError, match="holds all values"):
        impose_padding(Image(pixels, 8, "MONOCHROME2", "png"), padding)
