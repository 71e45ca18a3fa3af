"""The link's frames and messages, as bytes; PROTOCOL.md says what every byte means. Nothing here waits or retries."""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum, IntFlag

VERSION = 2
LEAST_BODY, MOST_BODY = 64, 1 << 16
ANSWER = 0x80
_HEADER = struct.Struct("<BBH")
_HELLO = struct.Struct("<2I2QI16s")
_RAN = struct.Struct("<I2Q8s8sI8s")


class Kind(IntEnum):
    """Of a request; its answer has the same plus ANSWER."""

    HELLO = 1
    PING = 2
    RESET = 3
    BEGIN = 4
    DATA = 5
    RUN = 6
    READ = 7
    STATISTICS = 8
    POWER = 9
    PROGRESS = 0x70
    ERROR = 0x7F


class Why(IntEnum):
    """Why a board does not answer a request as asked."""

    BAD_KIND = 1
    BAD_LENGTH = 2
    BAD_VALUE = 3
    NO_ROOM = 4
    NO_PLAN = 5
    NO_PICTURE = 6
    BAD_HASH = 7
    NO_RESULT = 8
    REFUSED = 9


class Upload(IntEnum):
    PLAN = 0
    PICTURE = 1


class Result(IntEnum):
    RESTORED = 0
    COUNTED = 1
    LOOKED = 2


class How(IntFlag):
    """How a job is run: by rows, with a trace, or to inspect a layer."""

    AT_ONCE = 0
    BY_ROWS = 1
    TRACED = 2
    LOOK = 4


class Power(IntEnum):
    SENSOR = 0
    BEGIN = 1
    END = 2


CLOCKS = ("ns", "cycles", "instructions")  # what ticks count


class ProtocolError(ValueError):
    """A message that does not say what its kind must. str() is a sentence."""


@dataclass(frozen=True)
class Frame:
    """kind: of the request or, plus ANSWER, of the answer. sequence: 0..65535, an answer has its request's."""

    kind: int
    sequence: int
    body: bytes

    def encode(self) -> bytes:
        """On the line: COBS of header, body and CRC-32, and the zero that ends a frame."""
        content = _HEADER.pack(VERSION, self.kind, self.sequence) + self.body
        return cobs(content + zlib.crc32(content).to_bytes(4, "little")) + b"\0"


@dataclass(frozen=True)
class Hello:
    """most_body: bytes of a frame's body. room: bytes for plan, picture and working memory. ticks_per_second, clock: of
    the board's clock and what it counts (CLOCKS). build: of the firmware."""

    version: int
    most_body: int
    room: int
    ticks_per_second: int
    clock: str
    build: bytes


@dataclass(frozen=True)
class Ran:
    """ticks: of the board's clock, of the network alone. memory: bytes of working memory. restored, counted, looked:
    BLAKE2b-64 of the picture, of the counts and of the `looked_bytes` of trace or numbers."""

    job: int
    ticks: int
    memory: int
    restored: bytes
    counted: bytes
    looked_bytes: int
    looked: bytes


def cobs(data: bytes) -> bytes:
    """Consistent overhead byte stuffing: the same without zeros."""
    out = bytearray()
    runs = data.split(b"\0")
    for last, run in enumerate(runs, 1 - len(runs)):
        at = 0
        while len(run) - at >= 254:
            out += b"\xff" + run[at : at + 254]
            at += 254
            if at == len(run) and not last:
                return bytes(out)
        out.append(len(run) - at + 1)
        out += run[at:]
    return bytes(out)


def uncobs(data: bytes) -> bytes | None:
    """The inverse of `cobs`; None if `data` (without zeros) is no such encoding."""
    out, at = bytearray(), 0
    while at < len(data):
        length = data[at]
        block = data[at + 1 : at + length]
        if len(block) != length - 1:
            return None
        out += block
        at += length
        if length < 255 and at < len(data):
            out.append(0)
    return bytes(out)


