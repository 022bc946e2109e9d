"""What all vectors have in common: secrets, ids and draws that are fixed, the small images and the
model."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from primis.bundle.settings import Settings
from primis.imaging.image import Image
from primis.imaging.phantom import draw_phantom
from primis.imaging.region import Region
from primis.keys.seal import (
    Secret,
    TierSecrets,
    release_secrets,
)
from primis.keys.seal import image_secrets as secrets_of_image
from primis.keys.tier import Tier
from primis.network.architecture import architecture_of
from primis.network.checkpoint import Checkpoint, write_checkpoint
from primis.network.presets import Preset

VECTORS = Path(__file__).parent.parent / "vectors"
TINY = VECTORS / "tiny.safetensors"
BUNDLE_ID = "00112233445566778899aabbccddeeff"
RELEASE_SECRET = Secret(bytes(range(32)))
REGION = Region(10, 20, 30, 16)
OWNER = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"
READER = "AGE-SECRET-KEY-1XNZA5E60N8C3HV3UTLKQZMQJDSUJ3T6RZ6VWQVNS4ESQ83EWLNTQAX8448"
SETTINGS = Settings(
    sparsity=4.0,
    code_bits=12.0,
    header_bytes=256,
    original_bits=1.5,
    exact_bits=0,
)


def fixed_draw(n: int) -> bytes:
    """A draw for vectors only: the same bytes at every call."""
    return hashlib.shake_256(b"primis vectors").digest(n)


def image_secrets() -> TierSecrets:
    """Of the vector's image, at every tier."""
    return secrets_of_image(release_secrets(RELEASE_SECRET, Tier.ORIGINAL), BUNDLE_ID)


def phantom() -> Image:
    """The image in the vector: 72 x 56, 12 bits."""
    pixels = draw_phantom(96)[8:80, 20:76]
    return Image(
        np.ascontiguousarray(pixels)[None, :, :, None], 12, "MONOCHROME2", "tiff", (0.5, 0.5), b"{}"
    )


def moving_phantom() -> Image:
    """The image in the vector of a group: six frames of 48 x 40, each a pixel further down."""
    whole = draw_phantom(96)
    frames = [whole[k + 20 : k + 68, 30:70] for k in range(6)]
    return Image(np.stack(frames)[..., None], 12, "MONOCHROME2", "tiff", (0.5, 0.5), b"{}")


def tiny_model() -> None:
    """A model small enough to keep here: the plain transform and a fitted support coder."""
    import torch

    from primis.network.build import as_network
    from primis.network.tables import find_rates, fit_context_model

    torch.manual_seed(0)
    architecture = architecture_of(preset := Preset("tiny", widths=(8, 8)))
    network = architecture.build()
    codes, coefficients = [], []
    for seed in range(6):
        x = torch.from_numpy(draw_phantom(256, seed=seed).astype(np.float32))[None, None]
        z = architecture.layout.transform_dc(as_network(network).encode(x).detach().numpy())
        coefficients.append(z)
        codes.append(architecture.plain_selection(z, 256 * 2 ** (seed % 5)).levels[0])
    tables = fit_context_model(codes, architecture.layout, steps=60)
    tables = find_rates(architecture, tables, coefficients)
    tensors = {name: tensor.detach().numpy() for name, tensor in network.state_dict().items()}
    found = Checkpoint(preset, tensors, tables, {"data": "phantoms"})
    write_checkpoint(found, TINY)
