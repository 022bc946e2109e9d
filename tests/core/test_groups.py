"""Frames that are coded together: what it saves, what it leaves as it was, and what it opens."""

from __future__ import annotations

from dataclasses import replace
from secrets import token_bytes
from types import SimpleNamespace

import numpy as np
import pytest

from primis.attacks.harness import open_case
from primis.audit.cases import _as_encoded, _is_shared
from primis.bundle.container import read_bundle, write_bundle
from primis.bundle.header import RECORD, TAG
from primis.bundle.ranged import RangedBytes, Span
from primis.bundle.settings import Protection, Settings
from primis.codec import Codec, Scale
from primis.errors import BadBundle, DamagedSection, FormatError, NotCovered, TierTooLow, UsageError
from primis.imaging.image import Image
from primis.imaging.phantom import draw_phantom
from primis.imaging.region import Region
from primis.keys.seal import Secret, TierSecrets, image_secrets, release_secrets
from primis.keys.tier import Tier
from primis.network.checkpoint import read_checkpoint, shipped
from primis.sharing import likeness
from primis.sharing.filling import fit_code
from primis.sharing.fit import header_for, settings_for
from primis.sharing.groups import GROUPS, along_frames, at_once, touched
from primis.sharing.likeness import choose_group
from primis.sharing.opened import OpenedBundle, record_secrets, seal_record
from primis.sharing.partial import fetch_region
from primis.sharing.region import open_region, read_region
from primis.sharing.reseal import reseal
from primis.sharing.restore import decode_image, open_codes, quality_at, read_codes
from primis.sharing.share import share_image

IDS = "5" * 32, "6" * 32
SETTINGS = Settings(sparsity=4.0, code_bits=5.329, exact_bits=0, header_bytes=1024, tile=64)
"""Bytes that do not follow from the weights: what is said of nearness is said at these."""
TIERS = Tier.PREVIEW, Tier.DIAGNOSTIC


def secrets(bundle_id: str = IDS[0], tier: Tier = Tier.ORIGINAL) -> TierSecrets:
    every = image_secrets(release_secrets(Secret(bytes(32)), Tier.ORIGINAL), bundle_id)
    return {opened: every[opened] for opened in tier.opened}


def as_image(pixels: np.ndarray) -> Image:
    photometric = "RGB" if pixels.shape[-1] == 3 else "MONOCHROME2"
    return Image(pixels, 12 if pixels.dtype == np.uint16 else 8, photometric, "tiff", None, b"{}")


