"""From a trained network to a bundle, and from a bundle to exchange formats and comparisons."""

import importlib.util
import sys

_NEEDS = {
    "export.bundle": ("torch", "train"),
    "export.compare": ("torch", "train"),
    "export.bench.training": ("torch", "train"),
    "export.float16": ("torch", "train"),
    "export.lynxi": ("onnx", "export"),
    "export.onnx": ("onnx", "export"),
    "export.runtimes": ("torch", "train"),
    "export.nir": ("nir", "nir"),
    "export.from_nir": ("h5py", "nir"),
}

if sys.argv[:1] == ["-m"]:  # a command, `python -m export.bundle`: one sentence, no traceback
    for _command in _NEEDS.keys() & set(sys.orig_argv):
        _package, _extra = _NEEDS[_command]
        if importlib.util.find_spec(_package) is None:
            print(f"{_package} is missing; install it with: pip install -e '.[{_extra}]'", file=sys.stderr)
            raise SystemExit(2)
