"""serial:// by pyserial, over a pseudo-terminal whose other end is the firmware's C."""

from __future__ import annotations

import contextlib
import os
import pty
import sys
import threading
import time
import tty

import numpy as np
import pytest

from firmware_bridge import boards
from firmware_bridge.boards import BoardError, open_board
from firmware_bridge.boards.linked import SerialPort
from firmware_bridge.compare import compare
from firmware_bridge.in_process import InProcess
from firmware_bridge.link import Patience
from simulator.network import Network
from simulator.random_networks import random_network
from tests.conformance.agreement import bundled

pytest.importorskip("serial")


class Cable:
    """name: of the port. board: at its other end, None for nobody."""

    def __init__(self, with_board: bool = True):
        self._master, self._slave = pty.openpty()
        tty.setraw(self._master)
        self.device = os.ttyname(self._slave)
        self.name = f"serial://{self.device}?baud=3000000"
        self.left: int | None = None  # bytes until it is unplugged
        self.board = InProcess(1 << 21, self._write, 1024) if with_board else None
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        with contextlib.suppress(OSError):
            while view:
                view = view[os.write(self._master, view) :]

    def _carry(self) -> None:
        with contextlib.suppress(OSError):
            while data := os.read(self._master, 4096):
                if self.left is not None:
                    self.left -= len(data)
                    if self.left < 0:
                        self.unplug()
                        return
                if self.board:
                    self.board.take(data)

    def unplug(self) -> None:
        for end in (self._master, self._slave):
            with contextlib.suppress(OSError):
                os.close(end)


@pytest.fixture
def cable():
    found = Cable()
    yield found
    found.unplug()


def test_a_picture_has_the_same_bits_over_a_serial_port(cable):
    bundle, image = bundled(*random_network(1)), np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    for _ in range(2):
        with open_board(cable.name) as board:
            board.load(bundle)
            found = board.run(image)
            assert compare(bundle.analysis, Network(bundle).run(image), found.image, found.counts).equal
            assert board.link.repeated == 0 and board.link.statistics()["bad_frames"] == 0


@pytest.mark.parametrize("after", [10, 3000, 9000])
def test_a_port_that_is_unplugged_is_an_error_in_time(cable, after, monkeypatch):
    cable.left = after
    begin = time.monotonic()
    with pytest.raises(BoardError, match="has gone|answered|takes no more|took nothing"):
        with open_board(cable.name) as board:
            board.patience = Patience(answer_s=0.1, tries=3, silence_s=0.5)
            board.load(bundled(*random_network(1)))
            board.run(np.zeros((60, 60, 3), np.uint8))
    assert time.monotonic() - begin < 10


def test_a_port_where_nobody_answers_is_named(monkeypatch):
    cable = Cable(with_board=False)
    try:
        with open_board(cable.name) as board:
            board.patience = Patience(answer_s=0.05, tries=3)
            with pytest.raises(BoardError, match="has not answered 3 times .* is this its port"):
                board.load(bundled(*random_network(1)))
    finally:
        cable.unplug()


def test_two_programs_do_not_share_a_port(cable):
    with open_board(cable.name) as board, open_board(cable.name) as other:
        assert board.link.hello.most_body == 1024
        with pytest.raises(BoardError, match="cannot be opened as a serial port: Resource temporarily unavailable"):
            other.load(bundled(*random_network(1)))


@pytest.mark.parametrize(
    ("device", "why"),
    [("/dev/nowhere", "No such file or directory"), ("/dev/null", "port: Inappropriate ioctl for device$")],
)
def test_what_is_no_serial_port_is_named(device, why, capsys):
    from firmware_bridge.boards.__main__ import main

    assert main([f"serial://{device}"]) == 2
    err = capsys.readouterr().err
    assert f"{device} cannot be opened as a serial port" in err and len(err.splitlines()) == 1
    with pytest.raises(BoardError, match=why), open_board(f"serial://{device}") as board:
        board.load(bundled(*random_network(1)))


def test_without_pyserial_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BoardError, match="pip install pyserial"):
        boards.open_board("serial:///dev/ttyACM0")
    monkeypatch.setitem(sys.modules, "serial", None)
    with pytest.raises(BoardError, match="pip install pyserial"):
        SerialPort("/dev/ttyACM0", 115200, "serial:///dev/ttyACM0").load(bundled(*random_network(1)))


@pytest.mark.parametrize(("baud", "window"), [(9600, 2048), (115_200, 5760), (3_000_000, 16384)])
def test_no_more_is_on_its_way_than_the_line_carries_soon(baud, window):
    patience = SerialPort("/dev/x", baud, "x").patience
    assert patience.window == window and patience.answer_s > 2 * 10 * 1024 / baud
