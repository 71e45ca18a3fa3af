"""Frames between the agent on a Linux board and its clients, over TCP, and what they mean.

A frame, little-endian:

| byte | field | |
|---|---|---|
| 0 | type | below |
| 1 | version | 1 |
| 2 | sequence | uint16, an answer repeats its request's |
| 4 | length | uint32, of the payload, at most `LARGEST` |
| 8 | payload | |
| 8 + length | CRC-32 | uint32, zlib's, of all before it |

| type | request | answer, of the same type |
|---|---|---|
| 1 hello | nothing | uint16 version, uint64 bytes of memory for a plan, a picture and working on it, then text: the sensor that `power` reads, or nothing |
| 2 plan | 32 bytes hash, uint32 size | uint32 bytes of that plan that the agent has; all of them: it is open |
| 3 data | 32 bytes hash, uint32 offset, bytes | as 2 |
| 4 run | 32 bytes hash, uint32 flags, tile[10], probe[3], picture | uint64 nanoseconds, uint64 bytes of memory, uint32 n, picture, counts, trace, int32[n]; flags and the rest as in firmware/runner/runner.c |
| 5 power | uint8 0: begin, once idle has been measured; 1: end | JSON: the `power` of one frame, or a reason |
| 6 ping | anything | the same |
| 7 busy | | sent every `BUSY_S` seconds while an answer takes longer; the answer still comes |
| 8 error | | text, in the place of an answer |

What is damaged, out of bounds or unknown ends the connection: TCP repairs what a line breaks, so it is a fault of a program.
A plan is known by its hash to all connections, and an upload goes on where any of them left it.
"""  # noqa: E501

from __future__ import annotations

import socket
import struct
import time
import zlib
from dataclasses import dataclass

VERSION = 1
HELLO, PLAN, DATA, RUN, POWER, PING, BUSY, ERROR = range(1, 9)
HEADER = struct.Struct("<BBHI")
LARGEST = 1 << 26  # bytes of a payload
CHUNK = 1 << 18  # bytes of a plan in one frame
BUSY_S = 1.0
FRAME_S = 30.0  # within which a frame that has begun must have come


class WireError(OSError):
    """A frame that is none, or none in time. str() is a sentence."""


@dataclass(frozen=True)
class Frame:
    type: int
    sequence: int
    payload: bytes


def send(connection: socket.socket, frame: Frame) -> None:
    """Raises OSError."""
    head = HEADER.pack(frame.type, VERSION, frame.sequence, len(frame.payload))
    checksum = zlib.crc32(frame.payload, zlib.crc32(head))
    connection.settimeout(FRAME_S)
    connection.sendall(b"".join((head, frame.payload, struct.pack("<I", checksum))))


def receive(connection: socket.socket, patience_s: float) -> Frame | None:
    """The next frame, or None if the other end hung up between frames. Raises `WireError` or OSError.

    patience_s: how long to wait for its first byte.
    """
    connection.settimeout(patience_s)
    try:
        first = connection.recv(1)
    except TimeoutError as error:
        raise WireError(f"nothing came for {patience_s:.0f} s") from error
    if not first:
        return None
    until = time.monotonic() + FRAME_S
    head = first + _exactly(connection, HEADER.size - 1, until)
    kind, version, sequence, length = HEADER.unpack(head)
    if version != VERSION:
        raise WireError(f"a frame of version {version} came; this end speaks version {VERSION}")
    if length > LARGEST:
        raise WireError(f"a frame of {length} bytes was announced; {LARGEST} is the most")
    payload = _exactly(connection, length, until)
    (checksum,) = struct.unpack("<I", _exactly(connection, 4, until))
    if checksum != zlib.crc32(payload, zlib.crc32(head)):
        raise WireError("a frame's checksum is wrong")
    return Frame(kind, sequence, payload)


def _exactly(connection: socket.socket, size: int, until: float) -> bytes:
    """Memory is taken as bytes come, not as they are announced."""
    found = bytearray()
    while len(found) < size:
        left = until - time.monotonic()
        if left <= 0:
            raise WireError("a frame broke off")
        connection.settimeout(left)
        try:
            part = connection.recv(min(size - len(found), 1 << 20))
        except TimeoutError as error:
            raise WireError("a frame broke off") from error
        if not part:
            raise WireError("the other end hung up in the middle of a frame")
        found += part
    return bytes(found)
