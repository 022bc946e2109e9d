"""Releases, and what Python restores of them, for the viewer's tests to compare with.

    python -m tests.make_viewer_cases viewer/.cases

The folder is made anew: a release for each group of settings, `cases.json`, and arrays as bare
little-endian numbers. It holds real X-rays too where the image collection lies beside us.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import tifffile
from PIL import Image as Pillow

import primis
from primis.bundle.settings import Settings
from primis.errors import AccessError, PrimisError
from primis.imaging.phantom import draw_phantom, phantom_dicom
from primis.keys.identity import generate, passphrase_recipient, read_signer
from tests.conftest import SHARED
from tests.core.test_series import slice_file
from tests.core.test_stretch import head

Drawn = dict[str, bytes]
REGION = (70, 140, 100, 60)
PASSPHRASE = "seven lamps of the north harbour"
_MANY, _FRAMES, _MIDDLE = 8_000_000, 3, slice(1000, 2100)
"""Samples of a file that is cut, and to what."""


def main(folder: Path) -> None:
    """Make all releases and what is expected of them."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.environ["XDG_CONFIG_HOME"] = str(folder / "config")
    for name in ("owner", "alice", "bob"):
        (folder / f"{name}.key").write_text(generate())
    cases = [made(folder, name, *how) for name, how in releases().items()]
    cases += shared_in_part(folder)
    (folder / "cases.json").write_text(json.dumps({"passphrase": PASSPHRASE, "cases": cases}))


def releases() -> dict[str, tuple[Callable[[], Drawn], dict[str, Any]]]:
    """Of each its files, and how they are shared."""
    found: dict[str, tuple[Callable[[], Drawn], dict[str, Any]]] = {
        "default": (many_kinds, {"with_original": True}),
        "sca": (two_phantoms, {"settings": Settings(sparsity=4, protection="sca")}),
        "paper": (two_phantoms, {"model": "paper"}),
        "lossless": (two_phantoms, {"lossless": True}),
        "tiles": (several_tiles, {"settings": Settings(sparsity=4, tile=128)}),
        "bits": (two_phantoms, {"settings": Settings(sparsity=16), "measure": False}),
    }
    if SHARED.is_dir():
        found["real"] = (real_images, {})
    return found


def made(folder: Path, name: str, draw: Callable[[], Drawn], how: dict[str, Any]) -> Any:
    """A release of drawn files, and what its recipient restores."""
    print(name, flush=True)
    inputs = folder / "inputs" / name
    for file, data in draw().items():
        (inputs / file).parent.mkdir(parents=True, exist_ok=True)
        (inputs / file).write_bytes(data)
    place, key = folder / name, folder / "alice.key"
    to = f"alice={read_signer(key).recipient.text}"
    results = primis.share(inputs, place, to=to, owner=folder / "owner.key", **how)
    assert all(result.error is None for result in results), [r.error for r in results]
    return {"release": name, "key": key.name, "images": expected(folder, place, key, name)}


def shared_in_part(folder: Path) -> list[Any]:
    """Grants of a region, of named images, and for a passphrase."""
    place, cases = folder / "tiles", []
    owner, bob = folder / "owner.key", folder / "bob.key"
    to = read_signer(bob).recipient.text
    primis.grant(place, to=f"bob={to}", images=["one.png"], region=REGION, owner=owner)
    cases.append({"release": "tiles", "key": bob.name, "images": expected(folder, place, bob, "b")})
    place = folder / "bits"
    primis.grant(place, to=f"bob={to}", tier="preview", owner=owner)
    cases.append({"release": "bits", "key": bob.name, "images": expected(folder, place, bob, "c")})
    place = folder / "lossless"
    primis.grant(place, to=f"bob={to}", images=["phantom-1.dcm"], owner=owner)
    cases.append(
        {"release": "lossless", "key": bob.name, "images": expected(folder, place, bob, "d")}
    )
    primis.grant(place, to=[passphrase_recipient(PASSPHRASE)], owner=owner)
    return cases


def expected(folder: Path, place: Path, key: Path, name: str) -> list[Any]:
    """What Python restores of each image, written beside."""
    out = folder / "expected" / name
    out.mkdir(parents=True)
    with primis.open(place, key) as release:
        return [one(image, out, folder) for image in release]


