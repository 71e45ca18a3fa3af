"""PORT WIDTH HEIGHT FPS: an RTSP camera whose pictures show when they were made; for Debian's Python and GStreamer.

Each of 24 stripes in the left half is one bit of CLOCK_MONOTONIC in milliseconds, the lowest on top. In the right half
a hilly surface with a sensor's noise moves upwards, so that no picture is like the one before.
"""

import math
import random
import sys
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

BITS = 24
ROWS_A_PICTURE = 3  # that the surface moves
NOISE = 8  # grey levels, standard deviation


def surface(width: int, height: int) -> list[bytes]:
    """Rows of a smooth RGB picture that ends as it begins, with noise."""
    chance = random.Random(0)
    noise = [round(chance.gauss(0, NOISE)) for _ in range(1 << 16)]
    tilts = [(chance.uniform(0.02, 0.1), chance.randint(1, 5), chance.uniform(0, 6)) for _ in range(3)]
    rows = []
    for y in range(height):
        row = bytearray()
        turns = [math.tau * y * times / height + phase for _, times, phase in tilts]
        begin = chance.randrange(len(noise) - width * 3)
        for x in range(width):
            for channel, (speed, _, _) in enumerate(tilts):
                level = 128 + 60 * math.sin(x * speed + turns[channel]) + noise[begin + 3 * x + channel]
                row.append(max(0, min(255, round(level))))
        rows.append(bytes(row))
    return rows


def main() -> None:
    port, width, height, fps = map(int, sys.argv[1:])
    Gst.init(None)
    left, right = width // 2, width - width // 2
    dark, light = (bytes([level]) * (left * 3) for level in (0, 255))
    stripes = [bit for bit in range(BITS) for _ in range(height * (bit + 1) // BITS - height * bit // BITS)]
    rows = surface(right, height)
    offset = 0

    def push(source: Gst.Element) -> bool:
        nonlocal offset
        offset = (offset + ROWS_A_PICTURE) % height
        now = int(time.monotonic() * 1000)
        moved = rows[offset:] + rows[:offset]
        parts = [part for bit, row in zip(stripes, moved) for part in (light if now >> bit & 1 else dark, row)]  # noqa: B905
        return bool(source.emit("push-buffer", Gst.Buffer.new_wrapped(b"".join(parts))) == Gst.FlowReturn.OK)

    def configure(_: GstRtspServer.RTSPMediaFactory, media: GstRtspServer.RTSPMedia) -> None:
        GLib.timeout_add(1000 // fps, push, media.get_element().get_child_by_name("source"))

    factory = GstRtspServer.RTSPMediaFactory()
    # One slice a picture: rtph264pay puts the parameter sets before each slice of a key frame, and FFmpeg, as the
    # standard has it (ITU-T H.264, 7.4.1.2.3), takes them for the beginning of another picture.
    factory.set_launch(
        "( appsrc name=source is-live=true do-timestamp=true format=time"
        f" caps=video/x-raw,format=RGB,width={width},height={height},framerate={fps}/1"
        " ! videoconvert ! video/x-raw,format=I420"
        " ! x264enc tune=zerolatency speed-preset=ultrafast sliced-threads=false threads=1 key-int-max=15"
        " bitrate=4000"
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
