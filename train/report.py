"""`python -m train.report`: the paper's Table 7, what each network costs and how good it is, counted by this project.

Rows: every bundle, the student as the paper words it, the equivalent ANN of each, and the paper's own equivalent ANN
(Restormer with 2 blocks per level); below them what the paper printed. Counts are for one 256x256 picture, the middle
of the noisy sample (noise of sigma 25), by `simulator.statistics`:

  parameters  every tensor that the deployed network needs
  MACs        multiply-accumulates with a real-valued input, as executed (the first layer once, not T times)
  SyOps       spikes that arrived at a synapse, on that picture
  energy      Eq. (1): 0.9 pJ per SyOp, 4.6 pJ per MAC (45 nm, 32 bit); an estimate that leaves out memory traffic.
              Beside it the equation as printed, which counts every MAC T times

A network that was not trained here has no spikes to count: its SyOps and energy stand between those of a network that
never fires and one whose neurons all fire at every step. PSNR is by the clipped protocol of `train.evaluate`, if
--data names the test set.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from simulator.analysis import analyse
from simulator.bundle import Bundle, BundleError
from simulator.files import write_atomically
from simulator.graph import Graph
from simulator.network import Network
from simulator.pictures import noisy_picture
from simulator.statistics import BITS_32, Counter, Population, Statistics
from train import published
from train.architectures import build_graph
from train.checkpoint import build_student, read_checkpoint
from train.contenders import Restore, checkpoint_restorer
from train.data import DataError, image_paths, load_image
from train.evaluate import evaluate
from train.frozen import read_network
from train.run import TrainingError
from train.student import ann_parameters
from train.tables import Table
from train.tasks import TASKS, removes_noise
from train.teachers import build_teacher

SIDE = 256  # pixels of the picture that operations are counted on
SIGMAS = tuple(float(sigma) for sigma in TASKS["denoise"].noise_levels)
BUNDLE = Path(__file__).parents[1] / "edge" / "bundles" / "denoise.safetensors"


@dataclass(frozen=True)
class Row:
    """One network. macs and synops for one picture of SIDE x SIDE pixels, energies in microjoules.

    synops, energy_uj, energy_as_printed_uj: (least, most), equal where spikes were counted. psnr: dB by noise level.
    """

    network: str
    parameters: int
    macs: int
    synops: tuple[int, int] = (0, 0)
    energy_uj: tuple[float, float] = (0.0, 0.0)
    energy_as_printed_uj: tuple[float, float] = (0.0, 0.0)
    spike_rate: float | None = None
    psnr: dict[str, float] = field(default_factory=dict)
    about: str = ""


def count(graph: Graph) -> tuple[Statistics, Statistics]:
    """Statistics of a graph without weights on SIDE x SIDE pixels: (no neuron fires, every neuron fires always)."""
    silent = Counter(Population(analyse(graph), SIDE, SIDE)).finish(0.0)
    loud = replace(silent, layers=tuple(layer._replace(synops=layer.synops_max) for layer in silent.layers))
    return silent, loud


def student_row(name: str, least: Statistics, most: Statistics, **more: Any) -> Row:
    """The row of a spiking network from its counts, which are equal if its spikes were counted."""
    return Row(
        name,
        least.params,
        least.macs,
        (least.synops, most.synops),
        (least.estimated_uj(), most.estimated_uj()),
        (least.as_printed_uj(), most.as_printed_uj()),
        **more,
    )


def ann_row(name: str, parameters: int, macs: int, **more: Any) -> Row:
    """The row of an ANN: one pass, every operation a multiply-accumulate."""
    energy = macs * BITS_32.mac_pj * 1e-6
    return Row(name, parameters, macs, (0, 0), (energy, energy), (energy, energy), **more)


def restormer_counts(blocks: int = 2) -> tuple[int, int]:
    """(parameters, MACs at SIDE x SIDE) of Restormer with so many blocks per level and after the decoder.

    Counted at PyTorch's operators (convolutions and matrix products), so that no layer can be overlooked; no arithmetic
    is done.
    """
    with torch.device("meta"), torch.no_grad():
        network = build_teacher("restormer", blocks=(blocks,) * 4, refinement=blocks)
        with FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 3, SIDE, SIDE))
    return sum(p.numel() for p in network.parameters()), counter.get_total_flops() // 2


def psnr_by_level(restore: Restore, images: list[np.ndarray], seed: int) -> dict[str, float]:
    """Mean PSNR in dB by noise level, clipped protocol; {} without images."""
    if not images:
        return {}
    scores = evaluate(restore, images, list(SIGMAS), ["clipped"], seed)["clipped"]
    return {sigma: entry["restored"]["psnr"] for sigma, entry in scores.items()}


def measured_row(name: str, bundle: Bundle, images: list[np.ndarray], seed: int) -> Row:
    """The row of a trained spiking network; PSNR only if it removes noise."""
    network = Network(bundle)

    def restore(image: np.ndarray) -> tuple[np.ndarray, float | None]:
        result = network.run(image)
        return result.image, result.stats.spike_rate

    what, pixels = noisy_picture(SIDE, SIDE)
    stats = network.run(np.ascontiguousarray(pixels.transpose(1, 2, 0))).stats
    able = removes_noise(bundle.task)
    return student_row(
        name, stats, stats, spike_rate=stats.spike_rate, psnr=psnr_by_level(restore, images if able else [], seed),
        about=f"{what}; {bundle.content_hash[:12]}" + ("" if able else f"; trained to {bundle.task}"),
    )  # fmt: skip


class AnnRuns:
    """The trained equivalent ANNs that were given; each belongs to the student with its layers."""

    def __init__(self, paths: Sequence[Path]):
        self.open: list[tuple[Path, Graph]] = []
        for path in paths:
            settings = read_checkpoint(path).settings
            if not settings.ann:
                raise TrainingError(f"{path} is not a run of the equivalent ANN; train one with train.hkd --ann.")
            self.open.append((path, build_student(settings).graph))

    def take(self, graph: Graph) -> Path | None:
        """The run of this graph's ANN, once; None if there is none."""
        for i, (path, own) in enumerate(self.open):
            if own.nodes == graph.nodes:
                del self.open[i]
                return path
        return None


