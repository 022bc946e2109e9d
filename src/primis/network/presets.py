"""The named architectures. A preset is data: a checkpoint stores the one that it was trained with."""

from __future__ import annotations

from dataclasses import dataclass

STRIDE = 16
BLOCKS = 2
GROUPS = 4
"""What the shipped graphs fix: the stride, the residual blocks, the code maps of `grouped`."""

WIDEST = 128
"""A model's widths are at most this: it bounds what a stranger's weights can take."""

_LONGEST_NAME = 64


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
    widths: tuple[int, int] = (96, 64)
    blocks: int = BLOCKS

    @property
    def atoms(self) -> int:
        """All atoms at a position, L x M."""
        return self.code_maps * self.atoms_per_map

    @property
    def per_position(self) -> bool:
        """Whether top-S keeps S_x entries at each position of each code map, as in the paper, or
        S_x per position on average over the image."""
        return self.architecture == "grouped"

    @property
    def fault(self) -> str | None:
        """Why the graphs that ship with primis cannot run it, in a few words; None if they can."""
        if self.architecture not in ("lapped", "grouped"):
            return "its architecture is unknown, expected lapped or grouped"
        name = self.name if isinstance(self.name, str) else ""
        if not 0 < len(name) <= _LONGEST_NAME or not name.isprintable():
            return f"its name is not a text of 1 to {_LONGEST_NAME} printable characters"
        atoms = (self.code_maps, self.atoms_per_map)
        sizes = (self.stride, self.blocks, *atoms, *self.widths)
        if not all(type(size) is int and size > 0 for size in sizes):
            return "its sizes are not whole numbers above zero"
        if (self.stride, self.blocks) != (STRIDE, BLOCKS):
            return f"its stride and blocks are not {STRIDE} and {BLOCKS}"
        if self.architecture == "lapped" and self.atoms != STRIDE**2:
            return f"its code maps hold other than {STRIDE**2} atoms together"
        grouped = self.architecture == "grouped"
        if grouped and (self.code_maps != GROUPS or self.atoms_per_map > STRIDE**2):
            return f"it has other than {GROUPS} code maps of at most {STRIDE**2} atoms"
        if len(self.widths) != 2 or max(self.widths) > WIDEST:
            return f"its widths are not two of at most {WIDEST}"
        return None


DEFAULT = Preset("default")
PAPER = Preset("paper", "grouped", code_maps=4, atoms_per_map=256, widths=(48, 64))
PRESETS = {preset.name: preset for preset in (DEFAULT, PAPER)}
