"""Encoder and decoder of preset `paper`: the architecture of the paper (Fig. 1 and Fig. 3).

    x (b,1,H,W) --down 1/2, 1/4, up again--> planes (b,L,H,W) --grouped projection--> z (b,LM,h,w)
    z, top-S at each position of each map --back, tied--> planes (b,L,H,W)
    planes --down, up--> x^ (b,1,H,W)

A bank is a pair of down-sampling and a pair of up-sampling steps with residual blocks between them;
a 1 x 1 convolution mixes its channels into the next step's planes. The paper leaves widths and
depth open: these give about the authors' number of parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from primis.network.autoencoder import Residual, zeroed
from primis.network.presets import Preset
from primis.network.projection import GroupedProjection


class Bank(nn.Module):
    """Planes (b, inputs, H, W) -> (b, outputs, H, W), by way of 1/2 and 1/4 of the resolution."""

    def __init__(self, inputs: int, outputs: int, preset: Preset) -> None:
        super().__init__()
        half, quarter = preset.widths
        self.down_2 = nn.Conv2d(inputs, half, 4, stride=2, padding=1)
        self.down_4 = nn.Conv2d(half, quarter, 4, stride=2, padding=1)
        self.blocks_4 = nn.Sequential(*[Residual(quarter) for _ in range(preset.blocks)])
        self.up_2 = nn.Conv2d(quarter, 4 * half, 1)
        self.blocks_2 = nn.Sequential(*[Residual(half) for _ in range(preset.blocks)])
        self.up_1 = zeroed(nn.Conv2d(half, 4 * outputs, 1))
        self.mix = nn.Conv2d(inputs, outputs, 1)
        nn.init.ones_(self.mix.weight)
        nn.init.zeros_(self.mix.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        half = torch.relu(self.down_2(x))
        quarter = self.blocks_4(torch.relu(self.down_4(half)))
        half = self.blocks_2(half + nn.functional.pixel_shuffle(self.up_2(quarter), 2))
        return self.mix(x) + nn.functional.pixel_shuffle(self.up_1(torch.relu(half)), 2)


class GroupedAutoEncoder(nn.Module):
    """The paper's pair with its tied projection."""

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        self.preset = preset
        self.projection = GroupedProjection(preset.code_maps, preset.atoms_per_map, preset.stride)
        self.encoder = Bank(1, preset.code_maps, preset)
        self.decoder = Bank(preset.code_maps, 1, preset)

    def encode(self, x: Tensor) -> Tensor:
        """Image (b, 1, H, W), sides multiples of the stride -> coefficients (b, LM, h, w)."""
        return self.projection(self.encoder(x))

    def decode(self, q: Tensor, threshold: Tensor, opened: Tensor) -> Tensor:
        """Sparse coefficients (b, LM, h, w) -> image (b, 1, H, W), whatever the rest is."""
        return self.decoder(self.projection.back(q))
