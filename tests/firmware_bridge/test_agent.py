"""The agent on a Linux board: the same bits over TCP, power measured there; faults and strangers do no harm."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from firmware_bridge import agent, wire
from firmware_bridge.agent import Device, Session
from firmware_bridge.boards import BoardError, open_board
from firmware_bridge.boards.remote import Client, Remote
from firmware_bridge.compare import compare
from firmware_bridge.locate import NetworkTracer, first_place
from firmware_bridge.plan import compile_bundle
from firmware_bridge.power import recording
from firmware_bridge.power.recording import Recording
from firmware_bridge.power.sensors import Sensor
from firmware_bridge.secret import FILE_VARIABLE, VARIABLE
from firmware_bridge.server import Server
from simulator.bundle import read_bundle
from simulator.network import Network
from tests.conformance.agreement import bundled
from tests.random_graphs import random_network
from tests.simulator.networks import random_image

ROOT = Path(__file__).parents[2]
DENOISE = ROOT / "edge" / "bundles" / "denoise.safetensors"
SECRET = "a secret of sufficient length"


@pytest.fixture(autouse=True)
def no_secret(monkeypatch):
    for name in (VARIABLE, FILE_VARIABLE):
        monkeypatch.delenv(name, raising=False)


def no_sensor() -> Recording:
    return Recording(missing="no power sensor was found")


@contextmanager
def serving(device: Device | None = None, secret: bytes | None = None, serve=None):
    """A board's name; `serve` in the place of the agent's own sessions."""
    device = device or Device(no_sensor, 1 << 30)
    serve = serve or (lambda connection, name: Session(device, connection).serve())
    with Server("127.0.0.1", 0, secret, serve, lambda line: None) as server:
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield f"tcp://127.0.0.1:{server.port}"
        finally:
            server.close()
            thread.join(5)
            assert not thread.is_alive()


def check(board, bundle, image) -> None:
    found = board.run(image)
    assert compare(bundle.analysis, Network(bundle).run(image), found.image, found.counts).equal
    assert found.seconds > 0 and found.memory > 0


def test_a_shipped_bundle_has_the_same_bits_over_tcp():
    bundle = read_bundle(DENOISE)
    with serving() as name, open_board(name) as board:
        board.load(bundle)
        check(board, bundle, random_image(np.random.default_rng(0), 43, 58, 3))


@pytest.mark.parametrize("seed", range(6))
def test_random_networks_have_the_same_bits_and_can_be_looked_into_over_tcp(seed):
    bundle = bundled(*random_network(seed))
    image = random_image(np.random.default_rng(seed), 13, 18, 3)
    with serving() as name, open_board(name) as board:
        board.load(bundle)
        check(board, bundle, image)
        assert first_place(NetworkTracer(Network(bundle)), board.tracer(), image) is None


def test_a_board_with_little_memory_gets_its_pictures_in_parts():
    bundle = read_bundle(DENOISE)
    with serving(Device(no_sensor, 2200 << 10)) as name, open_board(name) as board:
        board.load(bundle)
        image = random_image(np.random.default_rng(1), 200, 200, 3)
        check(board, bundle, image)
        assert board.run(image).overhead > 1


def test_two_clients_at_once_with_networks_of_their_own_do_not_disturb_each_other():
    faults: list[BaseException] = []

    def work(name: str, seed: int) -> None:
        try:
            bundle, rng = bundled(*random_network(seed)), np.random.default_rng(seed)
            with open_board(name) as board:
                board.load(bundle)
                for _ in range(20):
                    check(board, bundle, random_image(rng, 16, 20, 3))
        except BaseException as error:
            faults.append(error)

    with serving() as name:
        clients = [threading.Thread(target=work, args=(name, seed)) for seed in (1, 2)]
        for client in clients:
            client.start()
        for client in clients:
            client.join(60)
    assert not faults


def test_a_plan_is_sent_once_and_goes_on_where_an_upload_broke_off(monkeypatch):
    bundle = read_bundle(DENOISE)
    plan = compile_bundle(bundle).data
    key = plan[16:48]
    sent = []
    with serving() as name:
        first = Client(name)
        assert first.ask(wire.PLAN, key, struct.pack("<I", len(plan))) == struct.pack("<I", 0)
        assert first.ask(wire.DATA, key, struct.pack("<I", 0), plan[:1000]) == struct.pack("<I", 1000)
        first.close()
        ask = Client.ask

        def count(self, kind, *parts):
            sent.extend(len(parts[2]) for _ in range(kind == wire.DATA))
            return ask(self, kind, *parts)

        monkeypatch.setattr(Client, "ask", count)
        for total in (len(plan) - 1000, len(plan) - 1000):  # and nothing the second time
            with open_board(name) as board:
                board.load(bundle)
                assert sum(sent) == total
                check(board, bundle, np.zeros((20, 20, 3), np.uint8))


def test_a_damaged_plan_is_refused_and_can_be_sent_again():
    plan = compile_bundle(read_bundle(DENOISE)).data
    key, size = plan[16:48], struct.pack("<I", len(plan))
    broken = plan[:-1] + bytes([plan[-1] ^ 1])
    with serving() as name:
        client = Client(name)
        client.ask(wire.PLAN, key, size)
        with pytest.raises(BoardError, match="SNN_HASH"):
            client.ask(wire.DATA, key, struct.pack("<I", 0), broken)
        client.ask(wire.PLAN, key, size)
        assert client.ask(wire.DATA, key, struct.pack("<I", 0), plan) == size
        client.close()


def test_the_plans_that_an_agent_keeps_are_bounded():
    device = Device(no_sensor, 1 << 30)
    for number in range(50):
        device.held(bytes([number]) * 32, 100)
        device.add(bytes([number]) * 32, 0, bytes(15))
    assert len(device._plans) == agent.MOST_PLANS
    with pytest.raises(agent.Refused, match="not expected any more"):
        device.add(bytes(32), 15, b"x")
    with pytest.raises(agent.Refused, match="16777216 is the most"):
        device.held(bytes(32), 1 << 25)


@pytest.mark.parametrize(
    ("kind", "payload", "complaint"),
    [
        (wire.PLAN, b"short", "too short or too long"),
        (wire.RUN, b"", "too short or too long"),
        (wire.RUN, bytes(32 + agent.RUN.size), "this plan is not here"),
        (wire.RUN, bytes(32 + agent.RUN.size + 1), "1 bytes of picture came for 0x0 pixels"),
        (wire.POWER, b"\1", "no measurement has begun"),
        (wire.POWER, b"", "too short or too long"),
    ],
)
def test_requests_that_make_no_sense_are_answered_with_an_error_and_the_connection_lives_on(kind, payload, complaint):
    with serving() as name:
        client = Client(name)
        with pytest.raises(BoardError, match=complaint):
            client.ask(kind, payload)
        assert client.ask(wire.PING, b"still there") == b"still there"
        client.close()


def test_a_picture_that_would_take_too_much_memory_is_refused():
    plan = compile_bundle(read_bundle(DENOISE)).data
    with serving(Device(no_sensor, 300 << 10)) as name:
        client = Client(name)
        client.ask(wire.PLAN, plan[16:48], struct.pack("<I", len(plan)))
        client.ask(wire.DATA, plan[16:48], struct.pack("<I", 0), plan)
        words = agent.RUN.pack(0, 64, 64, 0, 0, 64, 64, 0, 0, 64, 64, 0, 0, 0)
        with pytest.raises(BoardError, match="of working memory were asked for"):
            client.ask(wire.RUN, plan[16:48], words, bytes(3 * 64 * 64))
        client.close()


def test_random_requests_in_sound_frames_are_answered_and_leave_the_agent_working():
    plan = compile_bundle(bundled(*random_network(1))).data
    key, rng = plan[16:48], np.random.default_rng(0)
    with serving() as name:
        client = Client(name)
        client.ask(wire.PLAN, key, struct.pack("<I", len(plan)))
        client.ask(wire.DATA, key, struct.pack("<I", 0), plan)
        for _ in range(150):
            kind = int(rng.choice([wire.HELLO, wire.PLAN, wire.DATA, wire.RUN]))
            words = rng.choice([0, 1, 2, 4, 7, 8, 16, 1 << 16, (1 << 32) - 1], 14).astype("<u4")
            size = 3 * int(words[5]) * int(words[6])
            payload = (key if rng.random() < 0.7 else rng.bytes(32)) + words[: rng.integers(0, 15)].tobytes()
            payload += rng.bytes(size if size < 1 << 16 and rng.random() < 0.8 else 5)
            with suppress(BoardError):
                client.ask(kind, payload)
            assert client.ask(wire.PING, b"!") == b"!"
        client.close()


def raw(name: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", int(name.rpartition(":")[2])), 5)
    connection.settimeout(5)
    return connection


def is_hung_up(connection) -> bool:
    try:
        while connection.recv(1000):
            pass
    except ConnectionResetError:
        pass
    return True


def test_garbage_ends_a_connection_and_leaves_the_agent_working():
    rng = np.random.default_rng(0)
    with serving() as name:
        for number in range(100):
            with raw(name) as connection:
                connection.sendall(rng.bytes(40) if number % 2 else bytes([1, 1, 0, 0]) + b"\xff" * 36)
                with suppress(OSError):  # hung up already
                    connection.shutdown(socket.SHUT_WR)
                assert is_hung_up(connection)
        Client(name).close()


def test_a_frame_with_a_wrong_checksum_ends_the_connection():
    with serving() as name, raw(name) as connection:
        connection.sendall(wire.HEADER.pack(wire.PING, wire.VERSION, 1, 4) + b"abcd" + bytes(4))
        assert is_hung_up(connection)


def test_a_frame_that_never_ends_is_cut_off(monkeypatch):
    monkeypatch.setattr(wire, "FRAME_S", 0.3)
    with serving() as name, raw(name) as connection:
        connection.sendall(wire.HEADER.pack(wire.PING, wire.VERSION, 1, 1000))
        begin = time.monotonic()
        assert is_hung_up(connection)
        assert time.monotonic() - begin < 3


def test_a_client_with_the_secret_is_served(monkeypatch, tmp_path):
    bundle = bundled(*random_network(1))
    with serving(secret=SECRET.encode()) as name:
        (tmp_path / "secret").write_text(SECRET)
        monkeypatch.setenv(FILE_VARIABLE, str(tmp_path / "secret"))
        with open_board(name) as board:
            board.load(bundle)
            check(board, bundle, np.zeros((9, 9, 3), np.uint8))


def test_a_client_without_or_with_another_secret_is_told_so(monkeypatch):
    with serving(secret=SECRET.encode()) as name:
        with pytest.raises(BoardError, match="set SPIKERIR_SECRET"):
            open_board(name)
        monkeypatch.setenv(VARIABLE, "another secret of some length")
        with pytest.raises(BoardError, match="does not accept the secret"):
            open_board(name)


def test_a_board_that_is_not_there_is_named():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name in (f"tcp://127.0.0.1:{port}", "tcp://no.such.host.invalid:1", "tcp://localhost"):
        with pytest.raises(BoardError, match=f"{name} cannot be reached: "):
            open_board(name)


def faulty(kind: int, answer):
    """A session whose answers of one kind come from `answer(connection, frame)`."""
    device = Device(no_sensor, 1 << 30)

    class Faulty(Session):
        def _answer(self, frame, work):
            if frame.type == kind:
                answer(self._connection, frame)
            else:
                super()._answer(frame, work)

    return lambda connection, name: Faulty(device, connection).serve()


def garbled(connection, frame):
    connection.sendall(b"x" * 100)


def short(connection, frame):
    wire.send(connection, wire.Frame(frame.type, frame.sequence, bytes(30)))


def foreign(connection, frame):
    wire.send(connection, wire.Frame(frame.type, frame.sequence + 1 & 0xFFFF, b""))


def vanishing(connection, frame):
    connection.shutdown(socket.SHUT_RDWR)


def broken_off(connection, frame):
    connection.sendall(wire.HEADER.pack(frame.type, wire.VERSION, frame.sequence, 5000) + bytes(100))
    connection.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        (kind, answer)
        for kind in (wire.HELLO, wire.PLAN, wire.DATA, wire.RUN)
        for answer in (garbled, short, foreign, vanishing, broken_off)
        if (kind, answer) != (wire.HELLO, short)  # a hello may have any length
    ],
)
def test_an_agent_that_misbehaves_is_an_error_and_never_a_picture(kind, answer):
    with serving(serve=faulty(kind, answer)) as name, pytest.raises(BoardError, match="tcp://"):
        with open_board(name) as board:
            board.load(bundled(*random_network(1)))
            board.run(np.zeros((9, 9, 3), np.uint8))


def test_an_agent_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr("firmware_bridge.boards.remote.SILENCE_S", 0.3)
    with serving(serve=faulty(wire.RUN, lambda connection, frame: None)) as name, open_board(name) as board:
        board.load(bundled(*random_network(1)))
        begin = time.monotonic()
        with pytest.raises(BoardError, match="is lost: nothing came"):
            board.run(np.zeros((9, 9, 3), np.uint8))
        assert time.monotonic() - begin < 3


def test_an_agent_that_takes_longer_says_that_it_is_alive(monkeypatch):
    monkeypatch.setattr("firmware_bridge.boards.remote.SILENCE_S", 0.5)
    monkeypatch.setattr(wire, "BUSY_S", 0.1)
    device = Device(no_sensor, 1 << 30)
    bundle = bundled(*random_network(1))
    with serving(device) as name, open_board(name) as board:
        board.load(bundle)
        device.busy.acquire()  # as if another picture were being restored
        threading.Timer(1.2, device.busy.release).start()
        check(board, bundle, np.zeros((9, 9, 3), np.uint8))


def measured(device_watts) -> Device:
    sensor = Sensor("ina226@1-0040", "rail VDD_IN", device_watts, interval_s=0.01)
    return Device(lambda: Recording(sensor), 1 << 30)


def test_power_is_measured_on_the_board_and_travels_back(monkeypatch):
    monkeypatch.setattr("firmware_bridge.power.meter.IDLE_S", 0.1)
    watts = [2.0]
    with serving(measured(lambda: watts[0])) as name, open_board(name) as board:
        recorded = board.recording()
        assert recorded.source == f"ina226@1-0040 of {name}"
        with recorded.run():
            watts[0] = 5.0
            time.sleep(0.2)
        figures = recorded.report(10)["power"]
    assert figures["idle_w"] == pytest.approx(2.0) and figures["measured_w"] == pytest.approx(3.0, abs=0.5)
    assert figures["joules_per_frame"] == pytest.approx(figures["measured_w"] * figures["seconds"] / 10)
    assert (figures["sensor"], figures["label"]) == ("ina226@1-0040", "measured")


def test_power_is_not_told_when_another_client_used_the_board_meanwhile(monkeypatch):
    monkeypatch.setattr("firmware_bridge.power.meter.IDLE_S", 0.1)
    with serving(measured(lambda: 2.0)) as name, open_board(name) as one, open_board(name) as other:
        bundle = bundled(*random_network(1))
        other.load(bundle)
        recorded = one.recording()
        with recorded.run():
            check(other, bundle, np.zeros((9, 9, 3), np.uint8))
            time.sleep(0.1)
        assert recorded.report(1)["power_reason"] == "another client used the board meanwhile"


def test_a_board_without_a_sensor_has_no_power_and_a_reason():
    with serving() as name, open_board(name) as board:
        recorded = board.recording()
        with recorded.run():
            pass
        assert recorded.report(1) == {
            "power": None, "power_reason": f"{name} has no power sensor that speaks for the board"
        }  # fmt: skip


def test_the_command_serves_and_ends_with_ctrl_c():
    command = [sys.executable, "-m", "firmware_bridge.agent", "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        line = process.stdout.readline()
        assert line.startswith("agent: listening on 127.0.0.1:")
        bundle = bundled(*random_network(1))
        with Remote(f"tcp://127.0.0.1:{line.split(':')[2].split(';')[0]}") as board:
            board.load(bundle)
            check(board, bundle, np.zeros((9, 9, 3), np.uint8))
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
        assert process.returncode == 0 and err == "" and out.endswith("agent: ended\n")
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--listen", "0.0.0.0:0"], "can be reached by other machines; give a secret with --secret-file"),
        (["--listen", "7700"], "is no HOST:PORT"),
        (["--secret-file", "/nowhere/secret"], "the secret in /nowhere/secret cannot be read"),
        (["--secret-file", os.devnull], "has 0 bytes; 16 to 4096 are needed"),
    ],
)
def test_the_command_answers_mistakes_with_one_sentence(options, complaint, capsys, monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert agent.main(options) == 2
    out, err = capsys.readouterr()
    assert complaint in err and len(err.splitlines()) == 1


def test_the_bundle_runs_on_the_agent_as_any_other_board(monkeypatch, tmp_path, capfd):
    from edge import cli

    monkeypatch.setattr(recording, "find", lambda: None)  # this machine's sensors are not asked
    with serving() as name:
        arguments = ["sample", "--task", "denoise", "--board", name, "--stats", str(tmp_path / "s.json")]
        assert cli.main(arguments) == 0
    assert f'"backend": "{name}"' in (tmp_path / "s.json").read_text()
