"""A host and a board in one process, without a line between."""

from __future__ import annotations

from firmware_bridge.in_process import InProcess
from firmware_bridge.protocol import MOST_BODY
from firmware_bridge.transport import Transport


class Direct(Transport):
    """A host's way to a board in this process. Silence is known at once: nothing can come later."""

    name = "direct"

    def __init__(self, memory_bytes: int, most_body: int = MOST_BODY):
        self._arrived = bytearray()
        self.board = InProcess(memory_bytes, self.to_host, most_body)

    def to_host(self, data: bytes) -> None:
        self._arrived += data

    def send(self, data: bytes, timeout_s: float) -> None:
        self.board.take(data)

    def receive(self, timeout_s: float) -> bytes:
        received = bytes(self._arrived)
        self._arrived.clear()
        return received
