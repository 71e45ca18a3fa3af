"""The options of cameras, streams and recordings: how they are written, and what comes of them."""

from __future__ import annotations

import argparse
import math
import re
from typing import TYPE_CHECKING

from edge.errors import UserError

if TYPE_CHECKING:
    from edge.sinks import Pieces
    from edge.sources.record import Settings

RECORDINGS = (".mkv", ".mov", ".mp4")  # which can hold sound


def add_live(parser: argparse.ArgumentParser) -> None:
    """Adds them to the command's parser."""
    source = parser.add_argument_group("cameras and streams")
    source.add_argument(
        "--drop",
        choices=("latest", "none"),
        help="while the network is busy, drop all but the newest picture (default for what is live) or none",
    )
    source.add_argument("--size", metavar="WxH", type=_size, help="of the pictures, such as 640x480")
    source.add_argument("--fps", metavar="N", type=_number, help="pictures a second to ask for")
    source.add_argument("--format", metavar="NAME", help="a camera's: mjpg, yuyv; a command's: yuv420, mjpeg, h264")
    source.add_argument(
        "--control",
        metavar="NAME=VALUE",
        type=_control,
        action="append",
        default=[],
        help="set exposure, gain",
    )
    source.add_argument("--transport", choices=("tcp", "udp"), help="of RTSP; default: tcp")
    source.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_number,
        help="without a picture until a source is lost; default: 10",
    )
    source.add_argument(
        "--reconnect", metavar="N|forever", type=_attempts, help="connect again so often; default: 5 for streams"
    )
    source.add_argument("--list-cameras", action="store_true", help="print what this machine has, and what can be set")
    recording = parser.add_argument_group("long recordings")
    recording.add_argument(
        "--segment",
        metavar="SECONDS",
        type=_number,
        help="a new video file so often, named after the time",
    )
    recording.add_argument("--keep", metavar="N", type=_count, help="of these files: only the newest N")


def settings(args: argparse.Namespace) -> Settings:
    """What the options say of the source."""
    from edge.sources.record import Settings

    return Settings(
        size=args.size,
        fps=args.fps,
        format=args.format,
        controls=tuple(args.control),
        transport=args.transport,
        timeout_s=args.timeout,
        reconnect=args.reconnect,
        drop=args.drop,
        sound=args.out is not None and args.out.lower().endswith(RECORDINGS),
    )


def pieces(args: argparse.Namespace) -> Pieces | None:
    """How the recording is cut. Raises UserError."""
    from edge.sinks import Pieces

    if args.segment is None:
        if args.keep is not None:
            raise UserError("--keep says how many files of --segment SECONDS stay; give both.")
        return None
    return Pieces(args.segment, args.keep)


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d{0,4})[xX]([1-9]\d{0,4})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text} is not a size such as 640x480")
    return int(match[1]), int(match[2])


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return number


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 1")
    return int(text)


def _attempts(text: str) -> float:
    if text == "forever":
        return math.inf
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text} is neither a whole number nor forever")
    return float(int(text))


def _control(text: str) -> tuple[str, int]:
    match = re.fullmatch(r"([a-z0-9_]+)=(-?\d{1,10})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text} is not NAME=VALUE with a whole number, such as gain=10")
    return match[1], int(match[2])
