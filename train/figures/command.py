"""The options of `python -m train.figures`, and which figure needs which."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from simulator.bundle import BundleError
from train.data import DataError
from train.figures import coxcomb, curves, epochs, membrane, resolution, strips
from train.figures.canvas import FigureError
from train.run import TrainingError

BUNDLE = Path(__file__).parents[2] / "edge" / "bundles" / "denoise.safetensors"
Needs = tuple[str, ...]


def _figures(options: argparse.Namespace) -> dict[str, tuple[Needs, Callable[[], list[str]]]]:
    """{figure: (options that it cannot do without, how it is drawn)}."""
    out = options.out

    def all_strips() -> list[str]:
        drawn = (
            strips.draw(bundle, options.variant, options.data, options.limit, options.seed, out)
            for bundle in options.bundle
        )
        return [line for lines in drawn for line in lines]

    return {
        "coxcomb": (("scores",), lambda: coxcomb.draw(options.scores, out)),
        "epoch-time": (("runs",), lambda: epochs.draw(options.runs, out)),
        "curves": (("runs",), lambda: curves.draw(options.runs, out)),
        "resolution": (("bench",), lambda: resolution.draw(options.bench, out)),
        "membrane": (
            ("with_hints", "without_hints"),
            lambda: membrane.draw(
                options.with_hints, options.without_hints, options.layer, options.part, options.picture, out
            ),
        ),
        "strips": (("data",), all_strips),
    }


FIGURES = ("coxcomb", "epoch-time", "curves", "resolution", "membrane", "strips")


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 when done, 2 for a mistake the user can mend."""
    parser = argparse.ArgumentParser(
        prog="python -m train.figures", description="The paper's figures from this project's own measurements."
    )
    add = parser.add_argument
    add("--what", nargs="+", choices=FIGURES, metavar="FIGURE", help=f"{', '.join(FIGURES)} (all whose input is given)")
    add("--out", type=Path, default=Path("figures"), metavar="DIR", help="default: %(default)s")
    add("--scores", type=Path, nargs="+", metavar="FILE", help="coxcomb: what train.evaluate --json wrote")
    add("--runs", type=Path, nargs="+", metavar="RUN", help="epoch-time, curves: folders of runs, or their log.csv")
    add("--bundle", type=Path, nargs="+", default=[BUNDLE], metavar="FILE", help="strips: of these networks")
    add("--bench", type=Path, metavar="FILE", help="resolution: what export.bench --json wrote")
    add("--with-hints", type=Path, metavar="RUN", help="membrane: run or bundle trained with hints")
    add("--without-hints", type=Path, metavar="RUN", help="membrane: the same without")
    add("--layer", metavar="NAME", help="membrane: which neurons (default: the decoder's first)")
    add(
        "--part", type=float, default=0.5, help="membrane: |v| above so many thresholds is dense (default: %(default)s)"
    )
    add("--picture", type=Path, metavar="FILE", help="membrane: a degraded picture (default: the noisy sample)")
    add("--data", type=Path, metavar="DIR", help="strips: a set of train.degradations, or clean images")
    add("--variant", help="strips: which way of degrading (default: the set's, or the task's first)")
    add("--limit", type=int, default=3, metavar="N", help="strips: pictures (default: %(default)s)")
    add("--seed", type=int, default=0, help="strips: of the degradation, for clean images")
    options = parser.parse_args(arguments)
    if options.limit < 1:
        parser.error(f"--limit must be at least 1, not {options.limit}")
    if not options.part > 0:
        parser.error(f"--part must be above zero, not {options.part:g}")
    figures = _figures(options)
    for name in options.what or FIGURES:
        needs, draw = figures[name]
        absent = [f"--{need.replace('_', '-')}" for need in needs if not getattr(options, need)]
        if absent and options.what:
            parser.error(f"{name} needs {' and '.join(absent)}")
        if absent:
            print(f"{name}: not drawn, it needs {' and '.join(absent)}")
            continue
        try:
            print("\n".join(draw()), flush=True)
        except (BundleError, DataError, FigureError, TrainingError, ValueError) as error:
            print(f"train.figures: {name}: {error}", file=sys.stderr)
            return 2
        except OSError as error:
            print(f"train.figures: {name}: {error}.", file=sys.stderr)
            return 2
    return 0
