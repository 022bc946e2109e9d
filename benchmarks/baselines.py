"""The codecs that primis is compared with, through imagecodecs, each at several qualities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
import pyrage


@dataclass(frozen=True)
class Baseline:
    """encode(samples, quality) -> a file; qualities: those to measure, in the codec's own unit."""

    encode: Callable[[np.ndarray, float], bytes]
    decode: Callable[[bytes], np.ndarray]
    qualities: tuple[float, ...]


def jpeg(samples: np.ndarray, quality: float) -> bytes:
    """quality: 0 to 100."""
    return bytes(imagecodecs.jpeg8_encode(samples, level=int(quality)))


def jpeg_2000(samples: np.ndarray, decibels: float, threads: int | None = None) -> bytes:
    """decibels: PSNR to reach."""
    level: Any = decibels  # a fraction will do, whatever its type hints say
    return bytes(imagecodecs.jpeg2k_encode(samples, level=level, numthreads=threads))


def jpeg_xl(samples: np.ndarray, distance: float, threads: int | None = None) -> bytes:
    """distance: Butteraugli's, 1 for no visible difference."""
    return bytes(
        imagecodecs.jpegxl_encode(samples, distance=distance, effort=7, numthreads=threads)
    )


def lossless_jpeg_xl(samples: np.ndarray, quality: float) -> bytes:
    """quality: of no effect."""
    return bytes(imagecodecs.jpegxl_encode(samples, lossless=True, effort=7))


BASELINES = {
    "JPEG": Baseline(jpeg, imagecodecs.jpeg8_decode, (10, 20, 35, 50, 65, 80, 90, 95)),
    "JPEG 2000": Baseline(jpeg_2000, imagecodecs.jpeg2k_decode, tuple(range(26, 56, 2))),
    "JPEG XL": Baseline(jpeg_xl, imagecodecs.jpegxl_decode, (0.15, 0.3, 0.6, 1, 2, 3.5, 6, 10, 15)),
    "JPEG XL, lossless": Baseline(lossless_jpeg_xl, imagecodecs.jpegxl_decode, (0,)),
}


def in_age(data: bytes) -> int:
    """How many bytes a file takes as age encrypts it to one recipient."""
    return len(pyrage.encrypt(data, [pyrage.x25519.Identity.generate().to_public()]))
