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

from firmware_bridge import agent, protocol
from firmware_bridge.agent import Device, Session
from firmware_bridge.boards import BoardError, open_board
from firmware_bridge.boards.linked import Linked
from firmware_bridge.boards.remote import Remote
from firmware_bridge.compare import compare
from firmware_bridge.first_difference import NetworkTracer, first_place
from firmware_bridge.link import Link, Patience, Refused
from firmware_bridge.plan import compile_bundle
from firmware_bridge.power import recording
from firmware_bridge.power.recording import Recording
from firmware_bridge.power.sensors import Sensor
from firmware_bridge.protocol import ANSWER, Frame, Kind, Upload, Why
from firmware_bridge.secret import FILE_VARIABLE, VARIABLE
from firmware_bridge.server import MOST_CONNECTIONS, Server
from firmware_bridge.transport import Tcp
from simulator.bundle import read_bundle
from simulator.network import Network
from simulator.random_networks import random_network
from tests.conformance.agreement import bundled
from tests.simulator.networks import random_image

ROOT = Path(__file__).parents[2]
CAMERA = ROOT / "edge" / "bundles" / "denoise-camera.safetensors"
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
    bundle = read_bundle(CAMERA)
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
    bundle = read_bundle(CAMERA)
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


def client(name: str, patience: Patience | None = None) -> Link:
    return Link(Tcp("127.0.0.1", int(name.rpartition(":")[2])), patience)


def test_a_client_that_reconnects_finds_its_plan_and_an_upload_goes_on_where_it_broke_off():
    bundle = read_bundle(CAMERA)
    plan = compile_bundle(bundle).data
    with serving() as name:
        first = client(name)
        first._ask(Kind.BEGIN, protocol.begin(Upload.PLAN, 0, plan))
        for offset in range(0, 100_000, 10_000):
            first._ask(Kind.DATA, protocol.data(Upload.PLAN, offset, plan[offset : offset + 10_000]))
        bytes_before = first.statistics()["bytes"]
        first.close()
        for most in (len(plan) - 99_000, 1000):  # the rest, and nothing the second time
            time.sleep(0.2)  # until the agent has heard that the client before has gone
            with open_board(name) as board:
                board.load(bundle)
                bytes_now = board.link.statistics()["bytes"]
                assert bytes_now - bytes_before < most
                check(board, bundle, np.zeros((20, 20, 3), np.uint8))
                bytes_before = board.link.statistics()["bytes"]


def test_a_result_of_one_client_is_none_of_the_next_ones():
    bundle, image = bundled(*random_network(1)), np.zeros((9, 9, 3), np.uint8)
    with serving() as name:
        first = client(name)
        first.load(compile_bundle(bundle).data)
        first.run(image)
        job = first._job
        first.close()
        time.sleep(0.2)
        second = client(name)
        assert second._job != job
        second.load(compile_bundle(bundle).data)
        with pytest.raises(Refused, match="no result"):
            second._ask(Kind.READ, protocol.read(protocol.Result.RESTORED, second._job, 0, 10))
        second.close()


def test_memory_that_is_lent_is_taken_only_when_it_is_used():
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before = resident()
    with serving(Device(no_sensor, 1 << 30)) as name:
        link = client(name)
        link.load(compile_bundle(bundled(*random_network(1))).data)
        link.run(np.zeros((9, 9, 3), np.uint8))
        assert link.hello.room > 1 << 29 and resident() - before < 1 << 26
        link.close()


def test_boards_are_used_again_and_not_made_for_every_client():
    device = Device(no_sensor, 1 << 20)
    with serving(device) as name:
        for _ in range(3 * MOST_CONNECTIONS):
            client(name).close()
            time.sleep(0.02)
    assert 1 <= len(device._free) <= MOST_CONNECTIONS


def test_a_damaged_plan_is_refused_and_can_be_sent_again():
    plan = compile_bundle(read_bundle(CAMERA)).data
    with serving() as name:
        link = client(name)
        with pytest.raises(Refused, match="SNN_HASH"):
            link.load(plan[:-1] + bytes([plan[-1] ^ 1]))
        link.load(plan)
        link.close()


@pytest.mark.parametrize(
    ("kind", "body", "why"),
    [
        (Kind.POWER, b"", Why.BAD_LENGTH),
        (Kind.POWER, struct.pack("<I", 3), Why.BAD_VALUE),
        (Kind.RUN, bytes(60), Why.NO_PLAN),
        (Kind.READ, bytes(16), Why.NO_RESULT),
        (100, b"", Why.BAD_KIND),
    ],
)
def test_requests_that_make_no_sense_are_refused_and_the_connection_lives_on(kind, body, why):
    with serving() as name:
        link = client(name)
        with pytest.raises(Refused) as refused:
            link._ask(kind, body)
        assert refused.value.why == why
        link.ping(b"still there")
        link.close()


def test_a_picture_that_would_take_too_much_memory_is_refused():
    plan = compile_bundle(read_bundle(CAMERA)).data
    with serving(Device(no_sensor, 500 << 10)) as name:
        link = client(name)
        link.load(plan)
        with pytest.raises(Refused, match="no room"):
            link.run(np.zeros((64, 64, 3), np.uint8))
        link.close()


