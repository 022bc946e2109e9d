"""Encoder and decoder of preset `default`.

    x (b,1,H,W) --projection--> z (b,LM,h,w) --top-S, quantise--> q, what levels stand for -----\\
                                                                                                |
    x^ <--projection.back-- q + correction at 1/16 --+-- correction at 1/8 (pixel shuffle) <-- trunk

The decoder works in units of the threshold t and its output is multiplied by t at the end, so that
one set of weights serves every S_x and every range of grey levels: what the trunk adds is the part
of the image that fell below the threshold, whatever the threshold was. With a trunk that adds
nothing the network is the plain transform.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from primis.network.presets import Preset
from primis.network.projection import LappedProjection

_TRUNK_CLAMP = 3.0  # a level's first few steps say what lies around it; more would only add range
_LOCAL_RANGE = 4.0  # what an edge's height approaches, in thresholds: its place matters, not it
_HEAD_GAIN = 0.1  # keeps the first steps of training near the plain transform


class Residual(nn.Module):
    """x + conv(relu(conv(x)))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """A layer that adds nothing before it is trained."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


class Decoder(nn.Module):
    """Coefficients q / t (b, LM, h, w) and how many maps are open, in [0, 1], (b, 1, 1, 1) -> image
    / t.

    The projection is the encoder's (tied weights), so it is handed in.
    """

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        self.preset = preset
        w16, w8 = preset.widths
        self.enter = nn.Conv2d(preset.atoms + 9, w16, 1)
        self.blocks_16 = nn.Sequential(*[Residual(w16) for _ in range(preset.blocks)])
        self.coefficients = zeroed(nn.Conv2d(w16, preset.atoms, 1))
        self.widen = nn.Conv2d(w16, 4 * w8, 1)
        self.join = nn.Conv2d(1, w8, 8, stride=8)
        self.blocks_8 = nn.Sequential(*[Residual(w8) for _ in range(preset.blocks)])
        self.pixels = zeroed(nn.Conv2d(w8, 64, 3, padding=1))

    def forward(self, q: Tensor, opened: Tensor, projection: LappedProjection) -> Tensor:
        features = self.blocks_16(self.enter(self._features(q, opened)))  # (b, w16, h, w)
        plain = projection.back(q + _HEAD_GAIN * self.coefficients(features))  # (b, 1, H, W)
        local = plain - self._local_mean(q, plain)
        eighth = nn.functional.pixel_shuffle(self.widen(features), 2)  # (b, w8, 2h, 2w)
        eighth = self.blocks_8(eighth + self.join(local / (1 + local.abs() / _LOCAL_RANGE)))
        return plain + _HEAD_GAIN * nn.functional.pixel_shuffle(self.pixels(eighth), 8)

    def _features(self, q: Tensor, opened: Tensor) -> Tensor:
        """Clamped coefficients without the mean; it against its 8 neighbours; opened maps."""
        mean = q[:, :1]
        around = nn.functional.unfold(nn.functional.pad(mean, (1, 1, 1, 1), mode="replicate"), 3)
        around = around.reshape(len(mean), 9, *mean.shape[2:])  # (b, 9, h, w)
        steps = torch.asinh(torch.cat([around[:, :4], around[:, 5:]], dim=1) - mean)
        flag = opened.expand(-1, 1, *mean.shape[2:])
        clamped = torch.cat(
            [torch.zeros_like(mean), q[:, 1:].clamp(-_TRUNK_CLAMP, _TRUNK_CLAMP)], dim=1
        )
        return torch.cat([clamped, steps, flag], dim=1)

    def _local_mean(self, q: Tensor, like: Tensor) -> Tensor:
        mean = (
            nn.functional.avg_pool2d(q[:, :1], 3, 1, 1, count_include_pad=False)
            / self.preset.stride
        )
        return nn.functional.interpolate(mean, size=like.shape[2:], mode="nearest")


class AutoEncoder(nn.Module):
    """The pair with its tied projection. `encode` gives coefficients; the codec quantises them."""

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        self.preset = preset
        self.projection = LappedProjection(preset.stride)
        self.decoder = Decoder(preset)

    def encode(self, x: Tensor) -> Tensor:
        """Image (b, 1, H, W), sides multiples of the stride -> coefficients (b, LM, h, w)."""
        return self.projection(x)

    def decode(self, q: Tensor, threshold: Tensor, opened: Tensor) -> Tensor:
        """Coefficients (b, LM, h, w), t and opened maps (b, 1, 1, 1) -> image (b, 1, H, W)."""
        return self.decoder(q / threshold, opened, self.projection) * threshold
