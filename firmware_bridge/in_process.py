"""The C end of the link inside this process: what the agent serves, and what tests put behind a bad line."""

from __future__ import annotations

import ctypes
import functools
import mmap
import time
from collections.abc import Callable

from firmware_bridge.protocol import MOST_BODY
from firmware_bridge.toolchain import link_library

_WRITE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.POINTER(ctypes.c_uint8), ctypes.c_size_t)
_TICKS = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p)
_LINK_BYTES = 4096  # of an snn_link, generously


class _Port(ctypes.Structure):
    _fields_ = [
        ("context", ctypes.c_void_p),
        ("write", _WRITE),
        ("ticks", _TICKS),
        ("ticks_per_second", ctypes.c_uint64),
        ("clock", ctypes.c_uint32),
        ("build", ctypes.c_char * 16),
    ]


@functools.cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(str(link_library()))
    library.snn_link_start.argtypes = [
        ctypes.c_void_p, ctypes.POINTER(_Port), ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint32,
    ]  # fmt: skip
    library.snn_link_take.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
    library.snn_link_take.restype = None
    return library


class InProcess:
    """A board without a line. memory_bytes: for plan, pictures and work. write: gets what the board sends; it must not
    raise. build: what the hello says of the firmware.

    Raises `BuildError` if the C library cannot be built, ValueError if the memory does not even hold the frames.
    """

    def __init__(
        self,
        memory_bytes: int,
        write: Callable[[bytes], object],
        most_body: int = MOST_BODY,
        build: bytes = b"in process",
    ):
        self._library = _library()
        self.write = write
        # Pages of it that no picture needs are never taken from the machine, nor filled with zeros.
        self._memory = (ctypes.c_uint8 * (memory_bytes // 8 * 8)).from_buffer(mmap.mmap(-1, max(memory_bytes, 8)))
        self._link = (ctypes.c_uint64 * (_LINK_BYTES // 8))()
        self._port = _Port(
            None,
            _WRITE(lambda _, data, count: self._written(ctypes.string_at(data, count))),
            _TICKS(lambda _: time.perf_counter_ns()),
            10**9,
            0,
            build,
        )
        self._most_body = most_body
        self.start()

    def start(self) -> None:
        """As after a reset: it knows nothing."""
        size = ctypes.sizeof(self._memory)
        if not self._library.snn_link_start(self._link, ctypes.byref(self._port), self._memory, size, self._most_body):
            raise ValueError(f"{size} bytes do not hold the frames of a link with bodies of {self._most_body} bytes")

    def _written(self, data: bytes) -> None:
        self.write(data)

    def take(self, received: bytes) -> None:
        """Bytes from the host, in pieces of any size; answers are written before it returns."""
        self._library.snn_link_take(self._link, received, len(received))
