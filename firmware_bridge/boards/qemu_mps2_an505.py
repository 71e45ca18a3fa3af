"""Arm MPS2+ with image AN505: an SSE-200 subsystem with a Cortex-M33, emulated by qemu-system-arm."""

from firmware_bridge.boards.emulated import EmulatedCortexM
from firmware_bridge.machine import Region, Uart, qemu_cortex_m


class MPS2AN505(EmulatedCortexM):
    name = "qemu-mps2-an505"
    about = "Cortex-M33 without an operating system, Arm MPS2+ AN505, under qemu-system-arm"
    machine = qemu_cortex_m(
        "mps2-an505",
        ("-mcpu=cortex-m33", "-mfloat-abi=soft"),
        tick_ns=50.0,
        code=Region(0x1000_0000, 4 << 20),  # it starts in the secure world, whose addresses these are
        data=Region(0x3800_0000, 64 << 10),
        pool=Region(0x8000_0000, 16 << 20),
        uart=Uart("uart_cmsdk.c", 0x5020_0000, interrupt=32),
    )
