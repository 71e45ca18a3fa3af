"""Whoever watches over a run while it goes on: the view, lines of JSON, MQTT, and the service manager."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from edge import terminal
from edge.errors import UserError
from edge.live import Figures, Step, Watcher, line
from edge.sources.images import Images
from simulator.files import reason

if TYPE_CHECKING:
    from edge.sources import Source
    from edge.sources.capture import Video
    from edge.view.server import View
    from firmware_bridge.power.sensors import Sensor

_TOKEN = "EDGE_RESTORE_TOKEN"  # the environment's; an argument could be read by every user of the machine
_INSTALL_VIEW = "pip install 'spikerir-edge[view]'"
_INSTALL_MQTT = "pip install 'spikerir-edge[mqtt]'"


class Watchers:
    """Those that were asked for. Show them every step with `seen`."""

    def __init__(self, watchers: list[Watcher], figures: Figures | None = None, view: View | None = None) -> None:
        self._watchers, self._figures, self._view = watchers, figures, view

    def seen(self, step: Step) -> None:
        for watcher in self._watchers:
            watcher.seen(step)

    def named(self, task: str, bundle: str) -> None:
        """Says which network restores from now on."""
        if self._figures is not None:
            self._figures.network = {"task": task, "bundle": bundle}

    def chosen(self) -> str | None:
        """The name of the network that somebody has chosen since this was last asked."""
        if self._view is None:
            return None
        name, self._view.wanted = self._view.wanted, None
        return name


@contextlib.contextmanager
def opened(
    args: argparse.Namespace, source: Source, networks: dict[str, str], sensor: Sensor | None
) -> Iterator[Watchers]:
    """The watchers that the options name, for the block. Raises UserError."""
    watchers: list[Watcher] = []
    if args.stats is not None and str(args.stats) == "-":
        watchers.append(Lines())
    if isinstance(source, Images):
        for option, value in (("--view", args.view), ("--mqtt", args.mqtt)):
            if value is not None:
                raise UserError(f"{option} is for videos, cameras and streams; leave it out.")
        yield Watchers(watchers)
        return
    with contextlib.ExitStack() as stack:
        view = figures = None
        if args.view is not None or args.mqtt is not None:
            figures = Figures(source)
            watchers.append(figures)
        if args.view is not None:
            assert figures is not None
            view = _open_view(args.view, figures, networks, sensor)
            stack.callback(view.close)
            watchers.append(view)
        if args.mqtt is not None:
            assert figures is not None
            try:
                from edge.mqtt import Mqtt
            except ImportError as error:
                raise UserError(f"--mqtt needs paho-mqtt, which is not installed: {_INSTALL_MQTT}") from error
            broker = Mqtt(args.mqtt, figures)
            stack.callback(broker.close)
            watchers.append(broker)
        if address := os.environ.get("NOTIFY_SOCKET"):
            service = Service(address, source)
            stack.callback(service.close)
            watchers.append(service)
        yield Watchers(watchers, figures, view)


def _open_view(address: tuple[str, int], figures: Figures, networks: dict[str, str], sensor: Sensor | None) -> View:
    try:
        from edge.view.server import View
    except ImportError as error:
        raise UserError(f"--view needs aiohttp, which is not installed: {_INSTALL_VIEW}") from error
    host, port = address
    view = View(host, port, figures, networks, token=os.environ.get(_TOKEN), sensor=sensor)
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    terminal.say(f"the view is at http://{where}" + (f" with ?token={view.token} once" if view.token else ""))
    return view


class Lines:
    """One line of JSON on standard output for each picture."""

    def seen(self, step: Step) -> None:
        try:
            print(json.dumps(line(step)), flush=True)
        except BrokenPipeError:
            terminal.silence(sys.stdout, 1)
        except OSError as error:
            raise UserError(f"--stats - cannot be written: {reason(error)}.") from error


class Service:
    """systemd: ready once the network is loaded, alive as long as pictures come (sd_notify, WatchdogSec=)."""

    def __init__(self, address: str, source: Video) -> None:
        self._source = source
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._every_s = int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6 / 4 or 1.0
        self._told = 0.0
        self._notify("READY=1", f"STATUS=waiting for {source.label}")

    def seen(self, step: Step) -> None:
        now = time.monotonic()
        if now - self._told >= self._every_s:
            self._told = now
            self._notify("WATCHDOG=1", f"STATUS={step.number} pictures of {self._source.label}")

    def close(self) -> None:
        self._notify("STOPPING=1")

    def _notify(self, *lines: str) -> None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.setblocking(False)  # a manager that does not listen holds nothing up
            manager.connect(self._address)
            manager.sendall("\n".join(lines).encode())
