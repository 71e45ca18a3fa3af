"""`python -m train.evaluate`: scores of a bundle or checkpoint on test sets, with the protocol printed beside.

Denoising, colour, whole images, RGB. Two protocols, both with Gaussian noise from a generator seeded per image:

  clipped    round(clean + noise) clipped to 0..255: what a device sees
  unclipped  round(clean + noise), not clipped: what most published tables use (rounding noise to whole grey levels
             keeps every backend's integer input and moves PSNR by less than 0.01 dB)

The other tasks have pairs of pictures; how each set is scored stands in `train.datasets` and in the caption. The
restored picture is 8 bits always, and the untouched input has its own row. `--dataset all` takes every test set of the
network's task, the project's synthetic ones included, and names those that are not there. Several --bundle and
--checkpoint stand in the same tables: with the five shipped bundles these are the paper's Tables 1 to 5, with what the
paper printed beside (`train.published`). `--backend onnx` runs what `python -m export.onnx` wrote of the bundle: the
file of its name that ends in .onnx, beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from simulator.bundle import read_bundle
from simulator.files import write_atomically
from train import metrics, published
from train.backends import BACKENDS, BackendError, onnx_file
from train.checkpoint import read_checkpoint, trained_student
from train.data import DataError, add_noise, load_image
from train.datasets import DATASETS, check_pixels, find, find_synthetic
from train.folders import DataSet, Protocol, Sample
from train.metrics import psnr, ssim
from train.run import TrainingError
from train.student import restore_image
from train.tables import Table
from train.tasks import TASKS, paper_order, parts_of

Restore = Callable[[np.ndarray], tuple[np.ndarray, float | None]]
Scores = dict[str, float | None]  # by metric; None where a metric is not available
PROTOCOLS = ("clipped", "unclipped")


def bundle_restorer(path: Path, backend: str, threads: int | None) -> tuple[Restore, dict[str, Any]]:
    """A function image [H, W, 3] (uint8, or int16 unclipped) -> (restored uint8, total spike rate or None)."""
    bundle = read_bundle(path)
    about = {"bundle": bundle.content_hash, "task": bundle.task, "parameters": bundle.analysis.parameters}
    if backend == "onnx":
        return onnx_file(path.with_suffix(".onnx"), bundle, threads).run, about
    return BACKENDS[backend](bundle, threads).run, about


def checkpoint_restorer(path: Path) -> tuple[Restore, dict[str, Any]]:
    """The student of a checkpoint of `train.hkd`, in PyTorch with the contract's roundings."""
    checkpoint = read_checkpoint(path)
    student = trained_student(checkpoint)
    about = {"checkpoint": str(checkpoint.path), "step": checkpoint.step, "task": checkpoint.settings.task}
    about["parameters"] = student.deployed_parameters
    return (lambda image: (restore_image(student, image), None)), about


def evaluate(
    restore: Restore, images: list[np.ndarray], sigmas: list[float], protocols: list[str], seed: int
) -> dict[str, Any]:
    """Mean scores: {protocol: {sigma: {"input": {psnr, ssim}, "restored": {psnr, ssim}, "spike_rate", "seconds"}}}."""
    table: dict[str, Any] = {}
    bar = tqdm(total=len(images) * len(sigmas) * len(protocols), unit="image", disable=not sys.stderr.isatty())
    with bar:
        for protocol in protocols:
            for sigma in sigmas:
                rows = []
                began = time.perf_counter()
                for index, clean in enumerate(images):
                    noisy = add_noise(clean, sigma, seed, protocol == "clipped", index)
                    restored, rate = restore(noisy)
                    shown = np.clip(noisy, 0, 255).astype(np.uint8)
                    before = psnr(shown, clean) if protocol == "clipped" else _psnr_unclipped(noisy, clean)
                    rows.append(
                        (
                            before,
                            ssim(shown, clean),
                            psnr(restored, clean),
                            ssim(restored, clean),
                            np.nan if rate is None else rate,
                        )
                    )
                    bar.update()
                means = [float(value) for value in np.mean(rows, axis=0)]
                entry = {
                    "input": {"psnr": means[0], "ssim": means[1]},
                    "restored": {"psnr": means[2], "ssim": means[3]},
                    "spike_rate": None if np.isnan(means[4]) else means[4],
                    "seconds": time.perf_counter() - began,
                }
                table.setdefault(protocol, {})[f"{sigma:g}"] = entry
                if bar.disable:
                    print(
                        f"{protocol} sigma {sigma:g}: {means[0]:.2f} -> {means[2]:.2f} dB", file=sys.stderr, flush=True
                    )
    return table


