"""Strangers are kept out before anything of theirs is read, and nobody can keep others out."""

import hmac
import socket
import threading
import time
from contextlib import contextmanager

import pytest

from firmware_bridge import secret as handshake
from firmware_bridge.secret import MAGIC, RANDOM, SecretError, prove, read_secret
from firmware_bridge.server import MOST_CONNECTIONS, ListenError, Server, is_loopback, parse_address

SECRET = b"a secret of sufficient length"


def echo(connection, name):
    connection.settimeout(5)
    while part := connection.recv(100):
        connection.sendall(part)


@contextmanager
def serving(secret=None, serve=echo, deadline_s=2.0):
    said = []
    with Server("127.0.0.1", 0, secret, serve, said.append, deadline_s) as server:
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield server, said
        finally:
            server.close()
            thread.join(5)
            assert not thread.is_alive()


def connected(server) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), 5)
    connection.settimeout(5)
    return connection


def is_hung_up(connection) -> bool:
    try:
        while connection.recv(1000):
            pass
    except ConnectionResetError:
        pass
    return True  # and not a timeout


def echoes(connection) -> bool:
    connection.sendall(b"hello")
    return connection.recv(100) == b"hello"


def wait_for(said, words):
    until = time.monotonic() + 5
    while time.monotonic() < until:
        if any(words in line for line in said):
            return
        time.sleep(0.01)
    raise AssertionError(said)


def test_a_client_that_knows_the_secret_is_admitted():
    with serving(SECRET) as (server, _), connected(server) as connection:
        prove(connection, SECRET)
        assert echoes(connection)


def test_a_wrong_secret_is_refused_with_a_sentence_and_nothing_is_served():
    served = []
    with serving(SECRET, lambda *_: served.append(1)) as (server, said), connected(server) as connection:
        with pytest.raises(SecretError, match="does not accept the secret"):
            prove(connection, b"another secret of some length")
        wait_for(said, "does not know the secret")
    assert not served


def test_a_client_without_a_secret_is_refused():
    with serving(SECRET) as (server, said), connected(server) as connection:
        connection.sendall(b"\0hello\0" + bytes(200))
        assert is_hung_up(connection)
        wait_for(said, "turned away")


def test_a_client_with_a_secret_is_told_when_the_other_end_wants_none():
    with serving() as (server, _), connected(server) as connection:
        with pytest.raises(SecretError, match="does not prove a secret in time; has it none"):
            prove(connection, SECRET, 0.2)


def test_an_oversized_first_message_is_not_read():
    """No more than the message's size is taken, so that the rest, however long, takes no memory."""
    with serving(SECRET) as (server, said), connected(server) as connection:
        with pytest.raises(OSError):
            for _ in range(2000):  # 2 MB
                connection.sendall(MAGIC + bytes(1000))
                time.sleep(0.001)
        wait_for(said, "does not know the secret")


def test_a_client_that_sends_byte_by_byte_is_cut_off_at_the_deadline():
    with serving(SECRET, deadline_s=0.4) as (server, said), connected(server) as connection:
        begin = time.monotonic()
        with pytest.raises(OSError):
            for byte in MAGIC + bytes(64):
                connection.sendall(bytes([byte]))
                time.sleep(0.05)
        assert time.monotonic() - begin < 2
        wait_for(said, "not prove a secret in time")


def test_a_client_that_says_nothing_is_cut_off_at_the_deadline():
    with serving(SECRET, deadline_s=0.3) as (server, said), connected(server) as connection:
        assert is_hung_up(connection)


def test_an_answer_cannot_be_used_again():
    """The server's random bytes are new each time."""
    with serving(SECRET) as (server, said):
        with connected(server) as first:
            challenge = first.recv(100)
            answer = MAGIC + bytes(RANDOM)
            answer += hmac.digest(SECRET, b"client" + challenge[8:] + bytes(RANDOM), "sha256")
            first.sendall(answer)
            assert len(first.recv(100)) == len(MAGIC) + RANDOM
        with connected(server) as second:
            assert second.recv(100) != challenge
            second.sendall(answer)
            assert is_hung_up(second)


def test_a_server_that_does_not_know_the_secret_is_found_out():
    def impostor(connection, name):
        connection.sendall(MAGIC + bytes(RANDOM))
        connection.recv(1000)
        connection.sendall(MAGIC + bytes(RANDOM))

    with serving(None, impostor) as (server, _), connected(server) as connection:
        with pytest.raises(SecretError, match="agent does not know the secret itself"):
            prove(connection, SECRET)


def test_several_clients_are_served_at_once_and_one_too_many_is_turned_away():
    with serving(SECRET) as (server, said):
        connections = [connected(server) for _ in range(MOST_CONNECTIONS)]
        for connection in connections:
            prove(connection, SECRET)
        assert all(echoes(connection) for connection in connections)
        with connected(server) as another:
            assert is_hung_up(another)
        wait_for(said, "there are 8 connections")
        connections.pop().close()
        until = time.monotonic() + 5
        while time.monotonic() < until:  # the place becomes free
            with connected(server) as another:
                try:
                    prove(another, SECRET)
                    break
                except SecretError:
                    time.sleep(0.02)
        else:
            raise AssertionError(said)
        for connection in connections:
            connection.close()


def test_closing_hangs_up_on_everybody():
    with serving() as (server, _):
        connection = connected(server)
        assert echoes(connection)
        server.close()
        assert is_hung_up(connection)
        connection.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "", "::", "192.0.2.1"])
def test_other_machines_are_let_in_with_a_secret_only(host):
    with pytest.raises(ListenError, match="give a secret"):
        Server(host, 0, None, echo, print)


def test_loopback_is_known_by_address_and_by_name():
    assert is_loopback("127.0.0.1") and is_loopback("::1") and is_loopback("localhost")
    assert not is_loopback("0.0.0.0")
    with pytest.raises(ListenError, match="no known address"):
        is_loopback("no.such.host.invalid")


def test_addresses_are_host_and_port():
    assert parse_address("127.0.0.1:7700") == ("127.0.0.1", 7700)
    assert parse_address("[::1]:0") == ("::1", 0)
    assert parse_address(":7700") == ("", 7700)
    for wrong in ("", "7700", "localhost", "localhost:", "localhost:x", "a:70000", "::1:7700", "a:-1"):
        with pytest.raises(ListenError, match="is no HOST:PORT"):
            parse_address(wrong)


def test_an_address_in_use_is_named():
    with serving() as (server, _), pytest.raises(ListenError, match=f"127.0.0.1:{server.port} cannot be listened on"):
        Server("127.0.0.1", server.port, None, echo, print)


def test_a_secret_comes_from_a_file_or_the_environment(tmp_path, monkeypatch):
    for name in (handshake.VARIABLE, handshake.FILE_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    assert read_secret() is None
    file = tmp_path / "secret"
    file.write_bytes(SECRET + b"\n")
    assert read_secret(file) == SECRET
    monkeypatch.setenv(handshake.FILE_VARIABLE, str(file))
    assert read_secret() == SECRET
    monkeypatch.setenv(handshake.VARIABLE, "another secret of some length")
    assert read_secret() == b"another secret of some length"
    assert read_secret(file) == SECRET


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 5000])
def test_a_secret_that_is_too_short_or_too_long_is_refused(tmp_path, content):
    file = tmp_path / "secret"
    file.write_bytes(content)
    with pytest.raises(SecretError, match="16 to 4096 are needed"):
        read_secret(file)


def test_a_secrets_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(SecretError, match="cannot be read: No such file"):
        read_secret(tmp_path / "secret")
