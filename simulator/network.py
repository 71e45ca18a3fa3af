"""A bundle that is ready to run: images of any size in, restored images and statistics out.

Large images are cut into tiles. Each tile is computed with `halo` pixels of real image around it, and zeros lie only
beyond the padded image's own border, so pixels and spike counts are the same for every tile size.
"""

from __future__ import annotations

import functools
import math
import operator
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from simulator import coarse
from simulator.analysis import Analysis, analyse
from simulator.bundle import Bundle, read_bundle
from simulator.graph import GraphError
from simulator.statistics import Counter, Population, Statistics
from simulator.trace import Trace, digest

if TYPE_CHECKING:
    from simulator.video import VideoStream

BACKENDS = ("numba", "reference")
MEMORY_BUDGET = 600 << 20  # bytes of working memory up to which an image is processed whole
LARGEST_SIDE = 1 << 16  # of a tile, pixels
KEPT_SIZES = 8  # of images, whose synapses need not be counted again
UNCLIPPED_RANGE = (-512, 767)  # grey levels that `run_unclipped` accepts: 0..255 and noise up to 512 beyond

Observer = Callable[[str, npt.NDArray[Any]], None]


class Backend(Protocol):
    """Computes one padded image or tile; `simulator.reference.Reference` says exactly what."""

    name: str

    def run_padded(
        self, pixels: npt.NDArray[np.int16], observe: Observer | None = None
    ) -> tuple[npt.NDArray[np.uint8], dict[str, npt.NDArray[np.int32]]]: ...


@dataclass(frozen=True)
class Result:
    """image: the restored picture, uint8, in the shape of the input. stats: what it took."""

    image: npt.NDArray[np.uint8]
    stats: Statistics


def load(path: str | os.PathLike[str], backend: str = "numba", threads: int | None = None) -> Network:
    """The network in a bundle file.

    backend: "numba" (event-driven) or "reference" (plain NumPy, slow); both give the same pixels to the bit.
    threads: at most so many; None leaves it to the backend. Raises `BundleError` or, for the arguments, ValueError.
    """
    return Network(read_bundle(path), backend, threads)


