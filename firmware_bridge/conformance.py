"""`python -m firmware_bridge.conformance [BOARD ...]`: does a board give the reference's bits, whatever runs on it?

Asked of every board: every shipped network on parts of photographs of even and odd sizes; random networks; and what
every layer gives at every step, where the board gives access to that. Equal means equal in every pixel, and in the
spikes, SyOps and MACs of every layer. Of a card, those networks that were compiled for it; it computes neurons in
float16, so pixels that differ are counted, and up to 1 % of a picture are none of its faults. Exit codes: 0 equal; 1
not; 2 bad input, or a board that fails.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from firmware_bridge.boards import BOARDS, Board, BoardError, NotCompiledError, open_board
from firmware_bridge.compare import compare, first_difference, images, read
from firmware_bridge.first_difference import NetworkTracer, first_place
from simulator.bundle import Bundle, BundleError, parse, read_bundle, serialise
from simulator.network import Network
from simulator.random_networks import random_network

ROOT = Path(__file__).resolve().parents[1]
BUNDLES, SAMPLES = ROOT / "edge" / "bundles", ROOT / "edge" / "samples"
META = {"network.task": "denoise", "training.data": "none", "training.terms": "none", "weights.licence": "CC0-1.0"}
Picture = npt.NDArray[np.uint8]


@dataclass
class Tally:
    """What was compared on a board. traced: networks compared in every layer. differing: pictures that differ, of a
    card those that do in more than is tolerated. wrong: pixels that differ. left_out: networks not compiled for it."""

    networks: int = 0
    pictures: int = 0
    pixels: int = 0
    spikes: int = 0
    synops: int = 0
    traced: int = 0
    differing: int = 0
    wrong: int = 0
    left_out: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        found = f"{self.differing} pictures DIFFER" if self.differing else "0 bits differ"
        if self.wrong:
            found = f"{self.wrong:,} pixels differ ({self.wrong / self.pixels:.3%}), {self.differing} pictures too much"
        return (
            f"{found}: {self.networks} networks, {self.pictures} pictures, {self.pixels:,} pixels, {self.spikes:,} "
            f"spikes, {self.synops:,} SyOps; {self.traced} networks compared in every layer and step"
        )


def crops(paths: Sequence[Path], count: int, side: int, seed: int) -> list[Picture]:
    """`count` parts of pictures, uint8 RGB [H, W, 3]: the first side x side, the others up to a quarter smaller."""
    rng = np.random.default_rng(seed)
    found = []
    for index in range(count):
        whole = read(paths[index % len(paths)])
        sides = [side] * 2 if not index else rng.integers(max(1, 3 * side // 4), side + 1, 2).tolist()
        height, width = (min(wanted, there) for wanted, there in zip(sides, whole.shape[:2], strict=True))
        top, left = (
            int(rng.integers(0, there - part + 1)) for there, part in zip(whole.shape, (height, width), strict=False)
        )
        found.append(np.ascontiguousarray(whole[top : top + height, left : left + width]))
    return found


def random_bundle(seed: int) -> Bundle:
    """A random network as it comes back from a bundle file; with an odd seed one of many window neurons."""
    return parse(serialise(*random_network(seed, "window" if seed % 2 else None), META)[0])


def noise(seed: int) -> Picture:
    """A picture of 1 to 23 pixels a side, uint8 RGB [H, W, 3]."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 24, 2)
    return rng.integers(0, 256, (int(height), int(width), 3)).astype(np.uint8)


