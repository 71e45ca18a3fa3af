"""What `python -m train.hkd` finds, makes or continues by itself when it is told no more than a task."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from train import teacher
from train.data import DataError
from train.run import load_checkpoint
from train.tasks import SINGLE

# Where clean photographs are looked for, below each root: BSDS500 as it is published and as copies arrange it.
_ROOTS = ("data", "../data", "~/data")
_FOLDERS = ("bsds500/train", "BSDS500/data/images/train", "BSR/BSDS500/data/images/train", "BSDS500/train")
_VARIABLE = "SPIKERIR_DATA"  # one more root, of the environment
TEACHER_MINUTES = 25.0


class Ended(Exception):
    """A command that ran on the way has ended with an exit code other than 0, and has said why."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def photographs() -> list[Path]:
    """A folder of training images that is there. Raises DataError, with how to get some."""
    roots = [Path(root).expanduser() for root in (os.environ.get(_VARIABLE, ""), *_ROOTS) if root]
    for root in roots:
        for name in _FOLDERS:
            if (root / name).is_dir():
                return [root / name]
    raise DataError(
        f"There are no training images in {_ROOTS[0]}/{_FOLDERS[0]}, nor below {' or '.join(map(str, roots[1:]))}: put "
        "clean photographs there, such as BSDS500's 200 for training (`python -m train.datasets` says where it comes "
        "from), or name folders of your own with --data."
    )


def own_teacher(
    task: str, name: str, data: list[Path], minutes: float, device: str, threads: int | None
) -> Path | None:
    """Trains a narrow teacher of architecture `name` for `task`, or goes on with one; its weights.

    None where no teacher can be trained: `auto` has none. Raises Ended where it was stopped or could not be.
    """
    if task not in SINGLE:
        return None
    out = Path("runs") / f"teacher_{task}_{name}"
    arguments = ["--arch", name, "--task", task, "--minutes", f"{minutes:g}", "--device", device, "--out", str(out)]
    arguments += ["--data", *map(str, data)]
    if threads:
        arguments += ["--threads", str(threads)]
    begun = (out / "checkpoint.pt").exists()
    print(
        f"train.hkd: there is no {name} teacher for {task}; a narrow one is trained first, {minutes:g} minutes in all"
        f"{', going on where it was interrupted' if begun else ''} (--teacher-weights FILE takes another, --stages none"
        " does without).",
        file=sys.stderr,
    )
    if code := teacher.main([*arguments, *(["--resume"] if begun else [])]):
        raise Ended(code)
    return out / "teacher.safetensors"


def interrupted(out: Path) -> bool:
    """Whether the run in `out` was ended before its time, and says so. Raises TrainingError for a damaged one."""
    checkpoint = out / "checkpoint.pt"
    if not checkpoint.exists():
        return False
    content = load_checkpoint(checkpoint, torch.device("cpu"))
    if content.get("finished", True):
        return False
    print(
        f"train.hkd: the run in {out} was interrupted at step {content.get('step')} and is continued.", file=sys.stderr
    )
    return True
