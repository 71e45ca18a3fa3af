"""`python -m tests.edge.fuzz`: mutated image, video and bundle files through the command, in child processes.

Each file is a valid one of some format with some of its bytes changed, or a bundle that somebody forged, by a seed, so
that a number names it for ever. A process that has everything loaded forks a child for each batch of them, whose memory
is limited, and which is ended when one file takes too long. What may never happen: an exception that leaves the
command, a crash, a hang, an exit code that is not documented, an output under its name that cannot be read back, a
temporary file left behind, a network that gives other pixels than the reference says.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import faulthandler
import io
import itertools
import multiprocessing
import os
import resource
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

import simulator
from edge import careful, cli, images
from edge.containers import record
from edge.images import Pixels
from simulator.bundle import serialise
from simulator.graph import Graph
from simulator.kinds import KINDS
from simulator.random_networks import Tensors, random_network
from tests.edge.files import load_video, picture, store, store_frames, store_network
from tests.edge.formats import samples, videos
from tests.simulator.forged import forged
from tests.simulator.networks import META

SHIPPED = Path(__file__).resolve().parents[2] / "edge/bundles/denoise-lean.safetensors"
MEMORY = 6 << 30  # bytes of addresses; the libraries themselves reserve about two
SECONDS = 30  # for one file
BATCH = 500
MOST_PIXELS = 1 << 20  # of a mutated file's claim, so that it is refused rather than restored for minutes
_EXTREMES = (0x00, 0x01, 0x7F, 0x80, 0xFE, 0xFF)


@dataclass(frozen=True)
class Seed:
    """A valid file and what the command is asked to do with it, or, if it is a bundle, with `source`."""

    name: str
    content: bytes
    out: str
    source: str = ""


def seeds(folder: Path) -> list[Seed]:
    """Valid files of every format, and bundles with every kind of node; `folder` is for making them."""
    found = []
    for number, sample in enumerate(samples()):
        found.append(Seed(sample.name, sample.content, ("o.png", "o.tif", "o.jpg", "o.webp")[number % 4]))
    found += [Seed(sample.name, sample.content, "o.mkv") for sample in videos(folder)]
    found += [Seed(heic.name, heic.read_bytes(), "o.png") for heic in sorted(folder.glob("*.heic"))]
    store(folder / "picture.png", picture(26, 35))
    first, second = picture(), picture()
    second[8:12, 20:23] = 255 - second[8:12, 20:23]
    store_frames(folder / "video.mkv", [first, second, second, first])
    ways = ((str(folder / "picture.png"), "o.png"), (str(folder / "video.mkv"), "o.mkv"))
    for number, (kind, attribute) in enumerate(kinds_and_later_attributes()):
        coarse = {"network.coarse": "64"} if number % 3 == 2 else {}
        content = serialise(*network_with(kind, attribute), META | coarse)[0]
        source, out = ways[number % 2]
        found.append(Seed(f"{kind}_{attribute}.safetensors", content, out, source))
    return [*found, Seed("shipped.safetensors", SHIPPED.read_bytes(), "o.png", ways[0][0])]


def kinds_and_later_attributes() -> Iterator[tuple[str, str]]:
    """Every kind of node with "", and with each of the attributes that came after it, which have defaults."""
    for kind in sorted(KINDS):
        yield kind, ""
        for name, what in KINDS[kind].attributes.items():
            if what.default is not None:
                yield kind, name


def network_with(kind: str, attribute: str) -> tuple[Graph, Tensors]:
    """The first random network with a node of that kind in which that attribute, if one is named, says something."""
    for seed in itertools.count():
        graph, tensors = random_network(seed, kind)
        default = KINDS[kind].attributes[attribute].default if attribute else None
        if any(node.kind == kind and (not attribute or node[attribute] != default) for node in graph.nodes):
            return graph, tensors
    raise AssertionError


def mutated(content: bytes, random: np.random.RandomState) -> bytes:
    """`content` with one to six changes, most of them near its beginning, where formats say what follows."""
    data = bytearray(content)
    for _ in range(random.randint(1, 7)):
        if not data:
            break
        near = min(len(data), 512) if random.rand() < 0.7 else len(data)
        at = int(random.randint(near))
        what = random.randint(7)
        if what == 0:
            data[at] ^= 1 << random.randint(8)
        elif what == 1:
            data[at] = int(random.choice(_EXTREMES))
        elif what == 2:
            data[at] = int(random.randint(256))
        elif what == 3:  # a number of two or four bytes
            size = int(random.choice([2, 4]))
            data[at : at + size] = bytes([int(random.choice(_EXTREMES))]) * size
        elif what == 4:
            del data[at : at + int(random.randint(1, 64))]
        elif what == 5:
            start = int(random.randint(len(data)))
            data[at:at] = data[start : start + int(random.randint(1, 64))]
        elif random.rand() < 0.3:
            del data[int(random.randint(len(data))) :]
    return bytes(data)


def number_to_file(number: int, found: list[Seed]) -> tuple[Seed, bytes]:
    """The file that `number` stands for."""
    seed, random = found[number % len(found)], np.random.RandomState(number)
    if seed.source and random.rand() < 0.8:
        return seed, forged(seed.content, random)
    return seed, mutated(seed.content, random)


def tried(number: int, found: list[Seed], bundle: Path, folder: Path) -> tuple[int | None, list[str]]:
    """(exit code of the run on one mutated file, None where an exception left it; what was wrong with it)."""
    seed, content = number_to_file(number, found)
    path = folder / seed.name
    path.write_bytes(content)
    out = folder / seed.out
    source, network = (seed.source, path) if seed.source else (str(path), bundle)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            code = cli.main([source, "--task", "denoise", "--bundle", str(network), "--out", str(out)])
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException as error:
        return None, [f"{type(error).__name__}: {error}"]
    wrong = []
    if code not in (0, 1, 2):
        wrong.append(f"exit code {code}")
    if code and not said.getvalue().startswith("edge-restore: "):
        wrong.append(f"exit code {code} without a sentence")
    if any(not line.startswith("edge-restore: ") for line in said.getvalue().splitlines()):
        wrong.append(f"said {said.getvalue()!r}")
    if out.exists():
        whole = cv2.VideoCapture(str(out)).read()[0] if out.suffix == ".mkv" else cv2.imread(str(out)) is not None
        if not whole:
            wrong.append(f"{out.name} cannot be read back")
    left = {entry.name for entry in folder.iterdir()} - {path.name, out.name}
    if left:
        wrong.append(f"left behind: {sorted(left)}")
    if seed.source and code == 0:
        reference = simulator.load(path, "reference")
        for number, (came, gave) in enumerate(zip(pictures(Path(source)), pictures(out), strict=True)):
            if not np.array_equal(careful.restore(reference.task, came, reference.run).image, gave):
                wrong.append(f"picture {number} is not what the reference computes")
    for entry in folder.iterdir():
        entry.unlink()
    return code, wrong


def pictures(path: Path) -> list[Pixels]:
    """The picture of an image, or those of a video."""
    return load_video(path)[0] if path.suffix == ".mkv" else [images.read_image(path).pixels]


def warm_up(bundle: Path) -> None:
    """Loads and compiles what runs of the command need, without a thread that a fork would lose."""
    network = simulator.load(bundle, threads=1)
    network.run(picture())
    stream = network.video()
    for seed in range(2):
        stream.run(picture(seed=seed))
    cv2.setNumThreads(1)
    os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(MOST_PIXELS)
    record.MOST_PIXELS = MOST_PIXELS


def child(begin: int, end: int, found: list[Seed], bundle: Path, told: Path) -> None:
    """Runs the numbers from `begin` to `end`; `told`: each before it begins, its exit code, and what was wrong."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with told.open("w") as lines, tempfile.TemporaryDirectory(dir=told.parent) as name:
        os.dup2(lines.fileno(), 2)  # also for what the interpreter says when it dies
        for number in range(begin, end):
            print(f"at {number}", file=lines, flush=True)
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            code, wrong = tried(number, found, bundle, Path(name))
            print(f"ended {code}", file=lines, flush=True)
            for fault in wrong:
                print(f"wrong {number} {found[number % len(found)].name}: {fault}", file=lines, flush=True)
            faulthandler.cancel_dump_traceback_later()


