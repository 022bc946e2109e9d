"""Bundles that are wrong, by the name of the failure."""

from __future__ import annotations

import struct
from collections.abc import Callable

from primis.bundle.header import INFO_BASE, INFO_PER_FRAME
from tests.make_vectors.change import (
    CHANNELS,
    FRAMES,
    GROUP,
    HEIGHT,
    PROFILE_AT,
    WIDTH,
    Good,
    altered,
    profile_of,
    raw_profile,
    rebuild,
    resealed,
    support_at,
    with_number,
)


def bad_bundles(good: bytes) -> dict[str, bytes]:
    """Name of the failure -> bytes that a reader must reject."""
    parts = (bad_layouts, bad_profiles, bad_settings, bad_sizes, bad_infos, bad_headers, bad_plains)
    bad = {f"{name}_altered": altered(good, name) for name in ALTERED}
    for part in parts:
        bad |= part(Good(good))
    return bad


ALTERED = ("info", "index", "header", "original")


def bad_layouts(good: Good) -> dict[str, bytes]:
    """What does not follow the layout of a bundle."""
    data, length = good.data, len(profile_of(good.data))
    sections = PROFILE_AT + length
    return {
        "bad_magic": b"PRIMIS2\n" + data[8:],
        "truncated": data[:-1],
        "truncated_head": data[:40],
        "truncated_sections": data[: sections + 40],
        "trailing_data": data + b"\0",
        "profile_missing": data[: PROFILE_AT - 2] + bytes(2) + data[sections:],
        "profile_too_long": data[: PROFILE_AT - 2] + b"\x20\0" + data[PROFILE_AT:],
        "profile_of_another_name": data[:24] + bytes(8) + data[32:],
        "a_value_altered_in_public": altered(data, "public", 0),
        "a_support_altered_in_public": altered(data, "public", support_at(data)),
    }


def bad_profiles(good: Good) -> dict[str, bytes]:
    """A profile that is no canonical JSON, or has other fields."""
    return {
        "profile_not_json": raw_profile(good.data, lambda p: b"[" + p[1:]),
        "profile_with_spaces": good.replaced(b":", b": "),
        "profile_key_twice": good.replaced(b'"format":1', b'"format":1,"format":1'),
        "profile_number_with_point": good.replaced(b'"stride":16', b'"stride":16.0'),
        "profile_number_with_exponent": good.replaced(b'"stride":16', b'"stride":16e0'),
        "profile_deeply_nested": raw_profile(good.data, lambda p: b"[" * 4000),
        "profile_unknown_field": good.put("comment", value="x"),
        "format_2": good.put("format", value=2),
        "format_is_true": good.put("format", value=True),
        "model_not_hex": good.put("model", value="x" * 64),
        "model_upper_case": good.put("model", value="A" * 64),
        "tile_cuts_a_block": good.put("code", "tile", value=30),
        "too_many_atoms": good.put("code", "code_maps", value=4096),
        "stride_zero": good.put("code", "stride", value=0),
    }


def bad_settings(good: Good) -> dict[str, bytes]:
    """Settings out of bounds, or of another type."""
    pop = rebuild(good.data, lambda body: body["settings"].pop("original_bits"))
    return {
        "protection_unknown": good.setting("protection", "none"),
        "sparsity_zero": good.setting("sparsity", 0),
        "sparsity_is_text": good.setting("sparsity", "4000"),
        "sparsity_has_a_fraction": good.setting("sparsity", 4000.5),
        "decoys_negative": good.setting("decoys", -1),
        "header_bytes_too_small": good.setting("header_bytes", 63),
        "header_bytes_too_large": good.setting("header_bytes", (1 << 24) + 1),
        "header_bytes_is_null": good.setting("header_bytes", None),
        "header_bytes_disagrees_with_sizes": good.setting("header_bytes", 512),
        "original_bits_missing": pop,
        "original_bits_negative": good.setting("original_bits", -1),
        "original_bits_too_large": good.setting("original_bits", 64_001),
        "original_bits_disagrees_with_sizes": good.setting("original_bits", 1250),
        "original_without_budget": good.setting("original_bits", 0),
        "exact_bits_is_three": good.setting("exact_bits", 3),
        "exact_bits_is_true": good.setting("exact_bits", True),
        "exact_bits_without_section": good.setting("exact_bits", 1),
    }