def conform(board: Board, jobs: Iterator[tuple[str, Bundle, list[Picture]]], backend: str) -> Tally:
    """Runs every network on its pictures on both sides, and looks into it on the first picture that is small enough.

    backend: of the simulator, to compare with. A line is printed for every network. Raises `BoardError`.
    """
    tally = Tally()
    for name, bundle, pictures in jobs:
        network = Network(bundle, backend)
        try:
            board.load(bundle)
        except NotCompiledError as error:
            if not tally.left_out:
                print(f"{board.name}: {name}: left out: {error}", flush=True)
            tally.left_out.append(name)
            continue
        tally.networks += 1
        wrong = 0
        pictures = [enlarged(picture, *board.least()) for picture in pictures]
        for number, picture in enumerate(pictures):
            found = board.run(picture)
            comparison = compare(bundle.analysis, network.run(picture), found.image, found.counts)
            tally.pictures += 1
            tally.pixels += comparison.of
            tally.spikes += comparison.spikes
            tally.synops += comparison.synops
            if not comparison.equal:
                wrong += not comparison.within(board.tolerated)
                tally.wrong += comparison.pixels if board.tolerated else 0
                height, width = picture.shape[:2]
                print(f"{board.name}: {name}, picture {number}, {width}x{height}: {comparison}", flush=True)
                print(f"{board.name}: {name}: {first_difference(bundle, board, picture, comparison)}", flush=True)
        tracer = board.tracer()
        if tracer is not None:
            rows, columns = (max(24, side) for side in board.least())
            small = board.traced_part(pictures[-1][:rows, :columns], 0, 0)
            place = first_place(NetworkTracer(network), tracer, small)
            tally.traced += 1
            if place is not None:
                wrong += not board.tolerated
                print(f"{board.name}: {name}: {place}", flush=True)
        tally.differing += wrong
        print(f"{board.name}: {name}: {'DIFFERENT' if wrong else 'equal'}", flush=True)
    if tally.left_out:
        print(f"{board.name}: left out, not compiled for it: {', '.join(tally.left_out)}", flush=True)
    if not tally.networks:
        raise BoardError(f"{board.name}: not one of the networks was compiled for it, nothing was compared")
    return tally


def enlarged(picture: Picture, rows: int, columns: int) -> Picture:
    """The picture, or, where it is smaller than that, the picture again and again."""
    height, width = picture.shape[:2]
    if height >= rows and width >= columns:
        return picture
    again = np.tile(picture, (-(-rows // height), -(-columns // width), 1))
    return np.ascontiguousarray(again[: max(rows, height), : max(columns, width)])


def jobs(
    bundles: Sequence[Path], pictures: list[Picture], random: int, seed: int
) -> Iterator[tuple[str, Bundle, list[Picture]]]:
    """Networks with their names and pictures: those of `bundles`, then `random` drawn ones from `seed` on."""
    for path in bundles:
        yield path.stem, read_bundle(path), pictures
    for number in range(seed, seed + random):
        yield f"random network {number}", random_bundle(number), [noise(number), noise(number + 1)]


def main(argv: list[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m firmware_bridge.conformance", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("board", nargs="*", metavar="BOARD", help="default: all that can be used here")
    parser.add_argument("--board", dest="boards", nargs="+", metavar="BOARD", default=[], help="the same")
    parser.add_argument(
        "--bundle", nargs="+", metavar="FILE", type=Path, help="networks; default: those that ship, random ones besides"
    )
    parser.add_argument("--data", metavar="SOURCE", help="pictures to take parts of; default: the bundled samples")
    parser.add_argument("--count", type=int, default=2, help="parts for every network (2)")
    parser.add_argument("--size", type=int, default=64, help="side of the parts, pixels (64)")
    parser.add_argument("--random", type=int, default=20, help="random networks (20)")
    parser.add_argument("--seed", type=int, default=0, help="of parts and random networks (0)")
    parser.add_argument("--against", choices=("reference", "numba"), default="numba", help="backend to compare with")
    args = parser.parse_args(argv)
    if min(args.count, args.size) < 1 or min(args.random, args.seed) < 0:
        parser.error("--count and --size must be larger than 0, --random and --seed not negative")
    different = 0
    try:
        bundles = args.bundle or sorted(BUNDLES.glob("*.safetensors"))
        pictures = crops(images(args.data or str(SAMPLES / "*.png")), args.count, args.size, args.seed)
        for name in [*args.board, *args.boards] or [name for name, kind in BOARDS.items() if not kind.missing()]:
            begin = time.perf_counter()
            with open_board(name) as board:
                tally = conform(board, jobs(bundles, pictures, args.random, args.seed), args.against)
            different += tally.differing
            print(f"{name}: {tally}; {time.perf_counter() - begin:.0f} s", flush=True)
    except (BoardError, BundleError, ValueError, OSError) as error:
        print(f"firmware_bridge.conformance: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("firmware_bridge.conformance: interrupted", file=sys.stderr)
        return 130
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
