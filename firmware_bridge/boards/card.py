"""Neuromorphic cards: the ends of a network on this machine in integers, its neurons on the card in float16.

A kind of card is a file of this folder with a class that derives from `Card`: its `scheme`, what is missing to use it,
and how a compiled body is opened (`CARDS.md`). A body has one size (`simulator.compiled`); larger pictures are cut into
windows of that size, which overlap by the network's halo and never reach beyond the picture.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Protocol
from urllib.parse import parse_qs, urlsplit

import numpy as np
import numpy.typing as npt

from firmware_bridge.boards.base import Board, BoardError, BoardResult, NotCompiledError
from firmware_bridge.first_difference import Planes, padded
from simulator import compiled
from simulator.analysis import Analysis
from simulator.bundle import Bundle
from simulator.compiled import Compiled, Tensor
from simulator.cut import Crossing, CutError, Host, cut
from simulator.kinds.layer import Array
from simulator.trace import Trace, digest

Half = npt.NDArray[np.float16]
SLACK = 2  # times its bound: what a value may reach by float16's roundings; more is a fault of the card


class Running(Protocol):
    """A compiled body on a card."""

    def run(self, values: Sequence[Half]) -> list[npt.NDArray[np.float16 | np.float32]]:
        """One picture: what goes in and what comes out, in the order and the shapes that it was opened with. What
        comes out belongs to the caller. Raises `BoardError`."""

    def close(self) -> None:
        """Gives back all that the card and its driver hold; raises `BoardError` if they do not take it."""


class Card(Board):
    """SCHEME://N, the card's number, or SCHEME://N?models=FOLDER with the bodies that export.SCHEME compiled."""

    scheme: ClassVar[str] = ""
    here = False
    tolerated = 0.01  # on fitted grids (`CARDS.md`) emulated float16 changes less than half of that in any picture
    clock = "wall time of the card's part, the ways to it and back included"

    def __init__(self, name: str):
        parts = urlsplit(name)
        options = parse_qs(parts.query, keep_blank_values=True)
        number, models = parts.netloc, options.get("models", [str(compiled.MODELS)])[-1]
        if not (number.isascii() and number.isdigit()) or len(number) > 3 or parts.path or set(options) - {"models"}:
            raise BoardError(f"{name!r} is no card; expected something like {self.scheme}://0")
        self.name, self.number, self.models = name, int(number), Path(models or ".")
        self._running: tuple[Compiled, Running] | None = None

    @abstractmethod
    def _open(self, body: Compiled, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> Running:
        """Loads a compiled body into the card; raises `BoardError`."""

    def load(self, bundle: Bundle) -> None:
        try:
            self._parts = cut(bundle.analysis)
        except CutError as error:
            raise NotCompiledError(f"{self.name}: {error}") from error
        self._bundle, self._host = bundle, Host(self._parts, bundle.tensors)
        self._bodies = [body for body in compiled.find(bundle.content_hash, self.models) if self._sound(body)]
        if not any(not body.layers for body in self._bodies):
            raise NotCompiledError(
                f"{self.name}: nothing in {self.models} was compiled of this network "
                f"({bundle.content_hash[: compiled.DIGITS]}); run `{self._command('128x128')}` where {self.models} is"
            )

    @property
    def last_layer(self) -> str:
        """The network's last layer: the picture."""
        return self._bundle.graph.nodes[-1].name

    def least(self) -> tuple[int, int]:
        smallest = [
            min(sizes)
            for sizes in (
                [(one.height, one.width) for one in self._bodies if one.layers == shown] for shown in (False, True)
            )
            if sizes
        ]
        return max(rows for rows, _ in smallest), max(columns for _, columns in smallest)

    def run(self, image: npt.NDArray[np.uint8]) -> BoardResult:
        begin = time.perf_counter()
        whole = padded(self._bundle, image)
        body = self._body_for(whole.shape[0], whole.shape[1])
        restored, seconds, windows = np.empty_like(whole), 0.0, 0
        for window in _windows(self._bundle.analysis, whole.shape[0], whole.shape[1], body):
            top, left, rows, columns = window
            pixels = _levels(whole[top : top + body.height, left : left + body.width])
            entering = self._host.head(pixels)
            found, took = self._computed(body, entering)
            seconds += took
            picture = self._host.tail(pixels, entering, self._leaving(found)).transpose(1, 2, 0)
            restored[rows, columns] = picture[
                rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
            ]
            windows += 1
        height, width = image.shape[:2]
        overhead = windows * body.height * body.width / (whole.shape[0] * whole.shape[1])
        inner = np.ascontiguousarray(restored[:height, :width])
        return BoardResult(inner, None, seconds, None, time.perf_counter() - begin, overhead=overhead)

    @property
    def untraced(self) -> str:
        return f"does not show its neurons; `{self._command('128x128')} --layers` compiles a body that does"

    def tracer(self) -> CardTracer | None:
        """Needs a body that shows its neurons; its pictures have that body's size, see `traced_part`."""
        return CardTracer(self) if any(body.layers for body in self._bodies) else None

    def traced_part(self, image: npt.NDArray[np.uint8], row: int, column: int) -> npt.NDArray[np.uint8]:
        stride, (height, width) = self._bundle.analysis.stride, image.shape[:2]
        for body in self._bodies:
            if body.layers and body.height <= height and body.width <= width:
                top, left = (
                    min(max(at - side // 2, 0), extent - side) // stride * stride
                    for at, side, extent in ((row, body.height, height), (column, body.width, width))
                )
                return image[top : top + body.height, left : left + body.width]
        raise BoardError(f"{self.name}: the picture is smaller than every body that shows its neurons")

    def neurons(self, image: npt.NDArray[np.uint8]) -> tuple[dict[str, Array], npt.NDArray[np.uint8]]:
        """The spikes of every layer of neurons, int64 [T or 1, C, h, w], and the restored picture [H, W, 3], of a
        picture as large as a body that shows them; raises `BoardError`."""
        whole = padded(self._bundle, image)
        bodies = [one for one in self._bodies if one.layers]
        body = next((one for one in bodies if (one.height, one.width) == whole.shape[:2]), None)
        if body is None:
            sizes = ", ".join(f"{one.width}x{one.height}" for one in bodies)
            raise BoardError(
                f"{self.name}: layers can be looked at in pictures of {sizes} pixels; this one has "
                f"{whole.shape[1]}x{whole.shape[0]}"
            )
        pixels = _levels(whole)
        entering = self._host.head(pixels)
        found, _ = self._computed(body, entering)
        values: dict[str, list[Array]] = {}
        for tensor, value in zip(compiled.outputs(self._parts, layers=True), found, strict=True):
            if tensor.spikes:
                steps = [value > step for step in range(tensor.spikes)]
                values.setdefault(tensor.layer, []).extend(step[0].astype(np.int64) for step in steps)
        restored = self._host.tail(pixels, entering, self._leaving(found)).transpose(1, 2, 0)
        return {layer: np.stack(steps) for layer, steps in values.items()}, restored

    def close(self) -> None:
        if self._running is not None:
            running, self._running = self._running[1], None
            running.close()

    def _sound(self, body: Compiled) -> bool:
        """Whether a network can have a body of that size: anything may lie in a folder."""
        stride = self._bundle.analysis.stride
        return body.height % stride == 0 and body.width % stride == 0

    def _body_for(self, height: int, width: int) -> Compiled:
        """The body that restores so many pixels with the fewest computed."""
        analysis, fitting = self._bundle.analysis, []
        halo = 2 * analysis.halo
        for body in self._bodies:
            short = body.height > height or body.width > width
            narrow = (body.height < height and body.height <= halo) or (body.width < width and body.width <= halo)
            # Attention's windows of the picture are those of a part only where that starts at a multiple of them.
            whole = (body.height, body.width) == (height, width) or analysis.align == analysis.stride
            if whole and not (body.layers or short or narrow):
                count = sum(1 for _ in _windows(analysis, height, width, body))
                fitting.append((count * body.height * body.width, body.height, body))
        if not fitting:
            there = ", ".join(f"{body.width}x{body.height}" for body in self._bodies if not body.layers)
            raise BoardError(
                f"{self.name}: a picture of {width}x{height} pixels needs a body of its size, or a smaller one of more "
                f"than {halo} pixels a side; compiled are {there} (width x height). Run "
                f"`{self._command(f'{height}x{width}')}`"
            )
        return min(fitting, key=lambda one: one[:2])[2]

    def _command(self, size: str) -> str:
        out = "" if self.models == compiled.MODELS else f" --out {self.models}"
        return f"python -m export.{self.scheme} BUNDLE --size {size}{out}"

    def _computed(self, body: Compiled, entering: dict[str, Array]) -> tuple[list[npt.NDArray[np.float64]], float]:
        """What the card gives for what enters, real numbers, checked; and the seconds that it took."""
        inputs, outputs = compiled.inputs(self._parts), compiled.outputs(self._parts, body.layers)
        if self._running is None or self._running[0] != body:
            self.close()
            self._running = body, self._open(body, inputs, outputs)
        grids = {name: value.q for name, value in self._bundle.analysis.values.items()}
        given = [(entering[one.layer][one.step] * 2.0 ** -grids[one.layer]).astype(np.float16)[None] for one in inputs]
        begin = time.perf_counter()
        try:
            found = self._running[1].run(given)
        except BoardError as error:
            raise BoardError(f"{self.name}: {error}") from error
        seconds = time.perf_counter() - begin
        if len(found) != len(outputs):
            raise BoardError(f"{self.name} gave {len(found)} tensors; expected {len(outputs)}")
        for tensor, value in zip(outputs, found, strict=True):
            shape, given_shape = tensor.shape(body.height, body.width), list(value.shape)
            if value.shape != shape or value.dtype not in (np.float16, np.float32):
                raise BoardError(
                    f"{self.name} gave {value.dtype} {given_shape} for {tensor.name}; expected float16 {list(shape)}"
                )
            if not np.isfinite(value).all():
                raise BoardError(f"{self.name} gave numbers that are none (NaN or infinite) for {tensor.name}")
            if tensor.spikes and not np.isin(value, np.arange(tensor.spikes + 1)).all():
                raise BoardError(f"{self.name} gave numbers that are no spikes for {tensor.name}")
        return [value.astype(np.float64) for value in found], seconds

    def _leaving(self, found: Sequence[npt.NDArray[np.float64]]) -> dict[str, Array]:
        """What leaves the body, as integers on their grids."""
        values: dict[str, list[Array]] = {one.name: [] for one in self._parts.leaving}
        crossings = {one.name: one for one in self._parts.leaving}
        for tensor, value in zip(compiled.outputs(self._parts, layers=False), found, strict=False):
            values[tensor.layer].append(self._units(crossings[tensor.layer], value[0]))
        return {name: np.stack(steps) for name, steps in values.items()}

    def _units(self, crossing: Crossing, value: npt.NDArray[np.float64]) -> Array:
        """[C, h, w] on the crossing's grid, within its bounds."""
        units = np.rint(value * 2.0**crossing.q)
        if np.abs(units).max(initial=0) > SLACK * max(crossing.magnitude, 1):
            raise BoardError(
                f"{self.name} gave {np.abs(value).max():g} for {crossing.name}, where at most "
                f"{crossing.magnitude * 2.0**-crossing.q:g} is possible; was this body compiled of this network?"
            )
        lo, hi = (edge[:, None, None] for edge in (crossing.lo, crossing.hi))
        return np.clip(units.astype(np.int64), lo, hi)


class CardTracer:
    """Looks at the neurons of a card, and at the picture; what lies between is the card's own."""

    def __init__(self, card: Card):
        self._card = card

    def trace(self, picture: npt.NDArray[np.uint8]) -> Trace:
        spikes, restored = self._card.neurons(picture)
        found = {layer: digest(value) for layer, value in spikes.items()}
        return found | {self._card.last_layer: digest(restored.transpose(2, 0, 1)[None])}

    def planes(self, picture: npt.NDArray[np.uint8], layer: str, step: int) -> Planes:
        spikes, restored = self._card.neurons(picture)
        if layer == self._card.last_layer:
            return np.ascontiguousarray(restored.transpose(2, 0, 1), dtype=np.int32)
        plane: Planes = spikes[layer][step].astype(np.int32)
        return plane


def _levels(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.int16]:
    """[H, W, 3] as the network takes it: u8 - 128, [3, H, W]."""
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.int16) - np.int16(128)


def _windows(analysis: Analysis, height: int, width: int, body: Compiled) -> Iterator[tuple[int, int, slice, slice]]:
    """(top, left, rows, columns) of each window of a picture: where it lies, and which pixels are taken from it."""
    for top, rows in _spans(height, body.height, analysis.halo):
        for left, columns in _spans(width, body.width, analysis.halo):
            yield top, left, rows, columns


def _spans(extent: int, side: int, halo: int) -> Iterator[tuple[int, slice]]:
    """Windows along one axis: all within the picture, and none gives what lies within `halo` of an edge of its own."""
    done = start = 0
    while True:
        last = start + side >= extent
        end = extent if last else start + side - halo
        yield start, slice(done, end)
        if last:
            return
        done = end
        start = min(end - halo, extent - side)