class Network:
    """A loaded network.

    task, params, T, bundle_hash, backend, meta: what the bundle says; analysis: what follows from its graph; engine:
    the backend that computes. min_tile: the smallest tile, and what tiles are multiples of; tile: the side of a tile if
    the image does not fit the memory budget whole. All lengths in pixels.
    """

    def __init__(self, bundle: Bundle, backend: str = "numba", threads: int | None = None):
        if backend not in BACKENDS:
            raise ValueError(f"backend {backend!r} is unknown; choose one of {', '.join(BACKENDS)}")
        if threads is not None and threads < 1:
            raise ValueError(f"{threads} threads were asked for; at least 1 is needed")
        self.bundle = bundle
        self.analysis: Analysis = bundle.analysis
        self.task = bundle.task
        self.params = self.analysis.parameters
        self.T = bundle.graph.time_steps
        self.bundle_hash = bundle.content_hash
        self.meta: Mapping[str, str] = bundle.meta
        self.backend = backend
        self.min_tile = self.analysis.align
        self._threads = threads
        # The reference computes in int64 and keeps a layer's input, padded input and output at once.
        self._bytes_per_pixel = self.analysis.bytes_per_pixel() * (4 if backend == "reference" else 1)
        self.engine = self._build(self.analysis)
        self._unclipped: Backend | None = None
        self._populations: dict[tuple[int, int], Population] = {}

    @functools.cached_property
    def tile(self) -> int:
        """The largest tile whose computation fits the memory budget; at least `min_tile`."""
        fits, fails = 1, LARGEST_SIDE // self.min_tile  # in units of min_tile
        while fails - fits > 1:
            side = (fits + fails) // 2
            extent = side * self.min_tile + 2 * self.analysis.halo
            fits, fails = (side, fails) if self._memory(extent, extent) <= MEMORY_BUDGET else (fits, side)
        return fits * self.min_tile

    def _memory(self, height: int, width: int) -> int:
        """Bytes of working memory for that many pixels at once."""
        measured = getattr(self.engine, "memory", None)
        return measured(height, width) if measured else int(height * width * self._bytes_per_pixel)

    def _build(self, analysis: Analysis) -> Backend:
        if self.backend == "reference":
            from simulator.reference import Reference

            return Reference(analysis, self.bundle.tensors, self._threads)
        from simulator.engine import Engine

        return Engine(analysis, self.bundle.tensors, self._threads)

    def run(self, image: npt.NDArray[np.uint8], tile: int | None = None) -> Result:
        """Restore an image: uint8 RGB [H, W, 3], RGBA [H, W, 4], or grayscale [H, W] or [H, W, 1]; H and W from 1.

        Alpha is passed through. Grayscale goes in as three equal channels and comes back as their rounded mean, which
        keeps an untouched image as it was. A bundle that has a coarse path is run by that (`simulator.coarse`); its
        statistics are of what the network saw then. `tile`: side of the tiles in pixels, rounded down to a multiple of
        `min_tile`; None chooses by memory. The result does not depend on it. Raises ValueError, a sentence.
        """
        colour, alpha = as_rgb(image)
        restored, stats = coarse.restore(self.meta, colour, lambda seen: self.restore(seen, tile))
        return Result(as_given(image, restored, alpha), stats)

    def video(self, still: int = 0, tile: int | None = None, memory: int | None = None) -> VideoStream:
        """A stream of frames in which only what changes is computed; see `simulator.video.VideoStream`.

        still: differences of up to so many grey levels count as unchanged, 0..255. tile: full runs in tiles of that
        side, as in `run`, without a state. memory: bytes that may be kept between frames; None: half of what the
        machine has. Raises ValueError for a `still` out of range.
        """
        from simulator.video import VideoStream

        return VideoStream(self, still, tile, memory)

    def run_unclipped(self, pixels: npt.NDArray[np.int16], tile: int | None = None) -> Result:
        """Restore grey levels that may lie outside 0..255 (within -512..767), int16 RGB [H, W, 3].

        This is for evaluation with unclipped noise; a device only sees 0..255. The first requantise clips what it is
        given, so all that follows keeps its bounds; that the layers before it do, too, is checked here.
        """
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.int16 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise ValueError(f"{_described(pixels)} was given; expected an int16 array [height, width, 3]")
        low, high = UNCLIPPED_RANGE
        if not pixels.size or pixels.min() < low or pixels.max() > high:
            raise ValueError(f"unclipped grey levels must lie in {low}..{high} and fill at least one pixel")
        if self._unclipped is None:
            try:
                wide = analyse(self.bundle.graph, self.bundle.tensors, (low - 128, high - 128))
            except GraphError as error:
                raise ValueError(f"this network cannot take unclipped grey levels: {error}") from error
            self._unclipped = self._build(wide)
        return Result(*self._restore(self._unclipped, pixels, tile))

    def trace(self, image: npt.NDArray[np.uint8]) -> Trace:
        """Hashes of every layer's output at every step (`simulator.trace`), over the whole padded image."""
        trace: Trace = {}
        self.observe(image, lambda layer, value: trace.update({layer: digest(value)}))
        return trace

    def observe(self, image: npt.NDArray[np.uint8], observer: Observer) -> None:
        """Show `observer(layer, value)` every layer's output, int64 [T or 1, C, h, w], over the whole padded image."""
        colour, _ = as_rgb(image)
        height, width = colour.shape[:2]
        padded = self.analysis.padded(height, width)
        self._check_memory(*padded, int(padded[0] * padded[1] * self._bytes_per_pixel))  # every layer is kept
        self.engine.run_padded(_crop(colour, (0, padded[0]), (0, padded[1])), observer)

    def restore(
        self, pixels: npt.NDArray[np.uint8], tile: int | None = None
    ) -> tuple[npt.NDArray[np.uint8], Statistics]:
        """What `run` does, for pixels that are RGB [H, W, 3]: those restored, and the statistics."""
        return self._restore(self.engine, pixels, tile)

    def _restore(
        self, backend: Backend, pixels: npt.NDArray[np.integer], tile: int | None
    ) -> tuple[npt.NDArray[np.uint8], Statistics]:
        """pixels [H, W, 3] in grey levels -> restored uint8 [H, W, 3]; the clock runs while pixels are worked on."""
        height, width = pixels.shape[:2]
        padded = self.analysis.padded(height, width)
        sides = self._tile_sides(padded, tile)
        halo = self.analysis.halo
        most_rows, most_columns = (min(side + 2 * halo, extent) for side, extent in zip(sides, padded, strict=True))
        self._check_memory(most_rows, most_columns, self._memory(most_rows, most_columns))
        restored = np.empty((height, width, 3), np.uint8)
        counter = Counter(self._population(height, width))
        restore = getattr(backend, "restore", None) or functools.partial(_restore_copies, backend, self.analysis)
        start = time.perf_counter()
        for inner_rows in _spans(padded[0], sides[0]):
            rows = max(inner_rows[0] - halo, 0), min(inner_rows[1] + halo, padded[0])
            for inner_columns in _spans(padded[1], sides[1]):
                columns = max(inner_columns[0] - halo, 0), min(inner_columns[1] + halo, padded[1])
                restore(pixels, rows, columns, (inner_rows, inner_columns), restored, counter)
        return restored, counter.finish(time.perf_counter() - start)

    def _population(self, height: int, width: int) -> Population:
        """What statistics need to know of a size; kept for the last few sizes."""
        key = (height, width)
        population = self._populations.get(key)
        if population is None:
            population = Population(self.analysis, height, width)
            self._populations = {**dict(list(self._populations.items())[1 - KEPT_SIZES :]), key: population}
        return population

    def _tile_sides(self, padded: tuple[int, int], tile: int | None) -> tuple[int, int]:
        """Height and width of the tiles."""
        if tile is None:
            if self._memory(*padded) <= MEMORY_BUDGET:
                return padded
            # As few tiles as the largest tile allows, of about equal size: a sliver would cost a whole halo.
            height, width = (math.ceil(extent / math.ceil(extent / self.tile)) for extent in padded)
            return -(-height // self.min_tile) * self.min_tile, -(-width // self.min_tile) * self.min_tile
        side = operator.index(tile)
        if side < self.min_tile:
            raise ValueError(
                f"a tile of {side} pixels is too small: this network's tiles are multiples of {self.min_tile} pixels; "
                f"give {self.min_tile} or more"
            )
        side = side // self.min_tile * self.min_tile
        return side, side

    def _check_memory(self, height: int, width: int, needed: int) -> None:
        """Refuse what would not fit the machine instead of bringing it down."""
        installed = installed_memory()
        if installed is not None and needed > installed:
            raise ValueError(
                f"{width}x{height} pixels at once need about {needed / 2**20:.0f} MB and this machine has "
                f"{installed >> 20}; use a smaller tile or image"
            )


def _restore_copies(
    backend: Backend,
    analysis: Analysis,
    pixels: npt.NDArray[np.integer],
    rows: tuple[int, int],
    columns: tuple[int, int],
    inner: tuple[tuple[int, int], tuple[int, int]],
    restored: npt.NDArray[np.uint8],
    counter: Counter,
) -> None:
    """`simulator.engine.Engine.restore` by means of `run_padded` alone."""
    picture, maps = backend.run_padded(_crop(pixels, rows, columns))
    (top, bottom), (left, right) = inner
    target = restored[top:bottom, left:right]
    part = picture[:, top - rows[0] : bottom - rows[0], left - columns[0] : right - columns[0]]
    target[...] = part[:, : target.shape[0], : target.shape[1]].transpose(1, 2, 0)
    own = {}
    for name, spikes in maps.items():
        s = analysis.values[name].scale
        own[name] = spikes[
            (top - rows[0]) // s : (bottom - rows[0]) // s, (left - columns[0]) // s : (right - columns[0]) // s
        ]
    counter.add(own, top, left)


def _crop(pixels: npt.NDArray[np.integer], rows: tuple[int, int], columns: tuple[int, int]) -> npt.NDArray[np.int16]:
    """The part [rows) x [columns) of the replicate-padded image as int16 [3, h, w], grey level - 128."""
    part = pixels[slice(*rows), slice(*columns)].transpose(2, 0, 1)
    below, right = rows[1] - rows[0] - part.shape[1], columns[1] - columns[0] - part.shape[2]
    levels = np.ascontiguousarray(part, dtype=np.int16) - np.int16(128)
    return np.pad(levels, ((0, 0), (0, below), (0, right)), mode="edge") if below or right else levels


def _spans(extent: int, side: int) -> Iterator[tuple[int, int]]:
    for first in range(0, extent, side):
        yield first, min(first + side, extent)


def as_rgb(image: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8] | None]:
    """(colour [H, W, 3], alpha [H, W] or None) of an image in any of the accepted shapes."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        raise ValueError(f"{_described(image)} was given; expected a uint8 array with values 0 to 255")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)):
        raise ValueError(
            f"{_described(image)} was given; expected [height, width], or [height, width, channels] "
            "with 1, 3 (RGB) or 4 (RGBA) channels"
        )
    if not image.size:
        raise ValueError(f"{_described(image)} was given; an image has at least one pixel")
    if image.ndim == 2 or image.shape[2] == 1:
        return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2), None
    return image[..., :3], image[..., 3] if image.shape[2] == 4 else None


def as_given(
    image: npt.NDArray[np.uint8], restored: npt.NDArray[np.uint8], alpha: npt.NDArray[np.uint8] | None
) -> npt.NDArray[np.uint8]:
    """The restored colours [H, W, 3] in the shape of `image`, whose alpha this is."""
    if image.ndim == 2 or image.shape[2] == 1:
        gray: npt.NDArray[np.uint8] = ((restored.sum(2, dtype=np.uint16) + 1) // 3).astype(np.uint8)
        return gray.reshape(image.shape)
    return restored if alpha is None else np.dstack([restored, alpha])


def _described(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"a {value.dtype} array of shape {list(value.shape)}"
    return f"a {type(value).__name__}"


def installed_memory() -> int | None:
    """Bytes of memory that the machine has; None where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not every system tells
        return None
