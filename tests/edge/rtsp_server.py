"""PORT WIDTH HEIGHT FPS: an RTSP camera whose pictures show when they were made; for Debian's Python and GStreamer.

Each of 24 stripes in the left half is one bit of CLOCK_MONOTONIC in milliseconds, the lowest on top. In the right half
coloured squares move upwards, so that no picture is like the one before.
"""

import random
import sys
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

BITS = 24
SQUARE = 8  # pixels
ROWS_A_PICTURE = 3  # that the squares move


def squared(width: int) -> bytes:
    """A row of squares of random colours, so many pixels wide."""
    colours = [random.randbytes(3) * SQUARE for _ in range(width // SQUARE + 1)]
    return b"".join(colours)[: width * 3]


def main() -> None:
    port, width, height, fps = map(int, sys.argv[1:])
    Gst.init(None)
    left, right = width // 2, width - width // 2
    dark, light = (bytes([level]) * (left * 3) for level in (0, 255))
    stripes = [bit for bit in range(BITS) for _ in range(height * (bit + 1) // BITS - height * bit // BITS)]
    squares = [row for _ in range(height // SQUARE + 1) for row in [squared(right)] * SQUARE]
    offset = 0

    def push(source: Gst.Element) -> bool:
        nonlocal offset
        offset = (offset + ROWS_A_PICTURE) % len(squares)
        now = int(time.monotonic() * 1000)
        moved = squares[offset:] + squares[:offset]
        rows = [part for bit, row in zip(stripes, moved) for part in (light if now >> bit & 1 else dark, row)]  # noqa: B905
        return bool(source.emit("push-buffer", Gst.Buffer.new_wrapped(b"".join(rows))) == Gst.FlowReturn.OK)

    def configure(_: GstRtspServer.RTSPMediaFactory, media: GstRtspServer.RTSPMedia) -> None:
        GLib.timeout_add(1000 // fps, push, media.get_element().get_child_by_name("source"))

    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(
        "( appsrc name=source is-live=true do-timestamp=true format=time"
        f" caps=video/x-raw,format=RGB,width={width},height={height},framerate={fps}/1"
        " ! videoconvert ! video/x-raw,format=I420"
        " ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 bitrate=2000"
        " ! rtph264pay name=pay0 pt=96 config-interval=-1 )"
    )
    factory.set_shared(True)
    factory.connect("media-configure", configure)
    server = GstRtspServer.RTSPServer(service=str(port))
    server.set_address("127.0.0.1")
    server.get_mount_points().add_factory("/live", factory)
    server.attach(None)
    print("ready", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
