"""The named architectures. A preset is data: a checkpoint stores the one that it was trained with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """What the network is, in the paper's symbols.

    stride: pixels per position of the grid, in each direction; stride² atoms in all.
    code_maps: L; each has M = stride² / L atoms.
    width_16, width_8: channels of the decoder's trunk at 1/16 and 1/8 resolution.
    blocks: residual blocks of the trunk at each of the two resolutions.
    """

    name: str
    stride: int = 16
    code_maps: int = 64
    width_16: int = 96
    width_8: int = 64
    blocks: int = 2

    @property
    def atoms(self) -> int:
        """All atoms at a position, L x M."""
        return self.stride**2

    @property
    def atoms_per_map(self) -> int:
        """M."""
        return self.atoms // self.code_maps


DEFAULT = Preset("default")
