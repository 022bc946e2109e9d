"""Good bundles of other kinds: a series with a stretched window and padding, labels that are kept
exactly, and level sca. Their id, and so their secrets, are those of the first good bundle."""

from __future__ import annotations

import io
import zlib
from dataclasses import replace
from functools import partial

import numpy as np
import pydicom
from pydicom.uid import CTImageStorage

from primis.bundle.settings import Protection, Settings
from primis.codec import Codec
from primis.imaging.dicom_series import join, pack_files, unpack_files
from primis.imaging.files import parse
from primis.imaging.image import Image
from primis.imaging.phantom import draw_phantom, phantom_dicom
from primis.keys.tier import Tier
from primis.sharing.opened import OpenedBundle
from primis.sharing.restore import decode_image, restore_image
from primis.sharing.share import share_image
from tests.make_vectors.change import Good
from tests.make_vectors.known import BUNDLE_ID, SETTINGS, fixed_draw, image_secrets, phantom

_SIDE, _SLICES, _PADDING = 48, 3, -2000
_NO_ORIGINAL = replace(SETTINGS, original_bits=0.0)


def good_kinds(codec: Codec) -> dict[str, bytes]:
    """By their names in tests/vectors/bundles."""
    of_series = replace(_NO_ORIGINAL, header_bytes=2048, frame_header_bytes=512)
    exact = replace(_NO_ORIGINAL, exact_bits=2)
    sca = replace(_NO_ORIGINAL, protection=Protection.SCA, decoys=4.0)
    return {
        "good_series": _shared(series(), of_series, codec, "ct", group=2),
        "good_labels": _shared(labels(), exact, codec, "labels.png"),
        "good_sca": _shared(phantom(), sca, codec, "phantom.tif"),
    }


def _shared(
    image: Image, settings: Settings, codec: Codec, name: str, *, group: int | None = None
) -> bytes:
    shared = share_image(
        image,
        settings,
        image_secrets(),
        codec,
        alone=True,
        bundle_id=BUNDLE_ID,
        name=name,
        group=group,
        measure=True,
        draw=fixed_draw,
    )
    return shared.data


def series() -> Image:
    """Three slices of a CT."""
    return join([parse(_slice(k)) for k in range(_SLICES)], [f"ct/{k}.dcm" for k in range(_SLICES)])


def _slice(number: int) -> bytes:
    """A CT slice of signed samples, with round padding and a window of 80 grey levels."""
    made = pydicom.dcmread(io.BytesIO(phantom_dicom(_SIDE)))
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = CTImageStorage
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = f"1.2.3.{number + 1}"
    made.Modality, made.InstanceNumber = "CT", number + 1
    made.FrameOfReferenceUID, made.PixelSpacing = "1.2.3", [0.5, 0.5]
    made.ImagePositionPatient = [0, 0, 5 * number]
    made.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    made.WindowCenter, made.WindowWidth = 40, 80
    made.RescaleSlope, made.RescaleIntercept = 1, 0
    made.PixelRepresentation, made.BitsStored, made.HighBit = 1, 16, 15
    made.PixelPaddingValue = _PADDING
    made["PixelPaddingValue"].VR = "SS"
    pixels = draw_phantom(_SIDE, seed=number).astype(np.int16) // 2 - 1000
    across = np.arange(_SIDE) - (_SIDE - 1) / 2
    pixels[np.hypot(across, across[:, None]) > _SIDE / 2] = _PADDING
    made.PixelData = pixels.tobytes()
    out = io.BytesIO()
    pydicom.dcmwrite(out, made, enforce_file_format=True)
    return out.getvalue()


def labels() -> Image:
    """A label map of three levels."""
    pixels = np.zeros((40, 48), np.uint8)
    pixels[8:20, 10:30], pixels[25:35, 5:40] = 1, 200
    return Image(pixels[None, ..., None], 8, "MONOCHROME2", "png")


def facts_of_kinds(bundles: dict[str, bytes], codec: Codec) -> dict[str, object]:
    """What a reader must find in them. Samples have 16 bits each, in the type of the image."""
    return {name: _facts(data, codec) for name, data in bundles.items()}


def _facts(data: bytes, codec: Codec) -> dict[str, object]:
    bundle = OpenedBundle.read(data, image_secrets())
    restored = restore_image(bundle, Tier.DIAGNOSTIC, lambda digest: codec, group="vectors")
    tiers = (Tier.PREVIEW, Tier.DIAGNOSTIC)
    decoded = {tier: decode_image(bundle, tier, lambda digest: codec).pixels for tier in tiers}
    return {
        "info": bundle.unseal("info").hex(),
        "header": bundle.unseal("header").hex(),
        "shape": list(bundle.header.geometry.shape),
        "signed": bool(decoded[Tier.DIAGNOSTIC].dtype.kind == "i"),
        "files": [file.name for file in restored.files],
        "samples": {tier: _two_bytes(pixels).hex() for tier, pixels in decoded.items()},
    }


def _two_bytes(pixels: np.ndarray) -> bytes:
    return pixels.astype(">i2" if pixels.dtype.kind == "i" else ">u2").tobytes()


def bad_series(good: Good) -> dict[str, bytes]:
    """What no encoder seals of a series. good: `good_series`."""
    source = series().header
    files, common = unpack_files(source, _SLICES)
    twice = [files[0]._replace(name=files[1].name), *files[1:]]
    wrong = {
        "series_of_a_name_twice": pack_files(twice, common=len(common), after=common),
        "series_of_fewer_files": pack_files(files[1:], common=len(common), after=common),
        "series_of_other_lengths": pack_files(files, common=len(common) + 1, after=common),
    }
    return {name: good.header(partial(_replaced, source, new)) for name, new in wrong.items()}


def _replaced(old: bytes, new: bytes, packed: bytes) -> bytes:
    """Section `header` with another header of the source."""
    text = zlib.decompress(packed, wbits=-15)
    assert text.endswith(old)
    compressor = zlib.compressobj(9, wbits=-15)
    return compressor.compress(text.removesuffix(old) + new) + compressor.flush()
