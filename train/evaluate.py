"""`python -m train.evaluate`: PSNR and SSIM of a bundle or checkpoint on a test set, with the protocol printed beside.

Denoising, colour, whole images, RGB. Two protocols, both with Gaussian noise from a generator seeded per image:

  clipped    round(clean + noise) clipped to 0..255: what a device sees
  unclipped  round(clean + noise), not clipped: what most published tables use (rounding noise to whole grey levels
             keeps every backend's integer input and moves PSNR by less than 0.01 dB)

The restored picture is 8 bits in both. The untouched input has its own row.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from simulator.files import write_atomically
from train.data import DataError, add_noise, image_paths, load_image
from train.metrics import psnr, ssim

Restore = Callable[[np.ndarray], tuple[np.ndarray, float | None]]
DATASETS = {"cbsd68": 68}
BACKENDS = ("numba", "reference", "torch", "onnx")
PROTOCOLS = ("clipped", "unclipped")
# Published rows (arXiv 2504.01755, Table 1, CBSD68, PSNR/SSIM at 15, 25, 50; CBM3D: the BM3D authors' colour method).
PUBLISHED = {
    "SpikerIR (Restormer teacher), as printed": {15: (32.35, 0.894), 25: (29.72, 0.825), 50: (26.13, 0.678)},
    "SpikerIR (PromptIR teacher), as printed": {15: (32.48, 0.898), 25: (29.70, 0.829), 50: (25.59, 0.642)},
    "CBM3D, as published": {15: (33.50, None), 25: (30.68, None), 50: (27.36, None)},
}


class EvaluationError(ValueError):
    """A request that cannot be met; the text is a sentence for the person at the keyboard."""


def bundle_restorer(path: Path, backend: str, threads: int | None) -> tuple[Restore, dict[str, Any]]:
    """A function image [H, W, 3] (uint8, or int16 unclipped) -> (restored uint8, total spike rate or None)."""
    import simulator

    if backend in ("numba", "reference"):
        network = simulator.load(path, backend=backend, threads=threads)

        def run(image: np.ndarray) -> tuple[np.ndarray, float | None]:
            result = network.run(image) if image.dtype == np.uint8 else network.run_unclipped(image)
            return result.image, result.stats.spike_rate

        return run, {"bundle": network.bundle_hash, "task": network.task, "parameters": network.params}
    from simulator.bundle import read_bundle

    bundle = read_bundle(path)
    network = simulator.load(path, backend="reference")
    about = {"bundle": network.bundle_hash, "task": network.task, "parameters": network.params}
    if backend == "torch":
        from train.hkd import restore
        from train.student import Student

        student = Student(bundle.graph)
        student.thaw(bundle.tensors)
        student.rounded = True
        return (lambda image: (restore(student, image, torch.device("cpu")), None)), about
    try:
        import onnxruntime

        from export.onnx import build_model
    except ImportError as error:
        raise EvaluationError(
            f"The onnx backend needs a package that is missing ({error.name}): install .[export]."
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    session = onnxruntime.InferenceSession(
        build_model(bundle.graph, bundle.tensors, network.analysis, bundle.meta).SerializeToString(), options
    )

    def run_onnx(image: np.ndarray) -> tuple[np.ndarray, float | None]:
        if image.dtype != np.uint8:
            raise EvaluationError("The onnx model takes 8-bit pixels: the unclipped protocol cannot be run on it.")
        restored = session.run(None, {session.get_inputs()[0].name: image.transpose(2, 0, 1)[None]})[0]
        return np.ascontiguousarray(restored[0].transpose(1, 2, 0)), None

    return run_onnx, about


def checkpoint_restorer(path: Path) -> tuple[Restore, dict[str, Any]]:
    """The student of a checkpoint of `train.hkd`, in PyTorch with the contract's roundings."""
    from train.hkd import Settings, build_student, restore

    file = path / "checkpoint.pt" if path.is_dir() else path
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        student = build_student(Settings(**content["settings"]))
        student.load_state_dict(content["student"])
    except Exception as error:  # torch.load raises many kinds; all of them mean the same to the user
        raise EvaluationError(f"{file} is not a checkpoint of train.hkd that this version reads ({error}).") from error
    student.rounded = not content["settings"].get("ann")
    about = {"checkpoint": str(file), "step": content["step"], "task": content["settings"]["task"]}
    about["parameters"] = sum(p.numel() for p in student.parameters())
    return (lambda image: (restore(student, image, torch.device("cpu")), None)), about


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
                        (before, ssim(shown, clean), psnr(restored, clean), ssim(restored, clean), rate or np.nan)
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


