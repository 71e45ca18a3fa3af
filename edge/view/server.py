"""The view's web server: one page, pictures as they come, and numbers.

    /               the page              /stream.mjpg    Motion JPEG for other programs
    /live           its WebSocket         /snapshot.png   the newest picture, before and after, without loss
    /stats          numbers as JSON       /metrics        the same for Prometheus
    /networks       those that ship       /network        POST {"name": ...}: restore with that one from now on
    /health         whether pictures come: 200 and running, else 503; for everybody

stream.mjpg and snapshot.png take ?what=both|before|after. A viewer gets the newest picture when it asks for one, so a
slow one slows nobody. Who comes from elsewhere than this machine needs the token, in the address once (?token=...) and
then in a cookie, or in a header, as Prometheus sends it (Authorization: Bearer ...).
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web
from aiohttp.http import HttpProcessingError

from edge.errors import UserError
from edge.live import Figures, Step
from edge.view import metrics
from edge.view.shown import WHAT, Shown
from firmware_bridge.power.sensors import Sensor, SensorError
from simulator.files import reason

_PAGE = Path(__file__).with_name("page.html")
_COOKIE = "edge_restore"
_STARTS_S = 10.0
_ENDS_S = 1.0
_BETWEEN_S = 1 / 30  # at least, between two pictures of a viewer: more would only take the network's time
_IDLE_S = 1.0  # after which a viewer gets numbers without a new picture: a source may have stalled
_BOUNDARY = "picture"
_LOG = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class View:
    """A running server. Show it every step with `seen`; `wanted` names the network that somebody has chosen."""

    def __init__(
        self,
        host: str,
        port: int,
        figures: Figures,
        networks: Mapping[str, str],
        *,
        token: str | None = None,
        sensor: Sensor | None = None,
    ):
        """networks: those to choose from, by name, and the task of each; token: None makes one where one is needed.

        Raises UserError where nobody can listen there.
        """
        local = _is_local(host)
        self.token = token or (None if local else secrets.token_urlsafe(16))
        self.wanted: str | None = None
        self._figures, self._networks = figures, dict(networks)
        self._power = _Watts(sensor)
        self._shown = Shown()
        self._loop = asyncio.new_event_loop()
        self._new = asyncio.Event()
        self._ending = asyncio.Event()
        self._looking = 0
        self._started = threading.Event()
        self._failed = ""  # why nothing can listen
        self._thread = threading.Thread(target=self._run, args=(host, port), name="view", daemon=True)
        self._thread.start()
        self._started.wait(_STARTS_S)
        if self._failed:
            raise UserError(f"nothing can listen at {host}:{port} for --view: {self._failed}.")

    def seen(self, step: Step) -> None:
        self._shown.seen(step)
        if self._looking:
            with contextlib.suppress(RuntimeError):  # the server has ended
                self._loop.call_soon_threadsafe(self._new.set)

    def close(self) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join(_ENDS_S)

    def report(self) -> dict[str, Any]:
        """The numbers of now."""
        return {**self._figures.report(), "power_w": self._power.now()}

    # --- the server's thread ----------------------------------------------------------------------------------------

    def _run(self, host: str, port: int) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve(host, port))

    async def _serve(self, host: str, port: int) -> None:
        app = web.Application(middlewares=[self._guard], client_max_size=4096)
        app.add_routes(
            [
                web.get("/", self._page),
                web.get("/live", self._live),
                web.get("/stream.mjpg", self._stream),
                web.get("/snapshot.png", self._snapshot),
                web.get("/stats", self._stats),
                web.get("/metrics", self._metrics),
                web.get("/health", self._health),
                web.get("/networks", self._choices),
                web.post("/network", self._choose),
            ]
        )
        _LOG.addFilter(_is_ours)
        runner = web.AppRunner(app, access_log=None, logger=_LOG, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except (OSError, OverflowError) as error:
            self._failed = _why(error)
            return
        finally:
            self._started.set()
        await self._ending.wait()
        await runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Lets in who has the token, or who sits at this machine; and no page of somebody else's."""
        if request.path == "/health":  # whoever watches over containers has neither
            return await handler(request)
        origin = request.headers.get("Origin")
        if origin is not None and origin.partition("://")[2] != request.host:
            raise web.HTTPForbidden(text="this comes from another page\n")
        if self.token is None:
            # A name that only leads here may be somebody else's page.
            if not _is_local(request.host.rpartition(":")[0] or request.host):
                raise web.HTTPForbidden(text="this is for the machine itself: localhost\n")
            return await handler(request)
        if self._is_token(request.query.get("token")):
            asked = {name: value for name, value in request.query.items() if name != "token"}
            # One slash: "//host" would lead elsewhere.
            answer = web.HTTPSeeOther(request.rel_url.with_path("/" + request.path.lstrip("/")).with_query(asked))
            answer.set_cookie(_cookie(request), self.token, httponly=True, samesite="Strict")
            raise answer
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not (self._is_token(request.cookies.get(_cookie(request))) or self._is_token(given)):
            raise web.HTTPUnauthorized(text="this needs the token once: http://HOST:PORT/?token=TOKEN\n")
        return await handler(request)

    def _is_token(self, given: str | None) -> bool:
        assert self.token is not None
        return given is not None and hmac.compare_digest(
            given.encode(errors="surrogateescape"), self.token.encode(errors="surrogateescape")
        )

    async def _page(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text=_PAGE.read_text(), content_type="text/html", headers={"Cache-Control": "no-store"})

    async def _live(self, request: web.Request) -> web.StreamResponse:
        """For each "ok" of the page: numbers, then the newest picture if it is another than the last."""
        socket = web.WebSocketResponse(heartbeat=20)
        await socket.prepare(request)
        number, pace = 0, _Pace()
        with self._watching():
            async for message in socket:
                if message.type is not WSMsgType.TEXT:
                    break
                await pace.wait()
                number, jpeg = await self._next(number)
                await socket.send_str(json.dumps(self.report()))
                await socket.send_bytes(jpeg)
        return socket

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        what = _what(request, "after")
        answer = web.StreamResponse(headers={"Content-Type": f"multipart/x-mixed-replace; boundary={_BOUNDARY}"})
        await answer.prepare(request)
        number, pace = 0, _Pace()
        with self._watching(), contextlib.suppress(ConnectionError):
            while not self._ending.is_set():
                await pace.wait()
                number, jpeg = await self._next(number, what)
                if jpeg:
                    head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                    await answer.write(head.encode() + jpeg + b"\r\n")
        return answer

    async def _snapshot(self, request: web.Request) -> web.StreamResponse:
        png = await self._loop.run_in_executor(None, self._shown.png, _what(request, "both"))
        if not png:
            raise web.HTTPServiceUnavailable(text="there is no picture yet\n")
        name = f"snapshot-{self._shown.number}.png"
        return web.Response(
            body=png, content_type="image/png", headers={"Content-Disposition": f'attachment; filename="{name}"'}
        )

    async def _stats(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(self.report())

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text=metrics.text(self.report()), content_type="text/plain", charset="utf-8")

    async def _health(self, request: web.Request) -> web.StreamResponse:
        status = self._figures.status
        return web.Response(text=f"{status}\n", status=200 if status == "running" else 503)

    async def _choices(self, request: web.Request) -> web.StreamResponse:
        return web.json_response([{"name": name, "task": task} for name, task in self._networks.items()])

    async def _choose(self, request: web.Request) -> web.StreamResponse:
        try:
            name = (await request.json())["name"]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise web.HTTPBadRequest(text='{"name": ...} was expected\n') from error
        if not isinstance(name, str) or name not in self._networks:
            raise web.HTTPNotFound(text="no network of that name can be chosen; see /networks\n")
        self.wanted = name
        return web.json_response({"name": name})

    @contextlib.contextmanager
    def _watching(self) -> Any:
        self._looking += 1
        try:
            yield
        finally:
            self._looking -= 1

    async def _next(self, number: int, what: str = "both") -> tuple[int, bytes]:
        """(number, JPEG) of a picture behind `number`, as soon as there is one; the JPEG is empty if none comes."""
        until = time.monotonic() + _IDLE_S
        while self._shown.number == number and not self._ending.is_set() and (left := until - time.monotonic()) > 0:
            self._new.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._new.wait(), left)
        if self._shown.number == number:
            return number, b""
        return await self._loop.run_in_executor(None, self._shown.jpeg, what)


