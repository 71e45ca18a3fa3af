"""`python -m firmware_bridge.compare --board NAME --bundle FILE SOURCE`: the simulator and a board, bit by bit.

Exit codes: 0 equal in every pixel, spike, SyOp and MAC, or of a card, which computes in float16, as equal as that gets;
1 not; 2 bad input or a board that fails.
"""

from __future__ import annotations

import argparse
import glob
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from firmware_bridge.boards import Board, BoardError, open_board
from firmware_bridge.counts import COUNTS
from firmware_bridge.first_difference import NetworkTracer, first_place
from simulator.analysis import Analysis
from simulator.bundle import Bundle, BundleError, read_bundle
from simulator.coarse import seen
from simulator.network import Network, Result

WORDS = {"spikes": "spikes", "synops": "SyOps", "macs": "MACs"}  # as COUNTS has them
MOST_LAYERS = 5  # named in one sentence


@dataclass(frozen=True)
class LayerDifference:
    """A layer that counted otherwise. what: spikes, SyOps or MACs."""

    layer: str
    what: str
    expected: int
    found: int

    def __str__(self) -> str:
        return f"{self.layer} {self.found} {self.what} instead of {self.expected}"


@dataclass(frozen=True)
class Comparison:
    """One picture on both sides. pixels: how many differ in any channel; of: how many there are.

    first_pixel: row, column, channel, expected and found grey level of the first that differs. largest: difference,
    grey levels. layers: that counted otherwise, in the order of the graph. spikes, synops, macs: of all layers, as the
    simulator counts them. counted: whether the board did.
    """

    pixels: int
    of: int
    first_pixel: tuple[int, int, int, int, int] | None
    largest: int
    layers: tuple[LayerDifference, ...]
    spikes: int
    synops: int
    macs: int
    counted: bool = True

    @property
    def equal(self) -> bool:
        return not (self.pixels or self.layers)

    @property
    def share(self) -> float:
        """Of the pixels that differ."""
        return self.pixels / self.of

    def within(self, tolerated: float) -> bool:
        """Whether no more than that share of the pixels differs, and no count."""
        return self.share <= tolerated and not self.layers

    def __str__(self) -> str:
        if self.equal and not self.counted:
            return f"equal: {self.of:,} pixels (spikes are not counted there)"
        if self.equal:
            return (
                f"equal: {self.of:,} pixels, {self.spikes:,} spikes, {self.synops:,} SyOps and {self.macs:,} MACs "
                "in every layer"
            )
        parts = [f"DIFFERENT: {self.pixels:,} of {self.of:,} pixels"]
        if self.first_pixel:
            row, column, channel, expected, found = self.first_pixel
            parts[0] += f" (first at row {row}, column {column}, channel {channel}: {found} instead of {expected})"
            parts[0] += f", {self.share:.3%}, by at most {self.largest} grey level{'s' * (self.largest > 1)}"
        parts += [str(layer) for layer in self.layers[:MOST_LAYERS]]
        if len(self.layers) > MOST_LAYERS:
            parts.append(f"and {len(self.layers) - MOST_LAYERS} more counts")
        return "; ".join(parts)


def compare(
    analysis: Analysis, expected: Result, image: npt.NDArray[np.uint8], counts: npt.NDArray[np.void] | None
) -> Comparison:
    """The simulator's result beside a board's: uint8 [H, W, 3], and COUNTS [nodes of the graph], where it counts."""
    names = [node.name for node in analysis.graph.nodes]
    sound = np.zeros(len(names), COUNTS)
    for layer in expected.stats.layers:
        sound[names.index(layer.name)] = layer.spikes, layer.synops, layer.macs
    counted = counts is not None
    counts = sound if counts is None else counts
    if image.shape != expected.image.shape or image.dtype != np.uint8 or counts.shape != (len(names),):
        raise ValueError(
            f"the board gave a {image.dtype} picture {list(image.shape)} and {counts.shape} counts; expected "
            f"uint8 {list(expected.image.shape)} and {len(names)}"
        )
    differing = [
        LayerDifference(name, WORDS[what], int(sound[what][at]), int(counts[what][at]))
        for at, name in enumerate(names)
        for what in WORDS
        if sound[what][at] != counts[what][at]
    ]
    wrong = np.argwhere(image != expected.image)
    first, largest = None, 0
    if len(wrong):
        largest = int(np.abs(image.astype(np.int16) - expected.image).max())
        row, column, channel = (int(index) for index in wrong[0])
        first = row, column, channel, int(expected.image[row, column, channel]), int(image[row, column, channel])
    spikes, synops, macs = (int(sound[what].sum()) for what in WORDS)
    return Comparison(
        int((image != expected.image).any(2).sum()),
        image.shape[0] * image.shape[1],
        first,
        largest,
        tuple(differing),
        spikes,
        synops,
        macs,
        counted,
    )