def _psnr_unclipped(noisy: np.ndarray, clean: np.ndarray) -> float:
    """PSNR of a picture whose values may lie outside 0..255."""
    error = np.mean((noisy.astype(np.float64) - clean) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def print_table(report: dict[str, Any]) -> None:
    """The paper's Table 1 as text: untouched input, this network, published rows, protocol in the caption."""
    for protocol, rows in report["results"].items():
        print(f"\n{report['dataset']}, {report['images']} images, colour, protocol: {protocol}.", end=" ")
        print("Whole images, RGB PSNR [dB] / SSIM (Gaussian window), 8-bit output,")
        noise = "rounded and clipped to 8 bits" if protocol == "clipped" else "rounded, not clipped"
        print(f"noise {noise}, seed {report['seed']}.")
        print(f"{'':44s}" + "".join(f"{'sigma ' + sigma:>18s}" for sigma in rows))
        for label, key in (("untouched input", "input"), (f"this network ({report['backend']})", "restored")):
            print(
                f"{label:44s}" + "".join(f"{row[key]['psnr']:10.2f} / {row[key]['ssim']:.3f}" for row in rows.values())
            )
        for label, values in PUBLISHED.items():
            cells = [values.get(int(float(sigma))) for sigma in rows]
            shown = ["-" if c is None else f"{c[0]:.2f} / {'-' if c[1] is None else f'{c[1]:.3f}'}" for c in cells]
            print(f"{label:44s}" + "".join(f"{cell:>18s}" for cell in shown))
        rates = [row["spike_rate"] for row in rows.values()]
        if all(rate is not None for rate in rates):
            print(f"{'total spike rate (SyOps / SyOps if all fired)':44s}" + "".join(f"{rate:18.4f}" for rate in rates))


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 when done, 2 for a mistake the user can mend."""
    parser = argparse.ArgumentParser(prog="python -m train.evaluate", description="PSNR and SSIM on a test set.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--bundle", type=Path)
    source.add_argument("--checkpoint", type=Path, help="checkpoint.pt of train.hkd, or its folder")
    parser.add_argument("--dataset", choices=tuple(DATASETS), default="cbsd68")
    parser.add_argument("--data", type=Path, required=True, help="folder with the data set's clean images")
    parser.add_argument("--sigma", type=float, nargs="+", default=[15, 25, 50], help="8-bit levels")
    parser.add_argument("--protocol", choices=(*PROTOCOLS, "both"), default="both")
    parser.add_argument("--backend", choices=BACKENDS, default="numba")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="only the first N images (said in the caption)")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args(arguments)
    for name in ("threads", "limit"):
        value = getattr(options, name)
        if value is not None and value < 1:
            parser.error(f"--{name} must be at least 1, not {value}")
    if any(not 0 <= sigma <= 100 for sigma in options.sigma):
        parser.error("--sigma is in 8-bit levels, 0 to 100")
    try:
        if options.checkpoint:
            restore, about = checkpoint_restorer(options.checkpoint)
            backend = "torch"
        else:
            restore, about = bundle_restorer(options.bundle, options.backend, options.threads)
            backend = options.backend
        paths = image_paths(options.data)[: options.limit]
        if options.limit is None and len(paths) != DATASETS[options.dataset]:
            print(
                f"train.evaluate: {options.dataset} has {DATASETS[options.dataset]} images, {options.data} holds "
                f"{len(paths)}; the result is not the published protocol's.",
                file=sys.stderr,
            )
        protocols = list(PROTOCOLS) if options.protocol == "both" else [options.protocol]
        if backend == "onnx" and options.protocol == "both":
            protocols = ["clipped"]  # its input is 8-bit pixels
        images = [load_image(path) for path in paths]
        results = evaluate(restore, images, options.sigma, protocols, options.seed)
    except (DataError, EvaluationError, ValueError) as error:
        print(f"train.evaluate: {error}", file=sys.stderr)
        return 2
    report = {
        "dataset": options.dataset,
        "images": len(images),
        "backend": backend,
        "seed": options.seed,
        **about,
        "results": results,
    }
    print_table(report)
    if options.json:
        try:
            write_atomically(options.json, (json.dumps(report, indent=1) + "\n").encode())
        except OSError as error:
            print(f"train.evaluate: cannot write {options.json}: {error}.", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
