"""`python -m export.bundle`: freeze a trained student into a bundle and show that it computes what was trained.

Rounds every tensor to its grid, checks the bounds of the numerics contract, writes the bundle, reads it back and runs
one picture on both integer backends and in PyTorch. Only if not a single pixel differs does the file get its name.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from export.checks import check_image
from export.compare import Comparison, compare, restorer
from export.files import ExportError
from export.onnx import inexact_nodes
from simulator.analysis import Analysis, Tensors
from simulator.bundle import COARSE, BundleError, read_bundle, write_bundle
from simulator.files import reason, temporary_name
from simulator.graph import Graph
from train.checkpoint import Checkpoint, read_checkpoint
from train.data import DataError, load_image
from train.frozen import freeze
from train.run import TrainingError

RUNS = Path("runs")
SAMPLE = Path(__file__).parents[1] / "edge" / "samples" / "noisy.png"
SAMPLE_CROP = (121, 161)  # height, width: odd, and small enough for the reference
COMPARED = ("reference", "numba", "torch")

DATA = "BSDS500"
DATA_TERMS = "BSDS500: non-commercial research and education"
LICENCE = "follows the terms of the training data; not part of the code's licence (Apache-2.0)"


def newest_finished(runs: Path = RUNS) -> Checkpoint:
    """The finished run of train.hkd under `runs` that was written last; ExportError, saying what there is, if none."""
    unfinished = []
    # Runs of other commands (teachers) lie in the same folder; their checkpoints are not a student's.
    for file in sorted(runs.glob("*/checkpoint.pt"), key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            checkpoint = read_checkpoint(file)
        except TrainingError:
            continue
        if checkpoint.settings.ann:  # has no spikes to export
            continue
        if checkpoint.finished:
            return checkpoint
        unfinished.append(str(file.parent))
    hint = "finish one with `python -m train.hkd --task denoise --resume`, or name a checkpoint with --checkpoint."
    if unfinished:
        raise ExportError(f"No run in {runs}/ is finished ({', '.join(unfinished)} are not); {hint}")
    raise ExportError(f"There is no run of train.hkd in {runs}/; {hint.replace(' --resume', '')}")


def last_psnr(log: Path) -> dict[str, float]:
    """PSNR (dB) of the run's last validation with the roundings on, by column of its log.csv; empty if not known."""
    try:
        with open(log, newline="") as file:
            rows = [row for row in csv.DictReader(file) if row.get("rounded") == "1"]
    except (OSError, csv.Error, UnicodeDecodeError):
        return {}
    found = {}
    for column, value in (rows[-1] if rows else {}).items():
        if column and column.startswith("psnr"):
            with contextlib.suppress(TypeError, ValueError):
                found[f"validation {column.replace('psnr_', 'sigma ').replace('psnr', 'images')}"] = float(value)
    return found


def metadata(checkpoint: Checkpoint, data: str, terms: str, licence: str, more: Mapping[str, str]) -> dict[str, str]:
    """The bundle's entries about where the network comes from; of the run that it started from, only the name."""
    settings = asdict(checkpoint.settings)
    settings["init"] = Path(settings["init"]).name
    entries = {
        "network.task": checkpoint.settings.task,
        "training.data": data,
        "training.terms": terms,
        "training.steps": str(checkpoint.step),
        "training.seconds": f"{checkpoint.seconds:.0f}",
        "training.finished": "yes" if checkpoint.finished else "no",
        "training.settings": json.dumps(settings, sort_keys=True),
        "weights.licence": licence,
    }
    if checkpoint.settings.coarse:
        entries[COARSE] = str(checkpoint.settings.coarse)
    psnr = last_psnr(checkpoint.path.with_name("log.csv"))
    if psnr:
        entries["quality.psnr"] = json.dumps(psnr, sort_keys=True)
    return entries | dict(more)