class _Pace:
    """That of one viewer."""

    def __init__(self) -> None:
        self._next = 0.0

    async def wait(self) -> None:
        now = time.monotonic()
        await asyncio.sleep(self._next - now)
        self._next = max(self._next, now) + _BETWEEN_S


class _Watts:
    """What a sensor measures now; None without one."""

    def __init__(self, sensor: Sensor | None):
        self._sensor = sensor
        self._before: tuple[float, float] | None = None  # when, and joules until then
        self._watts: float | None = None

    def now(self) -> float | None:
        sensor = self._sensor
        if sensor is None:
            return None
        try:
            if not sensor.counts:
                return round(sensor.read(), 3)
            at, joules = time.monotonic(), sensor.read()
        except SensorError:
            return None
        if self._before is None:
            self._before = at, joules
        elif at - self._before[0] >= 1.0:
            self._watts = round((joules - self._before[1]) / (at - self._before[0]), 3)
            self._before = at, joules
        return self._watts


def _is_ours(record: logging.LogRecord) -> bool:
    """Whether a mistake is this server's: with requests that are none, anybody could fill the log."""
    return record.exc_info is None or not isinstance(record.exc_info[1], HttpProcessingError)


def _why(error: OSError | OverflowError) -> str:
    """What the system says; asyncio's own words have an address in them as Python writes it."""
    if not isinstance(error, OSError):
        return str(error)
    number = error.errno or 0
    return os.strerror(number).lower() if number > 0 else reason(error)


def _is_local(host: str) -> bool:
    if host.strip("[]") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _cookie(request: web.Request) -> str:
    """Browsers keep cookies by host alone, and there may be a view at each of several ports."""
    port = request.host.rpartition(":")[2]
    return f"{_COOKIE}_{port}" if port.isascii() and port.isdigit() else _COOKIE


def _what(request: web.Request, default: str) -> str:
    what = request.query.get("what", default)
    if what not in WHAT:
        raise web.HTTPBadRequest(text=f"?what= is one of {', '.join(WHAT)}\n")
    return what
