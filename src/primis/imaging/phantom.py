"""A chest that belongs to nobody: drawn, 12 bits, written as DICOM. For the demo and the tests."""

from __future__ import annotations

import io

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

_BITS = 12


def draw_phantom(size: int = 512, *, seed: int = 0) -> np.ndarray:
    """(size, size) uint16, 12 bits, MONOCHROME2: body, lungs, heart, spine, ribs, vessels, noise.

    The seed moves the anatomy a little; the same seed draws the same chest.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:size, 0:size] / size * 2 - 1  # -1 .. 1, downwards and to the right
    sway = rng.normal(0, 0.015, 8)
    body = _soft(1 - (np.abs(x / (0.93 + sway[0])) ** 3 + np.abs((y - 0.25) / 1.3) ** 4), 0.05)
    density = 0.62 * body * (1 - 0.12 * y)
    for side in (-1, 1):
        density -= 0.40 * _lung(x * side, y, sway) * (0.9 + 0.1 * np.cos(3 * y))
    density += 0.34 * _ellipse(x, y, 0.13 + sway[1], 0.28, 0.30, 0.34 + sway[2], 0.06)
    density += (
        0.17 * _soft(0.085 - np.abs(x + 0.01 * np.sin(4 * y)), 0.03) * (1 + 0.25 * np.sin(34 * y))
    )
    density += (
        0.22 * _soft(y - 0.62 - 0.18 * (np.abs(x) - 0.4) ** 2 + 0.16 * np.cos(3.2 * x), 0.05) * body
    )
    for k in range(9):
        density += 0.075 * _rib(x, y, -0.78 + 0.165 * k + sway[3], sway) * body
    for side in (-1, 1):
        density += (
            0.11
            * _soft(0.028 - np.abs(y + 0.80 + 0.22 * (x * side - 0.25)), 0.015)
            * _soft(0.33 - np.abs(x * side - 0.42), 0.05)
        )
        density += 0.10 * _vessels(x * side, y, rng) * _lung(x * side, y, sway)
    quanta = (
        rng.poisson(900 * np.clip(1.15 - density, 0.05, None)) / 900
    )  # thin parts are bright with photons
    signal = 0.93 - 0.72 * quanta + rng.normal(0, 0.003, (size, size))
    return np.round(np.clip(signal, 0, 1) * (2**_BITS - 1)).astype(np.uint16)


def phantom_dicom(size: int = 512, *, seed: int = 0) -> bytes:
    """The phantom as a DICOM file with a full, invented header."""
    pixels = draw_phantom(size, seed=seed)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = (
        DigitalXRayImageStorageForPresentation
    )
    uids = [
        generate_uid(entropy_srcs=["primis phantom", str(seed), level])
        for level in ("study", "series", "image")
    ]
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID = uids
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.PatientName, dataset.PatientID, dataset.PatientSex = (
        "Phantom^Chest",
        f"PHANTOM-{seed}",
        "O",
    )
    dataset.PatientBirthDate, dataset.StudyDate, dataset.StudyTime = (
        "19700101",
        "20240101",
        "120000",
    )
    dataset.Modality, dataset.BodyPartExamined, dataset.ViewPosition = "DX", "CHEST", "PA"
    dataset.StudyID, dataset.AccessionNumber, dataset.InstanceNumber, dataset.SeriesNumber = (
        "1",
        "1",
        1,
        1,
    )
    dataset.ReferringPhysicianName = ""
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = size, size, 1
    dataset.PhotometricInterpretation, dataset.PixelRepresentation = "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, _BITS, _BITS - 1
    dataset.ImagerPixelSpacing = [f"{350 / size:.6g}"] * 2
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.PixelData = pixels.astype("<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    out = io.BytesIO()
    pydicom.dcmwrite(out, dataset, enforce_file_format=True)
    return out.getvalue()


def _soft(distance: np.ndarray, width: float) -> np.ndarray:
    """0 outside (distance < 0) to 1 inside, over about `width`."""
    return 1 / (1 + np.exp(-np.clip(4 * distance / width, -30, 30)))


def _ellipse(
    x: np.ndarray, y: np.ndarray, cx: float, cy: float, rx: float, ry: float, edge: float
) -> np.ndarray:
    return _soft(1 - np.sqrt(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2), edge / min(rx, ry))


def _lung(x: np.ndarray, y: np.ndarray, sway: np.ndarray) -> np.ndarray:
    """The lung on the side of positive x."""
    oval = _ellipse(x, y, 0.43 + sway[4], -0.08, 0.29, 0.70 + sway[5], 0.04)
    return oval * _soft(0.50 - y - 0.28 * (x - 0.43) ** 2 * 4, 0.04)


def _rib(x: np.ndarray, y: np.ndarray, top: float, sway: np.ndarray) -> np.ndarray:
    arc = top + 0.34 * np.abs(x) ** 1.6 - 0.22 * np.abs(x) + sway[6]
    return (
        _soft(0.024 - np.abs(y - arc), 0.018)
        * _soft(0.84 - np.abs(x), 0.05)
        * _soft(np.abs(x) - 0.07, 0.03)
    )


def _vessels(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Branches that leave the hilum and thin out."""
    out = np.zeros_like(x)
    for angle in np.linspace(-1.3, 1.3, 9) + rng.normal(0, 0.08, 9):
        along = (x - 0.18) * np.cos(angle) + (y - 0.02) * np.sin(angle)
        across = (
            -(x - 0.18) * np.sin(angle)
            + (y - 0.02) * np.cos(angle)
            - 0.04 * np.sin(9 * along + angle)
        )
        width = np.clip(0.022 * (1 - along / 0.7), 0.004, None)
        out += np.exp(-((across / width) ** 2)) * ((along > 0) & (along < 0.6))
    return np.clip(out, 0, 1)
