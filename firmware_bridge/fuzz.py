"""`python -m firmware_bridge.fuzz [plans|frames] [--minutes M | --count N] [--seed S]`: hostile input for the C code.

plans: damaged plans and tiles for the core. frames: damaged, impossible and sound frames for the board's end of the
link. Both are compiled with the address and undefined-behaviour sanitizers; the plans come from small networks that
together have every kind of node. Exit code 0: no crash, nothing out of bounds, no wrong answer; 1: the seed to look at
is printed, and `--seed S --count 1` repeats it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from firmware_bridge.plan import compile_plan
from firmware_bridge.toolchain import FUZZERS, BuildError, fuzzer
from simulator.analysis import analyse
from simulator.builder import Builder
from simulator.graph import Graph


def small_networks() -> list[Graph]:
    """A few channels each; together every kind of node, stride, groups, taps apart, views, both sorts of concat."""
    return [_strided(), _attentive(), _shuffled(), _single_step(), _windowed(), _apart()]


def seed_plans() -> list[bytes]:
    """Plans of the small networks, fused and not; a few kilobytes each."""
    plans: list[bytes] = []
    for graph in small_networks():
        rng = np.random.default_rng(len(plans))
        tensors = {}
        for name, specs in analyse(graph).tensors.items():
            for part, spec in specs.items():
                low, high = -40, 41
                if part == "leak":
                    low, high = 0, 4
                elif part == "threshold":
                    low, high = 1, 200
                elif not spec.weight:
                    low, high = -100, 101
                tensors[f"{name}.{part}"] = rng.integers(low, high, spec.shape).astype(np.int32)
        analysis = analyse(graph, tensors)
        plans += [compile_plan(analysis, tensors, fuse=fuse).data for fuse in (True, False)]
    return plans


def _head(b: Builder, width: int) -> str:
    x = b.dense_conv("head", b.space_to_depth("pixels", b.image(), 2), width, 3, q=8, bias=True)
    return b.requantise("head.round", x, 6, 1 << 12)


def _tail(b: Builder, x: str) -> Graph:
    x = b.requantise("tail.round", b.time_sum("tail.sum", x), 3, 1 << 10)
    x = b.dense_conv("tail", x, 12, 1, q=8)
    return b.finish(b.upsample("tail.pixels", x, 2, "depth_to_space"))


def _strided() -> Graph:
    b = Builder(4, grid=8)
    x = _head(b, 6)
    low = b.conv("down", b.lif("lif1", x), 6, 3, stride=2, bias=True)
    both = b.concat("join", b.lif("lif2", x, "shift", "zero"), b.upsample("enlarge", b.lif("lif3", low), 2))
    y = b.conv("grouped", both, 6, 3, groups=2)
    return _tail(b, b.sum("add", x, y, b.upsample("nearest", low, 2)))


def _attentive() -> Graph:
    b = Builder(2, grid=8)
    x = b.attend("channel", _head(b, 5), "channel", 2, 2)
    y = b.attend("time", b.conv("conv", b.lif("lif", x), 5, 5), "time", 2, 2)
    y = b.attend("space", y, "space")
    return _tail(b, b.concat("join", y, x))


def _shuffled() -> Graph:
    b = Builder(4, grid=9)
    x = _head(b, 4)
    deep = b.space_to_depth("deep", x, 2)
    y = b.conv("conv", b.lif("lif", deep, "decay", "zero"), 16, 3, groups=16)
    y = b.upsample("shallow", y, 2, "depth_to_space")
    s = b.requantise("short.round", b.dense_conv("short", x, 4, 3, q=6), 6, 1 << 12)
    return _tail(b, b.sum("add", y, s, x))


def _single_step() -> Graph:
    b = Builder(1, grid=8)
    x = b.requantise("head.round", b.dense_conv("head", b.image(), 3, 3, q=6), 5, 1 << 12)
    y = b.conv("conv", b.lif("lif", x, "shift", "subtract"), 3, 7, q=7)
    return b.finish(b.sum("add", x, y))


def _windowed() -> Graph:
    b = Builder(4, grid=8)
    x = _head(b, 6)
    low = b.conv("down", b.window("window1", x), 6, 3, stride=2, bias=True)
    both = b.concat("join", b.window("window2", x), b.upsample("enlarge", b.window("window3", low), 2))
    y = b.conv("grouped", both, 6, 3, groups=2)
    z = b.conv("single", b.window("window4", b.conv("steps", b.lif("lif", y), 5, 1)), 6, 3)
    x = b.requantise("tail.round", b.sum("add", x, y, z), 3, 1 << 10)
    return b.finish(b.upsample("tail.pixels", b.dense_conv("tail", x, 12, 1, q=8), 2, "depth_to_space"))


def _apart() -> Graph:
    b = Builder(4, grid=8)
    x = _head(b, 6)
    y = b.conv("conv", b.lif("lif1", x, "decay", "zero", fine=6, shared=1, above=1), 6, 3, dilation=5, groups=2)
    low = b.conv("down", b.lif("lif2", y, fine=3), 6, 3, stride=2, dilation=2)
    z = b.conv("single", b.upsample("enlarge", b.lif("lif3", low), 2), 6, 5, dilation=2)
    return _tail(b, b.sum("add", x, y, z))


def fuzz(what: str, seed: int, count: int, seconds: float, program: Path | None = None) -> tuple[bool, str]:
    """Runs `count` plans or frames, or for `seconds`, whichever ends first (0: no limit); (clean?, what it said).

    program: of another build than this project's. Long runs say every half minute how far they are.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for index, data in enumerate(seed_plans()):
            paths.append(Path(folder) / f"{index}.plan")
            paths[-1].write_bytes(data)
        command = [str(program or fuzzer(what)), str(seed), str(count), str(seconds), *map(str, paths)]
        running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert running.stdout and running.stderr
        complaints = []
        with running:
            try:
                for line in running.stderr:
                    if line.startswith("..."):
                        print(line.rstrip(), flush=True)
                    else:
                        complaints.append(line)
                said = running.stdout.read()
            except BaseException:
                running.kill()
                raise
    return running.returncode == 0, said + "".join(complaints)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m firmware_bridge.fuzz", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("what", nargs="?", choices=FUZZERS, help="default: one after the other")
    parser.add_argument("--minutes", type=float, help="stop after so long, each")
    parser.add_argument("--count", type=int, help="stop after so many plans or frames (100,000 without --minutes)")
    parser.add_argument("--seed", type=int, default=0, help="the first one; every plan or session has the next")
    options = parser.parse_args(arguments)
    given = [number for number in (options.minutes, options.count) if number is not None]
    if min(given, default=1) <= 0 or options.seed < 0:
        parser.error("--minutes and --count must be larger than 0 and --seed not negative")
    count = options.count or (0 if options.minutes else 100_000)
    clean = True
    try:
        for what in [options.what] if options.what else FUZZERS:
            fine, said = fuzz(what, options.seed, count, 60 * (options.minutes or 0))
            print(said.strip())
            print(f"{what}: no crash, nothing out of bounds" if fine else f"{what}: misbehaved; see above", flush=True)
            clean = clean and fine
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
