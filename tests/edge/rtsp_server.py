"""PORT WIDTH HEIGHT FPS: an RTSP camera whose pictures show when they were made; for Debian's Python and GStreamer.

Each of 24 stripes in the left half is one bit of CLOCK_MONOTONIC in milliseconds, the lowest on top.
"""

import sys
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

BITS = 24


def main() -> None:
    port, width, height, fps = map(int, sys.argv[1:])
    Gst.init(None)
    dark, light = (bytes([level]) * (width // 2 * 3) + b"\x60" * ((width - width // 2) * 3) for level in (0, 255))

    def push(source: Gst.Element) -> bool:
        now = int(time.monotonic() * 1000)
        rows = [
            (light if now >> bit & 1 else dark) * (height * (bit + 1) // BITS - height * bit // BITS)
            for bit in range(BITS)
        ]
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
