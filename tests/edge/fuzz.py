"""`python -m tests.edge.fuzz`: mutated image, video and bundle files through the command, in child processes.

Each file is a valid one of some format with some of its bytes changed, by a seed, so that a number names it for ever.
A child process, whose memory is limited, restores a batch of them, and is ended when one takes too long. What may
never happen: an exception that leaves the command, a crash, a hang, an exit code that is not documented, an output
under its name that cannot be read back, a temporary file left behind.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import faulthandler
import io
import os
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
MEMORY = 6 << 30  # bytes of addresses; the libraries themselves reserve about two
SECONDS = 30  # for one file
BATCH = 200
MOST_PIXELS = 1 << 20  # of a mutated file's claim, so that it is refused rather than restored for minutes
_EXTREMES = (0x00, 0x01, 0x7F, 0x80, 0xFE, 0xFF)


@dataclass(frozen=True)
class Seed:
    """A valid file and what the command is asked to do with it."""

    name: str
    content: bytes
    out: str


def seeds(folder: Path, bundle: Path) -> list[Seed]:
    """Valid files of every format; `folder` is for making videos."""
    from tests.edge.formats import samples, videos

    found = []
    for number, sample in enumerate(samples()):
        found.append(Seed(sample.name, sample.content, ("o.png", "o.tif", "o.jpg", "o.webp")[number % 4]))
    found += [Seed(sample.name, sample.content, "o.mkv") for sample in videos(folder)]
    found += [Seed(heic.name, heic.read_bytes(), "o.png") for heic in sorted(folder.glob("*.heic"))]
    return [*found, Seed("b.safetensors", bundle.read_bytes(), "o.png")]


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
    seed = found[number % len(found)]
    return seed, mutated(seed.content, np.random.RandomState(number))


def tried(number: int, found: list[Seed], bundle: Path, folder: Path) -> tuple[int | None, list[str]]:
    """(exit code of the run on one mutated file, None where an exception left it; what was wrong with it)."""
    from edge import cli

    seed, content = number_to_file(number, found)
    path = folder / seed.name
    path.write_bytes(content)
    out = folder / seed.out
    is_bundle = path.suffix == ".safetensors"
    source, network = ("sample", path) if is_bundle else (str(path), bundle)
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
    for entry in folder.iterdir():
        entry.unlink()
    return code, wrong


def child(begin: int, end: int, files: Path, bundle: Path) -> None:
    """Runs the numbers from `begin` to `end` and prints each before it begins, its exit code, and what was wrong."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(MOST_PIXELS)
    import simulator
    from edge.containers import record

    # Kernels are compiled at the first start ever, which takes longer than a file may.
    simulator.load(bundle).run(np.zeros((8, 8, 3), np.uint8))
    record.MOST_PIXELS = MOST_PIXELS
    found = seeds(files, bundle)
    with tempfile.TemporaryDirectory() as name:
        for number in range(begin, end):
            print(f"at {number}", flush=True)
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            code, wrong = tried(number, found, bundle, Path(name))
            print(f"ended {code}", flush=True)
            for fault in wrong:
                print(f"wrong {number} {found[number % len(found)].name}: {fault}", flush=True)
            faulthandler.cancel_dump_traceback_later()


def run(begin: int, count: int, files: Path, bundle: Path) -> tuple[list[str], collections.Counter[str]]:
    """(faults, how many files ended with each exit code) of `count` numbers from `begin` on.

    A child that dies is a fault, and the next goes on behind it.
    """
    wrong: list[str] = []
    codes: collections.Counter[str] = collections.Counter()
    at, last = begin, begin + count
    while at < last:
        end = min(at + BATCH, last)
        command = [sys.executable, "-m", "tests.edge.fuzz", "--child", str(at), str(end), str(files), str(bundle)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace")
        lines = done.stdout.splitlines()
        wrong += [line for line in lines if line.startswith("wrong ")]
        codes.update(line.split()[1] for line in lines if line.startswith("ended "))
        begun = [int(line.split()[1]) for line in lines if line.startswith("at ")]
        if done.returncode:
            where = begun[-1] if begun else at
            wrong.append(f"wrong {where}: the process ended with {done.returncode}: {done.stderr[-2000:]}")
            end = where + 1
        at = end
    return wrong, codes


def main() -> int:
    parser = argparse.ArgumentParser(description="Mutated files through edge-restore; prints what went wrong.")
    parser.add_argument("--count", type=int, default=1000, help="how many files")
    parser.add_argument("--begin", type=int, default=0, help="number of the first, which its mutations follow from")
    parser.add_argument("--bundle", type=Path, default=ROOT / "edge/bundles/denoise-lean.safetensors")
    parser.add_argument("--heic", type=Path, nargs="*", default=[], help="valid HEIC files: nothing here writes them")
    parser.add_argument("--child", nargs=4, metavar=("BEGIN", "END", "FILES", "BUNDLE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(int(args.child[0]), int(args.child[1]), Path(args.child[2]), Path(args.child[3]))
        return 0
    with tempfile.TemporaryDirectory() as files:
        for heic in args.heic:
            (Path(files) / heic.name).write_bytes(heic.read_bytes())
        wrong, codes = run(args.begin, args.count, Path(files), args.bundle.resolve())
    ended = ", ".join(f"{count} with {code}" for code, count in sorted(codes.items()))
    print("\n".join([*wrong, f"{args.count} files ({ended}), {len(wrong)} faults"]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
