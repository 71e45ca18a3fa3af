"""`python -m export.bench.training`: training speed beside SpikingJelly's, with the loss curves of both.

The same student, weights, batches, loss and optimiser (AdamW), once as this project trains it (`train.hkd`) and once
built from SpikingJelly's modules (`peers.py`). First both train --steps steps in float32 and their losses and
weights are compared. Then single steps are timed in turn, so that whatever else the machine does hits all of them:

    ours, float32                     the same arithmetic as SpikingJelly's
    ours, bfloat16 currents           as the bundles were trained (--bfloat16)
    SpikingJelly                      the same neuron, a SimpleBaseNode of its torch backend; the faster of two memory
                                      formats is what the ratios refer to
    SpikingJelly, bfloat16 autocast   its convolutions in bfloat16, membranes in float32
    SpikingJelly's LIFNode            its own neuron: one threshold per layer, no bias, neither trained; another network
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from simulator.files import write_atomically
from simulator.graph import Graph, GraphError
from train import hkd
from train.architectures import build_graph
from train.checkpoint import Settings
from train.data import DataError, load_images, to_network
from train.losses import restoration_loss
from train.patches import PatchSampler
from train.processes import World
from train.run import TrainingError, cosine_rate
from train.student import Student

if TYPE_CHECKING:
    from export.bench.peers import SpikingJellyStudent

Batch = tuple[Tensor, Tensor]  # degraded and clean, uint8 [B, 3, P, P]
Step = Callable[[Batch], float]  # one training step; its loss
OURS, FAST, PEER, PEER_LAST, PEER_HALF, PEER_OWN = (
    "ours, float32",
    "ours, bfloat16 currents",
    "SpikingJelly, contiguous",
    "SpikingJelly, channels_last",
    "SpikingJelly, bfloat16 autocast",
    "SpikingJelly's LIFNode (another network)",
)


def our_run(settings: Settings) -> hkd.Run:
    """A run of train.hkd on the CPU at its first step."""
    return hkd.Run(settings, World(0, 1, torch.device("cpu")))


def our_step(run: hkd.Run) -> Step:
    """The training step of train.hkd, without hints, before the rounding phase; the rate warms up, then stays."""
    return lambda batch: run.train_step(*batch, {}, 0.0)["loss"]


def peer_step(peer: SpikingJellyStudent, settings: Settings, last: bool = False, half: bool = False) -> Step:
    """The same step for the network of SpikingJelly's modules. last: channels_last memory; half: bfloat16 autocast."""
    memory = torch.channels_last if last else torch.contiguous_format
    peer.to(memory_format=memory)  # type: ignore[call-overload]
    parameters = list(peer.parameters())
    optimizer = torch.optim.AdamW(
        parameters, settings.rate, betas=(0.9, 0.999), weight_decay=settings.weight_decay, fused=True
    )
    taken = 0

    def step(batch: Batch) -> float:
        nonlocal taken
        degraded, clean = batch
        for group in optimizer.param_groups:
            group["lr"] = cosine_rate(settings.rate, settings.final_rate, settings.warmup, taken, 0.0)
        pixels = to_network(degraded)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            change = peer(pixels.contiguous(memory_format=memory))
        l1, fft = restoration_loss((pixels + change.float()) / 2, to_network(clean) / 2, settings.fft_weight)
        loss = l1 + settings.fft_weight * fft
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, settings.clip_norm)
        optimizer.step()
        peer.clamp()
        taken += 1
        return float(loss.detach())

    return step


def flat(weights: Iterable[Tensor]) -> Tensor:
    """All weights as one vector."""
    return torch.cat([weight.detach().flatten() for weight in weights])


def compare(run: hkd.Run, peer: SpikingJellyStudent, batches: Sequence[Batch]) -> dict[str, Any]:
    """Train both on the same batches. {"ours": losses, "spikingjelly": losses, "largest relative difference" of them,
    "weights": distance of the weights over the way they went}.
    """
    start = flat(run.student.weights.values())
    ours, theirs = our_step(run), peer_step(peer, run.settings)
    losses = np.array([(ours(batch), theirs(batch)) for batch in batches])
    end = flat(run.student.weights.values())
    apart = end - flat(peer.trained()[name] for name in run.student.weights)
    return {
        "steps": len(batches),
        "ours": losses[:, 0].tolist(),
        "spikingjelly": losses[:, 1].tolist(),
        "largest relative difference": float((np.abs(losses[:, 0] - losses[:, 1]) / losses[:, 1]).max()),
        "weights": float(apart.norm() / (end - start).norm()),
    }


