"""The tensors that an architecture has: names and shapes, without torch.

A checkpoint must hold exactly these. They are the parameters and buffers of `autoencoder.py` and
`grouped.py`; a test compares the two.
"""

from __future__ import annotations

from primis.network.presets import Preset

Shapes = dict[str, tuple[int, ...]]

DECODER = "decoder."
"""Before the names of the decoder's own tensors, tied weights aside."""


def lapped_shapes(preset: Preset) -> Shapes:
    """Name -> shape of every tensor of `autoencoder.py`, all float32."""
    stride, half, (w16, w8) = preset.stride, preset.stride // 2, preset.widths
    projection: Shapes = {
        "projection.turn": (half, half),
        "projection.slope": (1,),
        "projection.kernel": (preset.atoms, 1, stride, stride),
        "projection.lap": (stride, stride),
    }
    return (
        projection
        | _convolution("decoder.enter", preset.atoms + 9, w16, 1)
        | _blocks("decoder.blocks_16", w16, preset.blocks)
        | _convolution("decoder.coefficients", w16, preset.atoms, 1)
        | _convolution("decoder.widen", w16, 4 * w8, 1)
        | _convolution("decoder.join", 1, w8, 8)
        | _blocks("decoder.blocks_8", w8, preset.blocks)
        | _convolution("decoder.pixels", w8, 64, 3)
    )


def grouped_shapes(preset: Preset) -> Shapes:
    """Name -> shape of every tensor of `grouped.py`, all float32."""
    projection: Shapes = {"projection.kernel": (preset.atoms, 1, preset.stride, preset.stride)}
    maps = preset.code_maps
    return projection | _bank("encoder", 1, maps, preset) | _bank("decoder", maps, 1, preset)


def _bank(name: str, inputs: int, outputs: int, preset: Preset) -> Shapes:
    half, quarter = preset.widths
    return (
        _convolution(f"{name}.down_2", inputs, half, 4)
        | _convolution(f"{name}.down_4", half, quarter, 4)
        | _blocks(f"{name}.blocks_4", quarter, preset.blocks)
        | _convolution(f"{name}.up_2", quarter, 4 * half, 1)
        | _blocks(f"{name}.blocks_2", half, preset.blocks)
        | _convolution(f"{name}.up_1", half, 4 * outputs, 1)
        | _convolution(f"{name}.mix", inputs, outputs, 1)
    )


def _blocks(name: str, width: int, blocks: int) -> Shapes:
    shapes: Shapes = {}
    for number in range(blocks):
        for layer in (0, 2):
            shapes |= _convolution(f"{name}.{number}.body.{layer}", width, width, 3)
    return shapes


def _convolution(name: str, inputs: int, outputs: int, side: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs, side, side), f"{name}.bias": (outputs,)}
