"""The networks that ship, for --list."""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path

from edge import shipped
from edge.images import read_image
from edge.sources.images import open_sample
from simulator.bundle import quality
from simulator.engine import cache_folder
from simulator.network import Network, load

_SIDE = 256  # pixels of the part of the sample that is timed
_RUNS = 3
_OWN = {  # what a task removes, as the table of harm names it
    "denoise": "noise", "derain": "rain", "dejpeg": "JPEG", "dehaze": "haze", "deblur": "shake", "defocus": "defocus",
}  # fmt: skip


def describe(folder: Path) -> list[str]:
    """A table: name, task, quality, size of the file, parameters, PSNR as the bundle says it, harm, time here.

    Harm, from bundles/HARM.md: at how many dB clean pictures come back, the worst in brackets, and what is lost at
    most, on average, on pictures with what other tasks remove.
    PSNR is on the pictures that each was validated with in its training, which are not those of another. The time is
    that of 256x256 pixels of the task's sample on this machine; it is there once the kernels are compiled (--warmup).
    """
    kernels = cache_folder()
    compiled = kernels is not None and any(Path(kernels).glob("*.kernel"))
    rows = [
        (
            "name",
            "task",
            "quality",
            "KB",
            "parameters",
            "PSNR in its validation, dB",
            "clean pictures, dB",
            "harm to others, dB",
            f"ms for {_SIDE}x{_SIDE}",
        )
    ]
    harm = _harm(folder)
    for path in sorted(folder.glob("*.safetensors")):
        network = load(path)
        psnr = ", ".join(f"{name} {value:.2f}" for name, value in quality(network.meta).items())
        milliseconds = f"{_milliseconds(network):.1f}" if compiled else "after --warmup"
        size = f"{path.stat().st_size / 1024:.0f}"
        rows.append(
            (
                path.stem,
                network.task,
                _chosen(path),
                size,
                f"{network.params:,}",
                psnr or "-",
                *harm.get(path.stem, ("-", "-")),
                milliseconds,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _harm(folder: Path) -> dict[str, tuple[str, str]]:
    """Of each network: clean pictures and the worst of them, and the largest mean loss where it has nothing to do."""
    table = folder / "harm.json"
    if not table.is_file():
        return {}
    found = {}
    for name, cases in json.loads(table.read_text())["networks"].items():
        clean = cases.pop("clean")
        own = _OWN[name.partition("-")[0]]
        lost = max(0.0, -min(figures["change"] for case, figures in cases.items() if not case.startswith(own)))
        found[name] = (f"{clean['back']:.1f} ({clean['worst']['back']:.1f})", f"{lost:.1f}")
    return found


def _chosen(path: Path) -> str:
    """By which --quality it is chosen, if by any."""
    task = path.stem.partition("-")[0]
    return ", ".join(quality for quality in shipped.QUALITIES if shipped.of_task(task, quality) == path) or "-"


def _milliseconds(network: Network) -> float:
    """The median of a few runs on a part of the task's sample, after one that is not counted."""
    picture = read_image(Path(next(open_sample(network.task).paths()))).pixels[:_SIDE, :_SIDE]
    times = []
    for _ in range(_RUNS + 1):
        begin = time.perf_counter()
        network.run(picture)
        times.append((time.perf_counter() - begin) * 1e3)
    return statistics.median(times[1:])