def ann_of(name: str, graph: Graph, runs: AnnRuns, images: list[np.ndarray], seed: int) -> Row:
    """The row of a spiking network's equivalent ANN, with its PSNR if a run of it was given."""
    path = runs.take(graph)
    psnr, about = {}, "not trained here"
    if path:
        restore, found = checkpoint_restorer(path)
        psnr, about = psnr_by_level(restore, images, seed), f"trained, {found['step']:,} steps"
    # Its parameters do not depend on T, but for attention over time, which then has one step to choose from.
    parameters = ann_parameters(analyse(replace(graph, time_steps=1)))
    return ann_row(f"equivalent ANN of {name}", parameters, count(graph)[0].ann_macs, psnr=psnr, about=about)


def rows_of(
    bundles: Sequence[Path], paper_run: Path | None, ann_runs: Sequence[Path], images: list[np.ndarray], seed: int
) -> list[Row]:
    """All rows that are counted here. Raises BundleError or TrainingError."""
    runs = AnnRuns(ann_runs)
    rows: list[Row] = []
    for path in bundles:
        bundle = read_network(path)
        rows.append(measured_row(path.stem, bundle, images, seed))
        rows.append(ann_of(path.stem, bundle.graph, runs, images, seed))
    name = "the student as the paper words it"
    if paper_run:
        bundle = read_network(paper_run)
        rows.append(measured_row(name, bundle, images, seed))
        graph = bundle.graph
    else:
        graph = build_graph("paper")
        rows.append(student_row(name, *count(graph), about="not trained here: counted from its graph"))
    rows.append(ann_of(name, graph, runs, images, seed))
    if runs.open:
        raise TrainingError(
            f"The ANN in {runs.open[0][0]} has the layers of none of the students; add its student with --bundles."
        )
    parameters, macs = restormer_counts()
    rows.append(
        ann_row("Restormer, 2 blocks per level (the paper's ANN)", parameters, macs, about="counted by its operators")
    )
    return rows