def alike(frames: int, size: tuple[int, int] = (80, 100)) -> Image:
    """Neighbours differ by noise and by half a pixel of movement."""
    rng, whole = np.random.default_rng(1), draw_phantom(160).astype(float)
    height, width = size
    moved = [whole[20 + k // 2 : 20 + k // 2 + height, 20 : 20 + width] for k in range(frames)]
    noisy = np.stack(moved) + rng.normal(0, 40, (frames, *size))
    return as_image(np.clip(noisy, 0, 4095).round().astype(np.uint16)[..., None])


def unlike(frames: int) -> Image:
    """Nothing in common."""
    rng = np.random.default_rng(2)
    small = rng.integers(0, 4096, (frames, 20, 25), dtype=np.uint16)
    return as_image(np.repeat(np.repeat(small, 4, 1), 4, 2)[..., None])


def shared(image: Image, codec: Codec, group: int | None = None, **options) -> bytes:
    settings = options.pop("settings", SETTINGS)
    return share_image(
        image,
        settings,
        secrets(),
        codec,
        bundle_id=IDS[0],
        name="x.tif",
        alone=True,
        group=group,
        **options,
    ).data


def opened(data: bytes, tier: Tier = Tier.ORIGINAL) -> OpenedBundle:
    return OpenedBundle.read(data, secrets(tier=tier))


def decoded(bundle: OpenedBundle, codec: Codec, tier: Tier = Tier.DIAGNOSTIC, **options):
    return decode_image(bundle, tier, lambda _: codec, **options).pixels


@pytest.fixture(scope="module")
def data(codec) -> bytes:
    """Seven frames, coded by four."""
    return shared(alike(7), codec, 4, measure=True)


def test_groups_start_at_multiples_and_the_last_is_shorter() -> None:
    found = touched([6, 2, 3, 0], 4, 7)
    assert [(list(group.frames), group.wanted) for group in found] == [
        ([4, 5, 6], [(0, 6)]),
        ([0, 1, 2, 3], [(1, 2), (2, 3), (3, 0)]),
    ]


def test_large_groups_are_not_all_worked_on_at_once(codec) -> None:
    small, large = (
        header_for((16, side, side, 1), SETTINGS, codec, IDS[0]) for side in (512, 4096)
    )
    many = SimpleNamespace(threads=16)
    assert [at_once(group, small, many) for group in GROUPS] == [16] * 4
    assert [at_once(group, large, many) for group in GROUPS] == [16, 8, 4, 2]


def test_the_transform_along_frames_is_that_of_the_specification() -> None:
    z = np.random.default_rng(0).normal(size=(3, 2, 4, 2, 2)).astype(np.float32)
    k, n = np.mgrid[:3, :3]
    matrix = np.sqrt(np.where(k == 0, 1, 2) / 3) * np.cos(np.pi * k * (2 * n + 1) / 6)
    expected = np.einsum("kn,nclhw->kclhw", matrix, z).reshape(6, 4, 2, 2)
    assert np.allclose(along_frames(list(z)), expected, atol=1e-6)


def test_sizes_are_the_same_whatever_is_coded_together(codec) -> None:
    sizes = {len(shared(image(7), codec, g)) for image in (alike, unlike) for g in GROUPS}
    assert len({len(shared(alike(7), codec)), *sizes}) == 1


def test_what_is_alike_comes_out_better_at_the_same_bytes(codec) -> None:
    found = [
        quality_at(opened(shared(alike(8), codec, g, measure=True)), Tier.DIAGNOSTIC).psnr
        for g in (1, 8)
    ]
    assert found[1] > found[0] + 0.5


def test_neighbours_are_coded_together_where_that_pays(codec) -> None:
    assert opened(shared(alike(9), codec)).group > 1
    assert opened(shared(unlike(9), codec)).group == 1
    assert opened(shared(alike(1), codec)).group == 1


def test_what_cannot_be_coded_together_is_not(codec, monkeypatch) -> None:
    image = alike(8)
    for settings in (
        replace(SETTINGS, protection=Protection.SCA, decoys=4.0),
        replace(SETTINGS, exact_bits=16),
    ):
        assert opened(shared(image, codec, settings=settings)).info.group == 1
    paper = Codec(read_checkpoint(shipped("paper")))
    header = header_for(image.shape, SETTINGS, paper, IDS[0])
    assert choose_group(image, header, paper, None, None) == 1
    monkeypatch.setattr(likeness, "_MOST_SAMPLES", 80 * 100 * 2)  # frames too large for a group
    assert opened(shared(image, codec)).group == 2


def test_a_group_that_cannot_be_is_told(codec) -> None:
    with pytest.raises(UsageError, match='group "3" was asked for, expected 1, 2, 4 or 8'):
        shared(alike(4), codec, 3)
    with pytest.raises(UsageError, match='group "2" was asked for, expected 1'):
        shared(alike(1), codec, 2)


@pytest.mark.parametrize("tier", TIERS)
def test_frames_one_by_one_are_those_of_the_whole(data, codec, tier: Tier) -> None:
    bundle = opened(data, tier)
    whole = decoded(bundle, codec, tier)
    for frame in range(7):
        assert np.array_equal(decoded(bundle, codec, tier, frames=[frame]), whole[[frame]])
    assert np.array_equal(decoded(bundle, codec, tier, frames=[6, 3, 1]), whole[[6, 3, 1]])


def test_every_frame_is_near_its_source(data, codec) -> None:
    errors = decoded(opened(data), codec).astype(float) - alike(7).pixels
    each = np.sqrt(np.mean(errors**2, axis=(1, 2, 3)))
    assert each.max() < 1.5 * each.min() < 150


def test_preview_is_opened_by_its_own_secrets_alone(data, codec) -> None:
    bundle = opened(data, Tier.PREVIEW)
    preview = decoded(bundle, codec, Tier.PREVIEW).astype(float)
    assert np.sqrt(np.mean((preview - alike(7).pixels) ** 2)) < 400
    with pytest.raises(TierTooLow):
        decoded(bundle, codec)


def test_colours_are_coded_together_too(codec) -> None:
    grey = alike(3).pixels[..., 0] >> 4
    image = as_image(np.stack([grey, grey // 2, 255 - grey], -1).astype(np.uint8))
    for group in (1, 2):
        pixels = decoded(opened(shared(image, codec, group)), codec)
        assert np.sqrt(np.mean((pixels.astype(float) - image.pixels) ** 2)) < 10


def test_texture_is_put_back_frame_by_frame(data, codec) -> None:
    bundle = opened(data)
    whole = decoded(bundle, codec, texture=True)
    assert not np.array_equal(whole, decoded(bundle, codec))
    assert np.array_equal(decoded(bundle, codec, texture=True, frames=[5]), whole[[5]])


def test_the_budget_of_a_group_is_filled(codec) -> None:
    image = alike(4, (120, 130))
    settings = settings_for(image, SETTINGS, codec.checkpoint.tables, with_original=False)
    header = header_for(image.shape, settings, codec, IDS[0])
    z = along_frames([codec.encode(frame, scale=Scale(0, 4095))[0] for frame in image.pixels])
    encoded = fit_code(z, header, codec, token_bytes, lambda _: None).encoded
    assert 0.98 * 4 * header.code_bytes <= encoded.size <= 4 * header.code_bytes


def test_rekey_leaves_the_pixels_alone(data, codec) -> None:
    before = opened(data)
    again = reseal(before, secrets(IDS[1]), IDS[1], alone=True)
    after = OpenedBundle.read(again, secrets(IDS[1]))
    assert np.array_equal(decoded(after, codec), decoded(before, codec))
    assert after.header.fixed_sizes == before.header.fixed_sizes
    with pytest.raises(FormatError):
        decoded(OpenedBundle.read(again, secrets()), codec)


def test_a_region_opens_the_groups_that_its_frames_touch(data, codec) -> None:
    whole, region = opened(data), Region(0, 0, 64, 64, 5, 5)
    keys = open_region(whole, region, Tier.DIAGNOSTIC)
    tiles = whole.header.geometry.tile_count
    assert [*keys.tiles[Tier.DIAGNOSTIC]] == [frame * tiles for frame in (4, 5, 6)]
    bundle = OpenedBundle.of(*read_bundle(data, ""), keys)
    assert bundle.group == 4
    pixels = read_region(bundle, Tier.DIAGNOSTIC, lambda _: codec)[0].pixels
    assert pixels.shape == (1, 64, 64, 1)
    error = pixels.astype(float) - alike(7).pixels[5:6, :64, :64]
    assert np.sqrt(np.mean(error**2)) < 150
    for frame in (0, 4):
        with pytest.raises(NotCovered):
            read_region(bundle, Tier.DIAGNOSTIC, lambda _: codec, frames=frame)
    for frame in range(4):
        with pytest.raises(NotCovered):
            bundle.tile_secret(Tier.PREVIEW, frame * tiles)


def test_frames_of_a_region_are_those_of_the_whole(data, codec) -> None:
    everything = Region(0, 0, 100, 80, 2, 4)
    keys = open_region(opened(data), everything, Tier.DIAGNOSTIC)
    right = decoded(opened(data), codec)
    for bundle in (opened(data), OpenedBundle.of(*read_bundle(data, ""), keys)):
        pixels = read_region(bundle, Tier.DIAGNOSTIC, lambda _: codec, everything)[0].pixels
        assert np.array_equal(pixels, right[2:5])


def test_a_flipped_byte_is_an_error_or_changes_nothing(data, codec) -> None:
    header, parts = read_bundle(data, "")
    right, refused = decoded(opened(data), codec), 0
    for at in np.linspace(0, len(parts["public"]) - 1, 40).astype(int):
        public = bytearray(parts["public"])
        public[at] ^= 1
        bad = write_bundle(header, parts | {"public": bytes(public)}, alone=True)
        try:
            pixels = decoded(opened(bad), codec)
        except DamagedSection:
            refused += 1
        else:
            assert np.array_equal(pixels, right)
    assert refused > 20


@pytest.mark.parametrize(("beyond", "error"), [(0, "were altered"), (1, "outside its section")])
def test_a_record_lies_within_the_part_of_its_group(data, codec, beyond: int, error: str) -> None:
    bundle = opened(data)
    header, secret = bundle.header, record_secrets(bundle.header, bundle.secrets, 4)[0]
    record, budget = bundle.record(4, 0, secret), 3 * bundle.header.code_budget
    moved = record._replace(at=budget - record.length + beyond)
    sealed, size = seal_record(moved, secret, header), RECORD + TAG
    at = 4 * header.records * size
    index = bundle.parts["index"][:at] + sealed + bundle.parts["index"][at + size :]
    bad = write_bundle(header, {**bundle.parts, "index": index}, alone=True)
    with pytest.raises(DamagedSection, match=error):
        decoded(opened(bad), codec, frames=[5])


def test_of_a_frame_no_more_is_fetched_than_its_group(codec) -> None:
    data = shared(alike(16, (120, 120)), codec, 2)
    fetched: list[Span] = []

    def fetch(spans) -> list[bytes]:
        fetched.extend(spans)
        return [data[span.start : span.end] for span in spans]

    file, region = RangedBytes(len(data), fetch), Region(0, 0, 120, 120)
    fetch_region(Tier.DIAGNOSTIC, file, "", None, secrets(), region, 9)
    header, parts = read_bundle(data, "")
    start, budget = data.index(parts["public"]), header.code_budget
    inside = [span for span in fetched if start <= span.start < start + len(parts["public"])]
    group = range(start + 8 * budget, start + 10 * budget)
    assert inside
    assert all(span.start in group and span.end - 1 in group for span in inside)
    bundle = OpenedBundle.read(file, secrets())
    pixels = read_region(bundle, Tier.DIAGNOSTIC, lambda _: codec, region, 9)[0].pixels
    assert np.array_equal(pixels, decoded(opened(data), codec, frames=[9]))


def test_codes_are_those_of_frequencies_along_the_frames(data, codec) -> None:
    codes = read_codes(opened(data), Tier.DIAGNOSTIC, lambda _: codec)
    assert (codes.group, len(codes.levels)) == (4, 7)
    energy = np.sum(codes.levels.astype(float) ** 2, axis=(1, 2, 3, 4))
    assert energy[0] > 10 * energy[1:4].max()
    assert energy[4] > 10 * energy[5:].max()
    assert [len(np.unique(codes.thresholds[part])) for part in (slice(4), slice(4, 7))] == [1, 1]
    levels = np.stack([code.levels for code, _ in open_codes(opened(data), codec)])
    assert np.array_equal(levels, codes.levels)


def test_a_group_without_a_part_of_its_bytes_is_refused(data) -> None:
    with pytest.raises(BadBundle):
        opened(data[:-1])


def test_an_attack_is_judged_by_the_first_frame_of_a_group(data, codec) -> None:
    image = alike(7)
    case = open_case(data, secrets(), codec, image, name="x", patient="x")
    assert np.array_equal(case.pixels, image.pixels[0, :80, :100, 0])
    assert np.array_equal(case.authorised, decoded(opened(data), codec)[0, ..., 0])
    frames = _as_encoded(image, opened(data))
    assert _is_shared(case, frames, codec)
    assert not _is_shared(case, [frame[::-1] for frame in frames], codec)
