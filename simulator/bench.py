"""`python -m simulator.bench`: how fast the event-driven engine is beside the alternatives, on the same network.

Contenders: the engine, the NumPy reference (small pictures only), and ONNX Runtime with the same network unrolled over
its time steps (float32, the form that `python -m export.onnx` writes). One process, the same pixels, the same number of
threads, repetitions interleaved so that whatever else the machine does hits all of them; what is timed is one call of
the backend, after warm-up. The picture is a real noisy one, because an event-driven engine's speed depends on how many
spikes there are. Every result is compared with the engine's, pixel by pixel.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from simulator.bundle import Bundle, BundleError, read_bundle
from simulator.files import write_atomically
from simulator.network import Network

ROOT = Path(__file__).parents[1]
BUNDLE = ROOT / "edge" / "bundles" / "denoise.safetensors"
SAMPLE = ROOT / "edge" / "samples" / "noisy.png"
REFERENCE_LIMIT = 128  # side of the largest picture, pixels, that the reference is asked for
WARM_UP = 2  # calls before the clock counts
MOST = 4096  # pixels per side

Pixels = npt.NDArray[np.uint8]  # [3, H, W]


@dataclass(frozen=True)
class Contender:
    """name: for the table. call: restores uint8 [3, H, W], both sides multiples of the stride. limit: largest side."""

    name: str
    call: Callable[[Pixels], Pixels]
    limit: int = MOST


@dataclass(frozen=True)
class Timing:
    """One contender at one size. times_ms: one per repetition; differing: pixels that are not the engine's."""

    name: str
    times_ms: tuple[float, ...]
    differing: int

    @property
    def median_ms(self) -> float:
        return median(self.times_ms)


def contenders(bundle: Bundle, threads: int) -> tuple[list[Contender], dict[str, str]]:
    """The engine first, then what it is compared with; and what is missing, with the reason in a sentence."""
    from simulator.engine import Engine
    from simulator.reference import Reference

    engine = Engine(bundle.analysis, bundle.tensors, threads)
    reference = Reference(bundle.analysis, bundle.tensors, threads)

    def signed(pixels: Pixels) -> npt.NDArray[np.int16]:
        return pixels.astype(np.int16) - np.int16(128)

    found = [
        Contender("event-driven engine (Numba)", lambda pixels: engine.run_padded(signed(pixels))[0]),
        Contender("NumPy reference", lambda pixels: reference.run_padded(signed(pixels))[0], REFERENCE_LIMIT),
    ]
    missing = {}
    name = "ONNX Runtime float32, same network"
    try:
        # The exporter is not part of what a board needs; simulator does not depend on it but here.
        module = importlib.import_module("export.onnx")
        backend = module.OnnxBackend(bundle.analysis, bundle.tensors, threads)
        found.append(Contender(name, lambda pixels: backend.run(pixels[None])[0]))
    except (ImportError, ValueError) as error:
        missing[name] = str(error)
    return found, missing


