"""NIfTI: whole numbers stay whole, headers come back byte for byte, the rest is told."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest

import primis
from primis.errors import Rounded, TooManyPixels, UnreadableImage, UsageError
from primis.imaging.files import parse, read, render
from primis.imaging.image import Derivation, Image
from primis.imaging.nifti import COMPRESSED, PLAIN, write_nifti
from primis.imaging.phantom import draw_phantom
from primis.jobs import names
from tests.conftest import TINY
from tests.documented import reader

AFFINE = np.array([[-0.7, 0.1, 0, 90], [0, 0.8, 0, -126], [0, 0, 2.5, -72], [0, 0, 0, 1]])
NOTHING = Derivation("", 1.0, "", "")


def volume(shape: tuple[int, ...], dtype: str, top: int = 100) -> np.ndarray:
    return np.random.default_rng(0).integers(0, top, shape).astype(dtype)


def packed(data: np.ndarray, kind: type = nibabel.Nifti1Image, **header: object) -> bytes:
    image = kind(data, AFFINE, dtype=data.dtype)
    image.header.set_xyzt_units("mm", "sec")
    file = bytes(image.to_bytes())
    size = struct.unpack("<i", file[:4])[0]
    begin = kind.header_class(file[:size], check=False)
    for name, value in header.items():
        begin[name] = value
    return begin.binaryblock + file[size:]


def voxels(file: bytes) -> np.ndarray:
    data = gzip.decompress(file) if file[:2] == b"\x1f\x8b" else file
    size = struct.unpack("<i", data[:4])[0]
    kind = nibabel.Nifti2Image if size == 540 else nibabel.Nifti1Image
    return np.asarray(kind.from_bytes(data).dataobj.get_unscaled())


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int8", "int32", "uint32", "int64"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("compressed", [False, True])
def test_whole_numbers_come_back_byte_for_byte(dtype, kind, compressed) -> None:
    data = volume((7, 6, 5), dtype)
    if dtype.startswith("int"):
        data[0] -= 50
    file = packed(data, kind, scl_slope=0.0004, scl_inter=-3)
    image = parse(gzip.compress(file) if compressed else file)
    assert image.shape == (5, 6, 7, 1)
    assert image.kind == (COMPRESSED if compressed else PLAIN)
    assert (image.rounding, image.notes) == (0, ())
    assert image.spacing_mm == pytest.approx((np.hypot(0.1, 0.8), 0.7))
    restored = render(image, NOTHING)
    assert (gzip.decompress(restored) if compressed else restored) == file


def test_big_endian_files_come_back(tmp_path) -> None:
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(np.dtype(">i2"))
    made = nibabel.Nifti1Image(volume((4, 5, 6), ">i2"), AFFINE, header)
    file = bytes(made.to_bytes())
    assert struct.unpack(">i", file[:4])[0] == 348
    image = parse(file)
    assert image.pixels.dtype == np.int16
    assert render(image, NOTHING) == file


@pytest.mark.parametrize("shape", [(9,), (9, 8), (9, 8, 3), (9, 8, 3, 4), (9, 8, 3, 1, 2)])
def test_all_dimensions_but_two_number_the_frames(shape) -> None:
    data = volume(shape, "uint8")
    image = parse(packed(data))
    flat = data.reshape(*shape[:2], -1, order="F") if len(shape) > 1 else data[:, None, None]
    assert image.shape == (flat.shape[2], flat.shape[1], flat.shape[0], 1)
    assert all((image.pixels[k, ..., 0] == flat[..., k].T).all() for k in range(flat.shape[2]))


@pytest.mark.parametrize("channels", [3, 4])
def test_colour_comes_back(channels) -> None:
    fields = [(name, "u1") for name in "RGBA"[:channels]]
    data = volume((6, 5, 4, channels), "uint8").view(fields)[..., 0]
    file = packed(data)
    image = parse(file)
    assert (image.shape, image.photometric) == ((4, 5, 6, channels), "RGBA"[:channels])
    assert render(image, NOTHING) == file


def test_extensions_and_what_stands_before_the_voxels_come_back() -> None:
    made = nibabel.Nifti1Image(volume((4, 4, 2), "uint8"), AFFINE)
    made.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"for nobody's eyes"))
    file = bytes(made.to_bytes())
    image = parse(file)
    assert render(image, NOTHING) == file
    assert b"nobody" not in repr(image).encode()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_real_numbers_that_are_whole_stay_as_they_are(dtype) -> None:
    data = volume((6, 5, 4), dtype) * 100 - 4000
    file = packed(data)
    image = parse(file)
    assert image.rounding == 0
    assert render(image, NOTHING) == file


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint64"])
def test_what_16_bits_do_not_hold_is_rounded_by_as_much_as_is_said(dtype) -> None:
    data = np.random.default_rng(1).normal(0.5, 0.1, (6, 5, 4)) * (1 if dtype[0] == "f" else 1e7)
    data = data.astype(dtype)
    image = parse(packed(data))
    steps = (float(data.max()) - float(data.min())) / 65535
    assert steps / 2 <= image.rounding <= 0.51 * steps + 0.5 * (dtype[0] != "f")
    assert image.notes == (f"samples are rounded to 16 bits, by at most {image.rounding:.3g}",)
    back = voxels(render(image, NOTHING))
    assert back.dtype == data.dtype
    assert np.abs(back.astype(float) - data.astype(float)).max() <= image.rounding


def test_the_largest_whole_number_comes_back() -> None:
    data = np.array([0, 2**64 - 1, 2**63, 7] * 4, "uint64").reshape(4, 4, 1)
    back = voxels(render(parse(packed(data)), NOTHING))
    assert (back.min(), back.max()) == (0, 2**64 - 1)


def test_labels_of_four_bytes_are_few_levels() -> None:
    """As segmentations are often written."""
    data = np.zeros((16, 16, 4), "int32")
    data[3:8, 4:9] = 41
    data[9:, 10:] = 2035
    image = parse(packed(data))
    assert set(np.unique(image.pixels)) == {0, 41, 2035}


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (packed(np.full((2, 2, 2), np.nan, "float32")), "no numbers"),
        (packed(np.full((2, 2, 2), np.inf, "float64")), "no numbers"),
        (packed(np.zeros((2, 2, 2), "complex64")), "data type 32"),
        (packed(volume((4, 4, 4), "int16"))[:-1], "is cut off: it has fewer voxels"),
        (gzip.compress(packed(volume((4, 4, 4), "int16")), mtime=0)[:-20], "damaged or cut off"),
        (packed(volume((4, 4, 4), "uint8"), vox_offset=20), "voxels at byte 20"),
        (packed(volume((4, 4, 4), "uint8"))[:344] + b"ni1\0" + bytes(100), r"\.hdr and \.img"),
        (packed(volume((4, 4, 4), "uint8"), dim=[9] + [1] * 7), "damaged"),
        (packed(volume((4, 4, 4), "uint8"), dim=[3, 4, -4, 4, 1, 1, 1, 1]), "damaged"),
        (packed(volume((4, 4, 4), "uint8"), datatype=77), "data type 77"),
        (
            gzip.compress(b"no image at all" * 100, mtime=0),
            "is no PNG, JPEG, WebP, TIFF, NIfTI or DICOM",
        ),
    ],
)
def test_what_is_no_volume_is_refused_in_one_line(file, said) -> None:
    with pytest.raises(UnreadableImage, match=said) as refused:
        parse(file)
    assert "\n" not in str(refused.value)


def test_a_small_file_that_claims_a_huge_volume_is_refused() -> None:
    huge = packed(volume((4, 4, 4), "uint8"), dim=[3, 32767, 32767, 32767, 1, 1, 1, 1])
    with pytest.raises(TooManyPixels):
        parse(huge)
    with pytest.raises(TooManyPixels):
        parse(gzip.compress(huge))


def test_what_is_odd_is_said() -> None:
    file = packed(volume((4, 4, 4), "uint8"), qform_code=0, sform_code=0)
    assert parse(file).notes == ("has no orientation: qform and sform codes are 0",)
    assert parse(file + b"more").notes[-1] == "bytes after the voxels, left out"
    assert parse(packed(volume((4, 4, 4), "uint8"), xyzt_units=0)).spacing_mm is None


def test_a_header_that_others_sealed_is_not_trusted() -> None:
    image = parse(packed(volume((4, 4, 4), "uint8")))
    for header in (b"{}", b"", b'{"head": "AAAA"}', image.header.replace(b"XAEA", b"//8A")):
        with pytest.raises(ValueError, match="cannot be written as NIfTI"):
            write_nifti(Image(image.pixels, 8, "MONOCHROME2", PLAIN, header=header))
    with pytest.raises(ValueError, match="cannot be written as NIfTI"):
        write_nifti(Image(image.pixels[1:], 8, "MONOCHROME2", PLAIN, header=image.header))


def test_names_keep_their_double_ending() -> None:
    assert names.safe_name("a/b.NII.GZ", "0" * 32, COMPRESSED) == "a/b.NII.GZ"
    assert names.safe_name("b.nii", "0" * 32, COMPRESSED) == "b.nii.gz"
    assert names.safe_name("b.nii.gz", "0" * 32, PLAIN) == "b.nii"
    assert names.kind_of("b.nii.gz") == COMPRESSED
    taken = names.FreeNames(["b.nii.gz"])
    assert taken.take("b.nii.gz", "12345678" * 4, COMPRESSED) == "b-12345678.nii.gz"


def test_a_volume_is_shared_and_restored(keys, tmp_path, capsys) -> None:
    """Diagnostic for those who look, the very file for those who hold its tier, labels exactly."""
    place = tmp_path / "in"
    place.mkdir()
    brain = np.stack([draw_phantom(64, seed=k) for k in range(5)], axis=2).astype(np.int16) - 1024
    labels = (brain > 0).astype(np.float32)
    (place / "brain.nii.gz").write_bytes(gzip.compress(packed(brain, scl_slope=2.0)))
    (place / "labels.nii").write_bytes(packed(labels))
    (place / "map.nii").write_bytes(packed((brain / 7.0).astype(np.float32)))
    with reader(tmp_path, capsys) as call:
        call("keygen", "-o", "alice.key")
        share = ("share", "in", "--to", "alice.key.pub", "--model", str(TINY), "--with-original")
        call(*share, "-o", "r")
        call("restore", "r", "-i", "alice.key", "-o", "o", "--model", str(TINY))
        diagnostic = ("-o", "d", "--tier", "diagnostic", "--model", str(TINY))
        call("restore", "r", "-i", "alice.key", *diagnostic)
    for path in place.iterdir():
        assert (tmp_path / "o" / path.name).read_bytes() == path.read_bytes()
    assert (tmp_path / "d" / "labels.nii").read_bytes() == (place / "labels.nii").read_bytes()
    seen = nibabel.load(tmp_path / "d" / "brain.nii.gz")
    assert (seen.affine == nibabel.load(place / "brain.nii.gz").affine).all()
    assert seen.header == nibabel.load(place / "brain.nii.gz").header
    assert np.abs(voxels((tmp_path / "d/brain.nii.gz").read_bytes()) - brain).mean() < 300


def test_rounding_is_refused_where_that_was_asked_for(keys, tmp_path) -> None:
    data = np.random.default_rng(1).normal(0, 1, (32, 32, 2)).astype(np.float32)
    (tmp_path / "map.nii").write_bytes(packed(data))
    (tmp_path / "whole.nii").write_bytes(packed(volume((32, 32, 2), "int16")))
    files = [tmp_path / "map.nii", tmp_path / "whole.nii"]
    how = {"to": [], "owner": keys["owner"], "model": TINY, "measure": False}
    results = primis.share(files, tmp_path / "r", exact=True, **how)
    assert isinstance(results[0].error, Rounded)
    assert "would be rounded, by up to" in str(results[0].error)
    assert results[1].error is None
    with pytest.raises(UsageError, match="no image could be shared"):
        primis.share(files[:1], tmp_path / "q", exact=True, **how)
    assert primis.share(files, tmp_path / "q", **how)[0].error is None


REAL = Path(__file__).parents[3] / "shared" / "data" / "nifti"


@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data")
def test_real_volumes_come_back() -> None:
    for path in sorted(REAL.iterdir()):
        image, file = read(path)
        assert image.rounding == 0
        assert gzip.decompress(render(image, NOTHING)) == gzip.decompress(file)
