"""The command as a service: its configuration, what it says to whom, and what the service manager learns."""

from __future__ import annotations

import configparser
import contextlib
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edge import cli, shipped
from tests.edge.files import Run, assert_refused, load, names, picture, store, store_video
from tests.edge.servers import free_port, http_camera

ROOT = Path(__file__).parents[2]


# --- a file of options ----------------------------------------------------------------------------------------------


def test_options_come_from_a_file_and_those_of_the_command_line_win(work, restore):
    store(work / "a.png", picture())
    (work / "c.toml").write_text(f"source = '{work}/a.png'\nout = '{work}/b.png'\nside-by-side = true\nthreads = 1\n")
    assert restore("--config", work / "c.toml").code == 0
    assert load(work / "b.png").shape == (24, 64, 3)
    assert restore("--config", work / "c.toml", "--out", work / "d.png").code == 0
    assert names(work) == ["a.png", "b.png", "c.toml", "d.png"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("sauce = 'x'", ["sauce is no option"]),
        ("config = 'x'", ["config is no option"]),
        ("source = 'sample'\nthreads = 'two'", ["two"]),
        ("source = 'sample'\nout = {a = 1}", ["out is neither"]),
        ("source = ", ["is no TOML"]),
        ("source = 3", ["source is not text"]),
        ("threads = " + "[" * 3000, ["brackets"]),
    ],
)
def test_a_mistake_in_the_file_is_one_sentence(work, restore, content, words):
    (work / "c.toml").write_text(content)
    assert_refused(restore("--config", work / "c.toml"), f"--config {work / 'c.toml'}", *words)


def test_a_file_of_an_editor_that_marks_utf_8_is_read(work, restore):
    (work / "c.toml").write_text("max-frames = 1\nquiet = true\n", encoding="utf-8-sig")
    store(work / "ü.png", picture())
    assert restore(work / "ü.png", "--config", work / "c.toml") == Run(0, "", "")


def test_a_mistake_on_the_command_line_is_not_blamed_on_the_file(work, restore):
    (work / "c.toml").write_text("source = 'sample'\nthreads = 1")
    run = restore("--config", work / "c.toml", "--tile", "two")
    assert_refused(run, "two is not a whole number")
    assert "c.toml" not in run.err


def test_passwords_of_the_file_are_not_printed(work, restore):
    (work / "c.toml").write_text('source = "http://user:hunter2 hunter2@127.0.0.1:9/x"\nreconnect = 0')
    run = restore("--config", work / "c.toml")
    assert run.code == 2 and "hunter2" not in run.err
    assert_refused(restore("--config", work / "none.toml"), "cannot be read")


def test_the_files_that_are_packaged_name_options_that_there_are(work):
    from edge import options

    args = options.parsed(cli.build_parser(), ["--config", str(ROOT / "packaging" / "edge-restore.toml")])
    assert (args.source, args.segment, args.keep, args.view) == ("camera0", 600, 144, ("127.0.0.1", 8765))
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read(ROOT / "packaging" / "edge-restore.service")
    assert unit["Service"]["Type"] == "notify" and int(unit["Service"]["WatchdogSec"]) > 15


# --- what is said ---------------------------------------------------------------------------------------------------


def test_one_line_of_json_for_each_picture(work, restore):
    store_video(work / "a.mkv", 5)
    run = restore(work / "a.mkv", "--stats", "-")
    assert run.code == 0 and "5 frames" in run.err
    lines = [json.loads(line) for line in run.out.splitlines()]
    assert [line["frame"] for line in lines] == [1, 2, 3, 4, 5]
    assert lines[0]["layers"][0]["spike_rate"] > 0 and lines[4]["time"] == pytest.approx(4 / 24, abs=2e-3)
    assert names(work) == ["a.mkv"]


def test_quiet_says_nothing_but_what_went_wrong_and_verbose_says_more(work, restore):
    store(work / "a.png", picture())
    run = restore(work / "a.png", "-q", "--out", work / "b.png")
    assert (run.code, run.out, run.err) == (0, "", "")
    assert_refused(restore(work / "x.png", "-q"), "does not exist")
    assert "1 images; denoise.safetensors" in restore(work / "a.png", "-v").err


