"""The named architectures. A preset is data: a checkpoint stores the one that it was trained with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """What the network is, in the paper's symbols.

    architecture: `lapped` (autoencoder.py) or `grouped` (grouped.py, the paper's).
    stride: pixels per position of the grid, in each direction.
    code_maps: L; atoms_per_map: M.
    widths: channels of the convolutions at the two resolutions that the architecture works at.
    blocks: residual blocks at each of them.
    """

    name: str
    architecture: str = "lapped"
    stride: int = 16
    code_maps: int = 64
    atoms_per_map: int = 4
    widths: tuple[int, int] = (96, 64)
    blocks: int = 2

    @property
    def atoms(self) -> int:
        """All atoms at a position, L x M."""
        return self.code_maps * self.atoms_per_map

    @property
    def per_position(self) -> bool:
        """Whether top-S keeps S_x entries at each position of each code map, as in the paper, or
        S_x per position on average over the image."""
        return self.architecture == "grouped"


DEFAULT = Preset("default")
PAPER = Preset("paper", "grouped", code_maps=4, atoms_per_map=256, widths=(48, 64), blocks=2)
PRESETS = {preset.name: preset for preset in (DEFAULT, PAPER)}