def first_difference(bundle: Bundle, board: Board, picture: npt.NDArray[np.uint8], found: Comparison) -> str:
    """Where the board first differs from the reference, in words; raises `BoardError`. found: what compared so far.

    For this the board computes each layer separately and the picture whole, or, of cards, the part around the first
    pixel that differs. A fault that shows only where nodes are fused or pictures are cut into tiles is not found this
    way, and the answer says so.
    """
    tracer = board.tracer()
    if tracer is None:
        return f"board {board.name} {board.untraced}"
    part = board.traced_part(picture, *(found.first_pixel or (0, 0))[:2])
    place = first_place(NetworkTracer(Network(bundle, "reference")), tracer, part)
    if place is None and part is not picture:
        return "no layer differs in the part of the picture around that pixel when it stands alone"
    if place is None:
        return "no layer differs when computed separately: the fault is where nodes are fused or pictures are cut"
    where = "" if part is picture else " in the part of the picture around that pixel"
    return f"first difference{where}: {place}"


def main(argv: list[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m firmware_bridge.compare", description=__doc__.partition("\n")[0])
    parser.add_argument("source", metavar="SOURCE", help="an image, a folder of images or a quoted 'glob*'")
    parser.add_argument("--board", metavar="NAME", required=True, help="python -m firmware_bridge.boards lists them")
    parser.add_argument("--bundle", metavar="FILE", type=Path, required=True, help="the network")
    args = parser.parse_args(argv)
    different = 0
    try:
        paths = images(args.source)
        bundle = read_bundle(args.bundle)
        network = Network(bundle)
        with open_board(args.board) as board:
            board.load(bundle)
            for path in paths:
                picture, _ = seen(bundle.meta, read(path))
                found = board.run(picture)
                comparison = compare(bundle.analysis, network.run(picture), found.image, found.counts)
                print(f"{path}: {comparison}", flush=True)
                if not comparison.equal:
                    different += not comparison.within(board.tolerated)
                    print(f"{path}: {first_difference(bundle, board, picture, comparison)}", flush=True)
            tolerated = board.tolerated
    except (BoardError, BundleError, ValueError, OSError) as error:
        print(f"firmware_bridge.compare: {error}", file=sys.stderr)
        return 2
    if different:
        beyond = f" in more than {tolerated:.1%} of the pixels, which float16 explains," if tolerated else ""
        print(f"board {args.board} differs from the simulator{beyond} on {different} of {len(paths)} pictures")
    return 1 if different else 0


def images(source: str) -> list[Path]:
    """The files that SOURCE names, sorted; raises ValueError if there are none."""
    names = [os.path.join(source, name) for name in os.listdir(source)] if os.path.isdir(source) else glob.glob(source)
    paths = sorted(Path(name) for name in names or [source] if os.path.isfile(name))
    if not paths:
        raise ValueError(f"there is no image at {source}; give an image, a folder of images or a quoted 'glob*'")
    return paths


def read(path: Path) -> npt.NDArray[np.uint8]:
    """The image as uint8 RGB [H, W, 3]; raises ValueError."""
    found = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if found is None:
        raise ValueError(f"{path} cannot be read as an image")
    return np.asarray(found, np.uint8)


if __name__ == "__main__":
    sys.exit(main())
