"""A web server of files that prints nothing, and a proxy that lets requests fail as a test says."""

from __future__ import annotations

import contextlib
import http.server
import re
import socket
import sys
import threading
from collections.abc import Callable


class Proxy:
    """A TCP proxy; `answer(head)` of each request is what it says itself, b"" hangs up, None asks the server, a number
    lets so many bytes of the request pass and hangs up then."""

    def __init__(self, server: tuple[str, int], answer: Callable[[bytes], bytes | int | None]) -> None:
        self.server, self.answer = server, answer
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.asked = self.answered = 0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(self.server) as upstream:
            threading.Thread(target=self.copy, args=(upstream, client), daemon=True).start()
            passed, cut_at = 0, sys.maxsize
            while passed < cut_at and (chunk := client.recv(1 << 16)):
                if re.match(rb"(GET|PUT|HEAD|POST|DELETE) ", chunk):
                    self.asked += 1
                    said = self.answer(chunk)
                    self.answered += said is not None
                    if isinstance(said, bytes):
                        client.sendall(said)
                        break
                    passed, cut_at = 0, sys.maxsize if said is None else said
                upstream.sendall(chunk[: cut_at - passed])
                passed += len(chunk)
            with contextlib.suppress(OSError):  # both have hung up by themselves
                upstream.shutdown(socket.SHUT_RDWR)
                client.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def copy(upstream: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := upstream.recv(1 << 16):
                client.sendall(chunk)
            client.shutdown(socket.SHUT_RDWR)  # else it waits for more, a quarter of a minute


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass
