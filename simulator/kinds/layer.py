"""The words that the rules of kinds are written in: values, attributes, tensors, bounds, and a node in its place.

A value is int64 `[T, C, H, W]`, or `[1, C, H, W]` when it is static (the same at every time step). Bounds are exact
integers per channel, int64 [C].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from simulator.graph import WEIGHT_LIMIT, GraphError, Node

Integers = npt.NDArray[np.int64]
Array = npt.NDArray[np.int64]  # a value [T or 1, C, H, W] or a tensor of a node
Extent = tuple[int, int]  # rows and columns
Random = np.random.Generator

BEYOND = 2**40  # bounds that are refused anyway are held here, so that int64 never overflows


@dataclass(frozen=True)
class Value:
    """What is known of one node's output before any image is seen.

    Values lie in `lo[c] <= k <= hi[c]` (int64 [C]) on grid q; `scale` is the stride relative to the image.
    `lo` and `hi` are empty where the analysis ran without tensors. `window`: these are spikes of neurons that
    integrate before they fire; their readers sum over the T steps, so that currents made of them are static.
    """

    channels: int
    scale: int
    static: bool
    spikes: bool
    q: int
    lo: Integers = field(default_factory=lambda: np.zeros(0, np.int64))
    hi: Integers = field(default_factory=lambda: np.zeros(0, np.int64))
    window: bool = False

    @property
    def magnitude(self) -> int:
        return int(max(self.hi.max(initial=0), -self.lo.min(initial=0)))

    @property
    def magnitudes(self) -> Integers:
        """Of each channel, the largest magnitude."""
        return np.maximum(np.abs(self.lo), np.abs(self.hi))


@dataclass(frozen=True)
class Whole:
    """An attribute that is a whole number, `least` to `most`. `default`: what a graph without it means."""

    least: int
    most: int
    default: int | None = None
    power_of_two: bool = False

    def fault(self, name: str, value: Any) -> str:
        """What is wrong with a value, in words; nothing if it is sound."""
        if type(value) is not int or not self.least <= value <= self.most:
            return f"{name} = {repr(value)[:40]}; {self.least} to {self.most} is supported"
        if self.power_of_two and value & (value - 1):
            return f"a {name} of {value} is not a power of two"
        return ""


@dataclass(frozen=True)
class Word:
    """An attribute that is one of some words. `default`: what a graph without it means."""

    choices: tuple[str, ...]
    default: str | None = None

    def fault(self, name: str, value: Any) -> str:
        """What is wrong with a value, in words; nothing if it is sound."""
        return "" if value in self.choices else f"{name} = {str(value)[:40]!r}; expected one of {self.choices}"


Attribute = Whole | Word


def around_zero(rng: Random, shape: tuple[int, ...], spread: int) -> Integers:
    """Whole numbers from -spread to spread, all equally likely."""
    return rng.integers(-spread, spread + 1, shape)


def draw_threshold(rng: Random, shape: tuple[int, ...], spread: int) -> Integers:
    """About as large as currents, so that neurons fire."""
    return rng.integers(1, 6 * spread, shape)


@dataclass(frozen=True)
class TensorSpec:
    """One of the integer tensors that a node owns: its shape, and its numbers' unit 2^-q.

    weight: float16 in the file, so its numbers are at most `limit` units, 2048 or fewer; all others are int32, `least`
    to `most`.
    draw: random numbers for conformance, about as large as `spread`.
    """

    shape: tuple[int, ...]
    q: int
    weight: bool = False
    limit: int = WEIGHT_LIMIT
    least: int = -(2**31)
    most: int = 2**31 - 1
    draw: Callable[[Random, tuple[int, ...], int], Integers] = around_zero

    @property
    def range(self) -> tuple[int, int]:
        """The least and the largest number."""
        return (-self.limit, self.limit) if self.weight else (self.least, self.most)

    def check(self, layer: str, part: str, numbers: Integers) -> None:
        """Raises GraphError, naming layer and channel, for a number out of range; its shape is right."""
        least, most = self.range
        outside = (numbers < least) | (numbers > most)
        if outside.any():
            place = np.unravel_index(int(outside.argmax()), self.shape)
            where, found = f"layer {layer!r}, channel {place[0]}", numbers[place]
            if self.weight:
                why = "fit float16" if self.limit == WEIGHT_LIMIT else "are allowed by the layer's limit"
                raise GraphError(f"{where}: {part} holds {found} units; at most {self.limit} {why}")
            raise GraphError(f"{where}: {part} is {found}; {least} to {most} is supported")


class Synapses(NamedTuple):
    """How the spikes of a node's input reach its outputs: a window, and the outputs per input position and tap."""

    kernel: int
    stride: int
    padding: int
    dilation: int
    fan_out: int


class Bounds(NamedTuple):
    """lo, hi: of the output, per channel; most: the largest magnitude of it and of any intermediate, per channel."""

    lo: Integers
    hi: Integers
    most: Integers


def bounds_alone(lo: Integers, hi: Integers) -> Bounds:
    """The bounds of a node that has no intermediate which could be larger than its output."""
    return Bounds(lo, hi, np.maximum(np.abs(lo), np.abs(hi)))


@dataclass(frozen=True)
class Layer:
    """A node in its place: with what is known of its inputs, the T time steps, and the range of the picture's pixels
    (grey level - 128)."""

    node: Node
    inputs: tuple[Value, ...]
    time_steps: int
    pixels: tuple[int, int]

    def __getitem__(self, key: str) -> Any:
        return self.node[key]

    def refuse(self, text: str) -> NoReturn:
        """Raises GraphError: the layer, its kind, and the text."""
        raise GraphError(f"layer {self.node.name!r} ({self.node.kind}): {text}")

    def need_real_values(self) -> None:
        """Raises GraphError if an input is spikes."""
        if any(value.spikes for value in self.inputs):
            self.refuse("its input is spikes; real values were expected")

    def need_equal_scales(self) -> None:
        """Raises GraphError if the inputs differ in height and width."""
        if len({value.scale for value in self.inputs}) > 1:
            self.refuse(f"its inputs have the scales {[value.scale for value in self.inputs]}; they must be equal")

    @property
    def finest(self) -> int:
        """The finest grid among the inputs."""
        return max(value.q for value in self.inputs)

    def aligned_bounds(self) -> tuple[list[Integers], list[Integers]]:
        """(lo, hi) of each input on the finest grid among them."""
        q = self.finest
        return (
            [np.maximum(value.lo << (q - value.q), -BEYOND) for value in self.inputs],
            [np.minimum(value.hi << (q - value.q), BEYOND) for value in self.inputs],
        )

    def aligned(self, inputs: Sequence[Array]) -> list[Array]:
        """The inputs themselves on the finest grid among them."""
        q = self.finest
        return [x << (q - value.q) for x, value in zip(inputs, self.inputs, strict=True)]
