"""One array to one bundle that needs no release, and back."""

from __future__ import annotations

import secrets as system
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from primis.api.places import Place
from primis.bundle.settings import Settings
from primis.codec import Codec
from primis.errors import InputError
from primis.imaging.image import MAX_CHANNELS, MEANING, Image
from primis.jobs import restore as restoring
from primis.keys.seal import Secret, image_secrets, release_secrets
from primis.keys.tier import HIGHEST, Tier
from primis.network.checkpoint import named, read_checkpoint, shipped
from primis.sharing.opened import OpenedBundle
from primis.sharing.restore import read_image
from primis.sharing.share import share_image


class Encoded(NamedTuple):
    """What `encode` gives. bundle: the bytes, which anyone may see. key: opens every tier of it."""

    bundle: bytes
    key: Secret


def encode(
    pixels: np.ndarray,
    settings: Settings | None = None,
    *,
    bit_depth: int | None = None,
    spacing_mm: tuple[float, float] | None = None,
    model: Place | None = None,
) -> Encoded:
    """Turn one array into one bundle that needs no release, and its key.

    pixels: (H, W), (H, W, C) or (frames, H, W, C) of uint8, uint16, int8 or int16, with at most 16
    channels. settings: S_x, level of protection and budgets. bit_depth: bits of a sample that are
    used, by default all. spacing_mm: between rows and between columns. model: a file of other
    weights, or "paper".

    Raises InputError for other arrays, and where the code does not fit the budgets; ModelError.
    """
    key, bundle_id = Secret.new(), system.token_hex(16)
    opened = image_secrets(release_secrets(key, HIGHEST), bundle_id)
    image = _image_of(pixels, bit_depth, spacing_mm)
    codec = Codec(read_checkpoint(named(Path(model)) if model else shipped()))
    shared = share_image(
        image, settings or Settings(), opened, codec, bundle_id=bundle_id, name="", alone=True
    )
    return Encoded(shared.data, key)


def decode(
    bundle: bytes, key: Secret, tier: Tier | str = Tier.DIAGNOSTIC, *, models: Sequence[Place] = ()
) -> Image:
    """The image in a bundle that `encode` made.

    key: as `encode` gave it. tier: preview or diagnostic. models: files of weights that do not come
    with primis. Raises BadBundle, DamagedSection, ModelError.
    """
    from primis.bundle.container import read_head

    bundle_id, _ = read_head(bundle, "")
    secrets = image_secrets(release_secrets(key, HIGHEST), bundle_id)
    codec_for = restoring.codecs(Path(model) for model in models)
    return read_image(OpenedBundle.read(bundle, secrets), Tier(tier), codec_for)[0]


def _image_of(
    pixels: np.ndarray, bit_depth: int | None, spacing_mm: tuple[float, float] | None
) -> Image:
    array = np.asarray(pixels)
    if array.dtype.kind not in "ui" or array.dtype.itemsize > 2:
        raise InputError(f"pixels are {array.dtype}, expected uint8, uint16, int8 or int16")
    shaped = {2: array[None, ..., None], 3: array[None]}.get(array.ndim, array)
    if shaped.ndim != 4 or not shaped.size or shaped.shape[3] > MAX_CHANNELS:
        raise InputError(
            f"pixels have shape {array.shape}, expected (H, W), (H, W, C) or (frames, H, W, C) "
            f"with at most {MAX_CHANNELS} channels"
        )
    depth, most = bit_depth or 8 * array.dtype.itemsize, 8 * array.dtype.itemsize
    if not 1 <= depth <= most:
        raise InputError(f"bit_depth is {depth}, expected 1..{most}")
    return Image(shaped, depth, MEANING[shaped.shape[3]], "tiff", spacing_mm)
