"""A board whose link is carried by TCP, tcp://HOST:PORT: the agent on a Linux board, or the C daemon snn-link."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
from collections.abc import Iterator

from firmware_bridge.boards.base import BoardError
from firmware_bridge.boards.linked import Linked
from firmware_bridge.link import Link, LinkError
from firmware_bridge.power.meter import NotMeasured
from firmware_bridge.power.recording import Power, Recording
from firmware_bridge.secret import FILE_VARIABLE, VARIABLE, SecretError, prove, read_secret
from firmware_bridge.server import ListenError, parse_address
from firmware_bridge.transport import Tcp

SCHEME = "tcp://"
CONNECT_S = 5.0
IDLE_S = 120.0  # within which a board has measured what it takes when idle, whatever runs there


class RemoteRecording(Recording):
    """Power that a board measures by itself. sensor: its name, or nothing."""

    def __init__(self, link: Link, name: str, sensor: str):
        super().__init__(missing=f"{name} has no power sensor that speaks for the board")
        self._link, self._name, self._sensor = link, name, sensor
        self._answer: dict[str, object] = {}

    @property
    def source(self) -> str:
        return f"{self._sensor} of {self._name}" if self._sensor else ""

    @contextlib.contextmanager
    def run(self) -> Iterator[None]:
        if not self._sensor:
            yield
            return
        try:
            self._link.begin_power(IDLE_S)
        except LinkError as error:
            raise BoardError(f"{self._name}: {error}") from error
        try:
            yield
        finally:
            try:
                self._answer = self._link.end_power()
            except LinkError as error:
                self._answer = {"power_reason": str(error)}

    def power(self, frames: float) -> Power:
        found = self._answer.get("power")
        if not isinstance(found, dict):
            raise NotMeasured(str(self._answer.get("power_reason", self.missing)))
        try:
            names = {field.name for field in dataclasses.fields(Power)}
            power = Power(**{name: value for name, value in found.items() if name in names})
            return dataclasses.replace(power, joules_per_frame=power.joules_per_frame / frames)
        except TypeError as error:
            raise NotMeasured(f"{self._name} gave a measurement of another form") from error


class Remote(Linked):
    """Named by its address; proves the secret of the environment if there is one."""

    about = "a board whose link is carried by TCP: a Linux board where the agent or snn-link runs"
    clock = "wall time on the board"

    def __init__(self, name: str):
        super().__init__()
        self.name = name
        self._secret: bytes | None = None
        _ = self.link  # a board that is not there is named at once

    @property
    def link(self) -> Link:
        try:
            return super().link
        except BoardError as error:
            if self._secret is None and isinstance(error.__cause__, LinkError):
                raise BoardError(
                    f"{error}; if the agent there wants a secret, set {VARIABLE} or {FILE_VARIABLE}"
                ) from error
            raise

    def _connect(self) -> Tcp:
        try:
            host, port = parse_address(self.name.removeprefix(SCHEME))
            connection = socket.create_connection((host, port), CONNECT_S)
        except (ListenError, OSError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise BoardError(
                f"{self.name} cannot be reached: {why}; does `python -m firmware_bridge.agent` run there?"
            ) from error
        try:
            self._secret = read_secret()
            if self._secret is not None:
                prove(connection, self._secret)
        except SecretError as error:
            connection.close()
            raise BoardError(f"{self.name}: {error}") from error
        return Tcp(host, port, connected=connection)

    def recording(self) -> Recording:
        try:
            return RemoteRecording(self.link, self.name, self.link.sensor())
        except LinkError as error:
            raise BoardError(f"{self.name}: {error}") from error