def time_in_turn(steps: dict[str, Step], batches: Sequence[Batch], repeats: int, warmup: int = 3) -> dict[str, float]:
    """Median seconds of a step of each, repetitions interleaved; all see the same batches."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(repeats + warmup):
        for name, step in steps.items():
            began = time.perf_counter()
            step(batches[turn % len(batches)])
            if turn >= warmup:
                taken[name].append(time.perf_counter() - began)
    return {name: median(times) for name, times in taken.items()}


def contenders(settings: Settings, graph: Graph) -> dict[str, Step]:
    """Everything that is timed, each with its own weights of the same seed."""
    from export.bench.peers import SpikingJellyStudent

    def student() -> Student:
        return Student(graph, leak=settings.leak, threshold=settings.threshold, seed=settings.seed)

    return {
        OURS: our_step(our_run(settings)),
        FAST: our_step(our_run(replace(settings, bfloat16=True))),
        PEER: peer_step(SpikingJellyStudent(student()), settings),
        PEER_LAST: peer_step(SpikingJellyStudent(student()), settings, last=True),
        PEER_HALF: peer_step(SpikingJellyStudent(student()), settings, half=True),
        PEER_OWN: peer_step(SpikingJellyStudent(student(), own_neuron=True), settings),
    }


def table(curve: dict[str, Any], seconds: dict[str, float], caption: str) -> str:
    """Both results as Markdown."""
    peer = min(seconds[PEER], seconds[PEER_LAST])
    ours, theirs, worst = curve["ours"], curve["spikingjelly"], curve["largest relative difference"]
    lines = [
        f"{caption}.",
        f"Losses over {curve['steps']} steps in float32: {ours[0]:.5f} -> {ours[-1]:.5f} (ours), "
        f"{theirs[0]:.5f} -> {theirs[-1]:.5f} (SpikingJelly); largest relative difference {worst:.1e}, after "
        f"one step {abs(ours[1] / theirs[1] - 1):.1e}; the weights end {curve['weights']:.3f} of their way apart.",
        "",
        "| training step | ms | steps/s | times SpikingJelly's |",
        "|---|---|---|---|",
    ]
    for name, each in seconds.items():
        lines.append(f"| {name} | {1e3 * each:.1f} | {1 / each:.1f} | {peer / each:.2f} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 when done, 2 for a mistake the user can mend."""
    parser = argparse.ArgumentParser(
        prog="python -m export.bench.training",
        description="Training speed beside SpikingJelly's, and both losses.",
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="clean images (default: smooth random pictures)")
    parser.add_argument("--channels", type=int, nargs=4, metavar="N", help="of the edge student's levels")
    parser.add_argument("--architecture", nargs="+", default=(), metavar="NAME=VALUE", help="as for train.hkd")
    parser.add_argument("--patch", type=int, default=64, help="side of the patches, pixels")
    parser.add_argument("--batch", type=int, default=8, help="patches per step")
    parser.add_argument("--steps", type=int, default=30, help="steps of the loss curves (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=21, help="timed steps of each (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args(arguments)
    for name, least in (("patch", 1), ("batch", 1), ("steps", 2), ("repeats", 1), ("threads", 1)):
        if getattr(options, name) < least:
            parser.error(f"--{name} must be at least {least}, not {getattr(options, name)}")
    try:
        from export.bench.peers import SpikingJellyStudent
    except ImportError as error:
        lacking = "" if error.name == "spikingjelly" else f" (it lacks {error.name})"
        print(
            f"export.bench.training: SpikingJelly is not installed{lacking}; "
            "`pip install 'spikerir-edge[bench]'` brings it.",
            file=sys.stderr,
        )
        return 2

    torch.set_num_threads(options.threads)
    passed = ["--task", "denoise", "--stages", "none", "--recipe", "paper", "--steps", "1000000", "--rate", "2e-3"]
    passed += ["--weight-decay", "1e-4", "--clip-norm", "0.2", "--threshold", "1.0", "--warmup", "10"]
    passed += ["--seed", str(options.seed)]
    passed += ["--patch", str(options.patch), "--batch", str(options.batch)]
    passed += ["--channels", *map(str, options.channels)] if options.channels else []
    passed += ["--architecture", *options.architecture] if options.architecture else []
    settings = hkd.settings_of(hkd.parse_arguments(passed))
    try:
        graph = build_graph(settings.student, settings.channels or None, settings.architecture)
        images = load_images(options.data) if options.data else pictures(options.seed)
        sampler = PatchSampler(images, options.patch, options.batch, options.seed)
        batches = [sampler.batch(step) for step in range(options.steps)]
        run = our_run(settings)
        curve = compare(run, SpikingJellyStudent(run.student), batches)
        seconds = time_in_turn(contenders(settings, graph), batches, options.repeats)
    except (DataError, GraphError, TrainingError, ValueError) as error:
        print(f"export.bench.training: {error}", file=sys.stderr)
        return 2
    count = sum(parameter.numel() for parameter in run.student.parameters())
    caption = (
        f"{count:,} parameters, T = {graph.time_steps}, batch {options.batch} of {options.patch}x{options.patch}, "
        f"{options.threads} thread{'s' if options.threads > 1 else ''}, medians of {options.repeats} steps in turn"
    )
    print(table(curve, seconds, caption), end="")
    if options.json:
        report = {"caption": caption, "loss": curve, "seconds_per_step": seconds}
        try:
            write_atomically(options.json, (json.dumps(report, indent=1) + "\n").encode())
        except OSError as error:
            print(f"export.bench.training: cannot write {options.json}: {error}.", file=sys.stderr)
            return 2
    return 0


def pictures(seed: int, count: int = 8, side: int = 256) -> list[np.ndarray]:
    """Smooth random pictures, uint8 RGB [side, side, 3]: what is learnt does not matter to the time of a step."""
    import cv2

    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
    return [cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC) for image in coarse]


if __name__ == "__main__":
    sys.exit(main())