def run(begin: int, count: int, folder: Path) -> tuple[list[str], collections.Counter[str]]:
    """(faults, how many files ended with each exit code) of `count` numbers from `begin` on.

    folder: for what is made on the way; HEIC files in it are mutated, too. A child that dies is a fault, and the next
    goes on behind it.
    """
    bundle = store_network(folder / "small.network")
    warm_up(bundle)
    found = seeds(folder)
    wrong: list[str] = []
    codes: collections.Counter[str] = collections.Counter()
    told = folder / "told"
    at, last = begin, begin + count
    while at < last:
        end = min(at + BATCH, last)
        process = multiprocessing.get_context("fork").Process(target=child, args=(at, end, found, bundle, told))
        process.start()
        process.join()
        text = told.read_text(errors="replace")
        lines = text.splitlines()
        wrong += [line for line in lines if line.startswith("wrong ")]
        codes.update(line.split()[1] for line in lines if line.startswith("ended "))
        begun = [int(line.split()[1]) for line in lines if line.startswith("at ")]
        if process.exitcode:
            where = begun[-1] if begun else at
            wrong.append(f"wrong {where}: the process ended with {process.exitcode}: {text[-2000:]}")
            end = where + 1
        at = end
    return wrong, codes


def main() -> int:
    parser = argparse.ArgumentParser(description="Mutated files through edge-restore; prints what went wrong.")
    parser.add_argument("--count", type=int, default=1000, help="how many files")
    parser.add_argument("--begin", type=int, default=0, help="number of the first, which its mutations follow from")
    parser.add_argument("--heic", type=Path, nargs="*", default=[], help="valid HEIC files: nothing here writes them")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as files:
        for heic in args.heic:
            (Path(files) / heic.name).write_bytes(heic.read_bytes())
        wrong, codes = run(args.begin, args.count, Path(files))
    ended = ", ".join(f"{count} with {code}" for code, count in sorted(codes.items()))
    print("\n".join([*wrong, f"{args.count} files ({ended}), {len(wrong)} faults"]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
