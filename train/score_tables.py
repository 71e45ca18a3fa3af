"""The tables of `python -m train.evaluate`: the paper's Tables 1 to 5, with every network that was scored in them."""

from __future__ import annotations

from typing import Any

from train import metrics, published
from train.datasets import DATASETS
from train.tables import Table
from train.tasks import TASKS, paper_order

Scores = dict[str, float | None]  # by metric; None where a metric is not available


def denoise_tables(network_reports: list[dict[str, Any]]) -> list[Table]:
    """The paper's Table 1, one table per protocol: untouched input, every network, published rows.

    network_reports: one set's report of each network; not all need to have every protocol.
    """
    first = network_reports[0]
    tables = []
    for protocol, rows in {key: rows for one in network_reports for key, rows in one["results"].items()}.items():
        reports = [one for one in network_reports if protocol in one["results"]]
        noise = "rounded and clipped to 8 bits" if protocol == "clipped" else "rounded, not clipped"
        images = f"{first['images']}{_part(first, DATASETS[first['dataset']].count)} images"
        caption = (
            f"{first['dataset']}, {images}, colour, protocol: {protocol}. Whole images, RGB PSNR [dB] / SSIM (Gaussian "
            f"window), 8-bit output, noise {noise}, seed {first['seed']}."
        )
        lines = [("untouched input", [_pair(row["input"]) for row in rows.values()])]
        for report in reports:
            own = report["results"][protocol]
            lines.append((_label(report), [_pair(own[sigma]["restored"]) for sigma in rows]))
        task = TASKS[DATASETS[first["dataset"]].task]
        in_paper = task.in_paper(first["dataset"])
        for label, printed in published.DENOISE.items() if in_paper else ():
            lines.append((label, [_printed_pair(printed, sigma) for sigma in rows]))
        for report in reports:
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


def _label(report: dict[str, Any]) -> str:
    """Whose row it is, with its size and, before it is frozen, how long it was trained."""
    steps = f", {report['step']:,} steps" if "step" in report else ""
    size = f", {report['parameters']:,} parameters" if report["parameters"] is not None else ""
    return f"{report['network']} ({report['backend']}){size}{steps}"


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
