"""`python -m train.evaluate`: scores of bundles, checkpoints and others on test sets, with the protocol printed beside.

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

`--peer` puts others beside them: OpenCV's non-local means, BM3D, any ONNX file (`train.peers` says what is taken). A
table for each set says what its first picture takes, in milliseconds and estimated energy; `--plot` draws PSNR against
milliseconds. `--harm` asks instead what each network does to pictures that it was not made for (`train.harm`).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from simulator.files import write_atomically
from train import cost, harm, metrics
from train.backends import BACKENDS, BackendError
from train.contenders import Contender, Restore, bundle_contender, checkpoint_contender, peer_contender
from train.data import DataError, add_noise, load_image
from train.datasets import DATASETS, check_pixels, find, find_synthetic
from train.figures.canvas import FigureError
from train.folders import DataSet, Protocol, Sample
from train.metrics import psnr, ssim
from train.peers import open_peer
from train.run import TrainingError
from train.score_tables import Scores, make_tables
from train.tables import Table
from train.tasks import parts_of

PROTOCOLS = ("clipped", "unclipped")


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


def _wanted(
    names: list[str], root: Path, task: str, protocol: str
) -> tuple[list[tuple[DataSet, list[Sample]]], dict[str, str]]:
    """The sets that are asked for, there, and scored by the protocol; and why others are not: {name: sentence}.

    Raises DataError if one set alone is asked for and not usable.
    """
    alone = len(names) == 1 and names != ["all"]
    if names == ["all"]:
        tests = [name for name, row in DATASETS.items() if row.role == "test" and row.task in parts_of(task)]
        names = [*tests, "synthetic"]
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
    data_set: DataSet, samples: list[Sample], contender: Contender, options: argparse.Namespace
) -> dict[str, Any]:
    """One set's report: dataset, images, backend, and results by protocol."""
    samples = samples[: options.limit]
    backend = contender.backend
    print(
        f"{contender.name} ({backend}), {data_set.name}, {len(samples)} image{'s' * (len(samples) != 1)}",
        file=sys.stderr,
        flush=True,
    )
    report = {"dataset": data_set.name, "images": len(samples), "backend": backend, "network": contender.name}
    report |= contender.about
    if not data_set.protocols:
        protocols = [name for name in PROTOCOLS if options.protocol in (name, "both")]
        if (backend == "onnx" and options.protocol == "both") or contender.eight_bits:
            protocols = ["clipped"]  # its input is 8-bit pixels
        images = [load_image(sample.clean) for sample in samples]
        results: dict[str, Any] = {}
        for sigma in options.sigma:
            restore = contender.at(sigma) if contender.at else contender.restore
            for protocol, rows in evaluate(restore, images, [sigma], protocols, options.seed).items():
                results.setdefault(protocol, {}).update(rows)
        return {**report, "seed": options.seed, "results": results}
    pairs = [row for row in data_set.protocols if options.protocol in (row.name, "both")]
    captions = {row.name: row.words() for row in pairs}
    results = evaluate_pairs(contender.restore, samples, pairs)
    whole = {"whole": data_set.count, "synthetic": data_set.synthetic}
    return {**report, **whole, "protocols": captions, "results": results}


def _check(data_set: DataSet, samples: list[Sample], options: argparse.Namespace) -> None:
    """Say it if a set is not whole; DataError if a synthetic one is not as it was written."""
    if options.limit is None and len(samples) != data_set.count:
        print(
            f"train.evaluate: {data_set.name} has {data_set.count} images, {options.data} holds {len(samples)}; the "
            "result is not the published protocol's.",
            file=sys.stderr,
        )
    if data_set.synthetic and options.limit is None:
        check_pixels(data_set, samples)


