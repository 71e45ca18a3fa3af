"""Commands of the training side where their packages are not installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("command", "package", "extra"),
    [
        ("train.hkd", "torch", "train"),
        ("train.evaluate", "torch", "train"),
        ("export.bundle", "torch", "train"),
        ("export.compare", "torch", "train"),
        ("export.bench.training", "torch", "train"),
        ("export.float16", "torch", "train"),
        ("export.lynxi", "onnx", "export"),
        ("export.onnx", "onnx", "export"),
        ("export.runtimes", "torch", "train"),
        ("export.nir", "nir", "nir"),
        ("export.from_nir", "h5py", "nir"),
    ],
)
def test_a_command_without_its_package_says_what_to_install(tmp_path, command, package, extra):
    # Python reads sitecustomize at its start; None in sys.modules is what an import of a missing package finds.
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules[{package!r}] = None\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", command, "--help"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2, done
    assert len(done.stderr.splitlines()) == 1 and f".[{extra}]" in done.stderr
