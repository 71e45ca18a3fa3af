"""The data sets of the tasks as they lie on disk: `python -m train.datasets [--data DIR]`.

`DATASETS` gathers the sets of every task from `train/tasks.py`: what each is for, how many images it has, how it is
scored, in which folders it is looked for, and where it comes from. Nothing is downloaded. Without --data the command
prints the table; with it, what is there, how many images, and what is missing. `find` gives a set's samples: paths,
read when they are asked for.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from pathlib import Path

from train.data import DataError
from train.folders import DataSet, Protocol, Sample, below, paired
from train.tasks import SINGLE, TASKS

NOTE = "set.json"  # what `train.degradations` leaves with a set
DATASETS: dict[str, DataSet] = {row.name: row for task in TASKS.values() for row in task.datasets}


def find(name: str, root: str | Path, itself: bool = True) -> list[Sample]:
    """The samples of the set `name` below the folder `root`, sorted by name as its form gives them.

    itself: `root` may also be the set's own folder. Raises DataError: not there (what was expected), or not whole.
    """
    root, data_set = _root(root), DATASETS[name]
    unfit = []
    places = [(form, place) for form in data_set.forms for path in form.folders for place in _places(root, path)]
    for form, place in places + [(form, root) for form in data_set.forms if itself]:
        lacking = form.lacks(place)
        if not lacking:
            return form.read(place)
        if place != root:
            unfit.append((place, lacking))
    expected = "; or ".join(data_set.places())
    if unfit:
        place, lacking = unfit[0]
        raise DataError(f"{name}: {place} is there but has no {' and no '.join(lacking)}; expected {expected}.")
    own = ", or its contents directly in the folder" if itself else ""
    raise DataError(f"{name} is not in {root}; expected {expected}{own}.")


def find_synthetic(root: str | Path) -> list[tuple[DataSet, list[Sample]]]:
    """The project's own test sets, as `python -m train.degradations` writes them: `root` or folders directly below it.

    Raises DataError if one is there and damaged.
    """
    root = _root(root)
    folders = [place for place in (root, *below(root, "*")) if (place / NOTE).is_file()]
    return [_synthetic(folder) for folder in folders]


def _synthetic(folder: Path) -> tuple[DataSet, list[Sample]]:
    file = folder / NOTE
    wanted = {"task": str, "variant": str, "seed": int, "images": int, "sha256_of_pixels": str}
    try:
        about = json.loads(file.read_text())
        for key, kind in wanted.items():
            if not isinstance(about[key], kind):
                raise TypeError(f"{key} is {about[key]!r}")
        if about["task"] not in SINGLE or about.get("synthetic") is not True:
            raise ValueError("its task is unknown, or is not marked synthetic")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{file} is not the note that train.degradations leaves with a set ({error}).") from error
    form = paired(folder.name)
    lacking = form.lacks(folder)
    if lacking:
        raise DataError(f"The synthetic set {folder} has no {' and no '.join(lacking)}; write it anew.")
    data_set = DataSet(
        f"synthetic {about['task']} {about['variant']}", about["task"], "test", about["images"], (Protocol("rgb"),),
        (form,), "python -m train.degradations", f"{about['variant']}, seed {about['seed']}", about["sha256_of_pixels"],
    )  # fmt: skip
    return data_set, form.read(folder)


def check_pixels(data_set: DataSet, samples: list[Sample]) -> None:
    """Raise DataError unless the pixels of a synthetic set are those that its note names."""
    digest = hashlib.sha256()
    for sample in samples:
        for picture in sample.load():
            digest.update(hashlib.sha256(picture.tobytes()).digest())
    if digest.hexdigest() != data_set.digest:
        raise DataError(
            f"The pixels in {samples[0].clean.parent.parent} are not those that its set.json names; write the set anew."
        )


def _root(root: str | Path) -> Path:
    root = Path(root)
    if not os.path.isdir(root):
        what = "is not a folder" if os.path.exists(root) else "does not exist"
        raise DataError(f"The data folder {root} {what}; pass the folder that holds the data sets.")
    return root


def _places(root: Path, path: str) -> list[Path]:
    """Where a published set may be: not where `train.degradations` has left one of its own."""
    folders = [root] if path == "." else [place for place in below(root, path) if place.is_dir()]
    return [place for place in folders if not (place / NOTE).is_file()]


# The command


def describe() -> str:
    """The table as text: every set, how it is scored, the folder forms, the source."""
    lines = []
    for data_set in DATASETS.values():
        lines.append(f"{data_set.name}: {data_set.task}, {data_set.role}, {data_set.count} images. {data_set.source}.")
        if data_set.role == "test":
            scored = [protocol.words() for protocol in data_set.protocols]
            noise = "RGB PSNR / SSIM (Gaussian window), whole images, Gaussian noise added, clipped or not"
            lines += [f"    scored: {words}" for words in scored or [noise]]
        lines += [f"    folder: {words}" for words in data_set.places()]
    return "\n".join(lines)


def survey(root: str | Path) -> str:
    """One line per set: how many images there are, or what is missing. Raises DataError if there is no folder."""
    root, lines, found = _root(root), [], 0
    for name, data_set in DATASETS.items():
        head = f"{name:13s}{data_set.task:9s}{data_set.role:7s}"
        try:
            samples = find(name, root, itself=False)
        except DataError as error:
            lines.append(f"{head}{'-':>14s}  {error}")
            continue
        found += 1
        short = "" if len(samples) == data_set.count else f"  {abs(len(samples) - data_set.count)} images too "
        short += "" if not short else "few." if len(samples) < data_set.count else "many."
        lines.append(f"{head}{f'{len(samples)} of {data_set.count}':>14s}{short}")
    try:
        for data_set, samples in find_synthetic(root):
            found += 1
            lines.append(
                f"{data_set.name}: {len(samples)} of {data_set.count}, {samples[0].clean.parent.parent} "
                f"(SYNTHETIC: {data_set.synthetic})"
            )
    except DataError as error:
        lines.append(f"synthetic: {error}")
    lines.append(f"{found} sets found in {root}.")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 when done, 2 if there is no such folder."""
    parser = argparse.ArgumentParser(
        prog="python -m train.datasets", description="Which data sets are known, and which of them are there."
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="look for the sets here (default: print the table)")
    options = parser.parse_args(arguments)
    try:
        print(describe() if options.data is None else survey(options.data))
    except DataError as error:
        print(f"train.datasets: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
