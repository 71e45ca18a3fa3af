#!/usr/bin/env bash
# The cross compilers and emulators that the tests of the C core need: installed if this user may, named if not.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/apt.sh"

declare -A packages=(
    [gcc]=gcc
    [arm-none-eabi-gcc]=gcc-arm-none-eabi
    [qemu-system-arm]=qemu-system-arm
    [qemu-arm]=qemu-user
    [aarch64-linux-gnu-gcc]="gcc-aarch64-linux-gnu libc6-dev-arm64-cross"
    [arm-linux-gnueabihf-gcc]="gcc-arm-linux-gnueabihf libc6-dev-armhf-cross"
)
missing=()
for tool in "${!packages[@]}"; do
    # shellcheck disable=SC2206  # one tool may need two packages
    command -v "$tool" >/dev/null || missing+=(${packages[$tool]})
done
[ ${#missing[@]} -eq 0 ] && exit

install_packages "${missing[@]}" ||
    echo "Tests of emulated boards will be skipped; they need: sudo apt-get install ${missing[*]}" >&2
