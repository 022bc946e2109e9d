"""PNG, JPEG, WebP and TIFF: samples, colours and declarations come back; the rest is one line."""

from __future__ import annotations

import io
import json
import random
import struct
import tracemalloc
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import PIL.Image
import pytest
import tifffile

from primis.errors import TooManyPixels, UnreadableImage
from primis.imaging.files import parse, parse_here, render
from primis.imaging.image import Derivation, Image, pixel_limit, require_size
from primis.imaging.raster import write_raster

FAULTS = Path(__file__).parents[1] / "faults"
DERIVED = Derivation("test", 12.5, "seed", "group")
GREY = (3 * np.add.outer(np.arange(24), np.arange(32))).astype(np.uint8)
COLOUR = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=2)
OPACITY = np.dstack([COLOUR, GREY // 2])
GREY16 = GREY.astype(np.uint16) * 251
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def saved(pixels: np.ndarray | PIL.Image.Image, kind: str, **how: object) -> bytes:
    picture = pixels if isinstance(pixels, PIL.Image.Image) else PIL.Image.fromarray(pixels)
    out = io.BytesIO()
    picture.save(out, kind, **how)
    return out.getvalue()


def tiff(pixels: np.ndarray, **how: object) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, pixels, **how)
    return out.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *chunks: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(rows))
    return b"".join([SIGNATURE, chunk(b"IHDR", header), *chunks, data, chunk(b"IEND", b"")])


def bare_tiff(tags: dict[int, tuple[int, ...]], data: bytes) -> bytes:
    """A little-endian TIFF of one page; `data` lies at 8. Tags of several values are of 16 bits."""
    entries = b""
    for tag, values in sorted(tags.items()):
        kind, count = (3 if len(values) > 1 else 4), len(values)
        value = struct.pack(f"<{count}H" if kind == 3 else "<I", *values)
        if len(value) > 4:
            value, data = struct.pack("<I", 8 + len(data)), data + value
        entries += struct.pack("<HHI", tag, kind, count) + value
    place = struct.pack("<I", 8 + len(data))
    return b"II*\0" + place + data + struct.pack("<H", len(tags)) + entries + bytes(4)


def comes_back(data: bytes) -> tuple[Image, bytes]:
    """An image and its restored file, which holds the same in the same way."""
    image = parse(data)
    restored = render(image, DERIVED)
    again = parse(restored)
    assert again.pixels.dtype == image.pixels.dtype
    assert again.shape == image.shape
    assert (again.pixels == image.pixels).all()
    assert (again.kind, again.photometric) == (image.kind, image.photometric)
    assert again.bit_depth == image.bit_depth
    kept, back = (json.loads(header or b"{}") for header in (image.header, again.header))
    assert kept.items() <= back.items()
    return image, restored


def first_page(data: bytes) -> tifffile.TiffPage:
    return tifffile.TiffFile(io.BytesIO(data)).pages[0]


# --- TIFF ---


@pytest.mark.parametrize("depth", [2, 4, 7, 8, 10, 12, 14, 16])
@pytest.mark.parametrize("colour", [False, True])
def test_tiff_of_any_depth_declares_it_again(depth: int, colour: bool) -> None:
    dtype = np.uint8 if depth <= 8 else np.uint16
    shape = (24, 31, 3) if colour else (24, 31)
    pixels = np.random.default_rng(0).integers(0, 2**depth, shape).astype(dtype)
    how = {"photometric": "rgb"} if colour else {}
    image, restored = comes_back(tiff(pixels, bitspersample=depth, **how))
    assert (np.squeeze(image.pixels) == pixels).all()
    assert image.bit_depth == depth
    assert first_page(restored).bitspersample == depth
    assert (first_page(restored).asarray() == pixels).all()


def test_tiff_of_12_bits_in_16_says_so_again() -> None:
    pixels = GREY16 >> 4
    image, restored = comes_back(tiff(pixels, extratags=[(281, "H", 1, 4095, True)]))
    assert image.bit_depth == 12
    assert first_page(restored).tags[281].value == 4095
    assert first_page(restored).bitspersample == 16
    image, _ = comes_back(tiff(GREY16, extratags=[(281, "H", 1, 4095, True)]))  # it does not hold
    assert image.bit_depth == 16


