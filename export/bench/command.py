"""The options of `python -m export.bench`, and what runs in which order."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from export.bench import dense, layers, processes, report, spiking
from export.bench.timing import LONGEST_SIDE, Call, Contender, Timing, interleaved, machine, measure
from simulator.bundle import Bundle, BundleError, read_bundle
from simulator.engine import available_threads
from simulator.files import write_atomically
from simulator.network import Network
from simulator.pictures import noisy_picture

BUNDLE = Path(__file__).parents[2] / "edge" / "bundles" / "denoise.safetensors"
PARTS = ("sizes", "threads", "layers", "roofline", "start-up", "memory")
QUICK = {"sizes": [128, 256], "repeats": 7, "seconds": 1.0, "parts": ["sizes", "layers"]}
FULL = {"sizes": [128, 256, 512, 1024], "repeats": 15, "seconds": 5.0, "parts": list(PARTS)}
MEMORY_SIZE = (512, 512)  # for contenders other than the engine


class _Bench:
    """One run. report: what is written as JSON. equal: whether everybody who must equal the engine did."""

    def __init__(self, options: argparse.Namespace, bundle: Bundle):
        self.options, self.bundle = options, bundle
        everybody = [*spiking.contenders(bundle), *dense.contenders(bundle)]
        self.contenders = [c for c in everybody if c.key == "engine" or not options.only or c.key in options.only]
        self.network = Network(bundle, threads=1)
        self.report: dict[str, Any] = {
            "machine": machine(),
            "threads": options.threads,
            "repeats": options.repeats,
            "bundle": bundle.content_hash,
            "T": bundle.graph.time_steps,
            "missing": {},
            "sizes": [],
            "scaling": [],
            "layers": [],
            "roofline": [],
            "start_up": {},
            "memory": [],
            "marks": [],
            "complete": False,
        }
        self.equal = True

    def run(self) -> None:
        """Every part in turn; Ctrl-C ends with what is done."""
        parts: dict[str, Callable[[], None]] = {
            "sizes": self.sizes,
            "threads": self.scaling,
            "layers": self.layers,
            "roofline": self.roofline,
            "start-up": self.start_up,
            "memory": self.memory,
        }
        try:
            for name in PARTS:
                if name in self.options.parts:
                    parts[name]()
            self.report["complete"] = True
        except KeyboardInterrupt:
            print("\ninterrupted; what is done is kept", file=sys.stderr)

    def sizes(self) -> None:
        for threads in self.options.threads:
            for size in self.options.sizes:
                rows, columns = self.bundle.analysis.padded(size, size)
                what, pixels = noisy_picture(rows, columns)
                rate = self.network.run(np.ascontiguousarray(pixels.transpose(1, 2, 0))).stats.spike_rate
                able = self._prepared(pixels, threads)
                with _progress(self.options.repeats, f"{columns}x{rows}") as bar:
                    timings = measure(able, self.options.repeats, self.options.seconds, threads, bar.update)
                exact = {c.key for c in self.contenders if c.exact}
                self.equal &= not any(t.differing for t in timings if t.key in exact)
                entry = {
                    "height": rows,
                    "width": columns,
                    "threads": threads,
                    "picture": what,
                    "spike_rate": rate,
                    "contenders": [_row(t, timings[0]) for t in timings],
                }
                self.report["sizes"].append(entry)
                _print(report.size_table(entry, self.bundle.graph.time_steps))
        for key, why in self.report["missing"].items():
            print(f"\nmissing: {key}: {why}")

    def _prepared(self, pixels: Any, threads: int) -> list[tuple[Contender, Call]]:
        """Who takes this size, ready to run and warm; who cannot is noted as missing, with the reason."""
        able = []
        able_here = [c for c in self.contenders if max(pixels.shape) <= c.limit and c.key not in self.report["missing"]]
        with _progress(len(able_here), "preparing") as bar:
            for one in able_here:
                bar.set_postfix_str(one.key)
                try:
                    call = one.prepare(pixels, threads)
                    call()
                    able.append((one, call))
                except Exception as error:  # other people's code may fail in any way; the others run on
                    if one.key == "engine":
                        raise
                    known = isinstance(error, (ImportError, ValueError))
                    self.report["missing"][one.key] = str(error) if known else f"it failed: {error!r}"[:300]
                bar.update()
        return able

    def scaling(self) -> None:
        """The engine with 1, 2, 4, ... threads, in turn."""
        counts = [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= available_threads()]
        if len(counts) < 2:
            return
        engine = self.contenders[0]
        for size in [s for s in self.options.sizes if s >= 256] or self.options.sizes[-1:]:
            rows, columns = self.bundle.analysis.padded(size, size)
            _, pixels = noisy_picture(rows, columns)
            calls = {str(n): engine.prepare(pixels, n) for n in counts}
            for call in calls.values():
                call()
            times, _ = interleaved(calls, self.options.repeats, self.options.seconds)
            medians = {n: float(np.median(t)) for n, t in times.items()}
            speed = {n: medians["1"] / ms for n, ms in medians.items()}
            self.report["scaling"].append({"height": rows, "width": columns, "median_ms": medians, "speed": speed})
        _print(report.scaling_table(self.report["scaling"]))

    def layers(self) -> None:
        shapes = layers.shapes(self.bundle)
        if not shapes:
            return
        with _progress(len(shapes), "layers") as bar:
            for row in layers.sweep(self.bundle, self.options.threads[0], self.options.repeats):
                self.report["layers"].append(row)
                bar.update()
        _print(report.layer_table(self.report["layers"]))

    def roofline(self) -> None:
        self.report["roofline"] = layers.roofline(self.bundle, self.options.repeats)
        _print(report.roofline_table(self.report["roofline"]))

    def start_up(self) -> None:
        found = self.report["start_up"]
        try:
            found |= processes.start_up(self.options.bundle, self.options.threads[0])
            if self.options.cold:
                found |= processes.start_up(self.options.bundle, self.options.threads[0], cold=True)
        except processes.ChildError as error:
            self._miss("start-up", str(error))

    def memory(self) -> None:
        wanted = [("engine", processes.LARGE)]
        if self.options.memory:
            wanted += [(c.key, MEMORY_SIZE) for c in self.contenders if max(MEMORY_SIZE) <= c.limit]
        with _progress(len(wanted), "memory") as bar:
            for key, (height, width) in wanted:
                bar.set_postfix_str(key)
                if key not in self.report["missing"]:
                    try:
                        found = processes.peak_memory(self.options.bundle, key, height, width, self.options.threads[0])
                        self.report["memory"].append(found)
                    except processes.ChildError as error:
                        self._miss(f"memory of {key}", str(error))
                bar.update()

    def _miss(self, what: str, why: str) -> None:
        self.report["missing"][what] = why
        print(f"\nmissing: {what}: {why}")


def _row(t: Timing, engine: Timing) -> dict[str, Any]:
    return {
        "key": t.key,
        "name": t.name,
        "network": t.network,
        "median_ms": t.median_ms,
        "p95_ms": t.p95_ms,
        "ratio": t.median_ms / engine.median_ms,
        "differing_pixels": t.differing,
        "mean_difference": t.distance,
        "times_ms": list(t.times_ms),
    }


def _progress(total: int, what: str) -> Any:
    return tqdm(total=total, desc=what, leave=False, disable=not sys.stderr.isatty())


def _print(lines: list[str]) -> None:
    if lines:
        print("\n" + "\n".join(lines), flush=True)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m export.bench",
        description="Speed of the event-driven engine against the alternatives, in one run.",
    )
    parser.add_argument(
        "--bundle", type=Path, default=BUNDLE, metavar="FILE", help="default: the shipped denoise bundle"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure here as well")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="draw resolution.png and spike_rate.png there")
    parser.add_argument("--sizes", type=int, nargs="+", metavar="N", help="sides of the pictures (128 256 512 1024)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1], metavar="N", help="of every contender (1)")
    parser.add_argument("--repeats", type=int, metavar="N", help="rounds, in which all take turns (15)")
    parser.add_argument(
        "--seconds",
        type=float,
        metavar="S",
        help="a contender that needs longer for all rounds of a size skips some (5)",
    )
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="these contenders beside the engine; --list names them"
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, metavar="PART", help=f"of {', '.join(PARTS)} (all)")
    parser.add_argument("--memory", action="store_true", help="peak memory of every contender, not the engine's alone")
    parser.add_argument("--cold", action="store_true", help="also the first start ever: compiles all kernels anew")
    parser.add_argument("--quick", action="store_true", help="128 and 256 pixels, few rounds, no processes")
    parser.add_argument("--list", action="store_true", help="name the contenders and stop")
    options = parser.parse_args(arguments)
    for name, value in (QUICK if options.quick else FULL).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if not all(1 <= n <= 1024 for n in options.threads):
        parser.error("--threads must be 1 to 1024")
    if not 1 <= options.repeats <= 100_000:
        parser.error(f"--repeats must be 1 to 100000, not {options.repeats}")
    if not options.seconds > 0:
        parser.error(f"--seconds must be more than 0, not {options.seconds:g}")
    if not all(1 <= size <= LONGEST_SIDE for size in options.sizes):
        parser.error(f"--sizes must be 1 to {LONGEST_SIDE}")
    return options


def main(arguments: list[str] | None = None) -> int:
    """The command: 0 when done, 1 if a result differs where it must not, 2 for a mistake the user can mend, 130 after
    Ctrl-C (what was done by then is printed and written)."""
    options = _options(arguments)
    place: Path | None = None
    try:
        bench = _Bench(options, read_bundle(options.bundle))
        keys = {c.key: c for c in (*spiking.contenders(bench.bundle), *dense.contenders(bench.bundle))}
        if options.list:
            for key, one in keys.items():
                print(f"{key:20s}{one.name} ({'the spiking network' if one.network == 'spiking' else 'the ANN'})")
            return 0
        unknown = sorted(set(options.only or ()) - set(keys))
        if unknown:
            raise ValueError(f"--only names {', '.join(unknown)}; the contenders are {', '.join(keys)}")
        about = bench.report["machine"]
        print(f"{about['cpu']}, {about['cores']} cores; medians of up to {options.repeats} repetitions, all in turn")
        if about["load"] is not None and about["load"] > 0.5:
            print(f"This machine is busy (load {about['load']:.1f}), so the times are too long; the ratios tell more.")
        bench.run()
        _print(report.process_table(bench.report))
        bench.report["marks"] = report.marks(bench.report)
        if bench.report["marks"]:
            _print(report.marks_table(bench.report["marks"]))
        if options.json:
            place = options.json
            write_atomically(place, (json.dumps(bench.report, indent=1) + "\n").encode())
        if options.plots:
            place = options.plots
            place.mkdir(parents=True, exist_ok=True)
            for path in report.plots(bench.report, place):
                print(f"wrote {path}")
    except (BundleError, ValueError, ImportError) as error:
        print(f"export.bench: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"export.bench: {place or options.bundle} cannot be written: {error}.", file=sys.stderr)
        return 2
    if not bench.equal and all(bench.bundle.analysis.float_exact(node.name) for node in bench.bundle.graph.nodes):
        print("export.bench: the results differ though every bound is below 2^24.", file=sys.stderr)
        return 1
    return 0 if bench.report["complete"] else 130
