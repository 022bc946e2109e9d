"""Images in and out: nothing is scaled, and what cannot be read is one clear line."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pydicom
import pytest
import tifffile
from pydicom.uid import DeflatedExplicitVRLittleEndian

from primis.errors import UnreadableImage
from primis.imaging.files import parse, read, render
from primis.imaging.image import Derivation, display, reading_up_to
from primis.imaging.phantom import draw_phantom, phantom_dicom
from primis.imaging.tiles import windows

DERIVED = Derivation("test", 12.5, "seed", "group")
GREY8 = (draw_phantom(64) >> 4).astype(np.uint8)
GREY16 = draw_phantom(64) * 16
COLOUR8 = np.stack([GREY8, GREY8[::-1], GREY8[:, ::-1]], axis=2)
OPACITY8 = np.concatenate([COLOUR8, GREY8[..., None]], axis=2)


def saved(pixels: np.ndarray, kind: str, **how: object) -> bytes:
    out = io.BytesIO()
    PIL.Image.fromarray(pixels).save(out, kind, **how)
    return out.getvalue()


def tiff(pixels: np.ndarray, **how: object) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, pixels, **how)
    return out.getvalue()


def png16(pixels: np.ndarray) -> bytes:
    import imagecodecs

    return bytes(imagecodecs.png_encode(pixels))


FILES = {
    "png8": (saved(GREY8, "png"), GREY8),
    "png16": (png16(GREY16), GREY16),
    "png16_colour": (
        png16(np.stack([GREY16] * 2 + [GREY16[::-1]], axis=2)),
        np.stack([GREY16] * 2 + [GREY16[::-1]], axis=2),
    ),
    "png_colour": (saved(COLOUR8, "png"), COLOUR8),
    "png_opacity": (saved(OPACITY8, "png"), OPACITY8),
    "webp_lossless": (saved(COLOUR8, "webp", lossless=True), COLOUR8),
    "webp_grey_as_colour": (saved(np.stack([GREY8] * 3, axis=2), "webp", lossless=True), GREY8),
    "tiff8": (tiff(GREY8), GREY8),
    "tiff16": (tiff(GREY16), GREY16),
    "tiff16_colour": (
        tiff(np.stack([GREY16] * 3, axis=2), photometric="rgb"),
        np.stack([GREY16] * 3, axis=2),
    ),
    "tiff_signed": (
        tiff(GREY16.astype(np.int32).astype(np.int16) - 1000),
        GREY16.astype(np.int32).astype(np.int16) - 1000,
    ),
    "tiff_pages": (
        tiff(np.stack([GREY16, GREY16[::-1]]), photometric="minisblack"),
        np.stack([GREY16, GREY16[::-1]]),
    ),
    "tiff_white_is_zero": (tiff(GREY8, photometric="miniswhite"), GREY8),
    "dicom": (phantom_dicom(64), draw_phantom(64)),
}


@pytest.mark.parametrize("name", FILES)
def test_pixels_come_through_unchanged(name: str) -> None:
    data, pixels = FILES[name]
    image = parse(data)
    assert image.pixels.dtype == pixels.dtype
    assert (np.squeeze(image.pixels) == pixels).all()
    again = parse(render(image, DERIVED))
    assert again.pixels.shape == image.pixels.shape
    assert (again.pixels == image.pixels).all()
    assert (again.kind, again.photometric, again.bit_depth) == (
        image.kind,
        image.photometric,
        image.bit_depth,
    )


def test_jpeg_stays_jpeg_with_its_orientation_and_profile() -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    image = parse(saved(GREY8, "jpeg", exif=exif, icc_profile=b"profile", dpi=(300, 300)))
    with PIL.Image.open(io.BytesIO(render(image, DERIVED))) as again:
        assert (again.format, again.mode) == ("JPEG", "L")
        assert again.getexif()[0x0112] == 6
        assert again.info["icc_profile"] == b"profile"
        assert again.info["dpi"] == (300, 300)


def test_grey_stored_as_colour_goes_back_as_colour() -> None:
    image = parse(FILES["webp_grey_as_colour"][0])
    assert image.shape == (1, 64, 64, 1)
    with PIL.Image.open(io.BytesIO(render(image, DERIVED))) as again:
        assert again.mode == "RGB"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is empty"),
        (b"hello world" * 20, "is no PNG"),
        (FILES["png8"][0][:60], "cannot be decoded"),
        (FILES["tiff16"][0][:100], "cannot be decoded"),
        (phantom_dicom(64)[:600], "DICOM"),
        (tiff(GREY8.astype(np.float32)), "float32"),
        (saved(np.dstack([COLOUR8, GREY8]), "tiff")[:8], "cannot be decoded"),
    ],
)
def test_unreadable_input_is_one_line(data: bytes, why: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(data)
    with pytest.raises(UnreadableImage, match=why) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_restored_dicom_is_a_derived_lossy_object_with_its_header() -> None:
    source = pydicom.dcmread(io.BytesIO(phantom_dicom(64)))
    image = parse(phantom_dicom(64))
    restored = pydicom.dcmread(io.BytesIO(render(image, DERIVED)))
    assert restored.PatientName == source.PatientName
    assert restored.StudyInstanceUID == source.StudyInstanceUID
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        assert restored[keyword].value != source[keyword].value
    assert restored.file_meta.MediaStorageSOPInstanceUID == restored.SOPInstanceUID
    assert restored.ImageType[0] == "DERIVED"
    assert restored.LossyImageCompression == "01"
    assert float(restored.LossyImageCompressionRatio) == pytest.approx(12.5)
    assert restored.LossyImageCompressionMethod == "PRIMIS_1"
    assert restored.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert (restored.BitsStored, restored.HighBit, restored.BitsAllocated) == (12, 11, 16)
    twice = pydicom.dcmread(io.BytesIO(render(parse(render(image, DERIVED)), DERIVED)))
    assert list(twice.LossyImageCompressionMethod) == ["PRIMIS_1"] * 2


def test_a_preview_has_no_header() -> None:
    from dataclasses import replace

    restored = pydicom.dcmread(
        io.BytesIO(render(replace(parse(phantom_dicom(64)), header=b""), DERIVED))
    )
    assert not restored.PatientName
    assert b"Phantom" not in render(replace(parse(phantom_dicom(64)), header=b""), DERIVED)


def test_monochrome1_is_turned_over_for_display_only() -> None:
    pixels = GREY16[..., None]
    assert (
        display(pixels, "MONOCHROME1").astype(int) + display(pixels, "MONOCHROME2") == 255
    ).all()


def test_windows_cover_an_axis_once() -> None:
    for length in (1, 5, 48, 49, 200):
        seen = [i for w in windows(length, 48, 8) for i in range(w.place.start, w.place.stop)]
        assert seen == list(range(length))
        for w in windows(length, 48, 8):
            assert w.outer.start + w.inner.start == w.place.start


def changed_dicom(change) -> bytes:
    dataset = pydicom.dcmread(io.BytesIO(phantom_dicom(64)))
    how = change(dataset) or {}
    out = io.BytesIO()
    pydicom.dcmwrite(out, dataset, enforce_file_format=True, **how)
    return out.getvalue()


def test_big_endian_comes_back_in_little_endian_with_its_tables() -> None:
    def change(dataset: pydicom.Dataset) -> dict:
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRBigEndian
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
        table = pydicom.Dataset()
        table.LUTDescriptor = [4, 0, 16]
        table.add_new("LUTData", "OW", np.arange(4, dtype=">u2").tobytes())
        dataset.ModalityLUTSequence = [table]
        return {"implicit_vr": False, "little_endian": False}

    image = parse(changed_dicom(change))
    assert (image.pixels[0, ..., 0] == draw_phantom(64)).all()
    restored = pydicom.dcmread(io.BytesIO(render(image, DERIVED)))
    assert restored.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
    assert restored.ModalityLUTSequence[0].LUTData == np.arange(4, dtype="<u2").tobytes()
    assert restored.PatientName == "Phantom^Chest"


def test_one_image_type_and_earlier_derivations_are_kept() -> None:
    def change(dataset: pydicom.Dataset) -> None:
        dataset.ImageType = "ORIGINAL"
        dataset.LossyImageCompressionRatio, dataset.DerivationDescription = 10, "scanned"
        dataset.add_new(0x60000100, "US", 16)
        dataset.add_new(0x60000102, "US", 12)  # an overlay in bits that do not come back

    restored = pydicom.dcmread(io.BytesIO(render(parse(changed_dicom(change)), DERIVED)))
    assert list(restored.ImageType) == ["DERIVED", "PRIMARY"]
    assert [float(r) for r in restored.LossyImageCompressionRatio] == [10, 12.5]
    assert list(restored.LossyImageCompressionMethod) == ["UNKNOWN", "PRIMIS_1"]
    assert restored.DerivationDescription == "scanned; test"
    assert 0x60000102 not in restored


def test_tiff_keeps_orientation_resolution_and_profile() -> None:
    how = {
        "resolution": (300, 300),
        "iccprofile": b"profile",
        "extratags": [(274, "H", 1, 6, True)],
    }
    again = render(parse(tiff(GREY16, **how)), DERIVED)
    with tifffile.TiffFile(io.BytesIO(again)) as file:
        tags = file.pages[0].tags
        assert (tags[274].value, tags[282].value, bytes(tags[34675].value)) == (
            6,
            (300, 1),
            b"profile",
        )


def test_tiff_of_other_colours_is_refused() -> None:
    with pytest.raises(UnreadableImage, match="photometric"):
        parse(tiff(COLOUR8, photometric="logluv"))


def test_a_list_of_pages_without_end_is_refused(tmp_path: Path) -> None:
    page = struct.pack("<HHHII", 1, 256, 4, 1, 8)
    data = b"II*\0" + struct.pack("<I", 8) + page + struct.pack("<I", 8)
    with pytest.raises(UnreadableImage, match="leads back to itself"):
        parse(data)
    with pytest.raises(UnreadableImage, match="cut off"):
        parse(data[:-6])


def test_a_sealed_header_that_swells_is_refused() -> None:
    image = parse(phantom_dicom(32))
    dataset = pydicom.dcmread(io.BytesIO(image.header))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    out = io.BytesIO()
    dataset.save_as(out)
    with pytest.raises(ValueError, match="transfer syntax"):
        render(replace(image, header=out.getvalue()), Derivation("", 1.0, "", ""))


def test_a_spacing_that_is_none_is_left_out() -> None:
    def change(dataset: pydicom.Dataset) -> None:
        dataset.PixelSpacing = dataset.ImagerPixelSpacing = ["1e7", "1e7"]

    assert parse(changed_dicom(change)).spacing_mm is None


def test_damaged_dicom_is_refused_and_never_ends_the_process() -> None:
    """Random damage to a compressed file: it is read or refused, in one line."""
    import imagecodecs
    from pydicom.encaps import encapsulate

    def jpeg(dataset: pydicom.Dataset) -> None:
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.JPEGBaseline8Bit
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
        dataset.PixelData = encapsulate([imagecodecs.jpeg8_encode(GREY8)])
        dataset["PixelData"].VR = "OB"

    good = changed_dicom(jpeg)
    assert parse(good).shape == (1, 64, 64, 1)
    rng = np.random.default_rng(0)
    for _ in range(20):
        bad = bytearray(good)
        for at in rng.integers(132, len(bad), 3):
            bad[at] = rng.integers(256)
        try:
            parse(bytes(bad))
        except UnreadableImage as error:
            assert "\n" not in str(error)
    assert parse(good).shape == (1, 64, 64, 1)


def test_a_limit_holds_for_all_that_is_read_under_it(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(png16(np.zeros((30, 40), np.uint16)))
    with reading_up_to(30 * 40):
        assert read(path)[0].shape == (1, 30, 40, 1)
    with reading_up_to(30 * 40 - 1), pytest.raises(UnreadableImage, match="at most 1199"):
        read(path)
    with reading_up_to(1):
        assert read(path, max_pixels=1200)[0].shape == (1, 30, 40, 1)
    assert read(path)[0].shape == (1, 30, 40, 1)
