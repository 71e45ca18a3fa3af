"""Ways for bytes to get to a board and back: a process's pipes, TCP, a serial port. One narrow interface."""

from __future__ import annotations

import contextlib
import os
import random
import select
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any


class TransportError(OSError):
    """The way to the board is closed or cannot be opened. str() is a sentence."""


class Transport(ABC):
    """A stream of bytes in both directions, not more reliable than its cable."""

    name = ""

    @abstractmethod
    def send(self, data: bytes, timeout_s: float) -> None:
        """Raises TransportError if the other end is gone or does not take the data in time."""

    @abstractmethod
    def receive(self, timeout_s: float) -> bytes:
        """What has arrived, at least a byte; nothing after `timeout_s`. TransportError if the other end is gone."""

    def close(self) -> None:  # noqa: B027  some hold nothing
        """It may be closed twice."""


class Pipe(Transport):
    """A program's standard input and output, such as an emulator's. It is killed when the pipe is closed.

    one_processor: all its threads share one. That is what an emulated machine without an operating system wants: it and
    its UART wake each other up for every byte, which between two processors takes three times as long.
    """

    def __init__(self, command: Sequence[str], one_processor: bool = False):
        self.name = command[0]
        try:
            with _on_one_processor() if one_processor else contextlib.nullcontext():
                self._process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
                )
        except OSError as error:
            raise TransportError(f"{self.name} cannot be started: {error.strerror}") from error
        assert self._process.stdin and self._process.stdout
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._in, False)

    def send(self, data: bytes, timeout_s: float) -> None:
        end, view = time.monotonic() + timeout_s, memoryview(data)
        while view:
            left = end - time.monotonic()
            if left <= 0 or not select.select([], [self._in], [], left)[1]:
                raise TransportError(f"{self.name} took nothing for {timeout_s:g} s")
            try:
                view = view[os.write(self._in, view) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise self._gone() from error

    def receive(self, timeout_s: float) -> bytes:
        if not select.select([self._out], [], [], timeout_s)[0]:
            return b""
        data = os.read(self._out, 1 << 16)
        if not data:
            raise self._gone()
        return data

    def _gone(self) -> TransportError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        assert self._process.stderr
        said = b""
        if select.select([self._process.stderr], [], [], 0)[0]:
            said = os.read(self._process.stderr.fileno(), 4096)
        message = said.decode(errors="replace").strip() or "it printed nothing"
        return TransportError(f"{self.name} has ended (exit code {self._process.poll()}): {message}")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()


@contextlib.contextmanager
def _on_one_processor() -> Iterator[None]:
    """Programs that this thread starts meanwhile."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {random.choice(sorted(allowed))})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


class Tcp(Transport):
    """A connection. With `connected` an open socket is used; else it is made within `timeout_s`."""

    def __init__(self, host: str, port: int, timeout_s: float = 5.0, connected: socket.socket | None = None):
        self.name = f"{host}:{port}"
        try:
            self._socket = connected or socket.create_connection((host, port), timeout_s)
        except OSError as error:
            raise TransportError(
                f"{self.name} does not answer ({error.strerror or error}); is the agent running there?"
            ) from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data: bytes, timeout_s: float) -> None:
        self._socket.settimeout(timeout_s)
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise TransportError(f"{self.name} has gone: {error.strerror or error}") from error

    def receive(self, timeout_s: float) -> bytes:
        self._socket.settimeout(max(timeout_s, 1e-4))
        try:
            data = self._socket.recv(1 << 16)
        except TimeoutError:
            return b""
        except OSError as error:
            raise TransportError(f"{self.name} has gone: {error.strerror or error}") from error
        if not data:
            raise TransportError(f"{self.name} has hung up")
        return data

    def close(self) -> None:
        self._socket.close()


class Serial(Transport):
    """A serial port, by pyserial: 8 bits, no parity, one stop bit. baud: bits per second."""

    def __init__(self, device: str, baud: int = 115200):
        self.name = device
        try:
            import serial
        except ImportError as error:
            raise TransportError("serial ports need pyserial: pip install pyserial") from error
        try:
            self._port: Any = serial.Serial(device, baud, timeout=0.05, write_timeout=5, exclusive=True)
        except (OSError, ValueError) as error:
            cause = error.__context__.args if error.__context__ else ()  # termios.error: (number, text)
            known = (
                os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str((cause or [error])[-1])
            )
            raise TransportError(f"{device} cannot be opened as a serial port: {known}") from error

    # Timeouts of a port are set once: pyserial configures all of it anew when they change.

    def send(self, data: bytes, timeout_s: float) -> None:
        try:
            self._port.write(data)
        except OSError as error:
            raise TransportError(f"{self.name} has gone: {error}") from error

    def receive(self, timeout_s: float) -> bytes:
        end = time.monotonic() + timeout_s
        try:
            while not (first := self._port.read(1)):
                if time.monotonic() >= end:
                    return b""
            return bytes(first) + bytes(self._port.read(self._port.in_waiting))
        except OSError as error:
            raise TransportError(f"{self.name} has gone: {error}") from error

    def close(self) -> None:
        self._port.close()