def test_the_version_and_the_networks_that_ship(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0 and capsys.readouterr().out.startswith("edge-restore ")
    assert cli.main(["--warmup"]) == 0 and capsys.readouterr()
    assert cli.main(["--list"]) == 0
    table = capsys.readouterr().out
    for path in shipped.BUNDLES.glob("*.safetensors"):
        assert path.stem in table
    assert "69,452" in table and "PSNR" in table and "after --warmup" not in table


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(["sample", "--task", "denoise", "-q"], []), (["--warmup"], ["simulator.engine.changes"])],
)
def test_a_picture_imports_nothing_of_what_is_live_and_warming_up_compiles_for_that_too(bundle, arguments, expected):
    live = {"av", "aiohttp", "paho", "edge.sources.capture", "edge.view.server", "edge.sinks.video"}
    live |= {"simulator.engine.changes"}
    code = f"import sys\nfrom edge import cli\ncli.main(sys.argv[1:])\nprint(sorted({live!r} & set(sys.modules)))"
    command = [sys.executable, "-c", code, *arguments, "--bundle", str(bundle)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == str(expected), done


@pytest.mark.parametrize("option", ["--warmup", "--list"])
def test_ctrl_c_ends_also_what_swallows_it_as_callbacks_of_the_compiler_do(option):
    swallow = (
        "import os, signal, sys\nfrom edge import cli, loading, networks\ndef swallow(*_):\n"
        "    try:\n        os.kill(os.getpid(), signal.SIGINT)\n    except KeyboardInterrupt:\n        pass\n"
        "    return []\nloading.compile_for_video = networks.describe = swallow\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\nsys.exit(cli.main(sys.argv[1:]))"
    )
    done = subprocess.run([sys.executable, "-c", swallow, option], cwd=ROOT, capture_output=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_the_package_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "edge", "--version"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and done.stdout.startswith("edge-restore ")


@pytest.mark.skipif(not shutil.which("shtab") or not shutil.which("argparse-manpage"), reason="they are not installed")
def test_the_man_page_and_completions_are_made_from_the_parser(work):
    subprocess.run([ROOT / "packaging" / "manual.sh", work], check=True, capture_output=True, timeout=120)
    assert r"\-\-segment" in (work / "edge-restore.1").read_text()
    assert "--reconnect" in (work / "edge-restore.bash").read_text()


# --- the service manager and the broker -----------------------------------------------------------------------------


def test_systemd_learns_that_it_is_ready_and_alive_only_while_pictures_come(work, restore, monkeypatch):
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(work / "notify"))
    manager.settimeout(1.0)
    told: list[tuple[float, str]] = []

    def listen() -> None:
        until = time.monotonic() + 60
        while (not told or told[-1][1] != "STOPPING=1") and time.monotonic() < until:
            with contextlib.suppress(TimeoutError):
                message = manager.recv(4096).decode()
                told.append((time.monotonic(), message))
                if len(told) == 4:
                    camera.between_s = 60.0  # from now on no picture comes

    monkeypatch.setenv("NOTIFY_SOCKET", str(work / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    with http_camera() as camera:
        camera.frames, camera.between_s = 10**6, 0.06
        listener = threading.Thread(target=listen)
        listener.start()
        restore(f"{camera.address}/s.mjpg", "--timeout", "2", "--reconnect", "0")
    listener.join()
    manager.close()
    assert told[0][1].startswith("READY=1") and told[-1][1] == "STOPPING=1"
    alive = [when for when, message in told if "WATCHDOG=1" in message]
    assert len(alive) >= 3 and told[-1][0] - alive[-1] > 1.5


@pytest.fixture
def broker(work):
    """(port, {topic: what came there}) of a broker that is listened to."""
    if not Path("/usr/sbin/mosquitto").exists():
        pytest.skip("mosquitto is not installed")
    import paho.mqtt.client as paho
    from paho.mqtt.enums import CallbackAPIVersion

    port = free_port()
    (work / "m.conf").write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    server = subprocess.Popen(["/usr/sbin/mosquitto", "-c", work / "m.conf"], stderr=subprocess.DEVNULL)
    got: dict[str, list[bytes]] = {}
    listener = paho.Client(CallbackAPIVersion.VERSION2)
    listener.on_message = lambda client, data, message: got.setdefault(message.topic, []).append(message.payload)
    subscribed = threading.Event()
    listener.on_connect = lambda client, *_: client.subscribe("#", 1)
    listener.on_subscribe = lambda *_: subscribed.set()
    try:
        for _ in range(100):
            try:
                listener.connect("127.0.0.1", port)
                break
            except OSError:
                time.sleep(0.1)
        listener.loop_start()
        assert subscribed.wait(10)
        yield port, got
    finally:
        listener.loop_stop()
        server.kill()
        server.wait()


def came(got: dict[str, list[bytes]], topic: str, count: int) -> list[bytes]:
    """What came to a topic, once there are `count` messages or ten seconds have gone."""
    until = time.monotonic() + 10
    while len(got.get(topic, [])) < count and time.monotonic() < until:
        time.sleep(0.05)
    return got.get(topic, [])


def test_a_broker_gets_numbers_pictures_and_what_home_assistant_looks_for(work, restore, broker):
    port, got = broker
    store_video(work / "a.mkv", 5)
    run = restore(work / "a.mkv", "--mqtt", f"mqtt://user:secret@127.0.0.1:{port}/yard")
    assert run.code == 0 and "secret" not in run.err
    assert came(got, "yard/availability", 2) == [b"online", b"offline"]
    assert json.loads(came(got, "yard/state", 2)[-1])["frames"] == 5
    assert got["yard/picture"][0].startswith(b"\xff\xd8")
    camera = json.loads(got["homeassistant/camera/yard/config"][0])
    assert camera["topic"] == "yard/picture"
    assert json.loads(got["homeassistant/sensor/yard/fps/config"][0])["state_topic"] == "yard/state"


def test_of_a_source_that_has_stalled_the_broker_learns_so(work, broker, restore):
    port, got = broker
    with http_camera() as camera:
        camera.frames, camera.freezes = 3, True
        told = "--mqtt", f"mqtt://127.0.0.1:{port}/yard"
        restore(f"{camera.address}/s.mjpg", *told, "--timeout", "2.5", "--reconnect", "0")
    assert len(came(got, "yard/state", 3)) >= 3  # one a second, though there were pictures in the first only


@pytest.mark.parametrize(
    ("address", "words"), [("yard+1", "names a topic with +"), ("yard/#", "a topic with"), ("%23", "a topic with")]
)
def test_a_topic_that_nothing_can_be_published_to_is_one_sentence(work, restore, address, words):
    store_video(work / "a.mkv", 2)
    assert_refused(restore(work / "a.mkv", "--mqtt", f"mqtt://127.0.0.1:{free_port()}/{address}"), words)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"\x20\x02\x00\x05", "refuses: not authorized; USER:PASSWORD@ stands before HOST"),
        (b"", "hangs up, as no broker does"),
        (None, "does not answer"),
    ],
)
def test_a_broker_that_does_not_take_us_is_one_sentence(work, restore, monkeypatch, answer, words):
    monkeypatch.setattr("edge.mqtt._BEGINS_S", 0.5 if answer is None else 10.0)
    store_video(work / "a.mkv", 2)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def refuse() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                if answer is None:
                    ended.wait(10)
                else:
                    connection.sendall(answer)

        ended = threading.Event()
        threading.Thread(target=refuse, daemon=True).start()
        run = restore(work / "a.mkv", "--mqtt", f"mqtt://user:secret@127.0.0.1:{server.getsockname()[1]}")
        ended.set()
    assert_refused(run, words)
    assert "secret" not in run.err


