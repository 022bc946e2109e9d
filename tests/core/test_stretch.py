"""The window that a file declares keeps more of its detail, and every grey level has its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from pydicom import dcmread

from primis.bundle.settings import Settings
from primis.codec import Codec
from primis.errors import DamagedSection
from primis.imaging.dicom import read_dicom, window_of
from primis.imaging.image import Image
from primis.imaging.padding import find_padding
from primis.imaging.phantom import draw_phantom, phantom_dicom
from primis.imaging.stretch import Stretch, find_stretch
from primis.keys.seal import Secret, image_secrets, release_secrets
from primis.keys.tier import HIGHEST, Tier
from primis.network.checkpoint import read_checkpoint, shipped
from primis.sharing.opened import OpenedBundle
from primis.sharing.restore import read_image, read_info
from primis.sharing.sections.info import Info
from primis.sharing.share import share_image

BUNDLE_ID = "b" * 32
SECRETS = image_secrets(release_secrets(Secret(bytes(32)), HIGHEST), BUNDLE_ID)
BRAIN = {"WindowCenter": "35", "WindowWidth": "100"}


@pytest.fixture(scope="module")
def shipped_codec() -> Codec:
    return Codec(read_checkpoint(shipped()))


def head() -> np.ndarray:
    """(256, 256) Soft tissue of 10 to 60 in a ring of bone, in air."""
    radius = np.hypot(*(np.mgrid[:256, :256] - 127.5))
    tissue = 10 + 50 * (draw_phantom(256, seed=3) / 4095)
    bone = 1000 - 20 * np.abs(radius - 95)
    return np.select([radius < 90, radius < 100], [tissue, bone], -1000).round()


def ct(**elements: str) -> Image:
    """A head of -1000 to 1000 in a DICOM file with these elements."""
    data_set = dcmread(BytesIO(phantom_dicom(256, seed=3)))
    data_set.PixelData = head().astype("<i2").tobytes()
    data_set.BitsAllocated, data_set.BitsStored, data_set.HighBit = 16, 16, 15
    data_set.PixelRepresentation = 1
    for name in ("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept"):
        if name in data_set:
            delattr(data_set, name)
    for name, value in elements.items():
        setattr(data_set, name, value)
    out = BytesIO()
    data_set.save_as(out)
    return read_dicom(out.getvalue())


def shared(image: Image, codec: Codec, **settings: float) -> OpenedBundle:
    made = share_image(
        image,
        Settings(sparsity=8.0, **settings),  # type: ignore[arg-type]
        SECRETS,
        codec,
        bundle_id=BUNDLE_ID,
        name="x",
        alone=True,
        measure=True,
    )
    return OpenedBundle.read(made.data, SECRETS)


@pytest.mark.parametrize("stretch", [Stretch(-15, 85, 3), Stretch(0, 1, 2), Stretch(-3, 250, 16)])
def test_every_grey_level_comes_back(stretch: Stretch) -> None:
    grey = np.arange(-300, 300, dtype=np.int16)
    stretched = stretch.apply(grey)
    assert (np.diff(stretched) >= 1).all()
    assert [stretch.level(int(g)) for g in grey] == stretched.tolist()
    np.testing.assert_array_equal(stretch.undo(stretched, grey.dtype), grey)


def test_what_lies_between_goes_to_the_nearest_level() -> None:
    stretched = np.array([-1, 0, 1, 2, 3, 29, 30, 31], np.int32)
    back = Stretch(0, 10, 3).undo(stretched, np.dtype(np.int16))
    assert back.tolist() == [-1, 0, 0, 1, 1, 10, 10, 11]


def test_the_first_window_is_stretched_in_stored_samples() -> None:
    image = ct(
        WindowCenter="235\\50", WindowWidth="400\\80", RescaleSlope="2", RescaleIntercept="15"
    )
    assert window_of(image.header) == (10, 210)
    assert find_stretch(image, None) == Stretch(10, 210, 3)


def test_a_window_ends_where_the_range_does() -> None:
    image = ct(WindowCenter="-1000", WindowWidth="100")
    assert find_stretch(image, None) == Stretch(-1000, -950, 3)


@pytest.mark.parametrize(
    "elements",
    [
        {},
        {"WindowCenter": "40"},
        {"WindowCenter": "40", "WindowWidth": "2000"},
        {"WindowCenter": "40", "WindowWidth": "0"},
        {"WindowCenter": "9000", "WindowWidth": "100"},
        BRAIN | {"RescaleSlope": "0"},
        BRAIN | {"RescaleSlope": "1e-300", "RescaleIntercept": "1e300"},
    ],
)
def test_nothing_is_stretched_without_a_narrow_window(elements: dict[str, str]) -> None:
    assert find_stretch(ct(**elements), None) is None


def test_padding_is_not_of_the_range() -> None:
    image = ct(WindowCenter="0", WindowWidth="600")
    assert find_stretch(image, None) is None
    pixels = image.pixels.copy()
    pixels[:, :20] = -30000
    padded = replace(image, pixels=pixels)
    assert find_stretch(padded, None) == Stretch(-300, 300, 3)
    assert find_stretch(padded, find_padding(padded)) is None


def window_error(image: Image, codec: Codec) -> float:
    """Mean squared error in the window of the brain, as tier diagnostic restores it."""
    back, _ = read_image(shared(image, codec), Tier.DIAGNOSTIC, lambda _: codec)
    assert back.pixels.dtype == image.pixels.dtype
    pair = (np.clip(x.pixels, -15, 85).astype(float) for x in (image, back))
    return float(np.mean((next(pair) - next(pair)) ** 2))


def test_the_window_keeps_more(shipped_codec: Codec) -> None:
    assert window_error(ct(**BRAIN), shipped_codec) < 0.5 * window_error(ct(), shipped_codec)


def test_the_range_is_kept_and_the_quality_is_of_grey_levels(shipped_codec: Codec) -> None:
    image = ct(**BRAIN)
    bundle = shared(image, shipped_codec)
    info = read_info(bundle)
    frame, inside = info.frames[0], image.pixels[image.pixels > -1000]  # air is padding here
    assert (frame.low, frame.high) == (inside.min(), inside.max())
    assert info.stretch == Stretch(frame.low, 85, 3)
    back, _ = read_image(bundle, Tier.DIAGNOSTIC, lambda _: shipped_codec)
    error = np.mean((inside.astype(float) - back.pixels[image.pixels > -1000]) ** 2)
    assert info.quality is not None
    assert info.quality.psnr == pytest.approx(
        10 * np.log10((frame.high - frame.low) ** 2 / error), abs=0.001
    )


def test_texture_is_put_back_within_the_range(shipped_codec: Codec) -> None:
    image = ct(**BRAIN)
    bundle = shared(image, shipped_codec)
    plain, textured = (
        read_image(bundle, Tier.DIAGNOSTIC, lambda _: shipped_codec, texture=wanted)[0].pixels
        for wanted in (False, True)
    )
    assert (plain != textured).any()
    assert image.pixels.min() <= textured.min() <= textured.max() <= image.pixels.max()


def test_exact_samples_are_not_stretched(shipped_codec: Codec) -> None:
    image = ct(**BRAIN)
    bundle = shared(image, shipped_codec, exact_bits=16)
    assert read_info(bundle).stretch is None
    back, _ = read_image(bundle, Tier.DIAGNOSTIC, lambda _: shipped_codec)
    np.testing.assert_array_equal(back.pixels, image.pixels)


@pytest.fixture
def repacked(shipped_codec: Codec) -> Callable[[Stretch], Info]:
    """`info` of a bundle with another stretch, read again."""
    bundle = shared(ct(**BRAIN), shipped_codec)
    info = read_info(bundle)
    return lambda stretch: Info.unpack(replace(info, stretch=stretch).pack(), bundle.header)


def test_info_holds_the_stretch(repacked: Callable[[Stretch], Info]) -> None:
    for stretch in (Stretch(-32768, 32767, 2), Stretch(5, 6, 16)):
        assert repacked(stretch).stretch == stretch


@pytest.mark.parametrize("stretch", [(5, 5, 3), (6, 5, 3), (0, 1, 17), (0, 40000, 3), (1, 2, 1)])
def test_info_refuses_what_is_no_stretch(
    repacked: Callable[[Stretch], Info], stretch: tuple[int, int, int]
) -> None:
    with pytest.raises(DamagedSection):
        repacked(Stretch(*stretch))