@pytest.mark.parametrize("kind", ["unspecified", "assocalpha", "unassalpha"])
@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_the_kind_of_opacity_comes_back(kind: str, planes: str) -> None:
    pixels = OPACITY if planes == "contig" else np.moveaxis(OPACITY, 2, 0)
    data = tiff(pixels, photometric="rgb", planarconfig=planes, extrasamples=[kind])
    image, restored = comes_back(data)
    assert (image.pixels[0] == OPACITY).all()
    assert image.photometric == "RGBA"
    assert first_page(restored).extrasamples == first_page(data).extrasamples
    assert first_page(restored).planarconfig == 1
    assert (tifffile.imread(io.BytesIO(restored)) == OPACITY).all()


def test_channels_that_are_no_colours_stay_none() -> None:
    data = tiff(COLOUR, photometric="minisblack", planarconfig="contig")
    _, restored = comes_back(data)
    assert first_page(restored).photometric == 1
    assert first_page(restored).extrasamples == first_page(data).extrasamples


@pytest.mark.parametrize("dtype", [np.int8, np.int16])
def test_signed_tiff(dtype: type) -> None:
    pixels = (GREY16.astype(int) // 300 - 90).astype(dtype)
    image, _ = comes_back(tiff(pixels))
    assert (image.pixels[0, ..., 0] == pixels).all()
    assert image.pixels.dtype == dtype


def test_palette_tiff_comes_back_in_colours() -> None:
    data = (FAULTS / "tiff_palette.tif").read_bytes()
    image, restored = comes_back(data)
    with PIL.Image.open(io.BytesIO(data)) as picture:
        expected = np.asarray(picture.convert("RGB"))
    assert (image.pixels[0] == expected).all()
    assert first_page(restored).photometric == 2


@pytest.mark.parametrize("scale", [257, 256, 1, 251])
def test_palettes_have_8_bits_or_as_many_as_they_need(scale: int) -> None:
    low = np.random.default_rng(1).integers(1, 256, (3, 256))
    colours = (low * scale).astype(np.uint16)
    image, _ = comes_back(tiff(GREY, photometric="palette", colormap=colours))
    fine = scale == 251
    assert image.pixels.dtype == (np.uint16 if fine else np.uint8)
    assert (image.pixels[0] == (low * (251 if fine else 1)).T[GREY]).all()


@pytest.mark.parametrize(("depth", "row"), [(1, b"\x40"), (4, b"\x0f\x35")])
def test_palettes_of_few_bits(depth: int, row: bytes) -> None:
    numbers = {1: [0, 1, 0, 0], 4: [0, 15, 3, 5]}[depth]
    colours = np.random.default_rng(2).integers(1, 256, (3, 2**depth))
    tags = {256: (4,), 257: (1,), 258: (depth,), 259: (1,), 262: (3,), 273: (8,), 277: (1,)}
    tags |= {278: (1,), 279: (len(row),), 320: tuple(int(c) for c in colours.ravel() * 257)}
    assert (parse(bare_tiff(tags, row)).pixels[0, 0] == colours.T[numbers]).all()


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate", "packbits", "jpeg"])
def test_ycbcr_tiff_comes_back_in_colours(compression: str | None) -> None:
    data = saved(PIL.Image.fromarray(COLOUR).convert("YCbCr"), "tiff", compression=compression)
    assert first_page(data).photometric == 6
    image, _ = comes_back(data)
    with PIL.Image.open(io.BytesIO(data)) as picture:
        expected = np.asarray(picture.convert("RGB")).astype(int)
    assert abs(image.pixels[0].astype(int) - expected).max() <= 1


def test_ycbcr_tiff_with_fewer_colours_than_pixels() -> None:
    luminance = np.arange(4 * 3, dtype=np.uint8).reshape(3, 4) * 10 + 50
    blocks = np.zeros((2, 2, 6), np.uint8)  # of 2 x 2 pixels; the last row is not in the image
    padded = np.vstack([luminance, luminance[-1:]])
    blocks[..., :4] = padded.reshape(2, 2, 2, 2).swapaxes(1, 2).reshape(2, 2, 4)
    blocks[..., 4:] = 128
    blocks[0, 0, 4:] = 128, 178  # redder by 50 * 1.402, less green by 50 * 0.714
    tags = {256: (4,), 257: (3,), 258: (8,), 259: (1,), 262: (6,), 273: (8,), 277: (3,)}
    tags |= {278: (3,), 279: (24,), 530: (2, 2)}
    pixels = parse(bare_tiff(tags, blocks.tobytes())).pixels
    expected = np.repeat(luminance[..., None], 3, axis=2).astype(int)
    expected[:2, :2] += [70, -36, 0]
    assert abs(pixels.reshape(3, 4, -1).astype(int) - expected).max() <= 1


def test_pages_that_are_alike_are_frames_and_others_are_refused() -> None:
    def written(*pages: np.ndarray, **last: object) -> bytes:
        out = io.BytesIO()
        with tifffile.TiffWriter(out) as writer:
            for page in pages[:-1]:
                writer.write(page)
            writer.write(pages[-1], **last)
        return out.getvalue()

    assert parse(written(GREY, GREY[::-1])).shape == (2, 24, 32, 1)
    assert parse(tiff(np.stack([GREY] * 5), imagej=True)).shape == (5, 24, 32, 1)
    assert parse(tiff(np.stack([GREY] * 5), truncate=True)).shape == (5, 24, 32, 1)
    with pytest.raises(UnreadableImage, match="2 pages that are not alike"):
        parse(written(GREY, GREY[::2]))
    image = parse(written(GREY, GREY[::2], subfiletype=1))
    assert (image.shape, image.notes) == ((1, 24, 32, 1), ("1 reduced image, left out",))
    image = parse(written(GREY, GREY[::2, ::2], GREY[::4, ::4]))  # a pyramid that does not say so
    assert (image.pixels[0, ..., 0] == GREY).all()
    assert image.notes == ("2 reduced images, left out",)


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (saved(PIL.Image.fromarray(GREY).convert("1"), "tiff"), "1 bits"),
        (tiff(GREY.astype(np.uint32)), "32 bits"),
        (tiff(GREY.astype(np.float32)), "float32"),
        (tiff(GREY, compression="zlib", rowsperstrip=4)[:-40], "end beyond the file"),
    ],
)
def test_other_tiff_is_one_line(data: bytes, line: str) -> None:
    with pytest.raises(UnreadableImage, match=line):
        parse(data)


