"""What an ablation of hints says (`python -m train.ablate`): Table 6, how fast runs converge, and the plot of both."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from train.figures.canvas import pyplot
from train.teachers import TEACHERS

# Table 6 (Restormer teacher) as printed, its second "3->5" read as 4->7; for the other teachers 4->7 is in Table 1.
PAPER = {
    ("none", "none"): (30.46, 27.91, 22.35),
    ("restormer", "1-7"): (32.45, 29.65, 25.68),
    ("restormer", "3-5"): (31.36, 29.00, 25.07),
    ("restormer", "4-7"): (32.35, 29.72, 26.13),
    ("promptir", "4-7"): (32.48, 29.70, 25.59),
    ("adair", "4-7"): (32.29, 29.53, 25.34),
}
PAPER_SPEEDUP = "more than 5 times faster"
SHARES = (0.8, 0.9, 0.95, 1.0)  # targets: parts of what the run without hints gains over its input
NO_HINTS = ("none", "none")
LONGER = ("none", "longer")  # without hints, as many seconds as the hinted runs take
Rows = list[dict[str, Any]]
Group = tuple[str, str]  # teacher and stages


@dataclass(frozen=True)
class Story:
    """What an ablation was, for its page.

    student, training: in words. taught: of each teacher. budget: of a run, in words. equal_time: runs have the same
    time, not the same steps. clock: whose seconds, in words. tested: what PSNR was measured on. sigmas: the noise
    levels of its columns, () where there are none. untouched: PSNR of the held-out crops as they come, dB.
    """

    task: str
    student: str
    training: str
    taught: Sequence[str]
    budget: str
    equal_time: bool
    clock: str
    tested: str
    sigmas: Sequence[int]
    untouched: float


def when(rows: Rows, target: float, column: str) -> float | None:
    """`column` (step or seconds) where the run first reaches `target` dB, between validations by interpolation.

    None if it never does. What the first validation has reached already is given that validation's value.
    """
    for before, row in zip([None, *rows], rows, strict=False):
        if row["mean"] >= target - 1e-9:
            if before is None:
                return float(row[column])
            part = (target - before["mean"]) / (row["mean"] - before["mean"])
            return float(before[column] + min(1.0, part) * (row[column] - before[column]))
    return None


def targets(logs: Mapping[tuple[Group, int], Rows], untouched: float) -> Rows:
    """Steps and seconds to reach given PSNR, each hinted run beside the one of its seed without hints."""
    result: Rows = []
    for (group, seed), hinted in logs.items():
        plain = logs.get((NO_HINTS, seed))
        if group in (NO_HINTS, LONGER) or plain is None:
            continue
        best = max(row["mean"] for row in plain)
        wanted = {"weaker run's best": min(best, max(row["mean"] for row in hinted))}
        wanted |= {f"{share:.0%} of the gain": untouched + share * (best - untouched) for share in SHARES}
        for label, target in wanted.items():
            row: dict[str, Any] = {"teacher": group[0], "stages": group[1], "seed": seed}
            row |= {"target": label, "target_db": round(target, 3)}
            for column in ("step", "seconds"):
                without, with_hints = when(plain, target, column), when(hinted, target, column)
                row[f"{column}_without"], row[f"{column}_with"] = without, with_hints
                row[f"{column}_ratio"] = without / with_hints if without and with_hints else None
            result.append(row)
    return result


def groups_of(rows: Rows) -> dict[Group, Rows]:
    """Rows by teacher and stages, in their order."""
    groups: dict[Group, Rows] = {}
    for row in rows:
        groups.setdefault((row["teacher"], row["stages"]), []).append(row)
    return groups


def _range(values: Sequence[float], digits: int = 0) -> str:
    low, high = (f"{end:,.{digits}f}" for end in (min(values), max(values)))
    return low if low == high else f"{low}-{high}"


def _spread(values: Sequence[float | None], digits: int = 2) -> str:
    present = [value for value in values if value is not None]
    if len(present) < len(values):
        return "-"
    numbers = [mean(present)] + ([max(present) - min(present)] if len(present) > 1 else [])
    return " ± ".join(f"{number:.{digits}f}" for number in numbers)


def table6(rows: Rows, sigmas: Sequence[int], equal_time: bool) -> str:
    """Table 6 as Markdown, ours beside the paper's."""
    noises = len(sigmas) > 1
    head = [f"PSNR {sigma} [dB]" for sigma in sigmas] + ["mean [dB]"] if noises else ["PSNR [dB]"]
    head = ["teacher", "hints", "steps", "seconds", "ms per step", *head]
    head += ["best at equal steps [dB]"] if equal_time else []
    head += ["held-out crops [dB]", "spike rate", "membranes above half"]
    head += ["paper 15 / 25 / 50 [dB]"] if noises else []
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for group, some in groups_of(rows).items():
        cells = ["-" if group[0] == "none" else group[0], "none, as long" if group == LONGER else group[1]]
        cells += [_range([row[name] for row in some]) for name in ("steps", "seconds", "ms_per_step")]
        columns = [f"psnr_{sigma}" for sigma in sigmas] if noises else []
        columns += ["psnr", *(["equal_steps"] if equal_time else []), "end"]
        cells += [_spread([row[name] for row in some]) for name in columns]
        cells += [_spread([row[name] for row in some], 3) for name in ("spike_rate", "dense")]
        if noises:
            printed = PAPER.get(group)
            cells.append(" / ".join(f"{value:.2f}" for value in printed) if printed else "-")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def convergence_table(rows: Rows) -> str:
    """Ratios of steps and of seconds to the targets, without hints by with hints, mean over seeds, as Markdown."""
    labels = list(dict.fromkeys(row["target"] for row in rows))
    lines = ["| teacher | hints | " + " | ".join(labels) + " |", "|---" * (len(labels) + 2) + "|"]
    for group, some in groups_of(rows).items():
        cells = []
        for label in labels:
            reached = [row for row in some if row["target"] == label]
            ratios = [[row[f"{column}_ratio"] for row in reached] for column in ("step", "seconds")]
            missed = sum(ratio is None for ratio in ratios[0])
            cells.append(
                f"not reached by {missed} of {len(reached)}"
                if missed
                else " / ".join(
                    "-" if None in values else f"{mean(values):.2f}" for values in ratios
                )  # 0.0 seconds: no ratio
            )
        lines.append("| " + " | ".join([*group, *cells]) + " |")
    return "\n".join(lines)


