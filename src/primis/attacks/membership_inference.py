"""Were these images among those that the published weights were trained on? Independent of any
release.

The score is what the learned part of the decoder gains over the plain transform, at the rates it
was trained for: a network that remembers an image fills in more of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from primis.attacks.harness import Holds
from primis.attacks.judge import told_apart
from primis.attacks.result import Gain, Kind, Result
from primis.codec import Codec
from primis.imaging.image import Image
from primis.metrics.fidelity import mse

_SPARSITIES = (2.0, 8.0)


def membership(codec: Codec, members: Sequence[Image], others: Sequence[Image]) -> Gain:
    """Members told from others by the trunk's gain."""
    scores = [trunk_gain(codec, image) for image in (*members, *others)]
    return told_apart("training images", np.array(scores), np.arange(len(scores)) < len(members))


def membership_result(codec: Codec, members: Sequence[Image], others: Sequence[Image]) -> Result:
    """The same as a result."""
    gain = membership(codec, members, others)
    name, source = "membership in the weights' training set", "Yeom et al. 2018"
    return Result(name, Kind.MEMBERSHIP, source, Holds.WEIGHTS, (gain,))


def trunk_gain(codec: Codec, image: Image) -> float:
    """dB that the decoder gains over the transform alone, whose error is that of quantisation."""
    z, scale = codec.encode(image.pixels[0])
    gains = []
    for sparsity in _SPARSITIES:
        code = codec.sparsify(z, round(sparsity * z.shape[0] * z.shape[2] * z.shape[3]))
        plain = (
            float(np.mean((z - code.coefficients) ** 2))
            * codec.preset.atoms
            / codec.preset.stride**2
        )
        whole = codec.decode(code, scale, image.pixels.shape[1:3], np.dtype(np.float64))
        gains.append(
            10
            * np.log10(max(plain, 1e-12) / max(mse(image.pixels[0], whole) / scale.width**2, 1e-12))
        )
    return float(np.mean(gains))