def table(rows: list[Row], caption: str) -> Table:
    """Table 7 as text, with what the paper printed below."""
    columns = ["parameters", "MACs", "SyOps", "spike rate", "energy [uJ]", "Eq. (1) as printed [uJ]"]
    columns += [f"PSNR {sigma:g}" for sigma in SIGMAS]
    lines: list[tuple[str, list[str]]] = []
    for row in rows:
        spans = [_span(row.energy_uj, "{:,.0f}"), _span(row.energy_as_printed_uj, "{:,.0f}")]
        cells = [f"{row.parameters:,}", _metric(row.macs), _span(row.synops, metric=True) if any(row.synops) else "-"]
        cells += ["-" if row.spike_rate is None else f"{row.spike_rate:.3f}", *spans]
        quality = [row.psnr.get(f"{sigma:g}") for sigma in SIGMAS]
        lines.append((row.network, cells + ["-" if value is None else f"{value:.2f}" for value in quality]))
    student = published.DENOISE["SpikerIR (Restormer teacher), as printed"]
    cost = [f"{published.STUDENT_MILLIONS} M", f"{published.STUDENT_OPERATIONS} G", "-", "-", "-", "-"]
    lines.append(("SpikerIR, as printed", cost + [f"{student[int(sigma)][0]:.2f}" for sigma in SIGMAS]))
    printed = [f"{published.EQUIVALENT_ANN[int(sigma)]:.2f}" for sigma in SIGMAS]
    lines.append(("the paper's ANN, as printed", ["-"] * 6 + printed))
    notes = [f"{row.network}: {row.about}." for row in rows if row.about]
    return Table("Table 7 of the paper: what a network costs", caption, columns, lines, [*notes, *published.COST_NOTES])


def _metric(number: float) -> str:
    """12.30 G, 45.60 M, 0."""
    if not number:
        return "0"
    scale, unit = (1e9, "G") if number >= 1e9 else (1e6, "M")
    return f"{number / scale:.2f} {unit}"


def _span(bounds: tuple[float, float], form: str = "", metric: bool = False) -> str:
    least, most = (_metric(value) if metric else form.format(value) for value in bounds)
    return least if bounds[0] == bounds[1] else f"{least} to {most}"


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 when done, 2 for a mistake the user can mend."""
    parser = argparse.ArgumentParser(
        prog="python -m train.report", description="The paper's Table 7: parameters, operations, energy, PSNR."
    )
    add = parser.add_argument
    add("--bundles", type=Path, nargs="+", default=[BUNDLE], metavar="FILE", help="default: the shipped denoise bundle")
    add("--paper-run", type=Path, metavar="RUN", help="a run or bundle of the paper's student; else only counted")
    add("--ann-run", type=Path, nargs="+", default=[], metavar="RUN", help="runs of equivalent ANNs (train.hkd --ann)")
    add("--data", type=Path, metavar="DIR", help="clean images of CBSD68, for PSNR")
    add("--limit", type=int, help="only the first N images (said in the caption)")
    add("--seed", type=int, default=0, help="of the noise")
    add("--out", type=Path, metavar="DIR", help="write report.md and report.csv there")
    add("--json", type=Path, metavar="FILE", help="write every figure there")
    options = parser.parse_args(arguments)
    if options.limit is not None and options.limit < 1:
        parser.error(f"--limit must be at least 1, not {options.limit}")
    try:
        paths = image_paths(options.data)[: options.limit] if options.data else []
        images = [load_image(path) for path in paths]
        rows = rows_of(options.bundles, options.paper_run, options.ann_run, images, options.seed)
    except (BundleError, DataError, TrainingError, ValueError) as error:
        print(f"train.report: {error}", file=sys.stderr)
        return 2
    quality = (
        f"PSNR [dB]: RGB, whole images, mean over {len(images)} images of {options.data.name}, noise of sigma 15, 25 "
        f"and 50 rounded and clipped to 8 bits (seed {options.seed}), 8-bit output."
        if images
        else "PSNR was not measured: --data names the test set."
    )
    caption = (
        f"Operations of one {SIDE}x{SIDE} picture, {noisy_picture(SIDE, SIDE)[0]} (sigma 25). MACs as executed. Energy "
        f"{BITS_32}; as printed, Eq. (1) counts every MAC T times. {quality}"
    )
    found = table(rows, caption)
    print(found.text(), end="")
    content = {"caption": caption, "rows": [asdict(row) for row in rows]}
    files = {} if not options.out else {"report.md": found.markdown(), "report.csv": found.csv()}
    place = options.out
    try:
        if options.out:
            options.out.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            write_atomically(options.out / name, text.encode())
        if options.json:
            place = options.json
            write_atomically(place, (json.dumps(content, indent=1) + "\n").encode())
    except OSError as error:
        print(f"train.report: {place} cannot be written: {error}.", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
