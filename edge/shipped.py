"""The bundles that ship, by name, and which of them a task runs with."""

from __future__ import annotations

from pathlib import Path

from edge.errors import UserError
from simulator.tasks import ALL_IN_ONE

BUNDLES = Path(__file__).resolve().parent / "bundles"
FAST, BEST = QUALITIES = ("fast", "best")  # the small network of a task, or its large one where there is one


def names() -> list[str]:
    return sorted(bundle.stem for bundle in BUNDLES.glob("*.safetensors"))


def named(name: str) -> Path:
    return BUNDLES / f"{name}.safetensors"


def of_task(task: str, quality: str) -> Path:
    """The bundle that `task` runs with; `quality` is FAST or BEST. Raises UserError if none ships for it."""
    shipped = names()
    wanted = (f"{task}-large", task) if quality == BEST else (task, f"{task}-large")
    for name in wanted:
        if name in shipped:
            return named(name)
    if task == ALL_IN_ONE:
        raise UserError(
            "no network for everything ships; choose another --task, or give one of your own with --bundle."
        )
    tasks = ", ".join(sorted({name.partition("-")[0] for name in shipped})) or "none yet"
    raise UserError(f"no bundle ships for {task} (there are some for: {tasks}); give one with --bundle.")
