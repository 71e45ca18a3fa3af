#!/usr/bin/env bash
# Puts lava-nc, Loihi 2's arithmetic in Python, into FOLDER/lava for tests/export/test_lava.py, unless it is there; says
# so where that fails. Usage: scripts/lava.sh FOLDER (a virtual environment)
# lava-nc asks for Python 3.10 and NumPy 1; what the tests use of it runs on newer ones (tests/export/loihi2.py), beside
# SciPy and NetworkX, which are there. So it is installed by itself, and apart: it brings a package named tests.
set -euo pipefail

ls -d "$1"/lava/lava_nc-0.10.0.dist-info >/dev/null 2>&1 && exit

echo "Installing lava-nc into $1/lava (once, about 8 MB) ..."
"$1/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --ignore-requires-python \
    --upgrade --target "$1/lava" lava-nc==0.10.0 ||
    echo "Tests of Loihi 2's arithmetic will be skipped: lava-nc 0.10.0 could not be installed into $1/lava" >&2
