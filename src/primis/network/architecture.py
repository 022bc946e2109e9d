"""What follows from a preset: an `Architecture` answers whatever depends on the kind of network.

    Lapped    lapped cosine transform, DC plane, top-S over the image, decoder in units of t
    Grouped   the paper's: learned atoms, top-S at every position of every code map

Nothing else asks which of the two it has, but for training, which has a loss for each.
Loading this needs no torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from primis.codes.layout import FrequencyLayout, Layout, LearnedLayout
from primis.codes.probabilities import ContextModel
from primis.codes.selection import TILE, PlainSelector, PricedSelector, Selector
from primis.codes.sparse import RECONSTRUCTION_OFFSET, SparseCode, top_s, top_s_of_maps
from primis.errors import InputError
from primis.network.presets import BLOCKS, GROUPS, STRIDE, Preset
from primis.network.program import graph_file
from primis.network.tensors import Shapes, grouped_shapes, lapped_shapes

if TYPE_CHECKING:
    from torch import nn

WIDEST = 128
"""A model's widths are at most this: it bounds what a stranger's weights can take."""

_LONGEST_NAME = 64


class Architecture(ABC):
    """What a network of one kind does, for callers that need not know which kind it is.

    halo: positions beyond a window that the network sees, at most.
    offset: a level n stands for (|n| + offset) t.
    over_image: whether top-S spends the entries of an image where it has detail, or as many at
    each position of each code map.
    layout: the atoms as the coder sees them.
    """

    name: ClassVar[str]
    halo: ClassVar[int]
    offset: ClassVar[float]
    over_image: ClassVar[bool]
    layout: Layout

    def __init__(self, preset: Preset) -> None:
        self.preset = preset

    @property
    @abstractmethod
    def fault(self) -> str | None:
        """Why the shipped graphs cannot run a preset of these sizes; None if they can."""

    @property
    @abstractmethod
    def shapes(self) -> Shapes:
        """Name -> shape of every tensor of the network."""

    @abstractmethod
    def build(self) -> nn.Module:
        """The untrained network; it needs torch."""

    def graph(self, name: str) -> Path:
        """The file of the shipped graph `encode` or `decode`."""
        return graph_file(self.name, name)

    @abstractmethod
    def nominal_sparsity(self, sparsity: float) -> float:
        """S_x as bundles count it, per position over all code maps, from S_x as the preset does."""

    def entries(self, z: np.ndarray, sparsity: float) -> int:
        """How many entries of z (c, LM, h, w) S_x keeps."""
        return round(self.nominal_sparsity(sparsity) * z.shape[0] * z.shape[2] * z.shape[3])

    @abstractmethod
    def plain_selection(self, z: np.ndarray, entries: int) -> SparseCode:
        """At most `entries` of z (c, LM, h, w), the largest, quantised: top-S."""

    @abstractmethod
    def selector(
        self, z: np.ndarray, entries: int, tables: ContextModel, tile: int = TILE
    ) -> Selector:
        """Selects about `entries` of z (c, LM, h, w), those that the codec keeps. tile: positions
        of a side of what is coded on its own."""

    def selection(self, z: np.ndarray, entries: int, tables: ContextModel) -> SparseCode:
        """At most `entries` of z (c, LM, h, w), those that the codec keeps, quantised."""
        return self.selector(z, entries, tables).keep(entries)

    @abstractmethod
    def public_step(self, thresholds: list[float]) -> float:
        """A step t for someone who does not know it, from those of other images.

        1 where the decoder works in units of t, so that any gives the image up to its range.
        """


class Lapped(Architecture):
    """Preset `default`: autoencoder.py."""

    name, halo, offset, over_image = "lapped", 12, RECONSTRUCTION_OFFSET, True

    def __init__(self, preset: Preset) -> None:
        super().__init__(preset)
        self.layout = FrequencyLayout(preset.code_maps, preset.atoms_per_map)

    @property
    def fault(self) -> str | None:
        if self.preset.atoms != STRIDE**2:
            return f"its code maps hold other than {STRIDE**2} atoms together"
        return None

    @property
    def shapes(self) -> Shapes:
        return lapped_shapes(self.preset)

    def build(self) -> nn.Module:
        from primis.network.autoencoder import AutoEncoder

        return AutoEncoder(self.preset)

    def nominal_sparsity(self, sparsity: float) -> float:
        return sparsity

    def plain_selection(self, z: np.ndarray, entries: int) -> SparseCode:
        return top_s(z, entries)

    def selector(
        self, z: np.ndarray, entries: int, tables: ContextModel, tile: int = TILE
    ) -> Selector:
        return PricedSelector(z, entries, self.layout, tables, tile)

    def public_step(self, thresholds: list[float]) -> float:
        return 1.0


class Grouped(Architecture):
    """Preset `paper`: grouped.py."""

    name, halo, offset, over_image = "grouped", 4, 0.0, False

    def __init__(self, preset: Preset) -> None:
        super().__init__(preset)
        self.layout = LearnedLayout(preset.code_maps, preset.atoms_per_map)

    @property
    def fault(self) -> str | None:
        if self.preset.code_maps != GROUPS or self.preset.atoms_per_map > STRIDE**2:
            return f"it has other than {GROUPS} code maps of at most {STRIDE**2} atoms"
        return None

    @property
    def shapes(self) -> Shapes:
        return grouped_shapes(self.preset)

    def build(self) -> nn.Module:
        from primis.network.grouped import GroupedAutoEncoder

        return GroupedAutoEncoder(self.preset)

    def nominal_sparsity(self, sparsity: float) -> float:
        return sparsity * self.preset.code_maps

    def plain_selection(self, z: np.ndarray, entries: int) -> SparseCode:
        positions = z.shape[0] * z.shape[2] * z.shape[3]
        maps = self.preset.code_maps
        if not (each := entries // (maps * positions)):
            raise InputError(
                f'preset "{self.preset.name}" keeps entries in each of {maps} code maps: '
                f"S_x is {entries / positions:.3g} over all of them, expected at least {maps}"
            )
        return top_s_of_maps(z, maps, each)

    def selector(
        self, z: np.ndarray, entries: int, tables: ContextModel, tile: int = TILE
    ) -> Selector:
        return PlainSelector(entries, lambda count: self.plain_selection(z, count))

    def public_step(self, thresholds: list[float]) -> float:
        return float(np.median(thresholds))


ARCHITECTURES: dict[str, type[Architecture]] = {kind.name: kind for kind in (Lapped, Grouped)}


def architecture_of(preset: Preset) -> Architecture:
    """Of a preset without fault."""
    return ARCHITECTURES[preset.architecture](preset)


def fault_of(preset: Preset) -> str | None:
    """Why the graphs that ship with primis cannot run it, in a few words; None if they can."""
    if preset.architecture not in tuple(ARCHITECTURES):
        return f"its architecture is unknown, expected {' or '.join(ARCHITECTURES)}"
    name = preset.name if isinstance(preset.name, str) else ""
    if not 0 < len(name) <= _LONGEST_NAME or not name.isprintable():
        return f"its name is not a text of 1 to {_LONGEST_NAME} printable characters"
    sizes = (
        preset.stride,
        preset.blocks,
        preset.code_maps,
        preset.atoms_per_map,
        *preset.widths,
    )
    if not all(type(size) is int and size > 0 for size in sizes):
        return "its sizes are not whole numbers above zero"
    if (preset.stride, preset.blocks) != (STRIDE, BLOCKS):
        return f"its stride and blocks are not {STRIDE} and {BLOCKS}"
    if fault := architecture_of(preset).fault:
        return fault
    if len(preset.widths) != 2 or max(preset.widths) > WIDEST:
        return f"its widths are not two of at most {WIDEST}"
    return None
