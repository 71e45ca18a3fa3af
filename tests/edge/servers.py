"""Cameras to test with: a server of Motion JPEG that can be made to misbehave, and pictures that say which they are.

As a program, for what only a process of its own can suffer: `python -m tests.edge.servers PORT` is that server, and
`python -m tests.edge.servers - FILE [garbled]` writes JPEGs to standard output, and its process number to FILE; instead
of - a device of v4l2loopback can stand, which is a camera then.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import http.server
import io
import itertools
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from edge.sources import v4l2


def numbered(number: int, width: int = 64, height: int = 48) -> np.ndarray:
    """A picture of stripes, uint8 RGB, in whose left part `number`, 0 to 255, can be read after any lossy coding."""
    pixels = np.full((height, width, 3), 96, np.uint8)
    for bit in range(8):
        pixels[height * bit // 8 : height * (bit + 1) // 8, : width // 2] = 255 * (number >> bit & 1)
    return pixels


def number_of(pixels: np.ndarray, bits: int = 8) -> int:
    """What `numbered` wrote, or with 24 bits what tests/edge/rtsp_server.py did."""
    height, width = pixels.shape[:2]
    rows = [
        pixels[height * bit // bits + 2 : height * (bit + 1) // bits - 2, 4 : width // 2 - 4] for bit in range(bits)
    ]
    return sum(int(row.mean() > 128) << bit for bit, row in enumerate(rows))


@functools.lru_cache(256)
def jpeg(number: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(numbered(number)).save(file, "JPEG", quality=90)
    return file.getvalue()


class Camera:
    """What an HTTP camera sends, changed while it runs.

    frames: JPEGs of one connection; then it hangs up, or where `freezes` says nothing more. garbage: what it sends
    between two frames. connections: how many there were.
    """

    def __init__(self) -> None:
        self.frames, self.between_s, self.freezes, self.garbage = 10, 0.01, False, b""
        self.silent = False
        self.connections = 0
        self.address = ""
        self.ending = threading.Event()

    def serve(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        self.connections += 1
        if self.silent:
            self.ending.wait(60)
            return
        handler.send_response(200)
        if handler.path.endswith(".jpg"):
            body = jpeg(self.connections)
            handler.send_header("Content-Type", "image/jpeg")
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)
            return
        handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=part")
        handler.end_headers()
        for number in range(self.frames):
            body = jpeg(number % 256)
            handler.wfile.write(b"--part\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(body))
            handler.wfile.write(body + b"\r\n" + self.garbage)
            time.sleep(self.between_s)
        if self.freezes:
            self.ending.wait(60)


@contextlib.contextmanager
def http_camera(port: int = 0) -> Iterator[Camera]:
    """A running camera, at a free port if it is 0; `address` + "/s.mjpg" is its stream, "/s.jpg" one picture."""
    camera = Camera()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with contextlib.suppress(OSError):
                camera.serve(self)

        def log_message(self, *arguments: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

    with Server(("127.0.0.1", port), Handler) as server:
        camera.address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield camera
        finally:
            camera.ending.set()
            server.shutdown()


SYSTEM_PYTHON = "/usr/bin/python3"  # the one that Debian's bindings of GStreamer are for


def has_rtsp_server() -> bool:
    """Whether GStreamer's RTSP server is installed: gir1.2-gst-rtsp-server-1.0, python3-gi, gstreamer1.0-plugins-*."""
    if shutil.which(SYSTEM_PYTHON) is None:
        return False
    program = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst, GstRtspServer;"
    program += "Gst.init(None); assert Gst.ElementFactory.find('x264enc')"
    return subprocess.run([SYSTEM_PYTHON, "-c", program], capture_output=True).returncode == 0


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class RtspCamera:
    """GStreamer's RTSP server in a process of its own, whose pictures show the time: to be stopped in every way."""

    def __init__(self, width: int = 96, height: int = 192, fps: int = 30):
        self.port, self._size = free_port(), (width, height, fps)
        self.address = f"rtsp://127.0.0.1:{self.port}/live"
        self.start()

    def start(self) -> None:
        program = Path(__file__).with_name("rtsp_server.py")
        arguments = [SYSTEM_PYTHON, str(program), str(self.port), *map(str, self._size)]
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE)
        assert self.process.stdout is not None and self.process.stdout.readline() == b"ready\n"

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def garble(chunk: bytearray, passed: int) -> None:
    """Changes every 2000th byte behind the first 5000 of a flow of which `passed` bytes came before `chunk`."""
    for at in range(-passed % 2000, len(chunk), 2000):
        if passed + at > 5000:
            chunk[at] ^= 0xFF


@contextlib.contextmanager
def garbling(port: int) -> Iterator[int]:
    """A port that leads to `port`, but what comes back is garbled."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def carry(source: socket.socket, target: socket.socket, garbled: bool) -> None:
            passed = 0
            with contextlib.suppress(OSError):
                while chunk := bytearray(source.recv(4096)):
                    if garbled:
                        garble(chunk, passed)
                    passed += len(chunk)
                    target.sendall(chunk)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    near, _ = listener.accept()
                    far = socket.create_connection(("127.0.0.1", port))
                    threading.Thread(target=carry, args=(near, far, False), daemon=True).start()
                    threading.Thread(target=carry, args=(far, near, True), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]


FPS = 10  # of a camera that is a program: few enough that none is still on its way when the camera ends


def jpeg_device(path: Path) -> int:
    """The descriptor of v4l2loopback's device at `path`; each JPEG that is written there is a picture of a camera."""
    device = os.open(path, os.O_RDWR)
    output = 2  # as in linux/videodev2.h
    wanted = struct.pack("I4x5I", output, 64, 48, int.from_bytes(b"MJPG", "little"), 1, 0).ljust(208, b"\0")
    fcntl.ioctl(device, v4l2.request(v4l2.BOTH, 5, len(wanted)), bytearray(wanted))
    fcntl.ioctl(device, v4l2.request(v4l2.WRITE, 18, 4), struct.pack("i", output))
    return device


def main() -> None:
    if sys.argv[1].isdigit():
        with http_camera(int(sys.argv[1])) as camera:
            camera.frames, camera.between_s = sys.maxsize, 1 / FPS
            print("ready", flush=True)
            camera.ending.wait()
    Path(sys.argv[2]).write_text(str(os.getpid()))
    write = functools.partial(os.write, 1 if sys.argv[1] == "-" else jpeg_device(Path(sys.argv[1])))
    passed = 0
    for number in itertools.count():
        picture = bytearray(jpeg(number % 256))
        if sys.argv[3:] == ["garbled"]:
            garble(picture, passed)
        passed += len(picture)
        write(picture)
        time.sleep(1 / FPS)


if __name__ == "__main__":
    main()
