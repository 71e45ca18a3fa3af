"""Pictures in parts: tiles with a halo, so large that their inner part has the bits of the whole picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simulator.analysis import Analysis

TILE_FIELDS = (
    "image_height", "image_width", "top", "left", "height", "width",
    "inner_top", "inner_left", "inner_height", "inner_width",
)  # fmt: skip


@dataclass(frozen=True)
class Tile:
    """Which pixels are given and which of them are counted; see snn_tile in firmware/core/snn.h."""

    image_height: int
    image_width: int
    top: int
    left: int
    height: int
    width: int
    inner_top: int
    inner_left: int
    inner_height: int
    inner_width: int

    @staticmethod
    def whole(height: int, width: int) -> Tile:
        return Tile(height, width, 0, 0, height, width, 0, 0, height, width)

    def fields(self) -> tuple[int, ...]:
        return tuple(getattr(self, name) for name in TILE_FIELDS)


def tiles(analysis: Analysis, height: int, width: int, side: int | None) -> list[Tile]:
    """Tiles of `side` pixels (a multiple of `analysis.align`) with their halo; None: one for the whole image."""
    if side is None:
        return [Tile.whole(height, width)]
    if side < 1 or side % analysis.align:
        raise ValueError(f"a tile of {side} pixels; this network's tiles are multiples of {analysis.align} pixels")
    down, across = (_spans(extent, side, analysis.halo) for extent in (height, width))
    return [
        Tile(height, width, top, left, rows, columns, inner_top, inner_left, inner_rows, inner_columns)
        for top, rows, inner_top, inner_rows in down
        for left, columns, inner_left, inner_columns in across
    ]


def _spans(extent: int, side: int, halo: int) -> list[tuple[int, int, int, int]]:
    """(first, length) with halo and without, of the tiles along one axis."""
    spans = []
    for first in range(0, extent, side):
        start, end = max(first - halo, 0), min(first + side + halo, extent)
        spans.append((start, end - start, first, min(side, extent - first)))
    return spans


def cut(image: npt.NDArray[np.uint8], tile: Tile) -> npt.NDArray[np.uint8]:
    """The pixels of a tile, its halo included, of an image [H, W, 3]."""
    return image[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]


def inner_slices(tile: Tile) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where the inner part of a tile lies: in the image, and in the tile."""
    rows, columns = (
        (slice(at, at + length), slice(at - outer, at - outer + length))
        for at, length, outer in (
            (tile.inner_top, tile.inner_height, tile.top),
            (tile.inner_left, tile.inner_width, tile.left),
        )
    )
    return (rows[0], columns[0]), (rows[1], columns[1])
