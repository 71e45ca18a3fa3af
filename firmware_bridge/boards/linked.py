"""Boards at the end of a link: a serial port, TCP, or firmware in an emulator that this machine starts and stops."""

from __future__ import annotations

import importlib.util
import shutil
from abc import abstractmethod
from urllib.parse import parse_qs, urlsplit

from firmware_bridge.boards.base import BoardError
from firmware_bridge.boards.core import CoreBoard
from firmware_bridge.build import INSTRUCTION_NS, MACHINES, BuildError
from firmware_bridge.link import Link, LinkError
from firmware_bridge.runner import Runner
from firmware_bridge.transport import Pipe, Serial, Tcp, Transport, TransportError

BAUD = 115_200


class Linked(CoreBoard):
    """Its memory is what its hello says. It does not let one look into layers."""

    here = False
    most_columns = 1 << 16

    def __init__(self) -> None:
        self._link: Link | None = None

    @abstractmethod
    def _connect(self) -> Transport:
        """A way to the board; raises TransportError or BuildError."""

    @property
    def link(self) -> Link:
        """Open from the first use on; raises `BoardError`."""
        if self._link is None:
            try:
                self._link = Link(self._connect())
            except (TransportError, BuildError, LinkError) as error:
                raise BoardError(f"{self.name}: {error}") from error
            self.memory_bytes = self._link.hello.room
        return self._link

    def _open(self, plan: bytes) -> Link:
        self.link.load(plan)
        return self.link

    def close(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None


class Network(Linked):
    """link://HOST:PORT: the daemon of firmware/link, or whatever carries the link over TCP."""

    about = "a board whose link is carried by TCP"
    clock = "the board's own"

    def __init__(self, host: str, port: int, name: str):
        super().__init__()
        self.name, self._host, self._port = name, host, port

    def _connect(self) -> Transport:
        return Tcp(self._host, self._port)


class SerialPort(Linked):
    """serial://DEVICE?baud=N."""

    about = "a board at a serial port"
    clock = "the board's own"

    def __init__(self, device: str, baud: int, name: str):
        super().__init__()
        self.name, self._device, self._baud = name, device, baud

    def _connect(self) -> Transport:
        return Serial(self._device, self._baud)


def by_address(name: str) -> Linked:
    """The board at an address; raises `BoardError` for one that is none."""
    try:
        parts = urlsplit(name)
        port = parts.port
    except ValueError:
        raise BoardError(f"{name!r} is no address of a board; expected something like link://127.0.0.1:7701") from None
    if parts.scheme == "link":
        if not parts.hostname or port is None or parts.path.strip("/") or parts.query:
            raise BoardError(f"{name!r} is no address of a board; expected something like link://127.0.0.1:7701")
        return Network(parts.hostname, port, name)
    options = parse_qs(parts.query, keep_blank_values=True)
    text = options.get("baud", [str(BAUD)])[-1]
    if (
        parts.netloc
        or not parts.path.startswith("/")
        or set(options) - {"baud"}
        or not text.isdecimal()
        or not int(text)
    ):
        raise BoardError(f"{name!r} is no serial port; expected something like serial:///dev/ttyACM0?baud={BAUD}")
    if importlib.util.find_spec("serial") is None:
        raise BoardError(f"{name} cannot be used yet: serial ports need pyserial; pip install pyserial")
    return SerialPort(parts.path, int(text), name)


class Emulated(Linked):
    """One of build.MACHINES, in its emulator, by its fast path. Another program of the same core looks into layers."""

    def __init__(self) -> None:
        super().__init__()
        self._runner: Runner | None = None

    @classmethod
    def missing(cls) -> str:
        machine = MACHINES[cls.name]
        packages = [
            package
            for tool, package in (
                (machine.target.compiler, machine.target.package),
                (machine.emulator[0], machine.package),
            )
            if shutil.which(tool) is None
        ]
        return f"apt-get install {' '.join(packages)}" if packages else ""

    def _connect(self) -> Transport:
        return Pipe(MACHINES[self.name].link_command())

    def _look(self, plan: bytes) -> Runner:
        self._runner = self._runner or Runner(MACHINES[self.name])
        self._runner.open(plan)
        return self._runner

    def close(self) -> None:
        super().close()
        if self._runner is not None:
            self._runner.close()
            self._runner = None


class Arm64(Emulated):
    name = "qemu-aarch64"
    about = "the C core for Linux on ARM64, under qemu-user"
    clock = "wall time of the emulation, which says nothing about a real board"


class ArmV7(Emulated):
    name = "qemu-arm"
    about = "the C core for Linux on ARMv7 with NEON, under qemu-user"
    clock = Arm64.clock


class CortexM7(Emulated):
    name = "qemu-mps2-an500"
    about = "Cortex-M7 without an operating system, Arm MPS2+ AN500, under qemu-system-arm"
    clock = f"instructions at {INSTRUCTION_NS} ns each, not cycles"
    unit, unit_ns = "instructions", INSTRUCTION_NS


class CortexM55(CortexM7):
    name = "qemu-mps3-an547"
    about = "Cortex-M55 without an operating system, Arm MPS3 AN547, under qemu-system-arm"