def test_a_side_of_zero_is_one_line() -> None:
    with pytest.raises(UnreadableImage, match=r"has no pixels \(1 frame of 16 x 0\)"):
        parse((FAULTS / "tiff_zero_side.tif").read_bytes())


def bombs() -> dict[str, bytes]:
    """Small files that claim or hold much."""
    zeros = zlib.compress(bytes(1 << 24), 9)
    page = {256: (64,), 257: (64,), 258: (8,), 259: (8,), 262: (1,), 273: (8,), 277: (1,)}
    page |= {278: (64,), 279: (len(zeros),)}
    jpeg = bytearray(imagecodecs.jpeg8_encode(GREY))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 65500, 65500)
    webp = bytearray(saved(COLOUR, "webp", lossless=True))
    webp[21:25] = struct.pack("<I", 16382 | 16382 << 14)
    tile = {322: (1 << 20,), 323: (1 << 20,), 324: (8,), 325: (len(zeros),)}
    cut = {tag: values for tag, values in page.items() if tag not in (273, 278, 279)}
    jpeg_page = page | {259: (7,), 279: (len(jpeg),)}
    return {
        "tiff side": bare_tiff(page | {256: (60000,), 257: (60000,)}, zeros),
        "tiff tile": bare_tiff(cut | tile, zeros),
        "tiff jpeg strip": bare_tiff(jpeg_page, bytes(jpeg)),
        "png": png(60000, 60000, 16, 2, bytes(10)),
        "jpeg": bytes(jpeg),
        "webp": bytes(webp),
        "tiff pages": bare_tiff(page | {32997: (1 << 20,)}, zeros),
    }


BOMBS = bombs()


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused(name: str) -> None:
    with pytest.raises(UnreadableImage, match=r"expected at most|does not fit|cannot be decoded"):
        parse(BOMBS[name])


def test_a_limit_of_pixels_is_kept_and_can_be_raised() -> None:
    for data in (saved(COLOUR, "png"), saved(COLOUR, "jpeg"), saved(COLOUR, "webp"), tiff(COLOUR)):
        assert parse(data, COLOUR.size).shape[1:3] == (24, 32)
        with pytest.raises(TooManyPixels, match=f"at most {COLOUR.size - 1}$"):
            parse(data, COLOUR.size - 1)