def one(image: Any, out: Path, folder: Path) -> dict[str, Any]:
    """Of one image."""
    put = Writer(out / image.id, folder)
    tiers = {tier: pixels(put, image, tier) for tier in ("preview", "diagnostic")}
    return {
        "id": image.id,
        "name": image.name,
        "tier": str(image.tier),
        "region": image.region,
        "tiers": {tier: told for tier, told in tiers.items() if told},
        "texture": pixels(put, image, "diagnostic", texture=True),
        "codes": codes(put, image),
        "files": {tier: files(put, image, tier) for tier in ("diagnostic", "original")},
    }


class Writer:
    """Writes arrays and files beside each other."""

    def __init__(self, start: Path, folder: Path) -> None:
        self._start, self._folder, self._count = start, folder, 0

    def __call__(self, data: bytes) -> str:
        """Where it lies, from the folder."""
        self._count += 1
        path = self._start.with_name(f"{self._start.name}-{self._count}")
        path.write_bytes(data)
        return str(path.relative_to(self._folder))


def pixels(put: Writer, image: Any, tier: str, **how: Any) -> dict[str, Any] | None:
    """Samples at a tier; None where the key does not open it."""
    try:
        found = image.read(tier, **how)
    except PrimisError:
        return None
    dtype = found.pixels.dtype
    return {
        "file": put(found.pixels.astype(dtype.newbyteorder("<")).tobytes()),
        "type": dtype.name,
        "shape": list(found.shape),
        "bitDepth": found.bit_depth,
        "photometric": found.photometric,
        "spacing": found.spacing_mm,
        "kind": found.kind,
    }


def codes(put: Writer, image: Any) -> dict[str, Any] | None:
    """The true code at tier diagnostic."""
    try:
        found = image.codes("diagnostic")
    except AccessError:
        return None
    return {"file": put(found.levels.astype("<i2").tobytes()), "shape": list(found.shape)}


def files(put: Writer, image: Any, tier: str) -> list[dict[str, str]]:
    """Names and bytes of what is restored."""
    try:
        found = image.files(tier)
    except PrimisError:
        return []
    return [{"name": name, "file": put(data)} for name, data in found.items()]


def encoded(array: np.ndarray, kind: str) -> bytes:
    """A raster file."""
    out = io.BytesIO()
    Pillow.fromarray(array).save(out, kind)
    return out.getvalue()


def eight(size: int, seed: int) -> np.ndarray:
    """A phantom of 8 bits."""
    return (draw_phantom(size, seed=seed) >> 4).astype(np.uint8)


def dicom(size: int, seed: int, **elements: object) -> bytes:
    """A phantom with some elements of its header set."""
    data_set = pydicom.dcmread(io.BytesIO(phantom_dicom(size, seed=seed)))
    for keyword, value in elements.items():
        setattr(data_set, keyword, value)
        if data_set[keyword].VR == "US or SS":
            data_set[keyword].VR = "SS"
    out = io.BytesIO()
    data_set.save_as(out)
    return out.getvalue()


def ct() -> bytes:
    """A head whose window is stretched, in a round field with padding around it."""
    samples = head()
    y, x = np.mgrid[:256, :256] - 127.5
    samples[np.hypot(x, y) > 125] = -2000
    return dicom(
        256,
        3,
        PixelData=samples.astype("<i2").tobytes(),
        BitsAllocated=16,
        BitsStored=16,
        HighBit=15,
        PixelRepresentation=1,
        PixelPaddingValue=-2000,
        WindowCenter=["35", "300"],
        WindowWidth=["100", "1500"],
        WindowCenterWidthExplanation=["BRAIN", "BONE"],
        RescaleSlope="1",
        RescaleIntercept="0",
        RescaleType="HU",
    )