def test_random_requests_in_sound_frames_are_answered_and_leave_the_agent_working():
    plan, rng = compile_bundle(bundled(*random_network(1))).data, np.random.default_rng(0)
    with serving() as name:
        link = client(name)
        link.load(plan)
        for _ in range(300):
            kind = int(rng.choice([Kind.HELLO, Kind.BEGIN, Kind.DATA, Kind.RUN, Kind.READ, Kind.POWER, 77]))
            words = rng.choice([0, 1, 2, 4, 7, 8, 16, 1 << 16, (1 << 32) - 1], 15).astype("<u4")
            with suppress(Refused):
                link._ask(kind, words[: rng.integers(0, 16)].tobytes())
            link.ping(b"!")
        link.close()


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
                connection.sendall(rng.bytes(40) + b"\0" if number % 2 else b"GET / HTTP/1.1\r\n\r\n\0")
                with suppress(OSError):  # hung up already
                    connection.shutdown(socket.SHUT_WR)
                assert is_hung_up(connection)
        client(name).close()


def test_a_frame_with_a_wrong_checksum_ends_the_connection():
    damaged = bytearray(Frame(Kind.PING, 1, b"abcd").encode())
    damaged[5] ^= 1
    with serving() as name, raw(name) as connection:
        connection.sendall(damaged)
        assert is_hung_up(connection)


def test_a_frame_without_end_ends_the_connection():
    with serving() as name, raw(name) as connection:
        with suppress(OSError):
            connection.sendall(b"\1" * (1 << 20))
        assert is_hung_up(connection)


def test_a_frame_that_never_ends_is_cut_off(monkeypatch):
    monkeypatch.setattr(agent, "FRAME_S", 0.3)
    with serving() as name, raw(name) as connection:
        connection.sendall(Frame(Kind.PING, 1, bytes(1000)).encode()[:100])
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
    """An agent whose answers of one kind come from `answer(connection, frame)`."""
    device = Device(no_sensor, 1 << 20)

    def serve(connection, name):
        class Faulty(Session):
            def _arriving(self):
                for encoded in super()._arriving():
                    frame = protocol.decode(encoded)
                    if frame.kind == kind:
                        answer(connection, frame)
                    else:
                        yield encoded

        Faulty(device, connection).serve()

    return serve


def garbled(connection, frame):
    connection.sendall(b"x" * 100 + b"\0")


def short(connection, frame):
    connection.sendall(Frame(frame.kind + ANSWER, frame.sequence, bytes(3)).encode())


def foreign(connection, frame):
    connection.sendall(Frame(frame.kind + ANSWER, frame.sequence + 1 & 0xFFFF, b"").encode())


def vanishing(connection, frame):
    connection.shutdown(socket.SHUT_RDWR)


def broken_off(connection, frame):
    connection.sendall(Frame(frame.kind + ANSWER, frame.sequence, bytes(5000)).encode()[:100])
    connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(Linked, "patience", Patience(answer_s=0.05, tries=3, silence_s=0.5))


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        (kind, answer)
        for kind in (Kind.HELLO, Kind.BEGIN, Kind.DATA, Kind.RUN, Kind.READ)
        for answer in (garbled, short, foreign, vanishing, broken_off)
    ],
)
def test_an_agent_that_misbehaves_is_an_error_and_never_a_picture(kind, answer, impatient):
    with serving(serve=faulty(kind, answer)) as name, pytest.raises(BoardError, match="127.0.0.1"):
        with open_board(name) as board:
            board.load(bundled(*random_network(1)))
            board.run(np.zeros((9, 9, 3), np.uint8))


def test_an_agent_that_hangs_is_given_up(impatient):
    with serving(serve=faulty(Kind.RUN, lambda connection, frame: None)) as name, open_board(name) as board:
        board.load(bundled(*random_network(1)))
        begin = time.monotonic()
        with pytest.raises(BoardError, match="fell silent"):
            board.run(np.zeros((9, 9, 3), np.uint8))
        assert time.monotonic() - begin < 3


def test_a_client_that_has_to_wait_hears_that_the_agent_is_alive(monkeypatch, impatient):
    monkeypatch.setattr(agent, "ALIVE_S", 0.02)
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


def test_a_request_about_power_that_is_repeated_is_answered_again_and_not_done_again(monkeypatch):
    monkeypatch.setattr("firmware_bridge.power.meter.IDLE_S", 0.05)
    begun = []

    device = Device(
        lambda: begun.append(1) or Recording(Sensor("ina226@1-0040", "rail", lambda: 2.0, interval_s=0.01)), 1 << 20
    )
    with serving(device) as name:
        link = client(name)
        for _ in range(3):
            link._sequence = 500
            link.begin_power(5)
        assert len(begun) == 1
        time.sleep(0.1)
        assert "read 2 W in the run and 2 W before it" in str(link.end_power())
        link.close()


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