def document(rows: Rows, reached: Rows, story: Story) -> str:
    """table6.md: both tables and how they came about."""
    seeds = sorted({row["seed"] for row in rows})
    noises = len(story.sigmas) > 1
    schedule = (
        "Every run has the same time, so hinted runs take fewer steps; the learning rate follows the time, and at "
        "equal steps that of the faster runs is still higher, which puts them at a disadvantage there."
        if story.equal_time
        else "Every run has the same number of steps; the teacher's forward pass makes hinted runs longer in seconds."
    )
    if any((row["teacher"], row["stages"]) == LONGER for row in rows):
        schedule += (
            ' "None, as long" are runs without hints, with a whole schedule of their own, of as many steps as fit into '
            "the mean time of the hinted runs of their seed: the comparison at equal seconds."
        )
    text = f"""# Table 6: where the hints are

{story.task}, {story.student}, {story.budget} per run, {story.training}; \
{len(seeds)} seed{"s" if len(seeds) > 1 else ""}: {", ".join(map(str, seeds))}. \
{"Mean ± spread, which is largest less smallest. " if len(seeds) > 1 else ""}{schedule} Seconds: {story.clock}.

Teachers: {"; ".join(story.taught) or "none"}.

PSNR columns: {story.tested}, as the device computes it. Held-out crops: {story.untouched:.2f} dB as they come\
{", mean over the noise levels" if noises else ""}.\
{' "Best at equal steps": up to the last step of the shortest run, on these crops.' if story.equal_time else ""} \
Spike rate: SyOps by SyOps if every neuron fired. "Membranes above half": share of the neurons with |v| above half a \
threshold, mean over all layers and steps, first held-out crop.\
{" The paper's figures are for its own student, whole CBSD68, much longer training." if noises else ""}

{table6(rows, story.sigmas, story.equal_time)}
"""
    if not reached:
        return text
    return f"""{text}
# Convergence

How many times fewer steps / seconds a hinted run needs to a PSNR on the held-out crops: (run without hints) / (hinted \
run of the same seed), mean over seeds; below 1 the hints are slower. "Gain": of the run without hints over the \
untouched input. Between validations by linear interpolation. The paper claims: {PAPER_SPEEDUP}.

{convergence_table(reached)}
"""


def plot(logs: Mapping[tuple[Group, int], Rows], title: str, clock: str) -> bytes:
    """PNG: PSNR over steps and over seconds, a row of panels for each seed; colour: stages, line: teacher."""
    plt = pyplot()
    from matplotlib.lines import Line2D

    colours = {"none": "black", "longer": "tab:red", "1-7": "tab:blue", "3-5": "tab:orange", "4-7": "tab:green"}
    words = {"none": "no hints", "longer": "no hints, as many seconds as with them"}
    styles: dict[str, Any] = {"none": "-", "restormer": "-", "promptir": "--", "adair": ":"}
    seeds = sorted({seed for _, seed in logs})
    size = (13, 1.5 + 3.5 * len(seeds))
    figure, panels = plt.subplots(len(seeds), 2, figsize=size, sharey="row", squeeze=False, layout="constrained")
    labels = {"step": "step", "seconds": f"seconds of training, the teacher's forward pass included,\n{clock}"}
    for seed, row in zip(seeds, panels, strict=True):
        runs = {group: rows for (group, other), rows in logs.items() if other == seed}
        for panel, column in zip(row, labels, strict=True):
            for group, rows in runs.items():
                look = {
                    "color": colours[group[1]],
                    "linestyle": styles[group[0]],
                    "lw": 2 if group == NO_HINTS else 1.4,
                }
                panel.plot([one[column] for one in rows], [one["mean"] for one in rows], **look)
            panel.set(xlim=(0, None))
            panel.grid(alpha=0.3)
        late = [one["mean"] for rows in runs.values() for one in rows[len(rows) // 4 :]]
        highest = max(one["mean"] for rows in runs.values() for one in rows)
        # The first quarter would flatten everything else.
        row[0].set(ylim=(min(late) - 0.1, highest + 0.1), ylabel=f"PSNR on held-out crops [dB], seed {seed}")
    for panel, label in zip(panels[-1], labels.values(), strict=True):
        panel.set_xlabel(label)
    groups = {group for group, _ in logs}
    keys = [
        Line2D([], [], color=colours[stage], lw=2, label=words.get(stage, f"hints at stages {stage}"))
        for stage in colours
        if any(group[1] == stage for group in groups)
    ]
    keys += [
        Line2D([], [], color="grey", linestyle=styles[name], label=f"teacher: {name}")
        for name in TEACHERS
        if any(group[0] == name for group in groups)
    ]
    panels[0][0].legend(handles=keys, loc="lower right")
    figure.suptitle(title)
    content = io.BytesIO()
    figure.savefig(content, dpi=110, format="png")
    plt.close(figure)
    return content.getvalue()
