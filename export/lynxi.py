"""`python -m export.lynxi BUNDLE ... --size HxW`: the neurons of networks, compiled for a Lynxi card (HP300, KA200).

Each network is cut (`simulator.cut`): its neurons go to the card, unrolled over the T time steps, for pictures, or
windows of larger ones, of one size; its ends stay on the host. What is written lies in a folder of its own below --out
(`simulator.compiled`), where `--board lynxi://0` looks for it. Where lyngor, the maker's compiler, is installed, it is
compiled at once; else `compile.py` in that folder does it on a machine that has lyngor.

The card computes in float16. --fit first chooses the grids of a network's layers anew, so that their numbers fit its 11
bits (`export.fit`); the bundle that comes of it is written to --out, too, and is what the card then equals.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from export import lynxi_compile
from export.checks import size_of
from export.emulated import body_for_card
from export.files import ExportError, write_atomically
from export.fit import fitted, sample
from simulator import compiled
from simulator.bundle import Bundle, BundleError, read_bundle, serialise
from simulator.cut import CutError
from simulator.files import reason

WITHOUT_LYNGOR = (
    "lyngor, Lynxi's compiler, is not installed here. On a machine that has it, with these folders on it, run for each:"
)


def write(bundle: Bundle, height: int, width: int, layers: bool, out: Path) -> Path:
    """Writes a body and how to compile it into its folder, and returns that; raises as `body_for_card`."""
    model = body_for_card(bundle, height, width, layers)
    folder = compiled.place(bundle.content_hash, height, width, layers, out).folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(f"{folder} cannot be made: {reason(error)}; give another --out.") from error
    write_atomically(folder / compiled.BODY, model.SerializeToString(deterministic=True))
    write_atomically(folder / "compile.py", Path(lynxi_compile.__file__).read_bytes())
    return folder


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when written, and compiled where lyngor is installed; 2 for a mistake the user can mend."""
    parser = argparse.ArgumentParser(
        prog="python -m export.lynxi", description="Compile the neurons of networks for a Lynxi card."
    )
    parser.add_argument("bundles", type=Path, metavar="BUNDLE", nargs="+", help="the .safetensors files of bundles")
    parser.add_argument("--size", required=True, type=size_of, metavar="HxW", help="height and width, pixels")
    parser.add_argument("--out", type=Path, default=compiled.MODELS, metavar="DIR", help=f"default: {compiled.MODELS}")
    parser.add_argument(
        "--layers", action="store_true", help="besides, a body that shows its neurons, to find where a card differs"
    )
    parser.add_argument("--fit", action="store_true", help="choose grids that fit float16, and write that bundle, too")
    options = parser.parse_args(arguments)
    height, width = options.size
    folders: list[Path] = []
    try:
        for path in options.bundles:
            bundle, name = read_bundle(path), path.stem
            if options.fit:
                bundle, name = _fit(bundle, path, options.out)
            for layers in (False, True) if options.layers else (False,):
                folder = write(bundle, height, width, layers, options.out)
                folders.append(folder)
                what = "the neurons, which it shows," if layers else "the neurons"
                print(f"wrote {folder / compiled.BODY}: {what} of {name} for {height}x{width} pixels")
        if importlib.util.find_spec("lyngor") is None:
            print(WITHOUT_LYNGOR, *(f"    python {folder / 'compile.py'}" for folder in folders), sep="\n")
            return 0
        for folder in folders:
            print(f"compiled {_compiled(folder)}", flush=True)
    except (BundleError, CutError, ExportError) as error:
        print(f"export.lynxi: {error}", file=sys.stderr)
        return 2
    return 0


def _fit(bundle: Bundle, path: Path, out: Path) -> tuple[Bundle, str]:
    """The bundle with grids for float16, written below `out`, and its name."""
    result = fitted(bundle, sample(bundle.task))
    target = out / f"{path.stem}-float16.safetensors"
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(f"{out} cannot be made: {reason(error)}; give another --out.") from error
    write_atomically(target, serialise(result.bundle.graph, result.bundle.tensors, result.bundle.meta)[0])
    print(f"wrote {target}: {result}; give it to --bundle in the place of {path}")
    return result.bundle, target.stem


def _compiled(folder: Path) -> Path:
    try:
        return lynxi_compile.compile_body(folder)
    except Exception as error:  # the compiler's own, of whatever kind
        raise ExportError(
            f"lyngor does not compile {folder / compiled.BODY}: {error or type(error).__name__}"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
