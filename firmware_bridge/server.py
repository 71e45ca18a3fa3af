"""A small TCP server for one machine's agent: few connections, each in a thread of its own, strangers kept out."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
from collections.abc import Callable

from firmware_bridge.secret import DEADLINE_S, SecretError, admit

MOST_CONNECTIONS = 8  # at a time, those included that have not proven the secret yet


class ListenError(ValueError):
    """An address that cannot be listened on. str() is a sentence."""


def parse_address(text: str) -> tuple[str, int]:
    """HOST:PORT, as 127.0.0.1:7700 or [::1]:7700; raises `ListenError`."""
    host, colon, port = text.rpartition(":")
    if not (colon and port.isascii() and port.isdecimal() and int(port) < 1 << 16) or (":" in host and host[0] != "["):
        raise ListenError(f"{text!r} is no HOST:PORT; expected something like 127.0.0.1:7700 or [::1]:7700")
    return host.strip("[]"), int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on `host`; raises `ListenError` if it is no address."""
    if not host:
        return False  # every interface
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ListenError(f"{host!r} is no known address: {error.strerror}") from error
    return all(ipaddress.ip_address(str(address[4][0]).partition("%")[0]).is_loopback for address in found)


class Server:
    """Listens as soon as it exists; `run` serves. Use as a context manager, which hangs up on everybody at its end.

    secret: what clients have to prove first, or None, which only a loopback address allows. serve: called with each
    admitted connection and a name for it, in a thread; may raise OSError where the connection ends. say: takes a line.
    """

    def __init__(
        self,
        host: str,
        port: int,
        secret: bytes | None,
        serve: Callable[[socket.socket, str], None],
        say: Callable[[str], None],
        deadline_s: float = DEADLINE_S,
    ):
        if secret is None and not is_loopback(host):
            raise ListenError(
                f"{host or 'every interface'} can be reached by other machines; give a secret with --secret-file, "
                "or listen on 127.0.0.1"
            )
        self._secret, self._serve, self._say, self._deadline_s = secret, serve, say, deadline_s
        self._connections: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
            self._socket.listen(MOST_CONNECTIONS)
        except OSError as error:
            self._socket.close()
            raise ListenError(f"{host or '*'}:{port} cannot be listened on: {error.strerror}") from error
        self.port: int = self._socket.getsockname()[1]

    def run(self) -> None:
        """Serves until the server is closed, which another thread may do, or an exception such as KeyboardInterrupt."""
        while True:
            try:
                connection, address = self._socket.accept()
            except OSError:
                return  # closed
            name = f"{address[0]}:{address[1]}"
            with self._lock:
                self._threads = [thread for thread in self._threads if thread.is_alive()]
                full = len(self._connections) >= MOST_CONNECTIONS
                if not full:
                    self._connections.add(connection)
            if full:
                self._say(f"{name} was turned away: there are {MOST_CONNECTIONS} connections")
                connection.close()
                continue
            thread = threading.Thread(target=self._attend, args=(connection, name), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def close(self) -> None:
        """Hangs up on everybody and waits a moment for their threads."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes up accept
        self._socket.close()
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(2)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _attend(self, connection: socket.socket, name: str) -> None:
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._secret is not None:
                admit(connection, self._secret, self._deadline_s)
            self._serve(connection, name)
        except SecretError as error:
            self._say(f"{name} was turned away: {error}")
        except OSError as error:
            self._say(f"{name} has gone: {error}")
        finally:
            connection.close()
            with self._lock:
                self._connections.discard(connection)
