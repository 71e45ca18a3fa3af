"""What an archive of many small pictures costs besides restoring them, and whether that is within its marks.

    python -m tests.edge.archive_marks [--pictures 100000] [--size 64] [--folder /tmp/marks] [--bundle denoise-large]

Makes a tree of pictures, half of them JPEG, half PNG, and prints: the CPU time of a picture in a bare loop and in
`edge-restore --recursive --stats -`; memory in the course of that run; seconds and CPU seconds of a rerun that finds
nothing to do; and for each way to name that many files the seconds until the first line of JSON, beside those of a run
with one picture. Ends with 1, and says which, if a mark is missed.

The bare loop is what one would write by hand for the same files: read, decode, restore with the command's care through
a warm network, encode, store under a temporary name and rename; it lists, counts and remembers nothing. Other programs
on the core make caches, and with them all CPU times, worse, so the two take turns: after every 1,000 pictures the run
is stopped (SIGSTOP) for 250 of the loop. The start of the run, measured with one picture, is subtracted. One core is
enough.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge import careful, shipped
from edge.images import encode_image, read_image
from edge.loading import load_network
from edge.sinks import write_atomically
from tests.edge.files import store

ROOT = Path(__file__).parents[2]
A_FOLDER = 1000  # pictures in each, after which it is the bare loop's turn
IN_TURN = 250  # of the bare loop
LOOKS = (1, 1_000, 10_000, 50_000, 99_000)  # pictures after which memory is looked at
LOOK_S = 0.05  # between looks at a run
MOST_NAMES = 20_000  # that are given one by one
STARTS = 3  # of each way to name the files

# The marks.
MOST_OVERHEAD = 0.10  # of the CPU time
MOST_MB = 50.0  # above a run with one picture
MOST_FIRST_S = 1.0  # until the first picture, beyond a run with one
MOST_AGAIN_S = 10.0  # with nothing to do


@dataclass(frozen=True)
class Cost:
    """Of a process: wall and CPU seconds, MB of memory at most, and MB after some numbers of pictures."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    curve_mb: dict[int, float]


def make(folder: Path, count: int, side: int) -> None:
    """Noise over a ramp, as much as `denoise` expects, under names that say nothing of the order."""
    ramp = np.linspace(40, 200, side)[None, :, None] * np.ones((side, 1, 3))
    random = np.random.RandomState(0)
    for number in range(count):
        below = folder / f"{number // A_FOLDER:04d}"
        if number % A_FOLDER == 0:
            below.mkdir(parents=True, exist_ok=True)
        path = below / f"{number * 7919 % 1_000_003:07d}.{'jpg' if number % 2 else 'png'}"
        if not path.exists():
            pixels = np.clip(ramp + random.normal(0, 15, ramp.shape), 0, 255).astype(np.uint8)
            store(path, pixels)


def flattened(tree: Path, flat: Path) -> None:
    """The same files in one folder."""
    flat.mkdir(exist_ok=True)
    for path in tree.rglob("*.*g"):
        if not (flat / path.name).exists():
            os.link(path, flat / path.name)


class Bare:
    """The bare loop; `each_s` and `network_s` are CPU seconds of a picture so far, and of those in the network."""

    def __init__(self, tree: Path, out: Path, bundle: Path) -> None:
        self._network = load_network(bundle, None, 1, None)
        self._folders, self._out = iter(sorted(tree.iterdir())), out
        self._count = 0
        self._all_s = self._network_s = 0.0

    def turn(self) -> None:
        folder = next(self._folders)
        paths = sorted(folder.iterdir())[:IN_TURN]
        out = self._out / folder.name
        out.mkdir(parents=True)
        begin = time.process_time()
        for path in paths:
            picture = read_image(path)
            before = time.process_time()
            result = careful.restore(self._network.task, picture.pixels, self._network.run)
            self._network_s += time.process_time() - before
            content, _ = encode_image(result.image, out / path.name, picture.metadata)
            write_atomically(out / path.name, content)
        self._all_s += time.process_time() - begin
        self._count += len(paths)

    @property
    def each_s(self) -> float:
        return self._all_s / self._count

    @property
    def network_s(self) -> float:
        return self._network_s / self._count


def started(*arguments: str, bundle: Path, lines: int) -> subprocess.Popen[bytes]:
    """lines: the file descriptor that standard output goes to."""
    command = [sys.executable, "-m", "edge", *arguments, "--task", "denoise", "--bundle", str(bundle)]
    return subprocess.Popen([*command, "--threads", "1", "--stats", "-", "-q"], cwd=ROOT, stdout=lines)