def as_markdown(tables: list[Table], missing: dict[str, str]) -> str:
    """The tables as a Markdown page; missing: why a set is not in them, by its name."""
    parts = [table.markdown() for table in tables]
    if missing:
        parts.append(
            "### Not there, so not in the tables\n\n" + "\n".join(f"- {why}" for why in missing.values()) + "\n"
        )
    return "\n".join(parts)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m train.evaluate", description="PSNR and SSIM on a test set.")
    for name, words in (
        ("--bundle", "one or more; all stand in the same tables"),
        ("--checkpoint", "checkpoint.pt of train.hkd, or its folder; one or more"),
    ):
        parser.add_argument(name, type=Path, nargs="+", action="extend", default=[], metavar="FILE", help=words)
    parser.add_argument(
        "--peer", nargs="+", action="extend", default=[], metavar="PEER",
        help="others beside them: nlm (OpenCV's non-local means), bm3d (slow), an ONNX file as FILE[:NAME]",
    )  # fmt: skip
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
    parser.add_argument(
        "--harm", action="store_true",
        help="what each does to a set's clean pictures, and to noisy, rainy, hazy, blurred and JPEG ones made of them",
    )  # fmt: skip
    parser.add_argument("--backend", choices=(*BACKENDS, "onnx"), default="numba", help="onnx: the bundle's .onnx file")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="only the first N images (said in the caption)")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    parser.add_argument("--markdown", type=Path, help="write the tables here as well")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw PSNR against milliseconds there (PNG)")
    options = parser.parse_args(arguments)
    if not options.bundle and not options.checkpoint:
        parser.error("a network is needed: --bundle FILE, or --checkpoint RUN before it is frozen")
    for name in ("threads", "limit"):
        value = getattr(options, name)
        if value is not None and value < 1:
            parser.error(f"--{name} must be at least 1, not {value}")
    if any(not 0 <= sigma <= 100 for sigma in options.sigma):
        parser.error("--sigma is in 8-bit levels, 0 to 100")
    if options.harm and options.plot:
        parser.error("--plot draws scores against milliseconds, which --harm does not measure")
    for path in (options.json, options.markdown, options.plot):  # before the hour that the figures may take
        if path and not path.parent.is_dir():
            parser.error(f"{path} cannot be written: there is no folder {path.parent}")
    return options


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 when done, 2 for a mistake the user can mend."""
    options = _options(arguments)
    try:
        contents, tables, missing = (_harm if options.harm else _scores)(options)
    except (BackendError, DataError, FigureError, TrainingError, ValueError) as error:
        print(f"train.evaluate: {error}", file=sys.stderr)
        return 2
    for table in tables:
        print(f"\n{table.text()}", end="")
    if missing:
        print("\nNot there, so not in the tables:")
        print("\n".join(f"  {sentence}" for sentence in missing.values()))
    written = {
        options.json: json.dumps(contents, indent=1) + "\n",
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


def _scores(options: argparse.Namespace) -> tuple[dict[str, Any], list[Table], dict[str, str]]:
    """(the JSON file's content, every table, {what is not there: why}).

    Raises BackendError, DataError, FigureError, TrainingError or ValueError, a sentence.
    """
    networks, peers, missing = _contenders(options)
    reports: list[list[dict[str, Any]]] = []
    sets: list[tuple[DataSet, list[Sample]]] = []  # every set that a network is scored on, once
    by_set: dict[int, list[tuple[Contender, dict[str, Any]]]] = {}  # by the set's place among them
    for one in networks:
        found, absent = _wanted(options.dataset, options.data, one.about["task"], options.protocol)
        missing |= absent
        own = []
        for data_set, samples in found:
            if data_set.task not in parts_of(one.about["task"]):
                print(
                    f"train.evaluate: {one.name} was trained to {one.about['task']}; {data_set.name} is a set to "
                    f"{data_set.task}.",
                    file=sys.stderr,
                )
            if (data_set, samples) not in sets:
                _check(data_set, samples, options)
                sets.append((data_set, samples))
            own.append(_report(data_set, samples, one, options))
            by_set.setdefault(sets.index((data_set, samples)), []).append((one, own[-1]))
        reports.append(own)
    if not any(reports):
        names = ", ".join(options.dataset)
        raise DataError(f"No set of {names} can be used; python -m train.datasets --data {options.data} says why.")
    for one in peers:
        own = []
        for i, (data_set, samples) in enumerate(sets):
            why = _left_out(one, data_set, options)
            if why:
                missing[f"{one.name}, {data_set.name}"] = why
            elif not one.tasks or data_set.task in one.tasks:
                own.append(_report(data_set, samples, one, options))
                by_set[i].append((one, own[-1]))
        reports.append(own)
    reports = [own for own in reports if own]
    costs = []
    for i, rows in sorted(by_set.items()):
        _measure_cost(*sets[i], rows, options)
        costs.append([report for _, report in rows])
    if options.plot:
        print(f"wrote {cost.plot(costs, options.plot)}", file=sys.stderr)
    alone = len(options.dataset) == 1 and options.dataset != ["all"]
    contents = [own[0] if alone and len(own) == 1 else {"sets": own, "missing": missing} for own in reports]
    tables = make_tables(reports, {data_set.name: data_set.task for data_set, _ in sets})
    tables += [cost.cost_table(rows) for rows in costs]
    return contents[0] if len(contents) == 1 else {"networks": contents}, tables, missing


def _left_out(peer: Contender, data_set: DataSet, options: argparse.Namespace) -> str:
    """Why a peer has no row in a set's tables, "" if it has one or the set is of another task."""
    if peer.tasks and data_set.task not in peer.tasks:
        return ""
    if peer.needs_level and data_set.protocols:
        return f"{peer.name} has to be told the noise's level, and {data_set.name} does not say what it is."
    if not data_set.protocols and options.protocol == "unclipped":
        return f"{peer.name} takes 8-bit pixels: the unclipped protocol cannot be run on it."
    return ""


def _measure_cost(
    data_set: DataSet, samples: list[Sample], rows: list[tuple[Contender, dict[str, Any]]], options: argparse.Namespace
) -> None:
    """Add "cost" to each network's report: milliseconds for the set's first picture, in turn, and estimated energy."""
    if data_set.protocols:
        picture, noise, sigma = samples[0].load()[0], "", None
    else:
        sigma = sorted(options.sigma)[len(options.sigma) // 2]
        picture = add_noise(load_image(samples[0].clean), sigma, options.seed, True, 0)
        noise = f" with noise of sigma {sigma:g}"
    restores = [one.at(sigma) if one.at and sigma is not None else one.restore for one, _ in rows]
    times = cost.in_turn([partial(restore, picture) for restore in restores])
    for (one, report), ms in zip(rows, times, strict=True):
        height, width = picture.shape[:2]
        report["cost"] = {
            "height": height, "width": width, "noise": noise, "ms": ms, "energy_uj": one.energy_uj(picture),
        }  # fmt: skip


def _harm(options: argparse.Namespace) -> tuple[dict[str, Any], list[Table], dict[str, str]]:
    """As `_scores`, of the do-no-harm tables; --dataset names one set of clean images."""
    networks, peers, missing = _contenders(options)
    if len(options.dataset) != 1 or options.dataset[0] not in DATASETS or DATASETS[options.dataset[0]].protocols:
        clean = ", ".join(name for name, row in DATASETS.items() if not row.protocols)
        raise DataError(f"--harm degrades one set of clean images; --dataset is one of {clean}.")
    name = options.dataset[0]
    samples = find(name, options.data)[: options.limit]
    for one in [peer for peer in peers if peer.needs_level]:
        missing[one.name] = f"{one.name} has to be told the noise's level, which pictures of every sort do not have."
    everybody = [*networks, *(peer for peer in peers if not peer.needs_level)]
    images = [load_image(sample.clean) for sample in samples]
    found = harm.measure(everybody, images, [sample.name for sample in samples], options.seed)
    figures = {one: {case: harm.summary(rows) for case, rows in cases.items()} for one, cases in found.items()}
    content = {"dataset": name, "images": len(images), "seed": options.seed, "networks": figures}
    tables = [*harm.tables(found, name, options.seed), harm.overview(found, name, options.seed)]
    return content, tables, missing


def _contenders(options: argparse.Namespace) -> tuple[list[Contender], list[Contender], dict[str, str]]:
    """(this project's networks, the others, {a package that is missing: what to do}).

    Raises BackendError, TrainingError or ValueError, a sentence.
    """
    paths = [*options.bundle, *options.checkpoint]
    networks = []
    for path, name in zip(paths, _short_names(paths), strict=True):
        if path in options.checkpoint:
            networks.append(checkpoint_contender(path, name))
        else:
            networks.append(bundle_contender(path, name, options.backend, options.threads))
    peers, missing = [], {}
    for word in options.peer:
        try:
            peers.append(peer_contender(open_peer(word, options.threads)))
        except BackendError as error:
            if word != "bm3d":
                raise
            missing[word] = str(error)
    names = [one.name for one in (*networks, *peers)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BackendError(f"Two rows are called {twice[0]!r}; name an ONNX file otherwise: --peer FILE:NAME.")
    return networks, peers, missing


def _short_names(paths: Sequence[Path]) -> list[str]:
    """The name of a bundle's file or a run's folder; the whole path where two would be the same."""
    short = [path.parent.name if path.name == "checkpoint.pt" else path.stem for path in paths]
    return [name if short.count(name) == 1 else str(path) for name, path in zip(short, paths, strict=True)]


if __name__ == "__main__":
    sys.exit(main())