def noisy_picture(size: int, sample: Path = SAMPLE) -> tuple[str, Pixels]:
    """(what it is, uint8 [3, size, size]): the middle of the sample, mirrored on where it ends, or a synthetic one."""
    import cv2

    image = cv2.imread(str(sample), cv2.IMREAD_COLOR) if sample.is_file() else None
    if image is None:
        rng = np.random.Generator(np.random.PCG64(0))
        y, x = np.mgrid[:size, :size]
        smooth = 128 + 60 * np.sin(x / 31) * np.cos(y / 23) + 40 * ((x // 40 + y // 56) % 2)
        noisy = smooth[None] + rng.normal(0, 25, (3, size, size))
        return "a synthetic picture with noise of 25 grey levels", np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    height, width = image.shape[:2]
    rows, columns = (_mirrored((side - size) // 2, size, side) for side in (height, width))
    crop = image[rows[:, None], columns][:, :, ::-1].transpose(2, 0, 1)
    return "the noisy sample picture", np.ascontiguousarray(crop)


def _mirrored(first: int, count: int, extent: int) -> npt.NDArray[np.int64]:
    """`count` indices from `first` on, folded back and forth into 0..extent - 1."""
    around = np.arange(first, first + count) % (2 * extent)
    return np.minimum(around, 2 * extent - 1 - around)


def measure(found: list[Contender], pixels: Pixels, repeats: int, bar: Any = None) -> list[Timing]:
    """Time every contender that takes this size, `repeats` times in turn. The first one's result is the measure."""
    able = [one for one in found if max(pixels.shape) <= one.limit]
    results = []
    for one in able:
        for _ in range(WARM_UP):
            restored = one.call(pixels)
        results.append(restored)
    times: dict[str, list[float]] = {one.name: [] for one in able}
    for _ in range(repeats):
        for one in able:
            start = time.perf_counter()
            one.call(pixels)
            times[one.name].append((time.perf_counter() - start) * 1e3)
        if bar is not None:
            bar.update()
    return [
        Timing(one.name, tuple(times[one.name]), int((restored != results[0]).any(0).sum()))
        for one, restored in zip(able, results, strict=True)
    ]


def table(timings: list[Timing]) -> list[str]:
    """Rows of medians, fastest and ratios of the medians to the first one's."""
    base = timings[0].median_ms
    lines = [f"{'':36s}{'median ms':>11s}{'fastest ms':>12s}{'ratio':>8s}{'pixels that differ':>20s}"]
    for t in timings:
        lines.append(
            f"{t.name:36s}{t.median_ms:11.2f}{min(t.times_ms):12.2f}{t.median_ms / base:7.2f}x{t.differing:20d}"
        )
    return lines


def machine() -> dict[str, Any]:
    """What the figures depend on: processor, cores, load, versions."""
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass  # not Linux
    versions = {}
    for package in ("numpy", "numba", "onnxruntime"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {"cpu": model, "cores": os.cpu_count(), "load": load, "python": platform.python_version(), **versions}


def _write_json(path: Path, report: dict[str, Any]) -> None:
    write_atomically(path, (json.dumps(report, indent=1) + "\n").encode())


def main(arguments: list[str] | None = None) -> int:
    """The command: 0 when done, 1 if a result differs where it must not, 2 for a mistake the user can mend."""
    parser = argparse.ArgumentParser(
        prog="python -m simulator.bench", description="Speed of the event-driven engine against the alternatives."
    )
    parser.add_argument(
        "--bundle", type=Path, default=BUNDLE, metavar="FILE", help="default: the shipped denoise bundle"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every time here as well")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 256], metavar="N", help="sides of the pictures")
    parser.add_argument("--threads", type=int, default=1, help="of every contender (default: 1)")
    parser.add_argument("--repeats", type=int, default=15, help="of every contender and size (default: 15)")
    options = parser.parse_args(arguments)
    for name, least, most in (("threads", 1, 1024), ("repeats", 1, 100_000)):
        if not least <= getattr(options, name) <= most:
            parser.error(f"--{name} must be {least} to {most}, not {getattr(options, name)}")
    if not all(1 <= size <= MOST for size in options.sizes):
        parser.error(f"--sizes must be 1 to {MOST}")
    try:
        bundle = read_bundle(options.bundle)
        network = Network(bundle, threads=options.threads)
        found, missing = contenders(bundle, options.threads)
        about = machine()
        print(f"{about['cpu']}, {options.threads} of {about['cores']} cores, median of {options.repeats} in turn")
        if about["load"] is not None and about["load"] > 0.5:
            print(f"This machine is busy (load {about['load']:.1f}), so the times are too long; the ratios tell more.")
        report: dict[str, Any] = {
            "machine": about,
            "threads": options.threads,
            "repeats": options.repeats,
            "bundle": bundle.content_hash,
            "T": bundle.graph.time_steps,
            "missing": missing,
            "sizes": [],
        }
        equal = True
        for size in options.sizes:
            rows, columns = bundle.analysis.padded(size, size)
            what, pixels = noisy_picture(max(rows, columns))
            rate = network.run(np.ascontiguousarray(pixels.transpose(1, 2, 0))).stats.spike_rate
            with tqdm(total=options.repeats, unit="round", leave=False, disable=not sys.stderr.isatty()) as bar:
                timings = measure(found, pixels, options.repeats, bar)
            print(f"\n{columns}x{rows} pixels of {what}, spike rate {rate:.3f}")
            print("\n".join(table(timings)))
            equal &= not any(t.differing for t in timings)
            report["sizes"].append(
                {
                    "height": rows,
                    "width": columns,
                    "picture": what,
                    "spike_rate": rate,
                    "contenders": [
                        {
                            "name": t.name,
                            "median_ms": t.median_ms,
                            "ratio": t.median_ms / timings[0].median_ms,
                            "differing_pixels": t.differing,
                            "times_ms": t.times_ms,
                        }
                        for t in timings
                    ],
                }
            )
        for name, why in missing.items():
            print(f"\nmissing: {name}: {why}")
        if options.json:
            _write_json(options.json, report)
    except (BundleError, ValueError) as error:
        print(f"simulator.bench: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"simulator.bench: {options.json} cannot be written: {error}.", file=sys.stderr)
        return 2
    if not equal and all(bundle.analysis.float_exact(node.name) for node in bundle.graph.nodes):
        print("simulator.bench: the results differ though every bound is below 2^24.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
