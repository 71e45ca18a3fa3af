"""`python -m firmware_bridge.agent` on a Linux board: lends it to `--board tcp://HOST:PORT` on other machines.

It speaks the link (PROTOCOL.md), as firmware does, with the same C; what it adds is several clients, a secret that they
prove first (`secret.py`), and power. By default only programs on the board itself reach it. Ctrl-C ends it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from firmware_bridge import protocol
from firmware_bridge.in_process import InProcess
from firmware_bridge.power.meter import NotMeasured
from firmware_bridge.power.recording import Recording, open_recording
from firmware_bridge.protocol import ANSWER, MOST_BODY, Frame, Kind, Power, Why
from firmware_bridge.secret import FILE_VARIABLE, VARIABLE, SecretError, read_secret
from firmware_bridge.server import MOST_CONNECTIONS, ListenError, Server, parse_address
from firmware_bridge.toolchain import BuildError
from simulator.network import installed_memory

ADDRESS = "127.0.0.1:7700"
IDLE_CONNECTION_S = 900.0
FRAME_S = 30.0  # within which a frame that has begun must have come, and an answer must be taken
ALIVE_S = 0.25  # between signs of life while a client waits
LONGEST = MOST_BODY + MOST_BODY // 254 + 16  # bytes of an encoded frame
LEAST_ROOM = 16 << 20  # bytes for one client


class Device:
    """What all clients share: the machine, which runs one picture at a time, and its memory.

    room: bytes that each client has for plan, picture and work; by default all together have half of what is installed.
    """

    def __init__(self, recording: Callable[[], Recording] = lambda: open_recording("auto"), room: int | None = None):
        self.recording = recording
        self.room = room or max((installed_memory() or 1 << 30) // 2 // MOST_CONNECTIONS, LEAST_ROOM)
        self.busy = threading.Lock()
        self.runs = 0
        self._lock = threading.Lock()
        self._free: list[InProcess] = []

    @contextlib.contextmanager
    def board(self, write: Callable[[bytes], object]) -> Iterator[InProcess]:
        """A board of the client's own: the one given back last, so that a client that reconnects finds its plan."""
        with self._lock:
            board = self._free.pop() if self._free else None
        board = board or InProcess(self.room, write, build=b"agent")
        board.write = write
        try:
            yield board
        finally:
            board.take(b"\0")
            with self._lock:
                self._free.append(board)


