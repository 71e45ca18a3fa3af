"""`python -m tests.edge.mistreated`: cameras killed, frozen, restarted, slowed and garbled while they are recorded.

Prints a table: for each kind of camera and what is done to it the exit code of the command, the seconds from then, or
from the last picture that was restored, until the command ended, those of the processor in this time, and how many of
the restored pictures are in the recording. Ends with 1 where an exit code is another than is documented, where a run
that has lost its camera takes longer than --timeout and three seconds to end, and where a picture is missing.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import av

from edge.sources import v4l2
from tests.edge.files import store_network
from tests.edge.processes import spent
from tests.edge.servers import FPS, RtspCamera, free_port, garbling, has_rtsp_server

ROOT = Path(__file__).resolve().parents[2]
LOOPBACK = Path("/dev/video9")  # of tests.edge.guest --loopback
TIMEOUT_S = 3.0
LONGER_S = 3.0  # than the timeout may a run take to end
SLOW_S = 1.0  # between the pictures of a slow camera
BEFORE = 20  # pictures that are restored before something is done

# What is done: the exit codes that are right then, and the options. Runs that go on end after some more pictures.
DONE = {
    "killed": ({2}, ("--reconnect", "0")),
    "frozen": ({2}, ("--reconnect", "0")),
    "restarted": ({0}, ("--reconnect", "10", "--max-frames", "40")),
    "slowed": ({0}, ("--reconnect", "0", "--max-frames", "24")),
    "garbled": ({0, 2}, ("--reconnect", "0", "--max-frames", "60")),
}


class Camera(ABC):
    """A camera to be mistreated; `source` and `options` are what the command is given for it."""

    name: str
    source: str
    options: tuple[str, ...] = ()
    suffers = tuple(DONE)

    @abstractmethod
    def __init__(self, folder: Path, garbled: bool) -> None:
        """Starts it; `folder` is empty, and its own."""

    @abstractmethod
    def kill(self) -> None: ...

    @abstractmethod
    def freeze(self) -> None: ...

    @abstractmethod
    def restart(self) -> None: ...

    @abstractmethod
    def slow(self) -> None: ...

    @abstractmethod
    def close(self) -> None: ...


class Process(Camera):
    """A camera that is a process."""

    @abstractmethod
    def number(self) -> int:
        """Of the process."""

    def kill(self) -> None:
        os.kill(self.number(), signal.SIGKILL)

    def freeze(self) -> None:
        os.kill(self.number(), signal.SIGSTOP)

    def slow(self) -> None:
        """From now on it runs for a moment, then stands still."""
        number = self.number()

        def toggle() -> None:
            with contextlib.suppress(ProcessLookupError):
                while True:
                    os.kill(number, signal.SIGSTOP)
                    time.sleep(SLOW_S)
                    os.kill(number, signal.SIGCONT)
                    time.sleep(0.05)

        threading.Thread(target=toggle, daemon=True).start()


class Rtsp(Process):
    name = "RTSP, GStreamer's server"

    def __init__(self, folder: Path, garbled: bool) -> None:
        self._camera, self._wire = RtspCamera(fps=FPS), contextlib.ExitStack()
        port = self._wire.enter_context(garbling(self._camera.port)) if garbled else self._camera.port
        self.source = f"rtsp://127.0.0.1:{port}/live"

    def number(self) -> int:
        return self._camera.process.pid

    def restart(self) -> None:
        self._camera.kill()
        self._camera.start()

    def close(self) -> None:
        self._camera.kill()
        self._wire.close()


class Http(Process):
    name = "HTTP, Motion JPEG"

    def __init__(self, folder: Path, garbled: bool) -> None:
        self._port, self._wire = free_port(), contextlib.ExitStack()
        self._start()
        port = self._wire.enter_context(garbling(self._port)) if garbled else self._port
        self.source = f"http://127.0.0.1:{port}/s.mjpg"

    def _start(self) -> None:
        command = [sys.executable, "-m", "tests.edge.servers", str(self._port)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        assert self._process.stdout is not None and self._process.stdout.readline() == b"ready\n"

    def number(self) -> int:
        return self._process.pid

    def restart(self) -> None:
        self._end()
        self._start()

    def close(self) -> None:
        self._end()
        self._wire.close()

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()


class Command(Process):
    name = "exec:, JPEGs"

    def __init__(self, folder: Path, garbled: bool) -> None:
        self._file = folder / "number"
        self.source = f"exec:{sys.executable} -m tests.edge.servers - {self._file}{' garbled' * garbled}"

    def number(self) -> int:
        return int(self._file.read_text())

    def restart(self) -> None:
        self.kill()  # the command is run anew by who reads it

    def close(self) -> None:
        """It does not outlive who reads it."""


class Vivid(Camera):
    """The driver that Linux has for tests; what it gives has no form that garbage could break."""

    name = "V4L2, the driver vivid"
    source = "camera0"
    options = ("--size", "320x180")
    suffers = ("killed", "frozen", "restarted", "slowed")
    _DRIVER = Path("/sys/bus/platform/drivers/vivid")

    def __init__(self, folder: Path, garbled: bool) -> None:
        self._drop(0)

    def kill(self) -> None:
        (self._DRIVER / "unbind").write_text("vivid.0")

    def freeze(self) -> None:
        self._drop(100)

    def slow(self) -> None:
        self._drop(95)

    def restart(self) -> None:
        self.kill()
        self._bind()

    def close(self) -> None:
        with contextlib.suppress(OSError):  # it is there
            self._bind()

    def _bind(self) -> None:
        (self._DRIVER / "bind").write_text("vivid.0")

    def _drop(self, percent: int) -> None:
        """Has so many of 100 pictures never come."""
        device = Path("/dev/video0")
        control = next(c for c in v4l2.controls(device) if c.name == "percentage_of_dropped_buffers")
        v4l2.set_control(device, control, percent)


class Written(Process):
    """v4l2loopback's device, which a program gives JPEGs to."""

    name = "V4L2, v4l2loopback, JPEGs"
    source = str(LOOPBACK)

    def __init__(self, folder: Path, garbled: bool) -> None:
        self._command = [sys.executable, "-m", "tests.edge.servers", str(LOOPBACK), str(folder / "number")]
        self._command += ["garbled"] * garbled
        self._start()

    def number(self) -> int:
        return self._process.pid

    def restart(self) -> None:
        self.close()
        self._start()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _start(self) -> None:
        """It is a camera as soon as it is written to."""
        self._process = subprocess.Popen(self._command, cwd=ROOT)
        while not v4l2.device_capability(LOOPBACK).captures:
            assert self._process.poll() is None
            time.sleep(0.1)


