#!/usr/bin/env bash
# Makes the virtual environment FOLDER, unless it is there and works, with a Python that this project runs on.
# Usage: scripts/venv.sh FOLDER
# What Debian or Ubuntu lacks for it is installed where this user may install; otherwise it is named in one sentence.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/apt.sh"

folder=$1
if "$folder/bin/python" -m pip --version >/dev/null 2>&1; then exit 0; fi

# Prints the first Python from 3.10 to 3.13 that can import the modules $1.
find_python() {
    local name
    for name in python3 python3.13 python3.12 python3.11 python3.10 python; do
        if "$name" -c "import sys, $1; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))" >/dev/null 2>&1; then
            command -v "$name"
            return 0
        fi
    done
    return 1
}

if ! python=$(find_python "venv, ensurepip"); then
    # Debian keeps the venv module's pip apart, in a package named after the version.
    packages=(python3 python3-venv)
    if bare=$(find_python "sys"); then
        packages=("python$("$bare" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv")
    fi
    install_packages "${packages[@]}" || true
    if ! python=$(find_python "venv, ensurepip"); then
        echo "No Python from 3.10 to 3.13 with its venv module was found; install one," \
            "on Debian or Ubuntu with: sudo apt-get install ${packages[*]}" >&2
        exit 1
    fi
fi
"$python" -m venv --clear "$folder"
