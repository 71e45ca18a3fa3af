"""`python -m firmware_bridge.agent` on a Linux board: runs the C core there for clients elsewhere.

`edge-restore --board tcp://HOST:PORT` on another machine is such a client; `wire.py` says what they exchange. By
default only programs on the board itself reach the agent; with `--listen` on another address clients prove a secret
first (`secret.py`). Ctrl-C ends it.
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
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from firmware_bridge import wire
from firmware_bridge.build import BuildError
from firmware_bridge.native import TILE_FIELDS, Core, CoreError, Tile
from firmware_bridge.plan import HASH_AT, HASH_BYTES
from firmware_bridge.power.meter import NotMeasured
from firmware_bridge.power.recording import Recording, open_recording
from firmware_bridge.secret import FILE_VARIABLE, VARIABLE, SecretError, read_secret
from firmware_bridge.server import ListenError, Server, parse_address
from simulator.network import _installed_memory

ADDRESS = "127.0.0.1:7700"
IDLE_CONNECTION_S = 900.0
MOST_PLANS = 8
LARGEST_PLAN = 1 << 24  # bytes
TRACE, BY_ROWS, PROBE = 1, 2, 4
RUN = struct.Struct("<I10I3I")


class Refused(RuntimeError):
    """A request that cannot be carried out. str() is a sentence for the client."""


class Device:
    """What all connections share: plans by hash, and the machine, which runs one picture at a time."""

    def __init__(self, recording: Callable[[], Recording] = lambda: open_recording("auto"), memory: int | None = None):
        self.recording = recording
        self.memory = memory or (_installed_memory() or 1 << 30) // 2
        self.busy = threading.Lock()
        self.runs = 0
        self._lock = threading.Lock()
        self._plans: OrderedDict[bytes, bytearray | Core] = OrderedDict()

    def held(self, key: bytes, size: int) -> int:
        """How many bytes of a plan are here; a plan not yet known is expected from now on."""
        if not 0 < size <= LARGEST_PLAN:
            raise Refused(f"a plan of {size} bytes; {LARGEST_PLAN} is the most")
        with self._lock:
            plan = self._plans.setdefault(key, bytearray())
            self._plans.move_to_end(key)
            while len(self._plans) > MOST_PLANS:
                self._plans.popitem(last=False)
            return size if isinstance(plan, Core) else len(plan)

    def add(self, key: bytes, offset: int, data: bytes) -> int:
        """More of a plan, which is opened when its header says that it is whole; returns as `held`."""
        with self._lock:
            plan = self._plans.get(key)
            if plan is None:
                raise Refused("this plan is not expected any more; begin again")
            if isinstance(plan, Core):
                return offset + len(data)
            if offset != len(plan):
                return len(plan)
            if offset + len(data) > LARGEST_PLAN:
                raise Refused(f"a plan of more than {LARGEST_PLAN} bytes")
            plan += data
            if len(plan) < 16 or len(plan) < struct.unpack_from("<I", plan, 12)[0]:
                return len(plan)
            del self._plans[key]
            if bytes(plan[HASH_AT : HASH_AT + HASH_BYTES]) != key:
                raise Refused("the plan is not the one that was announced")
            self._plans[key] = Core(bytes(plan))
            return len(plan)

    def core(self, key: bytes) -> Core:
        """An open plan."""
        with self._lock:
            plan = self._plans.get(key)
            if not isinstance(plan, Core):
                raise Refused("this plan is not here; send it first")
            self._plans.move_to_end(key)
            return plan


class Session:
    """One client."""

    def __init__(self, device: Device, connection: socket.socket):
        self._device, self._connection = device, connection
        self._measuring = contextlib.ExitStack()
        self._recording: Recording | None = None
        self._runs = 0
        self._before = 0, 0  # runs of the device and of this session when measuring began

    def serve(self) -> None:
        """Answers until the client hangs up; raises OSError where it does so in the middle of something."""
        answers: dict[int, Callable[[bytes], bytes]] = {
            wire.HELLO: self._hello, wire.PLAN: self._plan, wire.DATA: self._data, wire.RUN: self._run,
            wire.POWER: self._power, wire.PING: bytes,
        }  # fmt: skip
        with self._measuring:
            while frame := wire.receive(self._connection, IDLE_CONNECTION_S):
                if frame.type not in answers:
                    raise wire.WireError(f"a request of the unknown type {frame.type}")
                self._answer(frame, answers[frame.type])

    def _answer(self, frame: wire.Frame, answer: Callable[[bytes], bytes]) -> None:
        """Works in a thread of its own, so that the client hears meanwhile that the board is alive."""
        found = wire.ERROR, b"the agent failed"

        def work() -> None:
            nonlocal found
            try:
                found = frame.type, answer(frame.payload)
            except (Refused, CoreError) as error:
                found = wire.ERROR, str(error).encode()
            except (struct.error, UnicodeError):
                found = wire.ERROR, b"the request is too short or too long"
            except MemoryError:
                found = wire.ERROR, b"the board has too little memory for this"

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(wire.BUSY_S)
        while thread.is_alive():
            wire.send(self._connection, wire.Frame(wire.BUSY, frame.sequence, b""))
            thread.join(wire.BUSY_S)
        wire.send(self._connection, wire.Frame(found[0], frame.sequence, found[1]))

    def _hello(self, request: bytes) -> bytes:
        return struct.pack("<HQ", wire.VERSION, self._device.memory) + self._device.recording().source.encode()

    def _plan(self, request: bytes) -> bytes:
        key, size = struct.unpack("<32sI", request)
        return struct.pack("<I", self._device.held(key, size))

    def _data(self, request: bytes) -> bytes:
        key, offset = struct.unpack_from("<32sI", request)
        return struct.pack("<I", self._device.add(key, offset, request[36:]))

    def _run(self, request: bytes) -> bytes:
        key, words = request[:HASH_BYTES], RUN.unpack_from(request, HASH_BYTES)
        flags, tile, probe = words[0], Tile(*words[1 : 1 + len(TILE_FIELDS)]), words[11:]
        pixels = np.frombuffer(request, np.uint8, offset=HASH_BYTES + RUN.size)
        if pixels.size != 3 * tile.height * tile.width:
            raise Refused(f"{pixels.size} bytes of picture came for {tile.width}x{tile.height} pixels")
        picture = pixels.reshape(tile.height, tile.width, 3)
        core, by_rows = self._device.core(key), bool(flags & BY_ROWS)
        memory = core.memory_size(tile, by_rows)
        if memory > self._device.memory:
            raise Refused(
                f"{memory >> 20} MB of working memory were asked for, and {self._device.memory >> 20} are there"
            )
        with self._device.busy:
            found = core.run(picture, tile, trace=bool(flags & TRACE), by_rows=by_rows)
            numbers = core.look(picture, *probe) if flags & PROBE else np.zeros(0, np.int32)
            self._device.runs += 1
            self._runs += 1
        head = struct.pack("<QQI", round(found.seconds * 1e9), memory, len(numbers))
        trace = b"" if found.trace is None else found.trace.astype("<u8").tobytes()
        return b"".join((head, found.image.tobytes(), found.counts.tobytes(), trace, numbers.astype("<i4").tobytes()))

    def _power(self, request: bytes) -> bytes:
        (end,) = struct.unpack("<B", request)
        if not end:
            self._measuring.close()
            self._recording = self._device.recording()
            with self._device.busy:  # or idle would not be idle
                self._measuring.enter_context(self._recording.run())
                self._before = self._device.runs, self._runs
            return b"{}"
        if self._recording is None:
            raise Refused("no measurement has begun")
        self._measuring.close()
        try:
            if self._device.runs - self._before[0] != self._runs - self._before[1]:
                raise NotMeasured("another client used the board meanwhile")
            answer: dict[str, Any] = {"power": self._recording.power(1).report()}
        except NotMeasured as error:
            answer = {"power_reason": str(error)}
        return json.dumps(answer).encode()


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
    args = parser.parse_args(argv)

    def say(line: str) -> None:
        print(f"agent: {line}", flush=True)

    signal.signal(signal.SIGTERM, _ended)
    signal.signal(signal.SIGINT, _ended)  # also where a shell started it with the signal ignored
    try:
        with contextlib.suppress(CoreError):
            Core(b"")  # is compiled by now, or never
        device = Device()
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
