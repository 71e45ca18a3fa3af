"""Linux on ARM64, emulated by qemu-user."""

from firmware_bridge.boards.emulated import Emulated
from firmware_bridge.machine import Machine
from firmware_bridge.toolchain import Compiler


class Arm64(Emulated):
    name = "qemu-aarch64"
    about = "the C core for Linux on ARM64, under qemu-user"
    machine = Machine(
        Compiler("aarch64-linux-gnu-gcc", ("-O3", "-static"), ("gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross")),
        emulator=("qemu-aarch64",),
        emulator_packages=("qemu-user",),
    )
