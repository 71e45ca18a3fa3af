"""Drives firmware/runner: the C core as a program of its own, on this machine or inside an emulator.

This is how builds for other machines are compared with the reference before there is a link; `native.Core` is the same
without a process in between.
"""

from __future__ import annotations

import struct
import subprocess
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import numpy.typing as npt

from firmware_bridge.counts import COUNTS
from firmware_bridge.machine import Machine
from firmware_bridge.native import CoreError, Restored
from firmware_bridge.plan.records import header_word
from firmware_bridge.tiles import Tile

_END, _OPEN, _RUN, _ACCUMULATE = range(4)
_PROBE = 4  # a flag of _RUN


@dataclass(frozen=True)
class Measured(Restored):
    """ticks: of the machine's own clock, while the core ran. memory: bytes of working memory that it was given."""

    ticks: int
    memory: int


class RunnerError(RuntimeError):
    """The program ended or cannot be started. str() says which and what it printed."""


class Runner:
    """One running program on a machine. Use as a context manager; raises `RunnerError`."""

    def __init__(self, machine: Machine):
        self._machine = machine
        command = machine.command()
        self._name = command[0]
        try:
            pipe = subprocess.PIPE
            # In a session of its own, so that Ctrl-C reaches this process alone.
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
        except OSError as error:
            raise RunnerError(f"{self._name} cannot be started: {error.strerror}") from error
        self.layers = self.time_steps = 0

    def open(self, plan: bytes) -> None:
        """Has the core open a plan, which replaces the one before; raises `CoreError` if it refuses."""
        self._send(struct.pack("<2I", _OPEN, len(plan)) + plan)
        status, record = struct.unpack("<2I", self._receive(8))
        if status:
            raise CoreError(status, f"{self._name} was given a plan of {len(plan)} bytes (record {record})")
        self.time_steps, self.layers = (header_word(plan, name) for name in ("time_steps", "layers"))

    def run(
        self, picture: npt.NDArray[np.uint8], tile: Tile | None = None, trace: bool = False, by_rows: bool = False
    ) -> Measured:
        """Restores uint8 [height, width, 3], as `native.Core.run`."""
        return self._run(picture, tile or Tile.whole(*picture.shape[:2]), trace | by_rows << 1)

    def look(self, picture: npt.NDArray[np.uint8], layer: int, step: int, channel: int) -> npt.NDArray[np.int32]:
        """One step and channel of a layer's output, as `native.Core.look`."""
        probe = struct.pack("<3I", layer, step, channel)
        self._run(picture, Tile.whole(*picture.shape[:2]), _PROBE, probe)
        (count,) = struct.unpack("<I", self._receive(4))
        return np.frombuffer(self._receive(4 * count), "<i4")

    def _run(self, picture: npt.NDArray[np.uint8], tile: Tile, flags: int, probe: bytes = b"") -> Measured:
        trace = bool(flags & 1)
        head = struct.pack("<12I", _RUN, flags, *tile.fields())
        self._send(head + probe + np.ascontiguousarray(picture).tobytes())
        status, low, high, memory = struct.unpack("<4I", self._receive(16))
        if status:
            raise CoreError(status, f"{self._name} ran {tile}")
        image = np.frombuffer(self._receive(picture.size), np.uint8).reshape(picture.shape)
        counts = np.frombuffer(self._receive(self.layers * COUNTS.itemsize), COUNTS)
        hashes = None
        if trace:
            size = self.layers * self.time_steps
            hashes = np.frombuffer(self._receive(8 * size), np.uint64).reshape(self.layers, self.time_steps)
        ticks = low | high << 32
        return Measured(image, counts, hashes, ticks * self._machine.tick_ns * 1e-9, ticks, memory)

    def accumulate(
        self, weight: npt.NDArray[np.int16], runs: npt.NDArray[np.integer], plain: bool
    ) -> tuple[npt.NDArray[np.int32], int]:
        """The accumulate kernel alone: weight[runs].sum(0) modulo 2^16 [channels], and the ticks that it took.

        weight: [any, channels]; plain: in plain C, whatever faster version the machine has.
        """
        count, channels = weight.shape
        head = struct.pack("<5I", _ACCUMULATE, plain, channels, count, len(runs))
        self._send(head + weight.astype("<i2").tobytes() + np.asarray(runs).astype("<u2").tobytes())
        (ticks,) = struct.unpack("<Q", self._receive(8))
        return np.frombuffer(self._receive(4 * channels), "<i4"), ticks

    def close(self) -> None:
        """Ends the program."""
        if self._process.poll() is None:
            try:
                self._send(struct.pack("<I", _END))
                self._process.wait(5)
            except (RunnerError, subprocess.TimeoutExpired):
                self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Runner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, data: bytes) -> None:
        assert self._process.stdin
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except OSError as error:
            raise self._ended() from error

    def _receive(self, size: int) -> bytes:
        assert self._process.stdout
        data = self._process.stdout.read(size)
        if len(data) < size:
            raise self._ended()
        return data

    def _ended(self) -> RunnerError:
        self._process.kill()
        said = self._process.communicate()[1].decode(errors="replace").strip()
        return RunnerError(f"{self._name} ended before it answered{': ' + said if said else ''}")