def many_kinds() -> Drawn:
    """Files of most kinds, depths and sizes."""
    grey, deep = eight(200, 1), draw_phantom(150, seed=2).astype(np.uint16) << 4
    colour = np.stack([np.roll(grey, k, axis=k % 2) for k in (0, 3, 9)], axis=2)[:, :187]
    opaque = np.full(colour.shape[:2], 200, np.uint8)
    opaque[:50] = 90
    stack = np.stack([np.roll(draw_phantom(72, seed=3), k, axis=1) for k in range(11)])
    mask = (grey > 128).astype(np.uint8) * 255
    signed = (draw_phantom(90, seed=4).astype(np.int32) - 2000).astype(np.int16)
    tiff = io.BytesIO()
    tifffile.imwrite(tiff, (stack.astype(np.int32) - 2000).astype(np.int16))
    real = nibabel.Nifti1Image(np.float32(draw_phantom(48, seed=5)[..., None] / 7), np.eye(4))
    whole = nibabel.Nifti1Image(np.stack([signed] * 3, axis=2), np.diag([1, 2, 3, 1]))
    equal = np.repeat(grey[..., None], 3, axis=2)
    wide = np.concatenate([eight(1100, 6), eight(1100, 7)[:, :150]], axis=1)[:1050]
    return {
        "grey.png": encoded(grey, "png"),
        "deep.png": encoded(deep, "png"),
        "colour.png": encoded(colour, "png"),
        "opaque.png": encoded(np.dstack([colour, opaque]), "png"),
        "grey and opacity.png": encoded(np.dstack([grey[:, :187], opaque]), "png"),
        "equal.png": encoded(equal, "png"),
        "wide.png": encoded(wide, "png"),
        "square.png": encoded(eight(512, 9), "png"),
        "photo.jpg": encoded(colour, "jpeg"),
        "mask.png": encoded(mask, "png"),
        "chest.dcm": dicom(600, 1),
        "negative.dcm": dicom(96, 8, PhotometricInterpretation="MONOCHROME1"),
        "head.dcm": ct(),
        "stack.tif": tiff.getvalue(),
        "volume.nii": real.to_bytes(),
        "volume.nii.gz": gzip.compress(whole.to_bytes(), mtime=0),
        **{f"series/{k}.dcm": slice_file(2.5 * k, seed=1 + k // 4) for k in range(6)},
    }


def two_phantoms() -> Drawn:
    """DICOM of 12 bits, and colours."""
    grey = eight(130, 4)
    return {
        "phantom-1.dcm": phantom_dicom(160, seed=1),
        "colour.png": encoded(np.stack([grey, grey.T, grey[::-1]], axis=2), "png"),
    }


def several_tiles() -> Drawn:
    """An image of many tiles, and a stack."""
    stack = np.stack([np.roll(eight(300, 2), k, axis=0) for k in range(3)])
    tiff = io.BytesIO()
    tifffile.imwrite(tiff, stack)
    return {"one.png": encoded(eight(330, 1)[:, :300], "png"), "three.tif": tiff.getvalue()}


def real_images() -> Drawn:
    """X-rays, CT and other images of the collection: one of each folder."""
    folders: dict[Path, list[Path]] = {}
    for path in sorted(SHARED.rglob("*")):
        if path.suffix in (".dcm", ".webp"):
            folders.setdefault(path.parent, []).append(path)
    chosen = [
        path for files in folders.values() for path in files[:1] if "angiogram" not in str(path)
    ]
    return {f"{k:02}-{path.name}": smaller(path.read_bytes()) for k, path in enumerate(chosen)}


def smaller(data: bytes) -> bytes:
    """A DICOM file of many samples cut to its first frames, or else to its middle, without the
    compression: whole ones take minutes in the browser's engine and test nothing else."""
    if not data[128:].startswith(b"DICM"):
        return data
    data_set = pydicom.dcmread(io.BytesIO(data))
    frames = int(data_set.get("NumberOfFrames", 1))
    if frames * data_set.Rows * data_set.Columns * data_set.SamplesPerPixel < _MANY:
        return data
    if frames > 1:
        coded = pydicom.encaps.generate_frames(data_set.PixelData, number_of_frames=frames)
        data_set.PixelData = pydicom.encaps.encapsulate(list(coded)[:_FRAMES])
        data_set.NumberOfFrames = _FRAMES
    else:
        middle = data_set.pixel_array[_MIDDLE, _MIDDLE]
        data_set.decompress()
        data_set.Rows, data_set.Columns = middle.shape[:2]
        data_set.PixelData = middle.tobytes()
    out = io.BytesIO()
    data_set.save_as(out)
    return out.getvalue()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
