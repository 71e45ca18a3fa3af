"""`python -m export.bench.video`: what a frame of a video costs beside a full run, by how much of it changed.

compact: one window of that share of the pixels, somewhere else in each frame, in which everything changes;
scattered: single pixels all over the picture. The frames are made from the sample picture. Per frame the stream and
the stateless full run take turns on the same pixels; what is timed is `stats.latency_s` of both, and every picture and
all counts are compared. The last row is a film: a window that moves over the picture, with a panning picture in it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from export.bench.command import BUNDLE
from export.bench.timing import machine
from simulator.bundle import BundleError
from simulator.files import write_atomically
from simulator.network import Network, load
from simulator.pictures import SAMPLE, noisy_picture
from simulator.video import VideoStream

SIZES = ((640, 480), (1920, 1080))  # width, height
SHARES = (0, 1, 5, 20, 100)  # per cent of the pixels
LONGEST_SIDE = 4096  # pixels

Frame = npt.NDArray[np.uint8]  # [H, W, 3]


def photograph(height: int, width: int, name: str = "noisy.png") -> Frame:
    """A sample picture, mirrored on where it ends, uint8 RGB [height, width, 3]."""
    return np.ascontiguousarray(noisy_picture(height, width, SAMPLE.with_name(name))[1].transpose(1, 2, 0))


def moving_patch(
    height: int, width: int, share: float, frames: int, sigma: float = 0.0, seed: int = 0
) -> Iterator[Frame]:
    """A film: over a noisy photograph (its noise stays in place) moves a window of `share` of the picture, in which
    another photograph pans. sigma: standard deviation of further noise, grey levels, drawn anew in each frame."""
    rng = np.random.default_rng(seed)
    still = photograph(height, width)
    rows, columns = (max(1, round(side * share**0.5)) for side in (height, width))
    inside = photograph(rows + 3 * frames, columns + 2 * frames, "clean.png")[::-1]
    for i in range(frames):
        frame = still.copy()
        y = round((height - rows) * (0.5 + 0.5 * np.sin(i / 17)))
        x = round((width - columns) * (0.5 + 0.5 * np.cos(i / 23)))
        frame[y : y + rows, x : x + columns] = inside[3 * i : 3 * i + rows, 2 * i : 2 * i + columns]
        if sigma:
            frame = np.clip(np.rint(frame + rng.normal(0, sigma, frame.shape)), 0, 255).astype(np.uint8)
        yield frame


def compact(frame: Frame, share: float, rng: np.random.Generator) -> Frame:
    """`frame` with one window of that share, shaped like the picture, turned over."""
    frame, (height, width) = frame.copy(), frame.shape[:2]
    rows, columns = (round(side * share**0.5) for side in (height, width))
    y, x = rng.integers(0, height - rows + 1), rng.integers(0, width - columns + 1)
    frame[y : y + rows, x : x + columns] = frame[y : y + rows, x : x + columns][::-1, ::-1].copy()
    return frame


def scattered(frame: Frame, share: float, rng: np.random.Generator) -> Frame:
    """`frame` with that share of its pixels, drawn by chance, made negative."""
    frame = frame.copy()
    frame[rng.random(frame.shape[:2]) < share] ^= 255
    return frame


CHANGES: dict[str, Callable[[Frame, float, np.random.Generator], Frame]] = {"compact": compact, "scattered": scattered}


def measure(network: Network, stream: VideoStream, frames: Iterator[Frame]) -> dict[str, Any]:
    """Times of the stream and of full runs on the same frames, the first of which only warms up."""
    rows = []
    for frame in frames:
        found, full = stream.run(frame), network.run(frame)
        if not np.array_equal(found.image, full.image) or found.stats.layers != full.stats.layers:
            raise AssertionError("a frame of the video differs from its full run")
        rows.append((1e3 * found.stats.latency_s, 1e3 * full.stats.latency_s, found.stats.recomputed))
    video, whole, recomputed = (list(column) for column in zip(*rows[1:], strict=True))
    return {
        "video_ms": median(video),
        "full_ms": median(whole),
        "ratio": median(video) / median(whole),
        "recomputed": median(recomputed),
        "times_ms": {"video": video, "full": whole},
    }


def series(kind: str, start: Frame, share: float, count: int) -> Iterator[Frame]:
    """`start` and `count` frames that each differ from the one before by that change."""
    rng = np.random.default_rng(0)
    frame = start
    yield frame
    for _ in range(count):
        frame = CHANGES[kind](frame, share, rng)
        yield frame


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    try:
        size = int(width), int(height)
    except ValueError:
        size = 0, 0
    if not all(1 <= side <= LONGEST_SIDE for side in size):
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT in pixels, each 1 to {LONGEST_SIDE}")
    return size


def main(arguments: list[str] | None = None) -> int:
    """The command: 0 when done, 2 for a mistake the user can mend."""
    parser = argparse.ArgumentParser(
        prog="python -m export.bench.video", description="Cost of a frame of video beside a full run."
    )
    parser.add_argument(
        "--bundle", type=Path, default=BUNDLE, metavar="FILE", help="default: the shipped denoise bundle"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every time here as well")
    parser.add_argument("--sizes", type=_size, nargs="+", default=list(SIZES), metavar="WxH", help="of the pictures")
    parser.add_argument("--threads", type=int, default=1, help="of both (default: 1)")
    parser.add_argument("--repeats", type=int, default=9, help="frames per row (default: 9)")
    options = parser.parse_args(arguments)
    for name, least, most in (("threads", 1, 1024), ("repeats", 1, 100_000)):
        if not least <= getattr(options, name) <= most:
            parser.error(f"--{name} must be {least} to {most}, not {getattr(options, name)}")
    try:
        network = load(options.bundle, threads=options.threads)
        about = machine()
        print(
            f"{about['cpu']}, {options.threads} of {about['cores']} cores, median of {options.repeats} frames in turn"
        )
        report: dict[str, Any] = {
            "machine": about, "threads": options.threads, "repeats": options.repeats, "bundle": network.bundle_hash,
            "sizes": [],
        }  # fmt: skip
        for width, height in options.sizes:
            start, stream = photograph(height, width), network.video()
            stream.run(start)
            kept = f"{stream.state_bytes / 2**20:.0f} MB kept" if stream.state_bytes else "no state: full runs only"
            print(f"\n{width}x{height} pixels, {kept} between frames")
            print(f"{'change':>22s}{'video ms':>10s}{'full ms':>10s}{'ratio':>8s}{'recomputed':>12s}")
            rows = []
            cases = [(f"{kind} {share} %", series(kind, start, share / 100, options.repeats))
                     for kind in CHANGES for share in SHARES]  # fmt: skip
            cases.append(("film, window of 5 %", moving_patch(height, width, 0.05, options.repeats + 1)))
            for name, frames in cases:
                row = measure(network, stream, frames)
                print(
                    f"{name:>22s}{row['video_ms']:10.2f}{row['full_ms']:10.2f}{row['ratio']:8.3f}{row['recomputed']:12.3f}",
                    flush=True,
                )
                rows.append({"change": name, **row})
            report["sizes"].append(
                {"width": width, "height": height, "state_bytes": stream.state_bytes, "changes": rows}
            )
        if options.json:
            write_atomically(options.json, (json.dumps(report, indent=1) + "\n").encode())
    except (BundleError, ValueError) as error:
        print(f"export.bench.video: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"export.bench.video: {options.json} cannot be written: {error}.", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
