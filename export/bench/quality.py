"""`python -m export.bench.quality`: quality against time, spiking networks beside ANNs that were trained as well.

For each bundle and each run of `python -m train.hkd --ann`, the latter in float32 and in 8 bits (how they are quantised
stands in `export/bench/trained.py`): PSNR on a test set, measured on what that runtime returns, and milliseconds for
the same noisy picture, all networks in turn in one run, for each size and number of threads. Then, beside each network,
the fastest of the other sort that is at least as good. `--board-stats` adds instructions on a microcontroller, from
what `edge-restore --board NAME --bundle BUNDLE --stats FILE` wrote of one picture. Written with --out: quality.json,
quality.csv, quality.md and quality.png.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
from tqdm import tqdm

from export.bench import quality_report
from export.bench.ann import build_ann
from export.bench.ann.trained import trained_ann
from export.bench.command import BUNDLE
from export.bench.dense import channels_together
from export.bench.timing import LONGEST_SIDE, PAUSE, interleaved, keep_freed_memory, machine
from export.bench.trained import Trained, anns, padded, quality, spiking
from simulator.analysis import analyse
from simulator.bundle import BundleError
from simulator.files import write_atomically
from simulator.pictures import noisy_picture
from train.architectures import build_graph
from train.data import DataError, image_paths, load_image
from train.run import TrainingError


def networks(options: argparse.Namespace, missing: dict[str, str]) -> tuple[list[Trained], set[str]]:
    """Everybody who is compared, bundles first; and the names of the runs that have the default form's ANN.

    missing: takes why a runtime is left out. Raises BundleError, DataError, TrainingError or ValueError.
    """
    runs = {path: path.parent.name if path.is_file() else path.resolve().name for path in options.ann_runs}
    names = [path.stem for path in options.bundles] + [runs[path] for path in options.ann_runs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"Two networks are called {twice[0]!r}; rename the file or folder of one.")
    found = [spiking(path) for path in options.bundles]
    default = build_ann(analyse(build_graph("edge")))
    of_default_form = set()
    for path, name in runs.items():
        ann = trained_ann(path)
        if (ann.ops, ann.channels) == (default.ops, default.channels):
            of_default_form.add(name)
        found += anns(ann, name, options.calibrate, missing)
    return found, of_default_form


def time_all(everybody: Sequence[Trained], options: argparse.Namespace) -> tuple[str, dict[str, list[dict[str, Any]]]]:
    """(the picture in words, for each label its times at every size and number of threads)."""
    what = ""
    found: dict[str, list[dict[str, Any]]] = {one.label: [] for one in everybody}
    for threads in options.threads:
        for size in options.sizes:
            what, pixels = noisy_picture(size, size)
            calls = {}
            for one in everybody:
                picture = padded(pixels, one.stride)
                together = one.runtime.startswith("LiteRT")
                restore = one.build(picture.shape[1], picture.shape[2], threads)
                calls[one.label] = partial(restore, channels_together(picture) if together else picture)
                calls[one.label]()
            pause = PAUSE if threads > 1 else 0.0
            with tqdm(total=options.repeats, desc=f"{size}x{size}", disable=not sys.stderr.isatty()) as bar:
                times, _ = interleaved(calls, options.repeats, options.seconds, pause, partial(bar.update, 1))
            for label, taken in times.items():
                found[label].append(
                    {
                        "height": size,
                        "width": size,
                        "threads": threads,
                        "median_ms": median(taken),
                        "p95_ms": float(np.percentile(taken, 95)),
                        "times_ms": taken,
                    }
                )
    return what, found


def board_figures(files: Sequence[Path], everybody: Sequence[Trained]) -> list[dict[str, Any]]:
    """{network, bundle, board, instructions} of each file; ValueError for one that is not of a bundle compared here."""
    names = {one.content: one.name for one in everybody if one.content}
    found = []
    for path in files:
        try:
            stats = json.loads(path.read_text())
            instructions = stats["instructions_per_synop"] * stats["totals"]["synops"]
            frames, bundle, board = stats["frames"], stats["bundle"], stats["backend"]
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error}.") from error
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} does not say how many instructions a picture took; expected what edge-restore --board NAME "
                "--stats FILE writes for a board that counts them, such as qemu-mps2-an500."
            ) from error
        if frames != 1:
            raise ValueError(f"{path} is of {frames} pictures; expected one.")
        if bundle not in names:
            raise ValueError(f"{path} is of a bundle that is not compared here; add it to --bundles.")
        found.append({"network": names[bundle], "bundle": bundle, "board": board, "instructions": instructions})
    return found


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The whole report, as --out writes it in JSON. Raises what `networks` and `board_figures` raise."""
    missing: dict[str, str] = {}
    paths = image_paths(options.data)[: options.limit]
    everybody, of_default_form = networks(options, missing)
    boards = board_figures(options.board_stats, everybody)
    images = [load_image(path) for path in paths]
    scores = {}
    with tqdm(total=len(images) * len(everybody), desc="PSNR", disable=not sys.stderr.isatty()) as bar:
        for one in everybody:
            bar.set_postfix_str(one.label)
            scores[one.label] = quality(one, images, options.seed, max(options.threads), lambda: bar.update())
    picture, times = time_all(everybody, options)
    rows = [
        {
            "label": one.label,
            "name": one.name,
            "runtime": one.runtime,
            "network": one.network,
            "bits": one.bits,
            "parameters": one.parameters,
            "default_form": one.name in of_default_form,
            "content": one.content,
            "about": one.about,
            "psnr": scores[one.label],
            "mean": mean(scores[one.label].values()),
            "timings": times[one.label],
        }
        for one in everybody
    ]
    report = {
        "machine": machine(), "data": options.data.resolve().name, "images": len(images), "seed": options.seed,
        "repeats": options.repeats, "picture": picture, "networks": rows, "boards": boards, "missing": missing,
    }  # fmt: skip
    return report | {"at_equal_quality": quality_report.equal_quality(report)}


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m export.bench.quality",
        description="PSNR against milliseconds: spiking bundles beside trained ANNs in float32 and in 8 bits.",
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="clean images of the test set, as CBSD68")
    add("--bundles", type=Path, nargs="+", default=[BUNDLE], metavar="FILE", help="default: the shipped denoise bundle")
    add("--ann-runs", type=Path, nargs="+", default=[], metavar="RUN", help="runs of train.hkd --ann, or checkpoints")
    add("--calibrate", type=Path, metavar="DIR", help="clean training pictures that 8-bit ANNs get their scales from")
    add("--board-stats", type=Path, nargs="+", default=[], metavar="FILE", help="of edge-restore --board NAME --stats")
    add("--limit", type=int, metavar="N", help="only the first N images (said in the caption)")
    add("--sizes", type=int, nargs="+", default=[256, 512], metavar="N", help="sides of the timed pictures (256 512)")
    add("--threads", type=int, nargs="+", default=[1], metavar="N", help="of every network (1)")
    add("--repeats", type=int, default=15, metavar="N", help="rounds, in which all take turns (15)")
    add("--seconds", type=float, default=5.0, metavar="S", help="a network that needs longer for all rounds skips some")
    add("--seed", type=int, default=0, help="of the test's noise")
    add("--out", type=Path, metavar="DIR", help="write quality.json, .csv, .md and .png there")
    options = parser.parse_args(arguments)
    for name, least, most in (("sizes", 1, LONGEST_SIDE), ("threads", 1, 1024), ("repeats", 1, 100_000)):
        values = getattr(options, name)
        if not all(least <= value <= most for value in (values if isinstance(values, list) else [values])):
            parser.error(f"--{name} must be {least} to {most}")
    if options.limit is not None and options.limit < 1:
        parser.error(f"--limit must be at least 1, not {options.limit}")
    if not options.seconds > 0:
        parser.error(f"--seconds must be more than 0, not {options.seconds:g}")
    if options.ann_runs and not options.calibrate:
        parser.error("--ann-runs needs --calibrate DIR: clean training pictures that 8-bit ANNs get their scales from")
    if options.calibrate and options.calibrate.resolve() == options.data.resolve():
        parser.error("--calibrate is the test set; give other pictures, such as those the networks were trained on")
    return options


def main(arguments: list[str] | None = None) -> int:
    """The command: 0 when done, 2 for a mistake the user can mend."""
    options = _options(arguments)
    try:
        report = measure(options)
        found = list(quality_report.tables(report))
        for table in found:
            print(f"\n{table.text()}", end="")
        for label, why in report["missing"].items():
            print(f"\nmissing: {label}: {why}")
        if options.out:
            options.out.mkdir(parents=True, exist_ok=True)
            contents = {
                "json": json.dumps(report, indent=1) + "\n",
                "csv": quality_report.as_csv(report),
                "md": "\n".join(table.markdown() for table in found),
            }
            for suffix, content in contents.items():
                write_atomically(options.out / f"quality.{suffix}", content.encode())
            print(f"\nwrote {quality_report.plot(report, options.out / 'quality.png')} and the figures beside it")
    except (BundleError, DataError, TrainingError, ValueError) as error:
        print(f"export.bench.quality: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"export.bench.quality: {options.out} cannot be written: {error}.", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())