def score(image: np.ndarray, clean: np.ndarray, protocol: Protocol) -> Scores:
    """What the protocol asks for: psnr [dB], ssim, and mae and lpips where it does; uint8 RGB [H, W, 3] both.

    lpips is None where it is not available. Raises metrics.AlignmentError where an alignment is asked for and fails.
    """
    if protocol.aligned:
        return {"psnr": metrics.psnr_aligned(image, clean), "ssim": metrics.ssim_aligned(image, clean)}
    if protocol.channels == "Y":
        return {"psnr": metrics.psnr_y(image, clean), "ssim": metrics.ssim_y(image, clean)}
    variant = {"gaussian": metrics.ssim, "uniform": metrics.ssim_uniform, "volume": metrics.ssim_volume}[protocol.ssim]
    scores: Scores = {"psnr": psnr(image, clean), "ssim": variant(image, clean)}
    if protocol.perceptual:
        scores |= {"mae": metrics.mae(image, clean), "lpips": metrics.lpips(image, clean)}
    return scores


def centre_crop(image: np.ndarray, multiple: int) -> np.ndarray:
    """The middle of an image [H, W, 3], both sides cut to a multiple of so many pixels; left as it is if smaller."""
    corners = [(side % multiple) // 2 if side >= multiple else 0 for side in image.shape[:2]]
    sides = [side - side % multiple if side >= multiple else side for side in image.shape[:2]]
    (top, left), (height, width) = corners, sides
    return np.ascontiguousarray(image[top : top + height, left : left + width])


def evaluate_pairs(restore: Restore, samples: list[Sample], protocols: list[Protocol]) -> dict[str, Any]:
    """Mean scores of a paired set, images read one at a time: {protocol: {"images", "input": {psnr, ssim, ...},
    "restored": {...}, "groups": {group: {"images", "input", "restored"}}, "spike_rate", "seconds", "unaligned"}}.

    unaligned: names of images whose alignment failed, in either row; they are scored as they are.
    """
    table: dict[str, Any] = {}
    bar = tqdm(total=len(samples) * len(protocols), unit="image", disable=not sys.stderr.isatty())
    with bar:
        for protocol in protocols:
            rows: list[dict[str, Scores]] = []
            rates, unaligned = [], []
            began = time.perf_counter()
            for sample in samples:
                degraded, clean = (centre_crop(picture, protocol.crop) for picture in sample.load())
                restored, rate = restore(degraded)
                pictures = {"input": degraded, "restored": restored}
                try:
                    rows.append({row: score(picture, clean, protocol) for row, picture in pictures.items()})
                except metrics.AlignmentError:
                    unaligned.append(sample.name)
                    plain = replace(protocol, aligned=False)
                    rows.append({row: score(picture, clean, plain) for row, picture in pictures.items()})
                rates.append(rate)
                bar.update()
            parts: dict[str, list[dict[str, Scores]]] = {}
            for sample, scores in zip(samples, rows, strict=True):
                if sample.group:
                    parts.setdefault(sample.group, []).append(scores)
            table[protocol.name] = {
                **_means(rows),
                "groups": {group: _means(part) for group, part in parts.items()},
                "spike_rate": _mean(rates),
                "seconds": time.perf_counter() - began,
                "unaligned": unaligned,
            }
            if bar.disable:
                before, after = (table[protocol.name][row]["psnr"] for row in ("input", "restored"))
                print(f"{protocol.name}: {before:.2f} -> {after:.2f} dB", file=sys.stderr, flush=True)
    return table


def _means(rows: list[dict[str, Scores]]) -> dict[str, Any]:
    """{"images", "input": {metric: mean}, "restored": {metric: mean}}."""
    means = {row: {key: _mean([scores[row][key] for scores in rows]) for key in rows[0][row]} for row in rows[0]}
    return {"images": len(rows), **means}


def _mean(values: list[float | None]) -> float | None:
    """None as soon as one value is absent."""
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if len(present) == len(values) else None


def _psnr_unclipped(noisy: np.ndarray, clean: np.ndarray) -> float:
    """PSNR of a picture whose values may lie outside 0..255."""
    error = np.mean((noisy.astype(np.float64) - clean) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def denoise_tables(network_reports: list[dict[str, Any]]) -> list[Table]:
    """The paper's Table 1, one table per protocol: untouched input, every network, published rows.

    network_reports: one set's report of each network.
    """
    first = network_reports[0]
    tables = []
    for protocol, rows in first["results"].items():
        noise = "rounded and clipped to 8 bits" if protocol == "clipped" else "rounded, not clipped"
        images = f"{first['images']}{_part(first, DATASETS[first['dataset']].count)} images"
        caption = (
            f"{first['dataset']}, {images}, colour, protocol: {protocol}. Whole images, RGB PSNR [dB] / SSIM (Gaussian "
            f"window), 8-bit output, noise {noise}, seed {first['seed']}."
        )
        lines = [("untouched input", [_pair(row["input"]) for row in rows.values()])]
        for report in network_reports:
            own = report["results"][protocol]
            lines.append((_label(report), [_pair(own[sigma]["restored"]) for sigma in rows]))
        task = TASKS[DATASETS[first["dataset"]].task]
        in_paper = task.in_paper(first["dataset"])
        for label, printed in published.DENOISE.items() if in_paper else ():
            lines.append((label, [_printed_pair(printed, sigma) for sigma in rows]))
        for report in network_reports:
            rates = [report["results"][protocol][sigma]["spike_rate"] for sigma in rows]
            if all(rate is not None for rate in rates):
                lines.append((_rate_label(report), [f"{rate:.4f}" for rate in rates]))
        notes = task.paper.notes if task.paper and in_paper else ()
        heading = task.headline(first["dataset"], False)
        tables.append(Table(heading, caption, [f"sigma {sigma}" for sigma in rows], lines, notes))
    return tables


def pair_tables(network_reports: list[dict[str, Any]], task: str) -> list[Table]:
    """One of the paper's Tables 2 to 5, one table per protocol; network_reports: one set's report of each network."""
    names = {"psnr": "PSNR", "ssim": "SSIM", "mae": "MAE", "lpips": "LPIPS"}
    first = network_reports[0]
    tables = []
    for protocol, result in first["results"].items():
        synthetic = first["synthetic"]
        origin = f" SYNTHETIC: made by train.degradations from clean images ({synthetic})." if synthetic else ""
        images = f"{first['images']}{_part(first, first['whole'])} images"
        caption = f"{first['dataset']}, {images}.{origin} {first['protocols'][protocol]}."
        shown = [key for key in names if key in result["input"]]
        lines, notes = [], []
        for group, means in (("", result), *result["groups"].items()):
            where = f", {group} ({means['images']})" if group else ""
            lines.append((f"untouched input{where}", _cells(means["input"], shown)))
            for report in network_reports:
                own = report["results"][protocol]
                restored = (own["groups"][group] if group else own)["restored"]
                lines.append((f"{_label(report)}{where}", _cells(restored, shown)))
        for label, wanted, values in published.PAIRS.get(first["dataset"], []):
            if wanted in ("", protocol):
                lines.append((label, _cells(values, shown)))
        for report in network_reports:
            own = report["results"][protocol]
            if own["spike_rate"] is not None:
                cells = [f"{own['spike_rate']:.4f}", *[""] * (len(shown) - 1)]
                lines.append((_rate_label(report), cells))
            if own["unaligned"]:
                whose = "" if len(network_reports) == 1 else f" ({report['network']})"
                notes.append(f"Not aligned, scored as they are: {', '.join(own['unaligned'])}{whose}.")
        if "lpips" in shown and result["input"]["lpips"] is None and (missing := metrics.lpips_missing()):
            notes.append(missing)
        entry = TASKS[task]
        if entry.paper and entry.in_paper(first["dataset"]):
            notes += entry.paper.notes
        heading = entry.headline(first["dataset"], bool(synthetic))
        tables.append(Table(heading, caption, [names[key] for key in shown], lines, notes))
    return tables


def make_tables(network_reports: list[list[dict[str, Any]]], tasks: dict[str, str]) -> list[Table]:
    """All tables in the paper's order; network_reports: of each network, one report per set. tasks: {set: task}."""
    by_set: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for reports in network_reports:
        names = [report["dataset"] for report in reports]
        for i, report in enumerate(reports):  # synthetic sets may share a name; every network has them in one order
            by_set.setdefault((names[i], names[:i].count(names[i])), []).append(report)
    tables: list[Table] = []
    # Sorting is stable: sets of one table stay as they were asked for.
    for (name, _), own in sorted(by_set.items(), key=lambda item: paper_order(tasks[item[0][0]])):
        tables += pair_tables(own, tasks[name]) if "protocols" in own[0] else denoise_tables(own)
    return tables


def as_markdown(tables: list[Table], missing: dict[str, str]) -> str:
    """The tables as a Markdown page; missing: why a set is not in them, by its name."""
    parts = [table.markdown() for table in tables]
    if missing:
        parts.append(
            "### Not there, so not in the tables\n\n" + "\n".join(f"- {why}" for why in missing.values()) + "\n"
        )
    return "\n".join(parts)


def _label(report: dict[str, Any]) -> str:
    """Whose row it is, with its size and, before it is frozen, how long it was trained."""
    steps = f", {report['step']:,} steps" if "step" in report else ""
    return f"{report['network']} ({report['backend']}), {report['parameters']:,} parameters{steps}"


def _part(report: dict[str, Any], whole: int) -> str:
    return "" if report["images"] == whole else f" of {whole}"


def _rate_label(report: dict[str, Any]) -> str:
    return f"total spike rate (SyOps / SyOps if all fired), {report['network']}"


def _pair(scores: Scores) -> str:
    return f"{scores['psnr']:.2f} / {scores['ssim']:.3f}"


def _printed_pair(printed: dict[int, tuple[float, float | None]], sigma: str) -> str:
    found = printed.get(int(float(sigma))) if float(sigma).is_integer() else None
    return "-" if found is None else f"{found[0]:.2f} / {'-' if found[1] is None else f'{found[1]:.3f}'}"


def _cells(values: Scores, shown: list[str]) -> list[str]:
    def cell(key: str) -> str:
        value = values.get(key)
        return "-" if value is None else f"{value:.2f}" if key == "psnr" else f"{value:.3f}"

    return [cell(key) for key in shown]


def _wanted(
    names: list[str], root: Path, task: str, protocol: str
) -> tuple[list[tuple[DataSet, list[Sample]]], dict[str, str]]:
    """The sets that are asked for, there, and scored by the protocol; and why others are not: {name: sentence}.

    Raises DataError if one set alone is asked for and not usable.
    """
    if names == ["all"]:
        tests = [name for name, row in DATASETS.items() if row.role == "test" and row.task in parts_of(task)]
        names = [*tests, "synthetic"]
    alone = len(names) == 1
    found: list[tuple[DataSet, list[Sample]]] = []
    missing: dict[str, str] = {}
    for name in names:
        try:
            if name != "synthetic":
                check_protocol(DATASETS[name], protocol)
                found.append((DATASETS[name], find(name, root, itself=alone)))
                continue
            twins = [twin for twin in find_synthetic(root) if alone or twin[0].task in parts_of(task)]
            if not twins:
                which = "set" if alone else f"set to {task}"
                raise DataError(
                    f"No synthetic {which} is in {root}; expected set.json with input and target, there or one folder "
                    "deeper (python -m train.degradations writes them)."
                )
            for data_set, _ in twins:
                check_protocol(data_set, protocol)
            found += twins
        except DataError as error:
            if alone:
                raise
            missing[f"synthetic {task}" if name == "synthetic" else name] = str(error)
    return found, missing


def check_protocol(data_set: DataSet, protocol: str) -> None:
    """Raise DataError unless the set has the protocol ("both": whatever it has)."""
    names = [row.name for row in data_set.protocols] or list(PROTOCOLS)
    if protocol not in (*names, "both"):
        raise DataError(f"{data_set.name} is scored by the protocol {' or '.join(names)}, not by {protocol}.")


def _report(
    data_set: DataSet, samples: list[Sample], restore: Restore, backend: str, options: argparse.Namespace
) -> dict[str, Any]:
    """One set's report: dataset, images, backend, and results by protocol."""
    if options.limit is None and len(samples) != data_set.count:
        print(
            f"train.evaluate: {data_set.name} has {data_set.count} images, {options.data} holds {len(samples)}; the "
            "result is not the published protocol's.",
            file=sys.stderr,
        )
    if data_set.synthetic and options.limit is None:
        check_pixels(data_set, samples)
    samples = samples[: options.limit]
    report = {"dataset": data_set.name, "images": len(samples), "backend": backend}
    if not data_set.protocols:
        protocols = [name for name in PROTOCOLS if options.protocol in (name, "both")]
        if backend == "onnx" and options.protocol == "both":
            protocols = ["clipped"]  # its input is 8-bit pixels
        images = [load_image(sample.clean) for sample in samples]
        results = evaluate(restore, images, options.sigma, protocols, options.seed)
        return {**report, "seed": options.seed, "results": results}
    pairs = [row for row in data_set.protocols if options.protocol in (row.name, "both")]
    captions = {row.name: row.words() for row in pairs}
    results = evaluate_pairs(restore, samples, pairs)
    whole = {"whole": data_set.count, "synthetic": data_set.synthetic}
    return {**report, **whole, "protocols": captions, "results": results}


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 when done, 2 for a mistake the user can mend."""
    parser = argparse.ArgumentParser(prog="python -m train.evaluate", description="PSNR and SSIM on a test set.")
    for name, words in (
        ("--bundle", "one or more; all stand in the same tables"),
        ("--checkpoint", "checkpoint.pt of train.hkd, or its folder; one or more"),
    ):
        parser.add_argument(name, type=Path, nargs="+", action="extend", default=[], metavar="FILE", help=words)
    parser.add_argument(
        "--dataset", nargs="+", choices=(*DATASETS, "synthetic", "all"), default=["cbsd68"], metavar="NAME",
        help=f"{', '.join(DATASETS)}; synthetic: what train.degradations wrote; all: test sets of the network's task",
    )  # fmt: skip
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets, or of the one asked for")
    parser.add_argument("--sigma", type=float, nargs="+", default=[15, 25, 50], help="8-bit levels")
    parser.add_argument(
        "--protocol", choices=(*PROTOCOLS, "y", "rgb", "both"), default="both",
        help="one of a set's protocols: clipped, unclipped (denoise), y, rgb (the others); default: all it has",
    )  # fmt: skip
    parser.add_argument("--backend", choices=(*BACKENDS, "onnx"), default="numba", help="onnx: the bundle's .onnx file")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="only the first N images (said in the caption)")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    parser.add_argument("--markdown", type=Path, help="write the tables here as well")
    options = parser.parse_args(arguments)
    if not options.bundle and not options.checkpoint:
        parser.error("a network is needed: --bundle FILE, or --checkpoint RUN before it is frozen")
    for name in ("threads", "limit"):
        value = getattr(options, name)
        if value is not None and value < 1:
            parser.error(f"--{name} must be at least 1, not {value}")
    if any(not 0 <= sigma <= 100 for sigma in options.sigma):
        parser.error("--sigma is in 8-bit levels, 0 to 100")
    for path in (options.json, options.markdown):  # before the hour that the figures may take
        if path and not path.parent.is_dir():
            parser.error(f"{path} cannot be written: there is no folder {path.parent}")
    try:
        reports, tasks, missing = _evaluate_all(options)
    except (BackendError, DataError, TrainingError, ValueError) as error:
        print(f"train.evaluate: {error}", file=sys.stderr)
        return 2
    tables = make_tables(reports, tasks)
    for table in tables:
        print(f"\n{table.text()}", end="")
    if missing:
        print("\nNot there, so not in the tables:")
        print("\n".join(f"  {sentence}" for sentence in missing.values()))
    alone = len(options.dataset) == 1 and options.dataset != ["all"]
    contents = [own[0] if alone and len(own) == 1 else {"sets": own, "missing": missing} for own in reports]
    written = {
        options.json: json.dumps(contents[0] if len(contents) == 1 else {"networks": contents}, indent=1) + "\n",
        options.markdown: as_markdown(tables, missing),
    }
    for path, content in written.items():
        try:
            if path:
                write_atomically(path, content.encode())
        except OSError as error:
            print(f"train.evaluate: cannot write {path}: {error}.", file=sys.stderr)
            return 2
    return 0


def _evaluate_all(
    options: argparse.Namespace,
) -> tuple[list[list[dict[str, Any]]], dict[str, str], dict[str, str]]:
    """(of each network its sets' reports, {set: its task}, {set: why it is not there}).

    Raises BackendError, DataError, TrainingError or ValueError, a sentence.
    """
    paths = [*options.bundle, *options.checkpoint]
    reports: list[list[dict[str, Any]]] = []
    tasks: dict[str, str] = {}
    missing: dict[str, str] = {}
    for path, name in zip(paths, _short_names(paths), strict=True):
        if path in options.checkpoint:
            (restore, about), backend = checkpoint_restorer(path), "torch"
        else:
            (restore, about), backend = bundle_restorer(path, options.backend, options.threads), options.backend
        found, absent = _wanted(options.dataset, options.data, about["task"], options.protocol)
        missing |= absent
        for data_set, _ in found:
            tasks[data_set.name] = data_set.task
            if data_set.task not in parts_of(about["task"]):
                print(
                    f"train.evaluate: {name} was trained to {about['task']}; {data_set.name} is a set to "
                    f"{data_set.task}.",
                    file=sys.stderr,
                )
        reports.append([_report(*pair, restore, backend, options) | {"network": name} | about for pair in found])
    if not any(reports):
        names = ", ".join(options.dataset)
        raise DataError(f"No set of {names} can be used; python -m train.datasets --data {options.data} says why.")
    return [own for own in reports if own], tasks, missing


def _short_names(paths: list[Path]) -> list[str]:
    """The name of a bundle's file or a run's folder; the whole path where two would be the same."""
    short = [path.parent.name if path.name == "checkpoint.pt" else path.stem for path in paths]
    return [name if short.count(name) == 1 else str(path) for name, path in zip(short, paths, strict=True)]


if __name__ == "__main__":
    sys.exit(main())