def test_a_small_file_claims_no_huge_image() -> None:
    assert pixel_limit(None, 0) == 1 << 25
    assert pixel_limit(None, 1_000_000) == (1 << 25) + 20_000_000
    assert pixel_limit(None, 1 << 32) == 600_000_000
    assert pixel_limit(7, 1 << 32) == 7
    size = 6000  # 36 million samples: more than a file of kilobytes may have, less than one of a MB
    flat = io.BytesIO()
    tifffile.imwrite(flat, np.zeros((size, size), np.uint8), compression="zlib", rowsperstrip=size)
    limit = pixel_limit(None, len(flat.getvalue()))
    with pytest.raises(TooManyPixels, match=f"at most {limit}$"):
        parse(flat.getvalue())
    assert parse(flat.getvalue(), size * size).shape == (1, size, size, 1)


def test_a_limit_counts_frames_and_channels() -> None:
    require_size((2, 5, 10, 3), 300)
    with pytest.raises(UnreadableImage, match=r"2 x 5 x 10 x 3 samples, expected at most 299$"):
        require_size((2, 5, 10, 3), 299)
    with pytest.raises(UnreadableImage, match=r"^has no pixels \(0 frames of 7 x 8\)$"):
        require_size((0, 7, 8, 1))


# --- PNG, JPEG, WebP ---


def test_a_palette_with_transparency_keeps_it() -> None:
    data = (FAULTS / "png_palette_alpha.png").read_bytes()
    image, restored = comes_back(data)
    with PIL.Image.open(io.BytesIO(data)) as picture, PIL.Image.open(io.BytesIO(restored)) as again:
        expected = np.asarray(picture.convert("RGBA"))
        assert (np.asarray(again) == expected).all()
    assert (image.pixels[0] == expected).all()
    assert len(np.unique(expected[..., 3])) > 1


def test_a_transparent_colour_becomes_opacity() -> None:
    grey = parse(saved(GREY, "png", transparency=9))
    assert (grey.pixels[0, ..., 0] == GREY).all()
    assert ((grey.pixels[0, ..., 1] == 0) == (GREY == 9)).all()
    key = tuple(int(sample) for sample in COLOUR[5, 6])
    colour = parse(saved(COLOUR, "png", transparency=key))
    assert ((colour.pixels[0, ..., 3] == 0) == (np.array(key) == COLOUR).all(axis=2)).all()
    rows = b"\0" + struct.pack(">4H", 1, 2, 3, 4)
    wide = parse(png(4, 1, 16, 0, rows, chunk(b"tRNS", struct.pack(">H", 3))))
    assert wide.pixels[0, 0].tolist() == [[1, 65535], [2, 65535], [3, 0], [4, 65535]]
    narrow = parse(png(4, 1, 4, 0, b"\0\x0f\x35", chunk(b"tRNS", struct.pack(">H", 3))))
    assert narrow.pixels[0, 0].tolist() == [[0, 255], [255, 255], [51, 0], [85, 255]]


