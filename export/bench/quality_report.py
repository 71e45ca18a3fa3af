"""What `export.bench.quality` prints, writes and draws; all of it is made from its JSON report."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from export.bench.report import plain_ticks, threads_in_words
from train.tables import Table

# Instructions for a 64x64 picture of the default form's ANN in 8 bits with ARM's CMSIS-NN, counted once in the same
# emulator as the boards' (T = 1, the whole network).
CMSIS_NN = {"qemu-mps2-an500": 83.3e6, "qemu-mps3-an547": 14.6e6}
CORES = {"qemu-mps2-an500": "Cortex-M7", "qemu-mps2-an505": "Cortex-M33", "qemu-mps3-an547": "Cortex-M55"}
MARKS = "osDv^P*X"  # one for each runtime


def timing_label(timing: dict[str, Any]) -> str:
    return f"{timing['width']}x{timing['height']}, {threads_in_words(timing['threads'])}"


def main_table(report: dict[str, Any]) -> Table:
    """Every network: parameters, PSNR by noise level, milliseconds and in brackets multiples of the first one's."""
    rows, first = report["networks"], report["networks"][0]
    sigmas = list(first["psnr"])
    timings = [timing_label(timing) for timing in first["timings"]]
    lines = []
    for row in rows:
        cells = [f"{row['parameters']:,}", *(f"{row['psnr'][sigma]:.2f}" for sigma in sigmas), f"{row['mean']:.2f}"]
        for timing, base in zip(row["timings"], first["timings"], strict=True):
            cells.append(f"{timing['median_ms']:.2f} ({timing['median_ms'] / base['median_ms']:.2f})")
        lines.append((row["label"], cells))
    machine = report["machine"]
    caption = (
        f"PSNR [dB]: {report['data']}, {report['images']} images, whole, RGB, noise rounded and clipped to 8 bits "
        f"(seed {report['seed']}), 8-bit output, of what each network returns in each runtime. Milliseconds: medians "
        f"of up to {report['repeats']} repetitions, all in turn in one run, on {report['picture']}; in brackets "
        f"multiples of the first row's. {machine['cpu']}, {machine['cores']} cores."
    )
    notes = [f"{row['label']}: {row['about']}." for row in rows if row["about"]]
    columns = ["parameters", *(f"sigma {sigma}" for sigma in sigmas), "mean", *(f"ms, {label}" for label in timings)]
    return Table("Quality against time", caption, columns, lines, notes)


def equal_quality(report: dict[str, Any]) -> list[dict[str, Any]]:
    """For each network the fastest one of the other sort that is at least as good on average, at each size.

    Of the runtimes that compute an ANN with the same number of bits only the fastest has a row.
    {network, timing, ms, rival, rival_ms, ratio}: ratio is the rival's time by the network's own, so above 1 the
    network is ahead; rival None where no network of the other sort is as good.
    """
    rows, found = report["networks"], []
    for i, timing in enumerate(rows[0]["timings"]):

        def ms(row: dict[str, Any], i: int = i) -> float:
            return float(row["timings"][i]["median_ms"])

        for row in rows:
            if ms(row) > min(ms(one) for one in rows if (one["name"], one["bits"]) == (row["name"], row["bits"])):
                continue
            others = [one for one in rows if one["network"] != row["network"] and one["mean"] >= row["mean"]]
            best = min(others, key=ms, default=None)
            found.append(
                {
                    "network": row["label"],
                    "timing": timing_label(timing),
                    "ms": ms(row),
                    "rival": best["label"] if best else None,
                    "rival_ms": ms(best) if best else None,
                    "ratio": ms(best) / ms(row) if best else None,
                }
            )
    return found


def equal_table(rows: list[dict[str, Any]]) -> Table:
    lines = []
    for row in rows:
        rival = [row["rival"], f"{row['rival_ms']:.2f}", f"{row['ratio']:.2f}"] if row["rival"] else ["none", "-", "-"]
        lines.append((row["network"], [row["timing"], f"{row['ms']:.2f}", *rival]))
    return Table(
        "At equal quality",
        "Beside each spiking network the fastest ANN with at least its mean PSNR, and beside each ANN the fastest such "
        "spiking network. Ratio: the other one's time by the row's own, so above 1 the row's network is ahead.",
        ["picture", "ms", "fastest of the other sort, at least as good", "its ms", "ratio"],
        lines,
    )


