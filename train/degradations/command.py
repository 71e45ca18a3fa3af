"""`python -m train.degradations`: a fixed test set of degraded pictures, written from clean photographs."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from simulator.files import write_atomically
from train.data import DataError, image_paths, load_image
from train.degradations.pictures import Picture
from train.patches import fixed
from train.tasks import SINGLE, TASKS


def contact_sheet(pairs: list[tuple[Picture, Picture]], width: int = 240) -> Picture:
    """A picture to look at: clean above degraded, one column per pair, scaled to `width` pixels."""
    columns = []
    for clean, degraded in pairs:
        height = max(1, round(width * clean.shape[0] / clean.shape[1]))
        small = [cv2.resize(p, (width, height), interpolation=cv2.INTER_AREA) for p in (clean, degraded)]
        columns.append(np.concatenate(small))
    tallest = max(len(column) for column in columns)
    return np.concatenate([np.pad(c, ((0, tallest - len(c)), (0, 4), (0, 0))) for c in columns], axis=1)


def write_png(path: Path, picture: Picture) -> bytes:
    """Write RGB as PNG, atomically; returns the SHA-256 of the pixels (the file's own bytes depend on the encoder)."""
    write_atomically(path, cv2.imencode(".png", np.ascontiguousarray(picture[..., ::-1]))[1].tobytes())
    return hashlib.sha256(np.ascontiguousarray(picture).tobytes()).digest()


def main(arguments: list[str] | None = None) -> int:
    """The command: 0 when written, 2 for a mistake the user can mend."""
    parser = argparse.ArgumentParser(
        prog="python -m train.degradations", description="Write a fixed synthetic test set from clean photographs."
    )
    add = parser.add_argument
    add("--task", choices=SINGLE, required=True)
    add("--variant", help="which way of degrading (default: the task's first)")
    add("--data", type=Path, required=True, metavar="DIR", help="folder of clean images")
    add(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="for input/, target/, set.json and sheet.png",
    )
    add("--seed", type=int, default=0)
    add("--limit", type=int, help="only the first N images")
    options = parser.parse_args(arguments)
    variants = TASKS[options.task].variants
    variant = options.variant or next(iter(variants))
    if variant not in variants:
        parser.error(f"--variant of {options.task} is one of {', '.join(variants)}, not {variant}")
    if options.limit is not None and options.limit < 1:
        parser.error(f"--limit must be at least 1, not {options.limit}")
    if options.seed < 0:
        parser.error(f"--seed must not be negative, not {options.seed}")
    try:
        paths = image_paths(options.data)[: options.limit]
        if options.out.resolve() == options.data.resolve():
            raise DataError(f"{options.out} holds the clean images; choose another folder for --out.")
        for name in ("input", "target"):
            (options.out / name).mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        pairs: list[tuple[Picture, Picture]] = []
        for index, path in enumerate(tqdm(paths, unit="image", disable=not sys.stderr.isatty())):
            clean = load_image(path)
            degraded = fixed(options.task, variant, clean, options.seed, index)
            digest.update(write_png(options.out / "input" / f"{path.stem}.png", degraded))
            digest.update(write_png(options.out / "target" / f"{path.stem}.png", clean))
            if len(pairs) < 6:
                pairs.append((clean, degraded))
        write_png(options.out / "sheet.png", contact_sheet(pairs))
        about = {
            "task": options.task, "variant": variant, "seed": options.seed, "images": len(paths), "synthetic": True,
            "sha256_of_pixels": digest.hexdigest(),
        }  # fmt: skip
        write_atomically(options.out / "set.json", (json.dumps(about, indent=1) + "\n").encode())
    except (DataError, OSError) as error:
        print(f"train.degradations: {error}", file=sys.stderr)
        return 2
    print(f"wrote {len(paths)} pairs to {options.out} (synthetic {options.task}, {variant}; {digest.hexdigest()[:12]})")
    return 0