@pytest.mark.parametrize(("depth", "row"), [(1, b"\x40"), (2, b"\x1b"), (4, b"\x0f\x35")])
def test_grey_of_few_bits_fills_8(depth: int, row: bytes) -> None:
    expected = {1: [0, 255, 0, 0], 2: [0, 85, 170, 255], 4: [0, 255, 51, 85]}[depth]
    image, _ = comes_back(png(4, 1, depth, 0, b"\0" + row))
    assert image.pixels.ravel().tolist() == expected
    assert image.bit_depth == 8


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_of_16_bits(channels: int) -> None:
    pixels = np.stack([GREY16 // (i + 1) for i in range(channels)], axis=2)
    image, restored = comes_back(bytes(imagecodecs.png_encode(np.squeeze(pixels))))
    assert (image.pixels[0] == pixels).all()
    assert (np.squeeze(pixels) == imagecodecs.png_decode(restored)).all()


def test_interlaced_png() -> None:
    """Adam7, by hand: a 2 x 2 image has passes 1, 6 and 7."""
    header = struct.pack(">IIBBBBB", 2, 2, 8, 0, 0, 0, 1)
    rows = zlib.compress(b"\0\x01" + b"\0\x02" + b"\0\x03\x04")
    body = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    assert parse(SIGNATURE + body).pixels.ravel().tolist() == [1, 2, 3, 4]


CHUNKS = {
    b"gAMA": struct.pack(">I", 45455),
    b"cHRM": struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000),
    b"sRGB": b"\0",
    b"pHYs": struct.pack(">IIB", 2835, 2836, 1),
    b"iCCP": b"name\0\0" + zlib.compress(b"profile" * 20),
    b"eXIf": b"II*\0\x08\0\0\0\0\0",
    b"sBIT": b"\5",
}


@pytest.mark.parametrize("name", CHUNKS)
@pytest.mark.parametrize("depth", [8, 16])
def test_chunks_that_say_how_pixels_are_meant_come_back(name: bytes, depth: int, capfd) -> None:
    row = b"\0" + bytes(range(4 * depth // 8))
    data = png(4, 1, depth, 0, row, chunk(name, CHUNKS[name]))
    _, restored = comes_back(data)
    assert restored.count(chunk(name, CHUNKS[name])) == 1
    PIL.Image.open(io.BytesIO(restored)).load()
    assert capfd.readouterr() == ("", "")


def test_what_is_damaged_or_unknown_beside_the_pixels_is_left_out() -> None:
    wrong = bytearray(chunk(b"gAMA", CHUNKS[b"gAMA"]))
    wrong[-1] ^= 1
    text = chunk(b"tEXt", b"Comment\0patient")
    short = chunk(b"pHYs", b"123")
    image, restored = comes_back(png(4, 1, 8, 0, b"\0abcd", bytes(wrong), text, short))
    assert image.notes == ("text chunks, left out",)
    assert not any(name in restored for name in (b"gAMA", b"tEXt", b"pHYs", b"patient"))


def test_a_png_without_its_end_is_read_and_one_cut_off_is_not() -> None:
    whole = saved(GREY, "png")
    assert (parse(whole[:-12]).pixels[0, ..., 0] == GREY).all()
    with pytest.raises(UnreadableImage, match="cut off"):
        parse(whole[:-20])
    flipped = bytearray(whole)
    flipped[60] ^= 1
    with pytest.raises(UnreadableImage, match='checksum of its chunk "IDAT"'):
        parse(bytes(flipped))


def test_the_first_picture_of_a_phone_is_read_as_jpeg() -> None:
    data = (FAULTS / "phone_mpo.jpg").read_bytes()
    image = parse(data)
    with PIL.Image.open(io.BytesIO(data)) as picture:
        assert picture.format == "MPO"
        assert (image.pixels[0] == np.asarray(picture)).all()
    assert (image.kind, image.notes) == ("jpeg", ("1 further picture, left out",))
    with PIL.Image.open(io.BytesIO(render(image, DERIVED))) as again:
        assert again.format == "JPEG"


def test_further_pictures_are_counted_and_exif_is_kept() -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    more = [PIL.Image.fromarray(COLOUR)] * 2
    image = parse(saved(COLOUR, "mpo", save_all=True, append_images=more, exif=exif))
    assert image.notes == ("2 further pictures, left out",)
    with PIL.Image.open(io.BytesIO(render(image, DERIVED))) as again:
        assert again.getexif()[0x0112] == 6


SRGB_TO_D50 = [
    [0.4360747, 0.3850649, 0.1430804],
    [0.2225045, 0.7168786, 0.0606169],
    [0.0139322, 0.0971045, 0.7141733],
]


def lab_of(rgb: np.ndarray) -> np.ndarray:
    """(..., 3) sRGB of 8 bits -> L*, a*, b* at D50 (CIE 15), whole numbers as TIFF stores them."""
    linear = np.where(rgb / 255 <= 0.04045, rgb / 255 / 12.92, ((rgb / 255 + 0.055) / 1.055) ** 2.4)
    xyz = linear @ np.array(SRGB_TO_D50).T / [0.9642, 1, 0.8251]
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    x, y, z = np.moveaxis(f, -1, 0)
    light = (116 * y - 16) * 2.55
    return np.round(np.stack([light, 500 * (x - y), 200 * (y - z)], axis=-1)).astype(int)


def test_cielab_comes_back_as_the_colours_that_it_means() -> None:
    right = np.array([[255] * 3, [0] * 3, [128] * 3, [200, 100, 50], [120, 160, 150]])[None]
    stored = lab_of(right) & 255
    image = parse(tiff(stored.astype(np.uint8), photometric="cielab"))
    assert np.abs(image.pixels[0].astype(int) - right).max() <= 3
    assert (image.photometric, image.notes) == (
        "RGB",
        ("the colours as CIELab (they come back as RGB), left out",),
    )
    shifted = stored.astype(np.uint8) ^ np.array([0, 128, 128], np.uint8)
    assert (parse(tiff(shifted, photometric="icclab")).pixels == image.pixels).all()


@pytest.mark.parametrize("channels", [5, 16])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_many_channels_come_back(channels: int, planar: str) -> None:
    pixels = np.stack([np.roll(GREY16, k, axis=1) for k in range(channels)], axis=2)
    stored = pixels if planar == "contig" else np.moveaxis(pixels, 2, 0)
    data = tiff(stored, photometric="minisblack", planarconfig=planar, metadata=None)
    image, restored = comes_back(data)
    assert (image.pixels[0] == pixels).all()
    assert image.photometric == "CHANNELS"
    with tifffile.TiffFile(io.BytesIO(restored)) as again:
        assert again.pages[0].samplesperpixel == channels


def test_more_channels_are_refused_by_their_number() -> None:
    pixels = np.zeros((8, 8, 17), np.uint8)
    with pytest.raises(UnreadableImage, match="17 samples a pixel, expected 1 to 16"):
        parse(tiff(pixels, photometric="minisblack", planarconfig="contig", metadata=None))


def test_webp_with_opacity() -> None:
    image, restored = comes_back(saved(OPACITY, "webp", lossless=True, exact=True))
    assert (image.pixels[0] == OPACITY).all()
    with PIL.Image.open(io.BytesIO(restored)) as again:
        assert again.mode == "RGBA"


@pytest.mark.parametrize("kind", ["jpeg", "tiff"])
def test_inks_come_back_as_colours(kind: str) -> None:
    """A CMYK picture means what Pillow makes of it; JPEG with Adobe's inverted inks too."""
    data = saved(PIL.Image.fromarray(COLOUR).convert("CMYK"), kind)
    image = parse(data)
    restored = render(image, DERIVED)
    error = np.abs(image.pixels[0].astype(int) - COLOUR)
    assert error.max() <= 1 if kind == "tiff" else error.mean() < 10
    assert any("CMYK" in note for note in image.notes)
    with PIL.Image.open(io.BytesIO(restored)) as again:
        assert again.mode == "RGB"


@pytest.mark.parametrize("depth", [8, 12, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_jpeg_without_loss_comes_back_without_loss(depth: int, channels: int) -> None:
    grey = (GREY16 >> (16 - depth)).astype(np.uint8 if depth == 8 else np.uint16)
    pixels = np.stack([grey, grey[::-1], grey[:, ::-1]][:channels], axis=2)
    flat = pixels[..., 0] if channels == 1 else pixels
    encoded = (
        imagecodecs.ljpeg_encode(flat, bitspersample=depth)
        if channels == 1
        else imagecodecs.jpeg8_encode(flat, lossless=True, bitspersample=depth)
    )
    image, restored = comes_back(bytes(encoded))
    assert (image.pixels[0] == pixels).all()
    assert image.bit_depth == depth
    assert (imagecodecs.jpeg8_decode(restored).reshape(pixels.shape) == pixels).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_jpeg_of_12_bits_comes_back_with_12_bits(channels: int) -> None:
    pixels = np.stack([GREY16 >> 4] * channels, axis=2)
    flat = pixels[..., 0] if channels == 1 else pixels
    data = bytes(imagecodecs.jpeg8_encode(flat, level=100, bitspersample=12))
    image = parse(data)
    assert (image.bit_depth, image.shape) == (12, (1, *pixels.shape))
    assert np.abs(image.pixels[0].astype(int) - pixels).max() < 64
    again = parse(render(image, DERIVED))
    assert (again.bit_depth, again.shape) == (12, image.shape)
    assert np.abs(again.pixels.astype(int) - image.pixels).max() < 128


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_of_an_animation_the_first_picture_is_read(kind: str) -> None:
    how = {"lossless": True} if kind == "webp" else {}
    image = parse(saved(COLOUR, kind, **MORE, **how))
    assert (image.pixels[0] == COLOUR).all()
    assert image.notes == ("1 further picture, left out",)


MORE = {"save_all": True, "append_images": [PIL.Image.fromarray(COLOUR[::-1])]}


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (saved(COLOUR, "jpeg")[:-200], "cut off"),
        (png(4, 1, 8, 3, b"\0abcd"), "palette is missing"),
        (SIGNATURE, "describes no image"),
    ],
)
def test_other_pictures_are_one_line(data: bytes, line: str) -> None:
    with pytest.raises(UnreadableImage, match=line):
        parse(data)


# --- what others sealed ---

HOSTILE = [
    b"[" * 100_000,
    b"[]",
    b"null",
    b"\xff\xfe",
    b'"' + b"a" * (1 << 25) + b'"',
    b"[" + b"1," * (1 << 24) + b"1]",
    json.dumps({"equal": 1, "icc_profile": 5, "exif": {}, "dpi": "no", "chunks": 7}).encode(),
    json.dumps(
        {"icc_profile": "!!", "exif": "QQ", "dpi": [1e308, -1], "chunks": {"a": "b"}}
    ).encode(),
    json.dumps({"exif": "QUJD" * 40_000, "dpi": [0, 0]}).encode(),
    json.dumps({"chunks": {"IDAT": "QUJD", "gAMA": "QUJD", "\u4e2d": "QUJD", "IEND": ""}}).encode(),
    json.dumps(
        {"258": 99, "262": [], "274": "x", "281": {}, "282": [1, 0], "283": [1, 0]}
    ).encode(),
    json.dumps({"258": 2, "262": 2, "338": [9], "34675": 3, "282": ["a", 1], "283": [2]}).encode(),
    json.dumps({"258": True, "262": 0, "338": [-1], "296": 1 << 70, "280": [1 << 40]}).encode(),
]


@pytest.mark.parametrize("header", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "tiff"])
@pytest.mark.parametrize("dtype", ["uint8", "int16"])
def test_hostile_headers_are_refused_or_ignored(header: bytes, kind: str, dtype: str) -> None:
    pixels = np.zeros((1, 4, 5, 2), dtype)
    tracemalloc.start()
    try:
        write_raster(Image(pixels, 8, "LA", kind, header=header))
    except (ValueError, UnreadableImage) as error:
        assert "\n" not in str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 1 << 26


def test_a_header_that_makes_no_sense_leaves_the_pixels() -> None:
    header = json.dumps({"chunks": {"IDAT": "QUJD", "gAMA": "QUJD"}, "equal": "yes"}).encode()
    restored = write_raster(Image(GREY[None, ..., None], 8, "MONOCHROME2", "png", header=header))
    assert (np.asarray(PIL.Image.open(io.BytesIO(restored))) == GREY).all()


# --- damage ---

SEEDS = [
    tiff(GREY[:9, :9], metadata=None),
    tiff(COLOUR[:9, :9], photometric="rgb", compression="zlib", predictor=True, rowsperstrip=4),
    tiff(GREY[:16, :16], tile=(16, 16), compression="lzw", bigtiff=True, byteorder=">"),
    tiff(np.stack([GREY16[:5, :5] >> 4] * 4), photometric="minisblack", bitspersample=12),
    saved(PIL.Image.fromarray(COLOUR[:9, :9]).convert("YCbCr"), "tiff", compression="tiff_lzw"),
    saved(PIL.Image.fromarray(COLOUR[:9, :9]).quantize(9), "png", transparency=2),
    bytes(imagecodecs.png_encode(GREY16[:9, :9])),
    saved(OPACITY[:9, :9], "webp"),
    saved(COLOUR[:9, :9], "mpo", **MORE),
]
NUMBERS = (0, 1, 65535, 1 << 31, (1 << 32) - 1)


def test_damaged_files_are_read_or_refused_in_one_line() -> None:
    """Whatever is read comes back; nothing but UnreadableImage gets out."""
    draw = random.Random(0)
    read = 0
    for _ in range(400):
        data = bytearray(draw.choice(SEEDS))
        for _ in range(draw.choice((1, 2, 4))):
            at = draw.randrange(2, len(data) - 4)
            if draw.random() < 0.5:
                data[at] = draw.randrange(256)
            else:
                order = draw.choice(("little", "big"))
                data[at : at + 4] = draw.choice(NUMBERS).to_bytes(4, order)
        try:
            image = parse_here(bytes(data), 1 << 20)
        except UnreadableImage as error:
            assert "\n" not in str(error)
            assert "Error" not in str(error)
            continue
        read += 1
        again = parse_here(render(image, DERIVED))
        assert image.kind == "jpeg" or (again.pixels == image.pixels).all()
    assert 40 < read < 360