CAMERAS = (Rtsp, Http, Command)


@dataclass(frozen=True)
class Row:
    """What became of one run. seconds: until it ended, see above; cpu: of the processor. kept: pictures recorded."""

    code: int
    seconds: float
    cpu: float
    restored: int
    kept: int
    said: str


def run(kind: type[Camera], what: str, board: str, timeout_s: float = TIMEOUT_S) -> Row:
    """Restores what a camera of this kind gives, with a small network on `board`, and does that to it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        camera = kind(folder, what == "garbled")
        try:
            command = [sys.executable, "-m", "edge", camera.source, "--task", "denoise", "--board", board]
            command += ["--bundle", str(store_network(folder / "denoise.safetensors"))]
            command += [*camera.options, "--out", str(folder / "b.mkv"), "--stats", "-"]
            command += ["--timeout", f"{timeout_s:g}", *DONE[what][1]]
            with subprocess.Popen(
                command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            ) as running:
                assert running.stdout is not None and running.stderr is not None
                restored = len(list(itertools.islice(running.stdout, BEFORE)))
                begin, cpu = time.monotonic(), spent(running.pid)
                if restored == BEFORE and what != "garbled":
                    {
                        "killed": camera.kill,
                        "frozen": camera.freeze,
                        "restarted": camera.restart,
                        "slowed": camera.slow,
                    }[what]()
                for _ in running.stdout:
                    restored, begin, cpu = restored + 1, time.monotonic(), spent(running.pid)
                said = running.stderr.read().splitlines()
                cpu = spent(running.pid) - cpu
            seconds = time.monotonic() - begin
        finally:
            camera.close()
        kept = 0
        if (folder / "b.mkv").exists():
            with av.open(str(folder / "b.mkv")) as recording:
                kept = sum(1 for _ in recording.decode(video=0))
        return Row(running.returncode, seconds, cpu, restored, kept, " | ".join(said))


def wrong(what: str, row: Row, timeout_s: float = TIMEOUT_S) -> bool:
    lost = what in ("killed", "frozen") and row.seconds > timeout_s + LONGER_S
    early = what != "garbled" and row.restored < BEFORE
    return row.code not in DONE[what][0] or row.kept != row.restored or early or lost


def main() -> int:
    parser = argparse.ArgumentParser(description="Mistreats cameras while edge-restore records them; prints a table.")
    parser.add_argument("--vivid", action="store_true", help="the cameras of the drivers vivid and v4l2loopback alone")
    parser.add_argument("--board", default="sim", help="what computes")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_S, help="of the command; more on a slow machine")
    parser.add_argument("-v", "--verbose", action="store_true", help="print what was said, too")
    args = parser.parse_args()
    if args.vivid:
        kinds: list[type[Camera]] = [Vivid, *([Written] if LOOPBACK.exists() else [])]
    else:
        kinds = [kind for kind in CAMERAS if kind is not Rtsp or has_rtsp_server()]
    print(f"| exit code, seconds (of CPU), kept of restored | {' | '.join(DONE)} |\n|{'---|' * (len(DONE) + 1)}")
    failed = False
    for kind in kinds:
        cells = []
        for what in DONE:
            if what not in kind.suffers:
                cells.append("-")
                continue
            row = run(kind, what, args.board, args.timeout)
            mark = " WRONG" * wrong(what, row, args.timeout)
            failed |= bool(mark)
            seconds = "" if what == "garbled" else f"{row.seconds:.1f} s ({row.cpu:.1f}), "  # it is from the beginning
            cells.append(f"{row.code}, {seconds}{row.kept} of {row.restored}{mark}")
            if args.verbose:
                print(f"{kind.name}, {what}: {row.said}", file=sys.stderr)
        print(f"| {kind.name} | {' | '.join(cells)} |", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