def board_table(report: dict[str, Any]) -> Table:
    """Instructions for a picture on emulated Cortex-M, beside PSNR: the boards' own counts, and CMSIS-NN's as cited."""
    means = {row["content"]: row["mean"] for row in report["networks"] if row["content"]}
    lines = []
    for one in report["boards"]:
        core = CORES.get(one["board"], one["board"])
        lines.append((one["network"], [core, f"{one['instructions'] / 1e6:.1f}", f"{means[one['bundle']]:.2f}"]))
    in_8_bits = [row["mean"] for row in report["networks"] if row["default_form"] and row["runtime"] == "LiteRT int8"]
    for board in dict.fromkeys(one["board"] for one in report["boards"]):
        if board in CMSIS_NN:
            cells = [CORES[board], f"{CMSIS_NN[board] / 1e6:.1f}", f"{max(in_8_bits):.2f}" if in_8_bits else "-"]
            lines.append(("the default form's ANN in 8 bits, CMSIS-NN (cited)", cells))
    return Table(
        "Cortex-M: quality against instructions",
        "Million instructions for one picture, counted in the emulator by the board (edge-restore --board --stats). "
        "CMSIS-NN's were counted once for 64x64 pixels and are cited; its PSNR is that of LiteRT int8 above, the same "
        "arithmetic.",
        ["core", "million instructions", "mean PSNR [dB]"],
        lines,
    )


def as_csv(report: dict[str, Any]) -> str:
    """One line for each network, picture size and number of threads."""
    sigmas = list(report["networks"][0]["psnr"])
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(
        ["network", "runtime", "sort", "parameters", *(f"psnr_{sigma}" for sigma in sigmas), "psnr_mean"]
        + ["width", "height", "threads", "median_ms", "p95_ms"]
    )
    for row in report["networks"]:
        quality = [f"{row['psnr'][sigma]:.3f}" for sigma in sigmas] + [f"{row['mean']:.3f}"]
        for timing in row["timings"]:
            times = [f"{timing[key]:.3f}" for key in ("median_ms", "p95_ms")]
            writer.writerow(
                [row["name"], row["runtime"], row["network"], row["parameters"], *quality]
                + [timing["width"], timing["height"], timing["threads"], *times]
            )
    return text.getvalue()


def tables(report: dict[str, Any]) -> Iterator[Table]:
    yield main_table(report)
    if {row["network"] for row in report["networks"]} == {"spiking", "ann"}:
        yield equal_table(report["at_equal_quality"])
    if report["boards"]:
        yield board_table(report)


def plot(report: dict[str, Any], path: Path) -> Path:
    """Mean PSNR over milliseconds, one panel for each size and number of threads; up and to the left is better.

    Raises FigureError, a sentence, where matplotlib is missing.
    """
    from train.figures.canvas import pyplot, save

    rows = report["networks"]
    timings = rows[0]["timings"]
    figure, panels = pyplot().subplots(
        1, len(timings), figsize=(2 + 5 * len(timings), 5), sharey=True, squeeze=False, layout="constrained"
    )
    colours, marks = (
        {word: choice[i % len(choice)] for i, word in enumerate(dict.fromkeys(row[key] for row in rows))}
        for key, choice in (("name", [f"C{i}" for i in range(10)]), ("runtime", MARKS))
    )
    for i, (axes, timing) in enumerate(zip(panels[0], timings, strict=True)):
        for row in rows:
            axes.plot(
                row["timings"][i]["median_ms"], row["mean"], marks[row["runtime"]], ms=8, label=row["label"],
                color=colours[row["name"]],
            )  # fmt: skip
        axes.set(xscale="log", xlabel=f"milliseconds, {timing_label(timing)}")
        axes.set_xticks(*plain_ticks(*axes.get_xlim()))
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[0][0].set_ylabel(f"PSNR [dB], mean over sigma {', '.join(rows[0]['psnr'])}")
    panels[0][-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.suptitle(f"Quality against time: {report['data']}, {report['images']} images", fontsize=11)
    return save(figure, path)
