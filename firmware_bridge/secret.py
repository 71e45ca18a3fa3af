"""A secret that both ends of a TCP connection prove to know before anything else is read from it.

Three messages of fixed size, each beginning with `53 4E 4E 41 01 00 00 00` ("SNNA", version 1):

| from | bytes behind that |
|---|---|
| server | 32 random ones |
| client | 32 random ones, then HMAC-SHA256(secret, "client", the server's random bytes, the client's) |
| server | HMAC-SHA256(secret, "server", the server's random bytes, the client's) |

A server that is not convinced hangs up without a word, and so does one that waits longer than `DEADLINE_S` for all of
the client's message. What follows is neither encrypted nor signed: across a network that others can listen to, use
`ssh -L` and the loopback address.
"""

from __future__ import annotations

import hmac
import os
import secrets
import socket
import time
from pathlib import Path

MAGIC = b"SNNA\x01\0\0\0"
RANDOM = 32
DEADLINE_S = 5.0
SHORTEST = 16  # bytes of a secret
LONGEST = 4096
VARIABLE, FILE_VARIABLE = "SPIKERIR_SECRET", "SPIKERIR_SECRET_FILE"


class SecretError(RuntimeError):
    """A secret that cannot be used, or a connection whose other end does not know it. str() is a sentence."""


def read_secret(file: Path | None = None) -> bytes | None:
    """The secret in `file`, else in SPIKERIR_SECRET, else in the file that SPIKERIR_SECRET_FILE names, else None.

    White space at its ends does not count. Raises `SecretError` if it cannot be read or is too short.
    """
    if file is None and VARIABLE in os.environ:
        return _checked(os.environ[VARIABLE].encode(), VARIABLE)
    name = file or os.environ.get(FILE_VARIABLE)
    if name is None:
        return None
    try:
        with open(name, "rb") as content:
            return _checked(content.read(LONGEST + 1), str(name))
    except OSError as error:
        raise SecretError(f"the secret in {name} cannot be read: {error.strerror}") from error


def admit(connection: socket.socket, secret: bytes, deadline_s: float = DEADLINE_S) -> None:
    """The server's side: has the client prove that it knows the secret. Raises `SecretError`."""
    until = time.monotonic() + deadline_s
    own = secrets.token_bytes(RANDOM)
    _send(connection, own, until)
    answer = _receive(connection, 2 * RANDOM, until)
    theirs, proof = answer[:RANDOM], answer[RANDOM:]
    if not hmac.compare_digest(proof, _proof(secret, b"client", own, theirs)):
        raise SecretError("the client does not know the secret")
    _send(connection, _proof(secret, b"server", own, theirs), until)


def prove(connection: socket.socket, secret: bytes, deadline_s: float = DEADLINE_S) -> None:
    """The client's side: proves that it knows the secret and that the server does. Raises `SecretError`."""
    until = time.monotonic() + deadline_s
    theirs = _receive(connection, RANDOM, until)
    own = secrets.token_bytes(RANDOM)
    _send(connection, own + _proof(secret, b"client", theirs, own), until)
    try:
        proof = _receive(connection, RANDOM, until)
    except SecretError as error:
        raise SecretError("the agent does not accept the secret; both ends need the same") from error
    if not hmac.compare_digest(proof, _proof(secret, b"server", theirs, own)):
        raise SecretError("the agent does not know the secret itself; is this the right machine?")


def _checked(secret: bytes, where: str) -> bytes:
    secret = secret.strip()
    if not SHORTEST <= len(secret) <= LONGEST:
        raise SecretError(f"the secret in {where} has {len(secret)} bytes; {SHORTEST} to {LONGEST} are needed")
    return secret


def _proof(secret: bytes, who: bytes, server: bytes, client: bytes) -> bytes:
    return hmac.digest(secret, who + server + client, "sha256")


def _send(connection: socket.socket, content: bytes, until: float) -> None:
    try:
        connection.settimeout(max(until - time.monotonic(), 1e-3))
        connection.sendall(MAGIC + content)
    except OSError as error:
        raise SecretError(f"the connection ended while the secret was to be proven: {error}") from error


def _receive(connection: socket.socket, size: int, until: float) -> bytes:
    """The content of a message, never more than it has; the deadline is for all of it, however slowly it comes."""
    found = b""
    try:
        while len(found) < len(MAGIC) + size:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            connection.settimeout(left)
            part = connection.recv(len(MAGIC) + size - len(found))
            if not part:
                raise SecretError("the other end hung up while the secret was to be proven")
            found += part
            if not found.startswith(MAGIC[: len(found)]):
                raise SecretError("the other end does not prove a secret; has it none?")
    except TimeoutError as error:
        raise SecretError("the other end does not prove a secret in time; has it none?") from error
    except OSError as error:
        raise SecretError(f"the connection ended while the secret was to be proven: {error}") from error
    return found[len(MAGIC) :]