def test_a_broker_that_goes_and_comes_is_said_once_and_connected_to_again(work, capfd):
    from edge.live import Figures
    from edge.mqtt import Mqtt
    from edge.sources import open_source
    from edge.sources.record import Settings

    store_video(work / "a.mkv", 1)
    source = open_source(str(work / "a.mkv"), "denoise", Settings())
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for _ in range(2):
                connection, _ = server.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(b"\x20\x02\x00\x00")  # it is connected
                    connections.append(connection)
                    time.sleep(0.3)

        connections: list[socket.socket] = []
        thread = threading.Thread(target=serve)
        thread.start()
        client = Mqtt(f"mqtt://127.0.0.1:{server.getsockname()[1]}/yard", Figures(source))
        thread.join(20)
        begin = time.monotonic()
        client.close()
    source.close()
    assert len(connections) == 2 and time.monotonic() - begin < 2.5
    assert "is lost" in capfd.readouterr().err


def test_who_ends_before_the_broker_has_answered_is_offline_in_the_end(work, broker):
    from edge.live import Figures
    from edge.mqtt import Mqtt
    from edge.sources import open_source
    from edge.sources.record import Settings

    port, got = broker
    store_video(work / "a.mkv", 1)
    source = open_source(str(work / "a.mkv"), "denoise", Settings())
    for _ in range(5):
        Mqtt(f"mqtt://127.0.0.1:{port}/yard", Figures(source)).close()
    source.close()
    assert came(got, "yard/availability", 10) == [b"online", b"offline"] * 5


def test_a_broker_that_is_not_there_is_one_sentence(work, restore):
    store_video(work / "a.mkv", 2)
    run = restore(work / "a.mkv", "--mqtt", f"mqtt://user:secret@127.0.0.1:{free_port()}")
    assert_refused(run, "cannot be reached")
    assert "secret" not in run.err