def picture() -> tuple[str, np.ndarray]:
    """(what it is, uint8 RGB [H, W, 3] of odd size): the middle of the sample, or a drawn one where that is missing."""
    try:
        sample = load_image(SAMPLE)
    except DataError:
        return "a synthetic picture", check_image()
    top, left = ((side - crop) // 2 for side, crop in zip(sample.shape, SAMPLE_CROP, strict=False))
    return "a crop of the sample picture", sample[top : top + SAMPLE_CROP[0], left : left + SAMPLE_CROP[1]]


def export(out: Path, graph: Graph, tensors: Tensors, meta: Mapping[str, str]) -> tuple[str | None, Comparison]:
    """Write the bundle to `out` if the backends agree about it: (content hash, or None if not written; comparison).

    What is compared is the bundle as read back from the file. The integer backends must agree; PyTorch, too, unless a
    bound reaches 2^24, where float32 promises nothing. Raises BundleError if the file cannot be written.
    """
    temporary = temporary_name(out)
    try:
        content_hash = write_bundle(temporary, graph, tensors, meta)
        bundle = read_bundle(temporary)
        _, image = picture()
        comparison = compare([restorer(name, bundle) for name in COMPARED], [image])
        agreed = comparison.equal or (not comparison.differing["numba"] and bool(inexact_nodes(bundle.analysis)))
        if agreed:
            os.replace(temporary, out)
        return content_hash if agreed else None, comparison
    except BundleError as error:
        raise BundleError(str(error).replace(str(temporary), str(out))) from error
    except OSError as error:
        raise BundleError(f"{out} cannot be written: {reason(error)}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m export.bundle", description="Freeze a trained student into a bundle, and check it."
    )
    add = parser.add_argument
    add(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="checkpoint.pt or the folder of a run (default: newest finished)",
    )
    add("--out", type=Path, metavar="FILE", help="default: <task>.safetensors beside the checkpoint")
    add("--data", default=DATA, metavar="TEXT", help="what it was trained on (default: %(default)s)")
    add("--data-terms", default=DATA_TERMS, metavar="TEXT", help="the terms of that data (default: %(default)s)")
    add("--licence", default=LICENCE, metavar="TEXT", help="of the weights (default: %(default)s)")
    add("--meta", nargs="+", default=[], metavar="KEY=TEXT", help="further entries, such as note.author=NAME")
    options = parser.parse_args(arguments)
    for entry in options.meta:
        if not re.fullmatch(r"(training|weights|quality|note)\.[a-z0-9_]{1,40}=.*", entry):
            parser.error(f"--meta takes entries such as note.author=NAME, not {entry!r}")
    options.meta = dict(entry.split("=", 1) for entry in options.meta)
    return options


def main(arguments: list[str] | None = None) -> int:
    """The command: 0 when written, 1 if the backends differ (nothing is written), 2 for what the user can mend."""
    options = parse_arguments(arguments)
    try:
        checkpoint = read_checkpoint(options.checkpoint) if options.checkpoint else newest_finished()
        settings = checkpoint.settings
        print(f"{checkpoint.path}: {settings.student} student for {settings.task}, {checkpoint.step} steps")
        if not checkpoint.finished:
            print("This run is not finished; its network as of now is exported, because it was named.")
        if settings.rounding_phase == 0:
            print("It was trained without the roundings (--rounding-phase 0); they are made now, at some cost in PSNR.")
        graph, tensors, analysis = freeze(checkpoint)
        _print_contract(analysis)
        meta = metadata(checkpoint, options.data, options.data_terms, options.licence, options.meta)
        print(f"Training data: {options.data}. Terms: {options.data_terms}. Licence of the weights: {options.licence}.")
        out = options.out or checkpoint.path.with_name(f"{settings.task}.safetensors")
        content_hash, comparison = export(out, graph, tensors, meta)
    except (BundleError, ExportError, TrainingError) as error:
        print(f"export.bundle: {error}", file=sys.stderr)
        return 2
    print(f"Read back and run on {picture()[0]}:")
    for line in comparison.lines():
        print(f"  {line}")
    if content_hash is None:
        print(f"export.bundle: {out} was not written, because the backends do not agree.", file=sys.stderr)
        return 1
    print(f"wrote {out} ({out.stat().st_size} bytes, {content_hash[:12]})")
    return 0


def _print_contract(analysis: Analysis) -> None:
    """Parameters, and how many nodes keep the bounds of int16 and of float32."""
    nodes = [node.name for node in analysis.graph.nodes]
    narrow = sum(analysis.width(name) == "int16" for name in nodes)
    inexact = inexact_nodes(analysis)
    print(
        f"{analysis.parameters} parameters, T = {analysis.graph.time_steps}, {len(nodes)} nodes: all bounds fit int32, "
        f"{narrow} nodes fit int16, float32 is exact in {len(nodes) - len(inexact)}"
        + (f"; not guaranteed in {', '.join(inexact)}" if inexact else "")
    )


if __name__ == "__main__":
    sys.exit(main())
