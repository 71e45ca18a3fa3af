#!/usr/bin/env bash
# The cross compilers and emulators that the boards need (firmware_bridge/boards says which): installed if this user may,
# named if not. Usage: scripts/boards.sh VENV
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/apt.sh

# shellcheck disable=SC2207  # names of packages have no spaces
missing=($("$1/bin/python" -m firmware_bridge.boards --packages))
[ ${#missing[@]} -eq 0 ] && exit

install_packages "${missing[@]}" ||
    echo "Tests of emulated boards will be skipped; they need: sudo apt-get install ${missing[*]}" >&2
