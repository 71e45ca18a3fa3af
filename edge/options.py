"""The options of cameras, streams and recordings: how they are written, and what comes of them."""

from __future__ import annotations

import argparse
import math
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from edge import terminal
from edge.errors import UserError
from simulator.files import reason

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

    from edge.sinks import Pieces
    from edge.sources.record import Settings

SIMULATOR = "sim"  # the board that is none: this machine
VIEW = ("127.0.0.1", 8765)
# The addresses of what is live, and what is computed on.
_NO_STORES = ("http:", "https:", "rtsp:", "rtsps:", "rtmp:", "exec:", "mqtt:", "mqtts:")
_MOVING = (".mkv", ".mov", ".mp4", ".avi")  # outputs that keep sound, or say that they do not


def add_archive(parser: argparse.ArgumentParser) -> None:
    """Adds those of archives to the command's parser."""
    archive = parser.add_argument_group("archives")
    archive.add_argument("--recursive", action="store_true", help="folders below, too; --out gets the same tree")
    archive.add_argument(
        "--skip-existing",
        action="store_true",
        help="leave out what a run before has put into --out from the same content, network and options",
    )
    archive.add_argument("--jobs", metavar="N", type=_count, help="N pictures at a time, each in a process")
    archive.add_argument(
        "--shard", metavar="I/N", type=_shard, help="only the I-th of N shares; each machine of several takes one"
    )
    archive.add_argument(
        "--cluster",
        metavar="HOST:PORT",
        help="restore on many machines: a Dask scheduler, local:N for N workers here, or a FILE.yaml that says more",
    )
    archive.add_argument(
        "--max-failures", metavar="N", type=_failures, help="end the run when more than N pictures have failed"
    )


def is_archive(args: argparse.Namespace) -> bool:
    """Whether `edge.archive` restores: pictures whose list is found meanwhile, or a video in parts."""
    return args.jobs is not None or is_list(args)


def is_list(args: argparse.Namespace) -> bool:
    """Whether the SOURCEs can only be pictures."""
    asked = args.recursive or args.skip_existing or args.shard is not None or args.max_failures is not None
    stores = any(is_store(place) for place in (*args.sources, args.out or ""))
    return asked or len(args.sources) > 1 or args.cluster is not None or stores


def is_store(text: str) -> bool:
    """Whether it is the address of an object store; of http, other options have to say that pictures are meant."""
    return terminal.is_url(text) and not text.lower().startswith(_NO_STORES)


class Parser(argparse.ArgumentParser):
    """argparse, but a mistake is answered with one sentence, before which `place` says where it was made."""

    place = ""  # the command line

    def error(self, message: str) -> NoReturn:
        dash = " -" in message and "--" not in message
        hint = " (a name that begins with a dash is given as ./-name)" if dash else ""
        terminal.say(f"{self.place}{message}{hint}; see {self.prog} --help.")
        self.exit(2)

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        try:
            terminal.print_out(self.format_help().splitlines())
        except OSError as error:
            terminal.say(f"the help cannot be printed: {reason(error)}.")
            self.exit(2)


def add_live(parser: argparse.ArgumentParser) -> None:
    """Adds them to the command's parser."""
    source = parser.add_argument_group("cameras and streams")
    source.add_argument(
        "--drop",
        choices=("latest", "none"),
        help="while the network is busy, drop all but the newest picture (default for what is live) or none",
    )
    source.add_argument("--size", metavar="WxH", type=_size, help="of the pictures, such as 640x480")
    source.add_argument("--fps", metavar="N", type=_rate, help="pictures a second to ask for")
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
    service = parser.add_argument_group("looking on, and running as a service")
    service.add_argument(
        "--view",
        metavar="HOST:PORT",
        type=_address,
        nargs="?",
        const=VIEW,
        help=f"a page with before and after; default: {VIEW[0]}:{VIEW[1]}",
    )
    service.add_argument(
        "--mqtt",
        metavar="URL",
        type=_mqtt,
        help="publish at mqtt://HOST:PORT, with USER:PASSWORD@ before HOST and /TOPIC behind if need be",
    )
    service.add_argument(
        "--config", metavar="FILE.toml", help="options from a file, by the same names; those given here win"
    )
    service.add_argument("-q", "--quiet", action="store_true", help="say only what went wrong")
    service.add_argument("-v", "--verbose", action="store_true", help="say what is read and what computes")
    service.add_argument("--list", action="store_true", help="print the networks that ship")
    service.add_argument("--version", action=_Version, nargs=0, help="print the version")


