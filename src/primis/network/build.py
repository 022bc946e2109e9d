"""A network from its preset."""

from __future__ import annotations

from typing import Protocol, cast

from torch import Tensor, nn

from primis.network.architecture import architecture_of
from primis.network.presets import Preset


class Network(Protocol):
    """What both architectures offer; see `AutoEncoder` for shapes."""

    preset: Preset

    def encode(self, x: Tensor) -> Tensor:
        """Image -> coefficients."""

    def decode(self, q: Tensor, threshold: Tensor, opened: Tensor) -> Tensor:
        """Quantised coefficients -> image."""


def build(preset: Preset) -> nn.Module:
    """The untrained network of a preset; it is a `Network` too."""
    return architecture_of(preset).build()


def as_network(module: nn.Module) -> Network:
    """The same object, seen as a network."""
    return cast(Network, module)