class Session:
    """One client."""

    def __init__(self, device: Device, connection: socket.socket):
        self._device, self._connection = device, connection
        self._measuring = contextlib.ExitStack()
        self._recording: Recording | None = None
        self._runs = 0
        self._before = 0, 0  # runs of the device and of this session when measuring began
        self._told: Frame | None = None  # about power: a request that is repeated is answered again, not done again
        self._lost: OSError | None = None

    def serve(self) -> None:
        """Answers until the client hangs up; raises OSError where it does so in the middle of something."""
        with self._measuring, self._device.board(self._write) as board:
            for encoded in self._arriving():
                frame = protocol.decode(encoded)
                if frame is None:  # TCP repairs what a line breaks, so it is a fault of a program
                    raise OSError("it sent what is no frame of this version of the link")
                if frame.kind == Kind.POWER:
                    self._power(frame)
                elif frame.kind == Kind.RUN:
                    self._run(frame, board, encoded)
                else:
                    board.take(encoded + b"\0")
                if self._lost:
                    raise self._lost

    def _arriving(self) -> Iterator[bytes]:
        """Frames, encoded, without the zeros between them."""
        pending, until = bytearray(), 0.0
        while True:
            left = until - time.monotonic() if pending else IDLE_CONNECTION_S
            if left <= 0:
                raise OSError("a frame broke off")
            self._connection.settimeout(left)
            try:
                received = self._connection.recv(1 << 16)
            except TimeoutError as error:
                raise OSError("a frame broke off" if pending else f"nothing came for {left:.0f} s") from error
            if not received:
                if pending:
                    raise OSError("it hung up in the middle of a frame")
                return
            *ended, rest = received.split(b"\0")
            for piece in ended:
                pending += piece
                if len(pending) > LONGEST:
                    break
                if pending:
                    yield bytes(pending)
                pending.clear()
            if rest and not pending:
                until = time.monotonic() + FRAME_S
            pending += rest
            if len(pending) > LONGEST:
                raise OSError(f"it sent a frame of more than {LONGEST} bytes")

    def _write(self, data: bytes) -> None:
        """May be called from C, which cannot be left by an exception."""
        if self._lost:
            return
        try:
            self._connection.settimeout(FRAME_S)
            self._connection.sendall(data)
        except OSError as error:
            self._lost = error

    def _alive(self, frame: Frame) -> None:
        self._write(Frame(Kind.PROGRESS + ANSWER, frame.sequence, bytes(4)).encode())

    def _run(self, frame: Frame, board: InProcess, encoded: bytes) -> None:
        while not self._device.busy.acquire(timeout=ALIVE_S):
            self._alive(frame)
            if self._lost:
                return
        try:
            board.take(encoded + b"\0")
            self._device.runs += 1
            self._runs += 1
        finally:
            self._device.busy.release()

    def _power(self, frame: Frame) -> None:
        if self._told is None or self._told.sequence != frame.sequence:
            answers = {Power.SENSOR: self._sensor, Power.BEGIN: self._begin, Power.END: self._end}
            what = int.from_bytes(frame.body, "little")
            if len(frame.body) != 4 or what not in answers:
                why = Why.BAD_LENGTH if len(frame.body) != 4 else Why.BAD_VALUE
                self._write(Frame(Kind.ERROR + ANSWER, frame.sequence, struct.pack("<3I", Kind.POWER, why, 0)).encode())
                return
            said = b""

            def work() -> None:
                nonlocal said
                said = answers[Power(what)]().encode()[:MOST_BODY]

            thread = threading.Thread(target=work, daemon=True)  # idle is measured for a while
            thread.start()
            thread.join(ALIVE_S)
            while thread.is_alive():
                self._alive(frame)
                thread.join(ALIVE_S)
            self._told = Frame(Kind.POWER + ANSWER, frame.sequence, said)
        self._write(self._told.encode())

    def _sensor(self) -> str:
        return self._device.recording().source

    def _begin(self) -> str:
        self._measuring.close()
        self._recording = self._device.recording()
        with self._device.busy:  # or idle would not be idle
            self._measuring.enter_context(self._recording.run())
            self._before = self._device.runs, self._runs
        return "{}"

    def _end(self) -> str:
        if self._recording is None:
            return json.dumps({"power_reason": "no measurement has begun"})
        self._measuring.close()
        try:
            if self._device.runs - self._before[0] != self._runs - self._before[1]:
                raise NotMeasured("another client used the board meanwhile")
            answer: dict[str, Any] = {"power": self._recording.power(1).report()}
        except NotMeasured as error:
            answer = {"power_reason": str(error)}
        return json.dumps(answer)


def _ended(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def main(argv: list[str] | None = None) -> int:
    """Serves until Ctrl-C or SIGTERM, then 0; 2 if it cannot."""
    parser = argparse.ArgumentParser(
        prog="python -m firmware_bridge.agent", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--listen", metavar="HOST:PORT", default=ADDRESS, help=f"default: {ADDRESS}")
    parser.add_argument(
        "--secret-file",
        metavar="FILE",
        type=Path,
        help=f"clients must know what is in it; else {VARIABLE} or {FILE_VARIABLE}",
    )
    parser.add_argument(
        "--memory", metavar="MIB", type=int, help="for each client; default: all together half of this machine's"
    )
    args = parser.parse_args(argv)
    if args.memory is not None and not 1 <= args.memory <= 1 << 16:
        parser.error(f"--memory {args.memory}: 1 to 65536 MiB can be lent to a client")

    def say(line: str) -> None:
        print(f"agent: {line}", flush=True)

    signal.signal(signal.SIGTERM, _ended)
    signal.signal(signal.SIGINT, _ended)  # also where a shell started it with the signal ignored
    try:
        device = Device(room=args.memory and args.memory << 20)
        with device.board(lambda data: None):
            pass  # is compiled by now, or never
        host, port = parse_address(args.listen)

        def serve(connection: socket.socket, name: str) -> None:
            say(f"{name} is here")
            Session(device, connection).serve()
            say(f"{name} has gone")

        with Server(host, port, read_secret(args.secret_file), serve, say) as server:
            say(f"listening on {host or '*'}:{server.port}; power: {device.recording().source or 'no sensor'}")
            server.run()
    except (ListenError, SecretError, BuildError) as error:
        print(f"firmware_bridge.agent: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        say("ended")
    return 0


if __name__ == "__main__":
    sys.exit(main())