def parsed(parser: Parser, argv: list[str] | None) -> argparse.Namespace:
    """The arguments, with those of --config in front; `argv` None: the process's own. A mistake ends the process.

    `sources` are all SOURCEs, `source` the first of them, or None.
    """
    given = sys.argv[1:] if argv is None else argv
    args = _parsed(parser, given)
    if args.config is None:
        return _sorted_out(args, args.source)
    try:
        sources, from_file = _read_config(Path(args.config), parser)
    except UserError as error:
        parser.error(str(error).rstrip("."))
    terminal.hide_urls([*given, *from_file, *sources])
    if args.board:
        from_file = [each for each in from_file if not each.startswith("--board=")]
    parser.place = f"--config {args.config}: "  # what the command line says was in order
    args = _parsed(parser, [*from_file, *given])
    parser.place = ""
    return _sorted_out(args, args.source or sources)


def _parsed(parser: Parser, given: list[str]) -> argparse.Namespace:
    """SOURCEs may stand before, between and after options; what follows -- is a SOURCE, whatever it begins with."""
    end = given.index("--") if "--" in given else len(given)
    args = parser.parse_intermixed_args(given[:end])
    try:
        args.source = [*(args.source or ()), *map(name, given[end + 1 :])]
    except argparse.ArgumentTypeError as error:
        parser.error(str(error))
    return args


def name(text: str) -> str:
    """The type of a SOURCE."""
    if not text:
        raise argparse.ArgumentTypeError("an empty name was given; is a shell variable not set?")
    return text


def _sorted_out(args: argparse.Namespace, sources: list[str]) -> argparse.Namespace:
    args.sources, args.source = sources, sources[0] if sources else None
    args.board = args.board or [SIMULATOR]
    return args


def _read_config(path: Path, parser: argparse.ArgumentParser) -> tuple[list[str], list[str]]:
    """(SOURCEs, arguments) of a TOML file. Raises UserError."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"--config {path} cannot be read: {reason(error)}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"--config {path} is no TOML: {error}.") from error
    except RecursionError as error:
        raise UserError(f"--config {path} has too many brackets within one another.") from error
    known = {name.replace("_", "-") for name in vars(parser.parse_args([]))}
    sources: list[str] = []
    arguments: list[str] = []
    for name, value in entries.items():
        if name == "source":
            sources = value if isinstance(value, list) else [value]
            if not all(isinstance(each, str) and each for each in sources):
                raise UserError(f"--config {path}: source is not text that says what to restore.")
        elif name not in known - {"config"}:
            raise UserError(f"--config {path}: {name} is no option.")
        else:
            arguments += _arguments(path, name, value)
    return sources, arguments


def _arguments(path: Path, name: str, value: object) -> list[str]:
    if value is True:
        return [f"--{name}"]
    if value is False:
        return []
    if isinstance(value, list):
        return [argument for each in value for argument in _arguments(path, name, each)]
    if isinstance(value, str | int | float):
        return [f"--{name}={value}"]
    raise UserError(f"--config {path}: {name} is neither text, a number, true, false nor a list of these.")


class _Version(argparse.Action):
    """Looks the version up only when it is asked for: that takes as long as all the rest of starting."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib import metadata

        try:
            version = metadata.version("spikerir-edge")
        except metadata.PackageNotFoundError:
            version = "of a folder that is not installed"
        try:
            terminal.print_out([f"edge-restore {version}"])
        except OSError as error:
            terminal.say(f"the version cannot be printed: {reason(error)}.")
            parser.exit(2)
        parser.exit()


def settings(args: argparse.Namespace) -> Settings:
    """What the options say of the source."""
    from edge.sources.record import Settings

    out = (args.out or "").lower()
    return Settings(
        size=args.size,
        fps=args.fps,
        format=args.format,
        controls=tuple(args.control),
        transport=args.transport,
        timeout_s=args.timeout,
        reconnect=args.reconnect,
        drop=args.drop,
        sound=out.endswith(_MOVING) or out.startswith(("rtsp:", "rtsps:")),
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


def _rate(text: str) -> float:
    from edge.sources.record import credible

    fps = credible(_number(text))
    if fps is None:
        raise argparse.ArgumentTypeError(
            f"{text} pictures a second are too many or too few: 1000 at most, one an hour at least"
        )
    return fps


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 1")
    return int(text)


def _failures(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 0")
    return int(text)


def _shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d{0,8})/([1-9]\d{0,8})", text)
    if match is None or int(match[1]) > int(match[2]):
        raise argparse.ArgumentTypeError(f"{text} is not I/N with I from 1 to N, such as 2/8")
    return int(match[1]), int(match[2])


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


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise argparse.ArgumentTypeError(f"{text} is not HOST:PORT")
    return host.strip("[]") or VIEW[0], int(port)


def _mqtt(text: str) -> str:
    if not text.startswith(("mqtt://", "mqtts://")):
        raise argparse.ArgumentTypeError(f"{text} does not begin with mqtt:// or mqtts://")
    return text