def bad_sizes(good: Good) -> dict[str, bytes]:
    """Sizes out of bounds, or other than those of the sections."""
    tiny_tiles = rebuild(good.data, lambda body: body["code"].update(stride=1, tile=4, code_maps=1))
    side = 1 << 17
    return {
        "height_zero": good.number(HEIGHT, 0),
        "height_too_large": good.number(HEIGHT, side + 1),
        "channels_seventeen": good.number(CHANNELS, 17),
        "too_many_samples": good.number(FRAMES, 1 << 20),
        "billions_of_tiles": with_number(with_number(tiny_tiles, HEIGHT, side), WIDTH, side),
        "geometry_disagrees_with_sizes": good.number(HEIGHT, 400),
    }


def bad_infos(good: Good) -> dict[str, bytes]:
    """What no encoder seals in section `info`."""
    return {
        "info_of_another_kind": good.info(0, b"\x63"),
        "info_of_no_depth": good.info(3, b"\0"),
        "info_with_half_a_spacing": good.info(4, bytes(8)),
        "info_stretch_upside_down": good.stretch(5, 4, 3),
        "info_stretch_of_no_times": good.stretch(0, 0, 0),
        "info_stretch_of_17_times": good.stretch(4, 5, 17),
        "info_stretch_of_nothing": good.stretch(4, 5, 1),
        "info_stretch_outside_the_type": good.stretch(0, 65536, 3),
        "info_group_of_one_frame": good.info(GROUP, b"\2"),
        "info_range_upside_down": good.info(INFO_BASE, struct.pack(">2i", 5, 4)),
        "info_threshold_not_a_number": good.info(INFO_BASE + 8, b"\x7f" + b"\xff" * 7),
        "info_threshold_zero": good.info(INFO_BASE + 8, bytes(8)),
        "info_ssim_above_one": good.quality(42000, 1001),
        "info_ssim_without_psnr": good.quality(0, 900),
        "info_without_loss_and_unlike": good.quality((1 << 32) - 1, 999),
        "info_texture_without_loss": good.quality((1 << 32) - 1, 1000),
        "info_texture_not_measured": good.quality(0, 0),
        "info_texture_without_spread": good.info(INFO_BASE + 17, b"\0"),
        "info_texture_goes_on": resealed(
            good.data, "info", lambda info: info[:-1] + bytes([info[-1] | 1])
        ),
    }


def bad_groups(good: Good) -> dict[str, bytes]:
    """What no encoder seals of frames that are coded together. good: a bundle of six frames."""
    second = INFO_BASE + INFO_PER_FRAME
    return {
        "info_group_of_no_frame": good.info(GROUP, b"\0"),
        "info_group_of_three": good.info(GROUP, b"\3"),
        "info_group_of_sixteen": good.info(GROUP, b"\x10"),
        "info_group_of_other_ranges": good.info(second, struct.pack(">2i", 0, 1)),
        "info_group_of_other_thresholds": good.info(second + 8, struct.pack(">d", 1.0)),
        "a_value_altered_in_a_group": altered(good.data, "public", 0),
    }


def bad_headers(good: Good) -> dict[str, bytes]:
    """What no encoder seals in section `header`."""
    long_line = b'{"name":"x.tif","padding":"' + b" " * (1 << 16) + b'"}\n{}'
    cut_off = b'{"name":"x.tif","padding":{"declared":null,"values":1}}\n{}'
    plain = b'{"name":"phantom.tif"}\n{}'
    return {
        "sealed_header_not_compressed": good.header(lambda packed: plain),
        "sealed_header_cut_off": good.header(lambda packed: packed[:-1]),
        "sealed_header_trailing_data": good.header(lambda packed: packed + b"\0"),
        "sealed_header_without_name": good.header_of(b"{}\n{}"),
        "sealed_header_with_spaces": good.header_of(b'{"name": "x.tif"}\n{}'),
        "sealed_header_line_too_long": good.header_of(long_line),
        "sealed_header_without_newline": good.header_of(b'{"name":"phantom.tif"}'),
        "sealed_padding_cut_off": good.header_of(cut_off),
    }


def bad_plains(good: Good) -> dict[str, bytes]:
    """Sections that are wrong in their padding."""

    def sealed(name: str, change: Callable[[bytes], bytes]) -> bytes:
        return resealed(good.data, name, change)

    return {
        "header_padding_not_zero": sealed("header", lambda padded: padded[:-1] + b"\1"),
        "original_padding_not_zero": sealed("original", lambda padded: padded[:-1] + b"\1"),
        "original_longer_than_its_budget": sealed(
            "original", lambda padded: b"\xff" * 4 + padded[4:]
        ),
    }
