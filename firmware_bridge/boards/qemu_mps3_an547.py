"""Arm MPS3 with image AN547: Corstone-300, a Cortex-M55, emulated by qemu-system-arm."""

from firmware_bridge.boards.emulated import EmulatedCortexM
from firmware_bridge.machine import Region, Uart, qemu_cortex_m


class MPS3AN547(EmulatedCortexM):
    name = "qemu-mps3-an547"
    about = "Cortex-M55 without an operating system, Arm MPS3 AN547, under qemu-system-arm"
    machine = qemu_cortex_m(
        "mps3-an547",
        ("-mcpu=cortex-m55", "-mfloat-abi=hard"),
        tick_ns=31.25,
        code=Region(0x1000_0000, 512 << 10),  # it starts in the secure world, whose addresses these are
        data=Region(0x3000_0000, 64 << 10),
        pool=Region(0x6000_0000, 16 << 20),
        uart=Uart("uart_cmsdk.c", 0x5930_3000, interrupt=33),
    )
