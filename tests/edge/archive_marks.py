"""What an archive of many small pictures costs besides restoring them.

    python -m tests.edge.archive_marks [--pictures 100000] [--folder /tmp/marks] [--bundle denoise-large]

Makes a tree of pictures, half of them JPEG, half PNG, and prints: the CPU time of a picture in a bare
loop and in `edge-restore --recursive --stats -`, the start of both subtracted; memory at its highest, above that of a
run with one picture; seconds until the first line of JSON; seconds and CPU seconds of a rerun that finds nothing to do.

The bare loop is what one would write by hand for the same files: read, decode, restore with the command's care through
a warm network, encode, store under a temporary name and rename; it lists, counts and remembers nothing. It is timed
before the run and after it, for other programs on the core make caches, and with them all CPU times, worse. One core
is enough.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge import careful, shipped
from edge.images import encode_image, read_image
from edge.loading import load_network
from edge.sinks import write_atomically
from tests.edge.files import store

ROOT = Path(__file__).parents[2]
A_FOLDER = 1000  # pictures in each
IN_TURN = 250  # of the bare loop, timed at once


@dataclass(frozen=True)
class Cost:
    """Of a process: wall and CPU seconds, seconds to the first line, MB of memory at most."""

    wall_s: float
    cpu_s: float
    first_s: float
    peak_mb: float


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


def bare(folder: Path, out: Path, bundle: Path, count: int) -> tuple[float, float]:
    """CPU seconds of a picture in a loop, and of those in the network: the medians over parts of it."""
    network = load_network(bundle, None, 1, None)
    paths = sorted(folder.rglob("*.*g"))[:count]
    out.mkdir(parents=True, exist_ok=True)
    times, networks = [], []
    for first in range(0, len(paths) - IN_TURN + 1, IN_TURN):
        begin, network_s = time.process_time(), 0.0
        for path in paths[first : first + IN_TURN]:
            picture = read_image(path)
            before = time.process_time()
            result = careful.restore(network.task, picture.pixels, network.run)
            network_s += time.process_time() - before
            content, _ = encode_image(result.image, out / path.name, picture.metadata)
            write_atomically(out / path.name, content)
        times.append((time.process_time() - begin) / IN_TURN)
        networks.append(network_s / IN_TURN)
    return float(np.median(times)), float(np.median(networks))


def run(folder: Path, *arguments: str, bundle: Path) -> Cost:
    command = [sys.executable, "-m", "edge", str(folder), "--task", "denoise", "--bundle", str(bundle)]
    begin = time.monotonic()
    process = subprocess.Popen(
        [*command, "--recursive", "--threads", "1", "--stats", "-", "-q", *arguments], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    first_s = time.monotonic() - begin
    for _ in process.stdout:
        pass
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, process.returncode
    return Cost(time.monotonic() - begin, used.ru_utime + used.ru_stime, first_s, used.ru_maxrss / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=32, help="of a picture's side, pixels; default: 32")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/marks"))
    parser.add_argument("--bundle", default="denoise-large")
    args = parser.parse_args()
    bundle = shipped.named(args.bundle)
    pictures, one = args.folder / "in", args.folder / "one"
    make(pictures, args.pictures, args.size)
    make(one, 1, args.size)
    subprocess.run(["rm", "-rf", str(args.folder / "out"), str(args.folder / "bare")], check=True)
    single = run(one, "--out", str(args.folder / "out/one"), bundle=bundle)
    before = bare(pictures, args.folder / "bare", bundle, min(args.pictures, 2000))
    whole = run(pictures, "--out", str(args.folder / "out/all"), bundle=bundle)
    after = bare(pictures, args.folder / "bare", bundle, min(args.pictures, 2000))
    again = run(pictures, "--out", str(args.folder / "out/all"), "--skip-existing", bundle=bundle)
    each_s = (whole.cpu_s - single.cpu_s) / (args.pictures - 1)
    loop_s, network_s = ((one + other) / 2 for one, other in zip(before, after, strict=True))
    print(f"{args.pictures} pictures of {args.size}x{args.size}, {args.bundle}")
    print(
        f"CPU time of a picture: {loop_s * 1e3:.3f} ms bare ({before[0] * 1e3:.3f} before, {after[0] * 1e3:.3f} after, "
        f"{network_s * 1e3:.3f} of it in the network), {each_s * 1e3:.3f} ms in the archive, {each_s / loop_s - 1:+.1%}"
    )
    print(f"memory: {whole.peak_mb:.0f} MB at most, {whole.peak_mb - single.peak_mb:+.0f} MB against one picture")
    print(f"first picture after {whole.first_s:.2f} s, of one picture alone after {single.first_s:.2f} s")
    print(f"nothing to do: {again.wall_s:.1f} s, {again.cpu_s:.1f} s of CPU, {again.peak_mb:.0f} MB")


if __name__ == "__main__":
    main()
