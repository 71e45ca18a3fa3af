"""`python -m export.runtimes`: the same network in every runtime, one run: milliseconds, and values that differ.

Times are taken in turn, beside the engine's, on the noisy sample picture. Differences are counted against the engine,
which gives the reference's bytes, on crops of photographs (--data, degraded as each network's task asks; without it,
crops of the noisy sample picture) and on random networks. A value is one channel of one pixel. Where a runtime does not
promise the same bytes, what its differences cost stands beside them, in dB of PSNR against the clean photograph.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from export.bench.runtimes import RUNTIMES, Runtime
from export.bench.spiking import contenders, signed
from export.bench.timing import LONGEST_SIDE, machine, measure
from export.files import ExportError, write_atomically
from export.forms import inexact_nodes
from simulator.analysis import Analysis, Tensors, analyse
from simulator.bundle import Bundle, BundleError, read_bundle
from simulator.engine import Engine
from simulator.pictures import Pixels, noisy_picture
from simulator.random_networks import random_network
from train.data import DataError, add_noise, image_paths, load_image
from train.metrics import psnr
from train.patches import fixed
from train.tasks import TASKS

SHIPPED = sorted((Path(__file__).parents[1] / "edge" / "bundles").glob("*.safetensors"))
TIMED = ("denoise", "denoise-camera")  # one of each kind of neurons
# Every kind of node that all forms have; of two, in turn, there are more, with all of their attributes.
KINDS = ("lif", "window", "conv", "dense_conv", "requantise", "sum", "concat", "upsample", "space_to_depth")
CROP = 64  # side in pixels, a multiple of every shipped network's stride
SIGMA = 25.0  # of the noise for denoisers, 8-bit levels
SEED = 0

# A picture as it goes in, uint8 [3, H, W], and the clean photograph it was made from, if there is one.
Picture = tuple[Pixels, Pixels | None]


@dataclass
class Count:
    """A runtime on some pictures: values compared, values that differ, and the PSNR that they cost, dB for each."""

    values: int = 0
    differing: int = 0
    costs: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        if not self.differing:
            return "0"
        cost = f", {np.mean(self.costs):+.3f} dB" if self.costs else ""
        return f"{self.differing:,} ({self.differing / self.values:.2%}{cost})"


def crops(bundle: Bundle, photographs: Sequence[Pixels]) -> list[Picture]:
    """The middle of each photograph, degraded by the network's task; of the noisy sample picture without any."""
    if not photographs:
        return [(noisy_picture(CROP, CROP)[1], None)]
    pictures: list[Picture] = []
    for index, photograph in enumerate(photographs):
        top, left = ((side - CROP) // 2 for side in photograph.shape[:2])
        clean = np.ascontiguousarray(photograph[top : top + CROP, left : left + CROP])
        task = TASKS[bundle.task]
        if task.noise_levels:
            degraded = add_noise(clean, SIGMA, SEED, clip=True, index=index)
        else:
            degraded = fixed(bundle.task, next(iter(task.variants)), clean, SEED, index)
        pictures.append((np.ascontiguousarray(degraded.transpose(2, 0, 1)), clean.transpose(2, 0, 1)))
    return pictures


def count(
    runtimes: Sequence[Runtime], analysis: Analysis, tensors: Tensors, pictures: Sequence[Picture],
    counts: dict[str, Count], threads: int,
) -> None:  # fmt: skip
    """Adds what each runtime makes of the pictures, all of one size, to `counts`, by its key."""
    size = pictures[0][0].shape[1], pictures[0][0].shape[2]
    engine = Engine(analysis, tensors, threads)
    expected = [engine.run_padded(signed(pixels))[0] for pixels, _ in pictures]
    for runtime in runtimes:
        restore = runtime.build(analysis, tensors, size, threads)
        found = counts.setdefault(runtime.key, Count())
        for (pixels, clean), right in zip(pictures, expected, strict=True):
            restored = restore(pixels)
            found.values += right.size
            found.differing += int((restored != right).sum())
            if clean is not None and not runtime.exact:
                found.costs.append(_psnr(right, clean) - _psnr(restored, clean))


def _psnr(image: Pixels, clean: Pixels) -> float:
    return float(psnr(image.transpose(1, 2, 0), clean.transpose(1, 2, 0)))


def available(bundle: Bundle, threads: int) -> tuple[list[Runtime], dict[str, str]]:
    """The runtimes that are installed, and why the others are left out."""
    able, missing = [], {}
    stride = bundle.analysis.stride
    for runtime in RUNTIMES:
        try:
            runtime.build(bundle.analysis, bundle.tensors, (stride, stride), threads)
            able.append(runtime)
        except ExportError as error:
            missing[runtime.key] = str(error)
    return able, missing


def timed(bundle: Bundle, runtimes: Sequence[Runtime], size: int, repeats: int, seconds: float, threads: int) -> Any:
    """[{"key", "name", "median_ms", "ratio", "differing_pixels"}] of the engine and the runtimes, in turn."""
    _, pixels = noisy_picture(*bundle.analysis.padded(size, size))
    keys = {"engine", *(runtime.key for runtime in runtimes)}
    able = [(one, one.prepare(pixels, threads)) for one in contenders(bundle) if one.key in keys]
    for _, call in able:
        call()
    timings = measure(able, repeats, seconds, threads)
    return [
        {
            "key": one.key,
            "name": one.name,
            "median_ms": one.median_ms,
            "ratio": one.median_ms / timings[0].median_ms,
            "differing_pixels": one.differing,
        }
        for one in timings
    ]


def time_table(report: dict[str, Any]) -> list[str]:
    """Milliseconds and multiples of the engine's, as Markdown."""
    columns = report["times"]
    lines = ["| ms (x engine) | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for i, row in enumerate(next(iter(columns.values()), [])):
        cells = [f"{column[i]['median_ms']:.1f} ({column[i]['ratio']:.2f})" for column in columns.values()]
        lines.append(f"| {row['name']} | " + " | ".join(cells) + " |")
    return lines


def count_table(counts: dict[str, dict[str, Count]], runtimes: Sequence[Runtime]) -> list[str]:
    """Values that differ, as Markdown: a row per runtime would be too wide, so networks are rows."""
    lines = [
        "| values that differ | of | " + " | ".join(runtime.name for runtime in runtimes) + " |",
        "|---" * (len(runtimes) + 2) + "|",
    ]
    for name, found in counts.items():
        of = next(iter(found.values())).values
        lines.append(f"| {name} | {of:,} | " + " | ".join(str(found[runtime.key]) for runtime in runtimes) + " |")
    return lines


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m export.runtimes",
        description="The same network in every runtime: milliseconds beside the engine's, and values that differ.",
    )
    parser.add_argument(
        "--bundle", type=Path, nargs="+", default=SHIPPED, metavar="FILE", help="default: all that ship"
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of clean photographs, such as CBSD68")
    parser.add_argument("--photos", type=int, default=8, metavar="N", help="so many of them (8)")
    parser.add_argument("--random", type=int, default=24, metavar="N", help="random networks (24)")
    parser.add_argument("--size", type=int, default=256, metavar="N", help="side of the picture for times (256)")
    parser.add_argument("--repeats", type=int, default=11, metavar="N", help="rounds, in which all take turns (11)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of everybody (1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure here as well")
    options = parser.parse_args(arguments)
    for name, least, most in (
        ("photos", 1, 10_000), ("random", 0, 10_000), ("size", 1, LONGEST_SIDE), ("repeats", 1, 10_000),
        ("threads", 1, 1024),
    ):  # fmt: skip
        if not least <= getattr(options, name) <= most:
            parser.error(f"--{name} must be {least} to {most}, not {getattr(options, name)}")
    return options


def main(arguments: list[str] | None = None) -> int:
    """The command: 0 when done, 1 if a runtime that must be exact is not, 2 for a mistake the user can mend."""
    options = _options(arguments)
    try:
        bundles = {path.stem: read_bundle(path) for path in options.bundle}
        photographs = [load_image(path) for path in image_paths(options.data)] if options.data else []
        photographs = [one for one in photographs if min(one.shape[:2]) >= CROP][: options.photos]
        if options.data and not photographs:
            raise DataError(f"{options.data} has no photograph of {CROP}x{CROP} pixels or more.")
        first = next(iter(bundles.values()))
        runtimes, missing = available(first, options.threads)
        report: dict[str, Any] = {"machine": machine(), "threads": options.threads, "missing": missing, "times": {}}
        about = report["machine"]
        print(f"{about['cpu']}, {options.threads} thread(s); {options.size}x{options.size} pixels, medians of up to "
              f"{options.repeats} in turn")  # fmt: skip
        for name in [name for name in TIMED if name in bundles] or list(bundles)[:1]:
            report["times"][name] = timed(bundles[name], runtimes, options.size, options.repeats, 4.0, options.threads)
        print("\n".join(["", *time_table(report), ""]), flush=True)
        counts = _counted(bundles, runtimes, photographs, options)
        print("\n".join(count_table(counts, runtimes)))
        for key, why in missing.items():
            print(f"missing: {key}: {why}")
        report["counts"] = {
            name: {
                key: {"values": one.values, "differing": one.differing, "cost_db": one.costs}
                for key, one in row.items()
            }
            for name, row in counts.items()
        }
        if options.json:
            write_atomically(options.json, (json.dumps(report, indent=1) + "\n").encode())
    except (BundleError, DataError, ExportError) as error:
        print(f"export.runtimes: {error}", file=sys.stderr)
        return 2
    wrong = sorted({r.name for r in runtimes if r.exact and any(row[r.key].differing for row in counts.values())})
    if wrong:
        print(f"export.runtimes: {', '.join(wrong)} must give the same bytes and does not.", file=sys.stderr)
    return 1 if wrong else 0


def _counted(
    bundles: dict[str, Bundle], runtimes: Sequence[Runtime], photographs: Sequence[Pixels], options: argparse.Namespace
) -> dict[str, dict[str, Count]]:
    """By network, the last one standing for all random ones, and by runtime. Random networks in which float32 is not
    guaranteed to be exact are left out."""
    counts: dict[str, dict[str, Count]] = {}
    with tqdm(total=len(bundles) + options.random, unit="network", disable=not sys.stderr.isatty()) as bar:
        for name, bundle in bundles.items():
            counts[name] = {}
            pictures = crops(bundle, photographs)
            count(runtimes, bundle.analysis, bundle.tensors, pictures, counts[name], options.threads)
            bar.update()
        random: dict[str, Count] = {}
        counted = 0
        for seed in range(options.random):
            graph, tensors = random_network(seed, (None, "lif", "conv")[seed % 3], KINDS)
            analysis = analyse(graph, tensors)
            if not inexact_nodes(analysis):
                size = analysis.padded(24, 32)
                pixels = np.random.default_rng(seed).integers(0, 256, (3, *size)).astype(np.uint8)
                count(runtimes, analysis, tensors, [(pixels, None)], random, options.threads)
                counted += 1
            bar.update()
        if counted:
            counts[f"{counted} random networks"] = random
    return counts


if __name__ == "__main__":
    sys.exit(main())