def decode(encoded: bytes) -> Frame | None:
    """A frame as it came, without its zero; None if it was damaged or is of another version."""
    content = uncobs(encoded)
    if (
        content is None
        or len(content) < _HEADER.size + 4
        or zlib.crc32(content[:-4]).to_bytes(4, "little") != content[-4:]
    ):
        return None
    version, kind, sequence = _HEADER.unpack_from(content)
    return Frame(kind, sequence, content[_HEADER.size : -4]) if version == VERSION else None


class Frames:
    """Cuts what arrives into frames. longest: bytes of an encoded frame beyond which nothing is kept."""

    def __init__(self, longest: int = MOST_BODY + MOST_BODY // 254 + 16):
        self._longest, self._pending, self._lost = longest, bytearray(), False
        self.bad = 0

    def take(self, received: bytes) -> list[Frame]:
        """The frames that `received` ends."""
        found = []
        *ended, rest = received.split(b"\0")
        for piece in ended:
            self._keep(piece)
            frame = None if self._lost else decode(bytes(self._pending))
            if frame is not None:
                found.append(frame)
            elif self._pending or self._lost:
                self.bad += 1
            self._pending.clear()
            self._lost = False
        self._keep(rest)
        return found

    def _keep(self, piece: bytes) -> None:
        if len(self._pending) + len(piece) > self._longest:
            self._pending.clear()
            self._lost = True
        elif not self._lost:
            self._pending += piece


def begin(what: Upload, job: int, data: bytes) -> bytes:
    return struct.pack("<3I", what, job, len(data)) + hashlib.blake2b(data, digest_size=32).digest()


def data(what: Upload, offset: int, piece: bytes) -> bytes:
    return struct.pack("<2I", what, offset) + piece


def run(job: int, how: How, tile: tuple[int, ...], look: tuple[int, int, int] = (0, 0, 0)) -> bytes:
    """look: layer, step and channel."""
    return struct.pack("<15I", job, how, *tile, *look)


def read(what: Result, job: int, offset: int, count: int) -> bytes:
    return struct.pack("<4I", what, job, offset, count)


def power(what: Power) -> bytes:
    return struct.pack("<I", what)


def digest(data: bytes) -> bytes:
    """As in `Ran`."""
    return hashlib.blake2b(data, digest_size=8).digest()


def words(body: bytes, count: int) -> tuple[int, ...]:
    """The body's `count` words of 32 bits; raises `ProtocolError` if it has more or fewer."""
    if len(body) != 4 * count:
        raise ProtocolError(f"the board sent {len(body)} bytes where {4 * count} belong")
    return struct.unpack(f"<{count}I", body)


def parse_hello(body: bytes) -> Hello:
    """Raises `ProtocolError` for a board that this host cannot talk to."""
    if len(body) < 4 or int.from_bytes(body[:4], "little") != VERSION or len(body) != _HELLO.size:
        found = int.from_bytes(body[:4], "little") if len(body) >= 4 else None
        raise ProtocolError(
            f"the board speaks version {found} of the protocol in {len(body)} bytes, this host version {VERSION} in "
            f"{_HELLO.size}; install matching versions"
        )
    version, most_body, room, rate, clock, build = _HELLO.unpack(body)
    if not LEAST_BODY <= most_body <= MOST_BODY or not rate or clock >= len(CLOCKS):
        raise ProtocolError(
            f"the board says that its frames hold {most_body} bytes and that its clock number {clock} ticks {rate} "
            f"times a second; {LEAST_BODY} to {MOST_BODY} bytes and clocks 0 to {len(CLOCKS) - 1} are known"
        )
    return Hello(version, most_body, room, rate, CLOCKS[clock], build)


def parse_ran(body: bytes) -> Ran:
    """Raises `ProtocolError`."""
    if len(body) != _RAN.size:
        raise ProtocolError(f"the board sent {len(body)} bytes where {_RAN.size} belong")
    return Ran(*_RAN.unpack(body))
