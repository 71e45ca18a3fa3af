"""Boards at the end of a link, and those among them at a serial port."""

from __future__ import annotations

import importlib.util
from abc import abstractmethod
from urllib.parse import parse_qs, urlsplit

import numpy as np
import numpy.typing as npt

from firmware_bridge.boards.base import BoardError, Unusable
from firmware_bridge.boards.core import CoreBoard
from firmware_bridge.link import Link, LinkError, Patience
from firmware_bridge.runner import Measured
from firmware_bridge.tiles import Tile
from firmware_bridge.toolchain import BuildError
from firmware_bridge.transport import Serial, Transport, TransportError

BAUD = 115_200


class OnLink:
    """A plan that a board has opened, as `native.Core`; a board holds one, so another may have to make room for it."""

    def __init__(self, link: Link, plan: bytes):
        self._link, self._plan = link, plan
        self._there()

    def run(
        self, picture: npt.NDArray[np.uint8], tile: Tile | None = None, *, trace: bool = False, by_rows: bool = False
    ) -> Measured:
        return self._there().run(picture, tile, trace=trace, by_rows=by_rows)

    def look(self, picture: npt.NDArray[np.uint8], layer: int, step: int, channel: int) -> npt.NDArray[np.int32]:
        return self._there().look(picture, layer, step, channel)

    def _there(self) -> Link:
        if self._link.plan is not self._plan:
            self._link.load(self._plan)
        return self._link


class Linked(CoreBoard):
    """Its memory is what its hello says."""

    here = False
    most_columns = 1 << 16
    patience = Patience()

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
                self._link = Link(self._connect(), self.patience)
            except (TransportError, BuildError, LinkError) as error:
                raise BoardError(f"{self.name}: {error}") from error
            hello = self._link.hello
            self.memory_bytes = hello.room
            if not self.unit and hello.clock != "ns":
                self.unit, self.unit_ns = hello.clock, 1e9 / hello.ticks_per_second
        return self._link

    def _open(self, plan: bytes) -> OnLink:
        return OnLink(self.link, plan)

    def _look(self, plan: bytes) -> OnLink:
        return self._open(plan)

    def close(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None


class SerialPort(Linked):
    """serial://DEVICE?baud=N."""

    about = "a board at a serial port"
    clock = "the board's own"

    def __init__(self, device: str, baud: int, name: str):
        super().__init__()
        self.name, self._device, self._baud = name, device, baud
        # Not more on its way than the line carries in half a second and a board keeps; time for two frames of 1 KiB.
        window = min(max(baud // 20, 1 << 11), 1 << 14)
        self.patience = Patience(answer_s=1 + 20 * 1100 / baud, window=window)

    def _connect(self) -> Transport:
        return Serial(self._device, self._baud)


def by_address(name: str) -> SerialPort:
    """The board at a serial port; raises `BoardError` for what is none."""
    parts = urlsplit(name)
    options = parse_qs(parts.query, keep_blank_values=True)
    text = options.get("baud", [str(BAUD)])[-1]
    if (
        parts.netloc
        or not parts.path.startswith("/")
        or set(options) - {"baud"}
        or not text.isdecimal()
        or not int(text)
    ):
        raise Unusable(f"{name!r} is no serial port; expected something like serial:///dev/ttyACM0?baud={BAUD}")
    if importlib.util.find_spec("serial") is None:
        raise Unusable(f"{name} cannot be used yet: serial ports need pyserial; pip install pyserial")
    return SerialPort(parts.path, int(text), name)
