"""Shape of an image and of its code."""

from __future__ import annotations

from dataclasses import dataclass

MAX_SIDE = 1 << 17
MAX_SAMPLES = 1 << 34
MAX_CHANNELS = 16
MAX_FRAMES = 1 << 20

TEXTURE_BANDS, TEXTURE_REGION = 5, 128
"""How `info` tells of the texture that was lost: by bands of frequencies, and by squares of so many
pixels."""


@dataclass(frozen=True)
class Geometry:
    """height, width: pixels of a frame. stride: pixels per position of the grid. code_maps: L;
    atoms_per_map: M. tile: positions per side of a tile."""

    atoms_per_map: int
    channels: int
    code_maps: int
    frames: int
    height: int
    stride: int
    tile: int
    width: int

    def require_sound(self) -> None:
        """Raise ValueError where a side is zero or over its limit (docs/format.md, section 2)."""
        limits = (
            ("frames", self.frames, MAX_FRAMES),
            ("height", self.height, MAX_SIDE),
            ("width", self.width, MAX_SIDE),
            ("channels", self.channels, MAX_CHANNELS),
        )
        for name, value, most in limits:
            if not 1 <= value <= most:
                raise ValueError(f"has {name} {value}, expected 1..{most}")
        if self.samples > MAX_SAMPLES:
            raise ValueError(f"describes more than {MAX_SAMPLES} samples")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of the pixels: (frames, height, width, channels)."""
        return self.frames, self.height, self.width, self.channels

    @property
    def grid(self) -> tuple[int, int]:
        """Positions of one plane: (h, w)."""
        return -(-self.height // self.stride), -(-self.width // self.stride)

    @property
    def positions(self) -> int:
        """Positions of one frame, over its planes."""
        return self.channels * self.grid[0] * self.grid[1]

    @property
    def samples(self) -> int:
        """Samples of all frames."""
        return self.frames * self.height * self.width * self.channels

    @property
    def atoms(self) -> int:
        """LM: atoms at a position."""
        return self.code_maps * self.atoms_per_map

    @property
    def texture_regions(self) -> tuple[int, int]:
        """Squares of a plane, down and across, by which lost texture is told."""
        return -(-self.height // TEXTURE_REGION), -(-self.width // TEXTURE_REGION)

    @property
    def texture_bytes(self) -> int:
        """Bytes that tell of the lost texture of one plane of one frame: two, and half a byte for
        its contrast and for each band and region."""
        down, across = self.texture_regions
        return 2 + -(-(1 + TEXTURE_BANDS + down * across) // 2)

    @property
    def tile_count(self) -> int:
        """Tiles of one frame."""
        h, w = self.grid
        return self.channels * -(-h // self.tile) * -(-w // self.tile)

    @property
    def tiles(self) -> list[tuple[int, slice, slice]]:
        """(plane, rows, columns) of each tile of one frame, in order."""
        h, w = self.grid
        down = [slice(y, min(y + self.tile, h)) for y in range(0, h, self.tile)]
        across = [slice(x, min(x + self.tile, w)) for x in range(0, w, self.tile)]
        return [(c, y, x) for c in range(self.channels) for y in down for x in across]
