"""The named presets. A preset is data: a checkpoint stores the one that it was trained with.

What follows from a preset is its `Architecture` (architecture.py).
"""

from __future__ import annotations

from dataclasses import dataclass

STRIDE = 16
BLOCKS = 2
GROUPS = 4
"""What the shipped graphs fix: the stride, the residual blocks, the code maps of `grouped`."""


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
    stride: int = STRIDE
    code_maps: int = 64
    atoms_per_map: int = 4
    widths: tuple[int, int] = (64, 32)
    blocks: int = BLOCKS

    @property
    def atoms(self) -> int:
        """All atoms at a position, L x M."""
        return self.code_maps * self.atoms_per_map


DEFAULT = Preset("default")
PAPER = Preset("paper", "grouped", code_maps=GROUPS, atoms_per_map=256, widths=(48, 64))
PRESETS = {preset.name: preset for preset in (DEFAULT, PAPER)}