def first_s(*arguments: str, bundle: Path) -> float:
    """Seconds until the first line; what follows is not waited for."""
    begin = time.monotonic()
    with started(*arguments, bundle=bundle, lines=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline()
        seconds = time.monotonic() - begin
        process.kill()
    return seconds


def run(*arguments: str, bundle: Path, turn: Callable[[], None] | None = None) -> Cost:
    """The whole of a run; turn: is called after every A_FOLDER pictures or so, while the run stands still.

    Lines go to a file: who reads a pipe is woken for each of them, and takes the core and its caches away.
    """
    looks, turns, number = list(LOOKS), 1, 0
    curve = {}
    with tempfile.TemporaryFile() as lines, open(f"/proc/self/fd/{lines.fileno()}", "rb") as told:
        begin = time.monotonic()
        process = started(*arguments, bundle=bundle, lines=lines.fileno())
        while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
            time.sleep(LOOK_S)
            number += told.read().count(b"\n")
            while looks and number >= looks[0]:
                curve[looks.pop(0)] = memory_mb(process.pid)
            if turn is not None and number >= turns * A_FOLDER:
                os.kill(process.pid, signal.SIGSTOP)
                turn()
                turns += 1
                os.kill(process.pid, signal.SIGCONT)
        wall_s = time.monotonic() - begin
    _, status, used = ended
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, process.returncode
    return Cost(wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e6, curve)


def memory_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


def marks(folder: Path, count: int, side: int, bundle: Path) -> Iterator[str]:
    """Measures and prints; yields what is missed, a sentence for each."""
    folder = folder / f"{count} of {side}"
    tree, one, flat, out = folder / "in", folder / "one", folder / "flat", folder / "out"
    make(tree, count, side)
    make(one, 1, side)
    flattened(tree, flat)
    for left in (out, folder / "bare"):
        shutil.rmtree(left, ignore_errors=True)
    print(f"{count} pictures of {side}x{side}, {bundle.stem}", flush=True)

    first_s(str(one), "--recursive", bundle=bundle)  # compiles what is not compiled yet
    single = run(str(one), "--recursive", "--out", str(out / "one"), bundle=bundle)
    bare = Bare(tree, folder / "bare", bundle)
    whole = run(str(tree), "--recursive", "--out", str(out / "all"), bundle=bundle, turn=bare.turn)
    each_s = (whole.cpu_s - single.cpu_s) / (count - 1)
    overhead = each_s / bare.each_s - 1
    print(
        f"CPU time of a picture: {bare.each_s * 1e3:.3f} ms bare ({bare.network_s * 1e3:.3f} of it in the network), "
        f"{each_s * 1e3:.3f} ms in the archive, {overhead:+.1%}"
    )
    if overhead >= MOST_OVERHEAD:
        yield f"{overhead:.1%} of CPU time beyond the bare loop, and less than {MOST_OVERHEAD:.0%} are asked."

    above = whole.peak_mb - single.peak_mb
    curve = ", ".join(f"{mb:.0f} after {number}" for number, mb in whole.curve_mb.items())
    print(f"memory, MB: {curve}, {whole.peak_mb:.0f} at most, {above:+.0f} against a run with one picture", flush=True)
    if above >= MOST_MB:
        yield f"{above:.0f} MB beyond a run with one picture, and less than {MOST_MB:.0f} are asked."

    again = run(str(tree), "--recursive", "--out", str(out / "all"), "--skip-existing", bundle=bundle)
    print(
        f"nothing to do: {again.wall_s:.1f} s, {again.cpu_s:.1f} s of CPU, {again.peak_mb:.0f} MB at most", flush=True
    )
    if again.wall_s >= MOST_AGAIN_S:
        yield f"{again.wall_s:.1f} s with nothing to do, and less than {MOST_AGAIN_S:.0f} are asked."

    single_name, *names = sorted(map(str, flat.iterdir()))[:MOST_NAMES]
    for way, many, few in (
        ("a tree", [tree, "--recursive"], [one, "--recursive"]),
        ("a folder", [flat], [one / "0000"]),
        ("a pattern", [flat / "*.*g"], [one / "0000" / "*.*g"]),
        ("a pattern of folders", [tree / "**" / "*.*g"], [one / "**" / "*.*g"]),
        (f"{len(names)} names", names, [single_name, "--jobs", "1"]),
    ):
        seconds: tuple[list[float], list[float]] = ([], [])
        for _ in range(STARTS):
            for given, spent in zip((few, many), seconds, strict=True):
                spent.append(first_s(*map(str, given), "--out", f"{out}/first/", bundle=bundle))
                shutil.rmtree(out / "first")
        start, first = map(statistics.median, seconds)
        print(f"first picture of {way}: after {first:.2f} s, of one picture alone after {start:.2f} s", flush=True)
        if first - start >= MOST_FIRST_S:
            yield f"{first - start:.1f} s more until the first of {way}, and less than {MOST_FIRST_S:.0f} is asked."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=64, help="of a picture's side, pixels; default: 64")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/marks"))
    parser.add_argument("--bundle", default="denoise-large")
    args = parser.parse_args()
    missed = list(marks(args.folder, args.pictures, args.size, shipped.named(args.bundle)))
    for sentence in missed:
        print(f"missed: {sentence}")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
