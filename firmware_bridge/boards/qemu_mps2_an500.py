"""Arm MPS2+ with image AN500: a Cortex-M7, emulated by qemu-system-arm."""

from firmware_bridge.boards.emulated import EmulatedCortexM
from firmware_bridge.machine import Region, Uart, qemu_cortex_m


class MPS2AN500(EmulatedCortexM):
    name = "qemu-mps2-an500"
    about = "Cortex-M7 without an operating system, Arm MPS2+ AN500, under qemu-system-arm"
    machine = qemu_cortex_m(
        "mps2-an500",
        ("-mcpu=cortex-m7", "-mfloat-abi=soft"),
        tick_ns=40.0,
        code=Region(0x0000_0000, 4 << 20),
        data=Region(0x2000_0000, 64 << 10),
        pool=Region(0x6000_0000, 16 << 20),
        uart=Uart("uart_cmsdk.c", 0x4000_4000, interrupt=0),
    )
