"""Linux on ARMv7 with NEON, emulated by qemu-user."""

from firmware_bridge.boards.emulated import Emulated
from firmware_bridge.machine import Machine
from firmware_bridge.toolchain import Compiler


class ArmV7(Emulated):
    name = "qemu-arm"
    about = "the C core for Linux on ARMv7 with NEON, under qemu-user"
    machine = Machine(
        Compiler(
            "arm-linux-gnueabihf-gcc",
            ("-O3", "-mfpu=neon", "-static"),
            ("gcc-arm-linux-gnueabihf", "libc6-dev-armhf-cross"),
        ),
        emulator=("qemu-arm",),
        emulator_packages=("qemu-user",),
    )
