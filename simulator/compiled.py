"""What is compiled for a card: the body of one network (`simulator.cut`) at one size, in a folder of its own.

    MODELS/<first 16 digits of the bundle's hash>-<H>x<W>[-layers]/
        body.onnx     the body for H x W pixels, as `python -m export.lynxi` writes it
        ...           what the card's compiler made of it

Inputs and outputs are float16 real numbers k * 2^-q, [1, C, h, w]: every step of each value that crosses, in the order
of `Cut.entering` and `Cut.leaving`. A body whose folder ends in -layers shows its neurons besides: for each layer of
them, in order, the spikes of every step, or of window neurons the number of spikes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from simulator.cut import Cut
from simulator.kinds import kind_of

MODELS = Path("compiled")
BODY = "body.onnx"
DIGITS = 16  # of the bundle's hash
_NAME = re.compile(r"(?P<bundle>[0-9a-f]{16})-(?P<height>[1-9]\d{0,4})x(?P<width>[1-9]\d{0,4})(?P<layers>-layers)?")


@dataclass(frozen=True)
class Compiled:
    """A folder with a compiled body. bundle: the first digits of the network's hash. height, width: of the padded
    picture, pixels. layers: whether it shows its neurons."""

    folder: Path
    bundle: str
    height: int
    width: int
    layers: bool


@dataclass(frozen=True)
class Tensor:
    """One input or output of a body: a layer's value at a step, [1, C, h, w], h and w of the picture's size / scale.
    spikes: how many steps it holds, as a number of spikes; 0 for real values."""

    layer: str
    step: int
    channels: int
    scale: int
    spikes: int = 0

    @property
    def name(self) -> str:
        return f"{self.layer}@{self.step}"

    def shape(self, height: int, width: int) -> tuple[int, int, int, int]:
        return 1, self.channels, height // self.scale, width // self.scale


def place(bundle_hash: str, height: int, width: int, layers: bool, models: Path = MODELS) -> Compiled:
    """Where the body of a network at that size belongs."""
    digits = bundle_hash[:DIGITS]
    return Compiled(models / f"{digits}-{height}x{width}{'-layers' * layers}", digits, height, width, layers)


def find(bundle_hash: str | None, models: Path = MODELS) -> list[Compiled]:
    """All that was compiled of a network (None: of any), the smallest first; other folders are passed over."""
    found = []
    for folder in models.iterdir() if models.is_dir() else ():
        name = _NAME.fullmatch(folder.name)
        if name and (bundle_hash is None or name["bundle"] == bundle_hash[:DIGITS]):
            size = int(name["height"]), int(name["width"])
            found.append(Compiled(folder, name["bundle"], *size, bool(name["layers"])))
    return sorted(found, key=lambda one: (one.height * one.width, one.height, one.layers))


def inputs(parts: Cut) -> list[Tensor]:
    """What a compiled body reads, in its order."""
    return [Tensor(one.name, step, one.channels, one.scale) for one in parts.entering for step in range(one.steps)]


def outputs(parts: Cut, layers: bool) -> list[Tensor]:
    """What a compiled body gives, in its order."""
    leaving = [Tensor(one.name, step, one.channels, one.scale) for one in parts.leaving for step in range(one.steps)]
    return leaving + (list(_neurons(parts)) if layers else [])


def _neurons(parts: Cut) -> Iterator[Tensor]:
    for node in parts.body:
        if kind_of(node).neurons:
            value, steps = parts.analysis.values[node.name], parts.analysis.graph.time_steps
            for step in range(1 if value.window or value.static else steps):
                spikes = steps if value.window else 1
                yield Tensor(node.name, step, value.channels, value.scale, spikes)
