"""The view: what it shows, to whom, and that nobody who looks on slows the run; in a browser where there is one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from types import SimpleNamespace

import aiohttp
import cv2
import numpy as np
import pytest

from edge.live import Figures, Step
from edge.sources.record import Frame
from edge.view.server import View
from firmware_bridge.power.sensors import Sensor
from simulator.network import Network
from tests.edge import browser
from tests.edge.files import assert_refused, picture, store
from tests.edge.servers import free_port, http_camera, number_of, numbered

NETWORKS = {"denoise": "denoise", "denoise-lean": "denoise", "derain": "derain"}


class Run:
    """A run that somebody looks at: it shows numbered pictures, inverted as if that were restoring."""

    def __init__(self, network: Network, host: str = "127.0.0.1", token: str | None = None) -> None:
        self.source = SimpleNamespace(label="camera0", status="running", dropped=3, broken=1, reconnects=0)
        self.figures = Figures(self.source)
        self.figures.network = {"task": "denoise", "bundle": "denoise"}
        sensor = Sensor("a sensor", "the board", lambda: 2.5)
        self.port = free_port()
        self.view = View(host, self.port, self.figures, NETWORKS, token=token, sensor=sensor)
        self.address = f"http://127.0.0.1:{self.port}"
        self._statistics = network.run(numbered(0)).stats
        self.number = 0

    def show(self) -> None:
        self.number += 1
        pixels = numbered(self.number % 256, 320, 240)
        step = Step(self.number, Frame("x", pixels), 255 - pixels, self._statistics, 0.05)
        self.figures.seen(step)
        self.view.seen(step)

    @contextlib.contextmanager
    def going_on(self, between_s: float = 0.03) -> Iterator[None]:
        ending = threading.Event()

        def show() -> None:
            while not ending.wait(between_s):
                self.show()

        thread = threading.Thread(target=show)
        thread.start()
        try:
            yield
        finally:
            ending.set()
            thread.join()

    def get(self, path: str, **headers: str) -> bytes:
        with urllib.request.urlopen(urllib.request.Request(self.address + path, headers=headers), timeout=30) as answer:
            return bytes(answer.read())

    def status(self, path: str, data: bytes | None = None, **headers: str) -> int:
        request = urllib.request.Request(self.address + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code


@pytest.fixture
def run(network) -> Iterator[Run]:
    run = Run(network)
    yield run
    run.view.close()


def test_numbers_and_pictures_can_be_had_without_the_page(run):
    run.show()
    run.show()
    figures = json.loads(run.get("/stats"))
    assert (
        figures["frames"] == 2 and figures["dropped"] == 3 and figures["delay_ms"] == 50 and figures["power_w"] == 2.5
    )
    assert figures["layers"][0]["name"] == "neurons" and figures["fps"] > 0
    both = cv2.imdecode(np.frombuffer(run.get("/snapshot.png"), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.array_equal(both[:, :320], numbered(2, 320, 240)) and np.array_equal(both[:, 320:], 255 - both[:, :320])
    assert run.status("/snapshot.png?what=nothing") == 400


def test_prometheus_can_read_the_metrics(run):
    run.show()
    text = run.get("/metrics").decode()
    assert 'edge_restore_frames_total{task="denoise",bundle="denoise"} 1\n' in text
    assert 'edge_restore_layer_spike_rate{task="denoise",bundle="denoise",layer="neurons"}' in text
    assert "edge_restore_power_watts" in text and "edge_restore_up" in text
    run.source.status = "stalled"
    assert 'edge_restore_up{task="denoise",bundle="denoise"} 0\n' in run.get("/metrics").decode()


def test_a_source_that_has_stalled_is_not_healthy_and_whoever_watches_needs_no_token(network):
    run = Run(network, "0.0.0.0", "secret-token")
    try:
        assert run.status("/health") == 200
        run.source.status = "stalled"
        assert run.status("/health", Host="elsewhere.example") == 503
    finally:
        run.view.close()


def test_before_the_first_picture_there_is_none(run):
    assert run.status("/snapshot.png") == 503
    assert json.loads(run.get("/stats"))["frames"] == 0
    assert b"edge_restore_frames_total" in run.get("/metrics")


def test_a_network_can_be_chosen_among_those_that_ship(run):
    assert [entry["name"] for entry in json.loads(run.get("/networks"))] == list(NETWORKS)
    assert run.status("/network", b'{"name": "derain"}') == 200 and run.view.wanted == "derain"
    assert run.status("/network", b'{"name": "../etc"}') == 404
    assert run.status("/network", b"nonsense") == 400
    assert run.status("/network", b'{"name": ["derain"]}') == 404
    assert run.status("/network", b"[" * 4000) == 400


def test_another_page_may_neither_read_nor_choose(run):
    assert run.status("/network", b'{"name": "derain"}', Origin="http://elsewhere") == 403
    assert run.status("/stats", Host="elsewhere.example") == 403
    assert run.view.wanted is None


def test_from_elsewhere_the_token_is_needed_once(network):
    run = Run(network, "0.0.0.0", "secret-token")
    try:
        for path in ("/", "/stats", "/metrics", "/live", "/?token=wrong"):
            assert run.status(path) == 401
        assert run.status("/", Authorization="Bearer \xff") == 401
        assert run.status("/stats", Authorization="Bearer secret-token") == 200
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        assert opener.open(f"{run.address}/?token=secret-token").url == f"{run.address}/"
        kept = opener.open(f"{run.address}/stats?of=all&token=secret-token")
        assert kept.url == f"{run.address}/stats?of=all"
        assert opener.open(f"{run.address}/stats").status == 200
    finally:
        run.view.close()


def test_two_views_of_one_machine_do_not_take_each_other_s_token_away(network):
    one, other = Run(network, "0.0.0.0", "first"), Run(network, "0.0.0.0", "second")
    try:
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())  # by host alone, as browsers
        for run in (one, other):
            opener.open(f"{run.address}/?token={run.view.token}").close()
        for run in (one, other, one):
            with opener.open(f"{run.address}/stats") as answer:
                assert answer.status == 200
    finally:
        one.view.close()
        other.view.close()


@pytest.mark.parametrize("height, width", [(4, 40_000), (70_000, 4)])
def test_a_picture_that_is_too_long_for_a_jpeg_is_shown_smaller(run, height, width):
    pixels = np.full((height, width, 3), 96, np.uint8)
    run.view.seen(Step(1, Frame("x", pixels), 255 - pixels, run._statistics, None))
    with urllib.request.urlopen(f"{run.address}/stream.mjpg?what=both", timeout=30) as answer:
        line = next(line for line in answer if line.startswith(b"Content-Length:"))
        answer.readline()
        jpeg = answer.read(int(line.split(b":")[1]))
    both = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    half = both.shape[1] // 2
    assert abs(both[:, :half].mean() - 96) < 3 and abs(both[:, half:].mean() - 159) < 3
    whole = cv2.imdecode(np.frombuffer(run.get("/snapshot.png"), np.uint8), cv2.IMREAD_COLOR)
    assert whole.shape == (height, 2 * width, 3)


def test_few_pictures_a_second_are_counted_too(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("edge.live.time", SimpleNamespace(monotonic=lambda: now[0]))
    figures = Figures(SimpleNamespace())
    assert figures.fps == 0
    for _ in range(4):  # a network that takes five seconds
        now[0] += 5.0
        figures.seen(None)
    now[0] += 1.0
    assert figures.fps == pytest.approx(0.2)
    now[0] += 30.0
    assert figures.fps == 0
    for _ in range(200):
        now[0] += 0.05
        figures.seen(None)
    assert figures.fps == pytest.approx(20)
    now[0] += 3.1
    assert figures.fps == 0


def test_motion_jpeg_for_other_programs(run):
    with run.going_on(), urllib.request.urlopen(f"{run.address}/stream.mjpg?what=before", timeout=30) as answer:
        numbers = []
        for _ in range(3):
            while not (line := answer.readline()).startswith(b"Content-Length:"):
                pass
            answer.readline()
            jpeg = answer.read(int(line.split(b":")[1]))
            numbers.append(number_of(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)))
    assert numbers == sorted(set(numbers))


def test_a_viewer_gets_no_more_than_it_can_see(run):
    async def look() -> float:
        async with aiohttp.ClientSession() as session, session.ws_connect(f"{run.address}/live") as socket:
            begin = time.monotonic()
            for _ in range(31):
                await socket.send_str("ok")
                assert (await socket.receive()).type is aiohttp.WSMsgType.TEXT
                assert (await socket.receive()).type is aiohttp.WSMsgType.BINARY
            return time.monotonic() - begin

    with run.going_on(0.001):
        assert asyncio.run(look()) > 0.95


def test_viewers_who_do_not_read_slow_nobody_and_others_see_what_is_new(run):
    async def look() -> tuple[int, float]:
        async with aiohttp.ClientSession() as session:
            lazy = [await session.ws_connect(f"{run.address}/live") for _ in range(5)]
            for socket in lazy:
                await socket.send_str("ok")  # and then they do nothing
            async with session.ws_connect(f"{run.address}/live") as eager:
                for _ in range(10):
                    await eager.send_str("ok")
                    figures = json.loads((await eager.receive()).data)
                    assert (await eager.receive()).type is aiohttp.WSMsgType.BINARY
                seen = figures["frames"]
            begin = time.monotonic()
            run.view.seen(Step(10**6, Frame("x", numbered(1)), numbered(1), run._statistics, None))
            return seen, time.monotonic() - begin

    with run.going_on():
        seen, took = asyncio.run(look())
    assert run.number - seen < 20 and took < 0.5


def test_a_run_is_looked_at_while_it_goes_on_and_goes_on_with_another_network(work, restore):
    port = free_port()
    found: dict = {}

    def look() -> None:
        address = f"http://127.0.0.1:{port}"
        for _ in range(600):
            with contextlib.suppress(OSError):
                figures = json.loads(urllib.request.urlopen(f"{address}/stats", timeout=10).read())
                if figures["frames"] > 3 and "first" not in found:
                    found["first"] = figures
                    body = json.dumps({"name": "denoise-lean"}).encode()
                    urllib.request.urlopen(f"{address}/network", body, timeout=10).close()
                elif figures["bundle"] == "denoise-lean" and figures["frames"] > found["first"]["frames"] + 3:
                    found["second"] = figures
                    camera.frames = 0
                    return
            time.sleep(0.05)

    with http_camera() as camera:
        camera.frames = 10**6

        thread = threading.Thread(target=look)
        thread.start()
        options = ["--view", f"127.0.0.1:{port}", "--max-frames", "400", "--stats", work / "s.json"]
        run = restore(f"{camera.address}/s.mjpg", *options)
        thread.join()
    assert run.code == 0, run
    assert "from here on with denoise-lean" in run.err and f"the view is at http://127.0.0.1:{port}" in run.err
    assert len(found["second"]["layers"]) > len(found["first"]["layers"])
    live = json.loads((work / "s.json").read_text())["live"]
    assert live["broken"] == 0 and live["delay_ms"]["median"] > 0


def test_a_view_that_cannot_be_is_one_sentence(work, restore, monkeypatch):
    store(work / "a.png", picture())
    assert_refused(restore(work / "a.png", "--view"), "--view is for videos")
    assert_refused(restore("sample", "--view", "nowhere"), "HOST:PORT")
    with http_camera() as camera:
        taken = camera.address.rpartition(":")[2]
        run = restore(f"{camera.address}/s.mjpg", "--view", f"127.0.0.1:{taken}")
        assert run.code == 2
        assert f"nothing can listen at 127.0.0.1:{taken} for --view: address already in use." in run.err
        monkeypatch.setitem(__import__("sys").modules, "edge.view.server", None)
        run = restore(f"{camera.address}/s.mjpg", "--view")
        assert run.code == 2 and "spikerir-edge[view]" in run.err


@pytest.mark.skipif(browser.CHROMIUM is None, reason="Chromium is not installed")
def test_in_a_browser_pictures_come_numbers_change_the_slider_moves_and_pause_holds(run):
    colour = "(x => { const p = document.getElementById('picture').getContext('2d').getImageData(x, 4, 1, 1).data;"
    colour += " return p[0]; })"

    async def look() -> None:
        async with browser.page(f"{run.address}/") as page:
            await page.wait_for("document.getElementById('picture').width === 320")
            frames = "Number(document.getElementById('n-frames').textContent)"
            first = await page.wait_for(frames)
            await page.wait_for(f"{frames} > {first} + 5")
            assert await page.run("document.getElementById('status').textContent") == "camera0: running"
            assert await page.run("document.querySelectorAll('#network option').length") == 3
            # On the right the picture as it came is grey level 96 all over, restored it is 159.
            assert abs(await page.run(f"{colour}(300)") - 159) < 12
            box = json.loads(
                await page.run("JSON.stringify(document.getElementById('picture').getBoundingClientRect())")
            )
            y = box["y"] + box["height"] / 2
            await page.drag((box["x"] + box["width"] / 2, y), (box["x"] + box["width"] * 0.99, y))
            assert await page.run("Number(document.getElementById('slider').value)") > 950
            assert abs(await page.run(f"{colour}(300)") - 96) < 12
            await page.run("document.getElementById('pause').click()")
            await asyncio.sleep(0.3)
            held = await page.run(frames)
            await asyncio.sleep(0.5)
            assert await page.run(frames) == held
            await page.run("document.getElementById('pause').click()")
            await page.wait_for(f"{frames} > {held} + 5")
            screen = cv2.imdecode(np.frombuffer(await page.screenshot(), np.uint8), cv2.IMREAD_COLOR)
            bars = (np.abs(screen.astype(int) - (0xE6, 0xA9, 0x5A)).sum(2) < 12).sum()  # of the chart, blue first
            assert bars > 500, "no chart of spike rates is on the screen"

    with run.going_on():
        asyncio.run(look())


@contextlib.contextmanager
def way_to(port: int) -> Iterator[tuple[int, threading.Event]]:
    """A port that leads to `port`; what is connected when the event is set hears no more, as after a laptop's sleep."""
    dark = threading.Event()

    def carry(source: socket.socket, target: socket.socket, born_dark: bool) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(65536):
                if dark.is_set() and not born_dark:
                    return
                target.sendall(chunk)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", port))
                open_ends.extend((near, far))
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=carry, args=(*ends, dark.is_set()), daemon=True).start()

    open_ends: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1], dark
    for end in open_ends:
        end.close()


@pytest.mark.skipif(browser.CHROMIUM is None, reason="Chromium is not installed")
def test_a_page_whose_connection_died_in_its_sleep_connects_again(run):
    async def look(port: int, dark: threading.Event) -> None:
        async with browser.page(f"http://127.0.0.1:{port}/") as page:
            frames = "Number(document.getElementById('n-frames').textContent)"
            await page.wait_for(f"{frames} > 3")
            dark.set()
            await asyncio.sleep(0.5)
            seen = await page.run(frames)
            await page.run("{ const before = Date.now; Date.now = () => before() + 60000; }")  # it has slept
            await page.wait_for(f"{frames} > {seen} + 5")
            assert await page.run("document.getElementById('status').textContent") == "camera0: running"

    with way_to(run.port) as (port, dark), run.going_on():
        asyncio.run(look(port, dark))
