"""A Linux board on the network, where `python -m firmware_bridge.agent` runs: tcp://HOST:PORT."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import struct
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from firmware_bridge import wire
from firmware_bridge.agent import BY_ROWS, PROBE, RUN, TRACE
from firmware_bridge.boards.base import BoardError
from firmware_bridge.boards.core import CoreBoard
from firmware_bridge.native import COUNTS, Tile
from firmware_bridge.plan import HASH_AT, HASH_BYTES
from firmware_bridge.power.meter import NotMeasured
from firmware_bridge.power.recording import Power, Recording
from firmware_bridge.runner import Measured
from firmware_bridge.secret import SecretError, prove, read_secret
from firmware_bridge.server import ListenError, parse_address

CONNECT_S = 5.0
SILENCE_S = 10.0  # an agent that works says so every second
_HEAD = struct.Struct("<QQI")


class Client:
    """A connection to an agent. memory: bytes that it has; sensor: its power sensor, or empty. Raises `BoardError`."""

    def __init__(self, name: str):
        self.name, self._sequence = name, 0
        try:
            self._connection = socket.create_connection(parse_address(name.removeprefix("tcp://")), CONNECT_S)
        except (ListenError, OSError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise BoardError(
                f"{name} cannot be reached: {why}; does `python -m firmware_bridge.agent` run there?"
            ) from error
        try:
            self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            secret = read_secret()
            if secret is not None:
                prove(self._connection, secret)
            try:
                answer = self.ask(wire.HELLO, b"")
            except BoardError as error:
                if secret is None:
                    raise BoardError(f"{error}; if the agent wants a secret, set SPIKERIR_SECRET or _FILE") from error
                raise
            self.memory: int = struct.unpack_from("<HQ", answer)[1]
            self.sensor = answer[10:].decode()
        except SecretError as error:
            self.close()
            raise BoardError(f"{name}: {error}") from error
        except (struct.error, UnicodeError) as error:
            self.close()
            raise BoardError(f"{name} answers like no agent of this version") from error
        except BoardError:
            self.close()
            raise

    def ask(self, kind: int, *parts: bytes) -> bytes:
        """The answer to a request; raises `BoardError`, at the latest `SILENCE_S` after the last sign of life."""
        self._sequence = (self._sequence + 1) & 0xFFFF
        try:
            wire.send(self._connection, wire.Frame(kind, self._sequence, b"".join(parts)))
            while True:
                frame = wire.receive(self._connection, SILENCE_S)
                if frame is None:
                    raise BoardError(f"{self.name} hung up")
                if frame.sequence != self._sequence or frame.type not in (kind, wire.BUSY, wire.ERROR):
                    raise BoardError(f"{self.name} answers what was not asked")
                if frame.type == wire.ERROR:
                    raise BoardError(f"{self.name}: {frame.payload.decode(errors='replace')}")
                if frame.type == kind:
                    return frame.payload
        except OSError as error:
            raise BoardError(f"{self.name} is lost: {error}") from error

    def close(self) -> None:
        self._connection.close()


class RemoteCore:
    """A plan that an agent has opened; looks like `native.Core`. Raises `BoardError`."""

    def __init__(self, client: Client, plan: bytes):
        self._client, self._hash = client, plan[HASH_AT : HASH_AT + HASH_BYTES]
        (self.time_steps,), (self.layers,) = (struct.unpack_from("<I", plan, at) for at in (80, 96))
        held = self._held(client.ask(wire.PLAN, self._hash, struct.pack("<I", len(plan))), plan)
        while held < len(plan):
            offset, part = struct.pack("<I", held), plan[held : held + wire.CHUNK]
            now = self._held(client.ask(wire.DATA, self._hash, offset, part), plan)
            if now <= held:
                raise BoardError(f"{client.name} does not take the network; another client sends the same: try again")
            held = now

    def run(
        self, picture: npt.NDArray[np.uint8], tile: Tile | None = None, trace: bool = False, by_rows: bool = False
    ) -> Measured:
        """As `native.Core.run`."""
        found, _ = self._run(picture, tile or Tile.whole(*picture.shape[:2]), TRACE * trace | BY_ROWS * by_rows)
        return found

    def look(self, picture: npt.NDArray[np.uint8], layer: int, step: int, channel: int) -> npt.NDArray[np.int32]:
        """As `native.Core.look`."""
        return self._run(picture, Tile.whole(*picture.shape[:2]), PROBE, (layer, step, channel))[1]

    def _run(
        self, picture: npt.NDArray[np.uint8], tile: Tile, flags: int, probe: tuple[int, int, int] = (0, 0, 0)
    ) -> tuple[Measured, npt.NDArray[np.int32]]:
        words = RUN.pack(flags, *tile.fields(), *probe)
        answer = self._client.ask(wire.RUN, self._hash, words, np.ascontiguousarray(picture).tobytes())
        traced = self.layers * self.time_steps if flags & TRACE else 0
        try:
            nanoseconds, memory, count = _HEAD.unpack_from(answer)
            sizes = _HEAD.size, picture.size, self.layers * COUNTS.itemsize, 8 * traced, 4 * count
            if len(answer) != sum(sizes):
                raise ValueError
            starts = np.cumsum(sizes).tolist()
        except (struct.error, ValueError) as error:
            raise BoardError(f"{self._client.name} gave {len(answer)} bytes that are no result") from error
        image = np.frombuffer(answer, np.uint8, picture.size, starts[0]).reshape(picture.shape)
        counts = np.frombuffer(answer, COUNTS, self.layers, starts[1])
        hashes = np.frombuffer(answer, np.uint64, traced, starts[2]).reshape(self.layers, -1) if traced else None
        numbers = np.frombuffer(answer, np.int32, count, starts[3])
        return Measured(image, counts, hashes, nanoseconds * 1e-9, nanoseconds, memory), numbers

    def _held(self, answer: bytes, plan: bytes) -> int:
        if len(answer) != 4 or struct.unpack("<I", answer)[0] > len(plan):
            raise BoardError(f"{self._client.name} answers like no agent of this version")
        return int.from_bytes(answer, "little")


class RemoteRecording(Recording):
    """Power that an agent measures on its board."""

    def __init__(self, client: Client):
        super().__init__(missing=f"{client.name} has no power sensor that speaks for the board")
        self._client = client
        self._answer: dict[str, object] = {}

    @property
    def source(self) -> str:
        return f"{self._client.sensor} of {self._client.name}" if self._client.sensor else ""

    @contextlib.contextmanager
    def run(self) -> Iterator[None]:
        if not self._client.sensor:
            yield
            return
        self._client.ask(wire.POWER, b"\0")
        try:
            yield
        finally:
            try:
                self._answer = json.loads(self._client.ask(wire.POWER, b"\1"))
            except (BoardError, ValueError) as error:
                self._answer = {"power_reason": str(error)}

    def power(self, frames: int) -> Power:
        found = self._answer.get("power")
        if not isinstance(found, dict):
            raise NotMeasured(str(self._answer.get("power_reason", self.missing)))
        try:
            names = {field.name for field in dataclasses.fields(Power)}
            power = Power(**{name: value for name, value in found.items() if name in names})
            return dataclasses.replace(power, joules_per_frame=power.joules_per_frame / frames)
        except TypeError as error:
            raise NotMeasured(f"{self._client.name} gave a measurement of another form") from error


class Remote(CoreBoard):
    """Named by its address."""

    about = "a Linux board where `python -m firmware_bridge.agent` runs"
    clock = "wall time on the board"
    here = False

    def __init__(self, name: str):
        self.name = name
        self._client = Client(name)
        self.memory_bytes = self._client.memory

    def _open(self, plan: bytes) -> RemoteCore:
        return RemoteCore(self._client, plan)

    def _look(self, plan: bytes) -> RemoteCore:
        return self._open(plan)

    def recording(self) -> Recording:
        return RemoteRecording(self._client)

    def close(self) -> None:
        self._client.close()
