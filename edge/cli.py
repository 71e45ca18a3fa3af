"""The `edge-restore` command.

Exit codes: 0 done; 1 some images of several could not be restored; 2 bad input or output; 130 ended by Ctrl-C or
SIGTERM, with everything restored until then kept. OpenCV and the network are imported only when the arguments make
sense, so help and mistakes are instant.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge import options, shipped, summary, terminal
from edge.errors import UserError, sentence
from edge.options import SIMULATOR
from edge.signals import Stop
from simulator.files import reason
from simulator.tasks import TASKS

if TYPE_CHECKING:
    from edge.boards import BoardNetwork
    from edge.images import Pixels
    from edge.pipeline import Outcome, Progress
    from edge.sinks import Pieces
    from edge.sources import Source
    from edge.watchers import Watchers
    from firmware_bridge.power.recording import Recording
    from simulator.network import Network, Result

_EPILOG = """\
SOURCE is sample (a photograph that ships with the command: noisy, rainy, hazy or blurred, as the task asks), an image,
a folder of images, a quoted 'glob*' of images, a video; camera0, camera1, ..., /dev/videoN, /dev/v4l/by-id/..., picam0
(a Raspberry Pi's own); an http or rtsp URL (a video, Motion JPEG, or one JPEG, which is asked for again and again);
exec:'COMMAND' (what it writes to its standard output) or - (standard input): JPEGs in a row, H.264, a container, or raw
yuv420 with --size. Several SOURCEs can be images, folders and patterns.

--out goes by its suffix: .png .tif .bmp .webp .avif .ppm without loss, .jpg at quality 100; .mkv and .avi (FFV1)
and .mov (PNG) without loss, .mp4 (H.264) with loss; a name without a suffix, or with / at its end, is a folder, where
images keep their names and video frames become frame_000001.png and so on; rtsp://... is a server that is pushed to,
/dev/videoN a device that other programs take for a camera. Transparency, 16 bits, colour profile, EXIF and XMP go along
where the format has them; edge/FORMATS.md has all formats, and what becomes of sound and times.

--board: sim is the event-driven engine of this machine; python -m firmware_bridge.boards lists the others. All give the
same pixels, but for neuromorphic cards, which round to float16. Given several times, each picture goes to whichever is
free.

--power: where a power sensor is found (python -m firmware_bridge.power lists them), it is read while nothing runs and
then through the run, for joules per frame; the CSV file of an external meter is read when the run has ended.
"""


def build_parser() -> options.Parser:
    parser = options.Parser(
        prog="edge-restore",
        description="Restores images, videos and camera pictures with a spiking network.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("source", metavar="SOURCE", nargs="*", type=options.name, help="what to restore, see below")
    parser.add_argument(
        "--task", choices=TASKS, help="what to remove from it; auto: whatever it is, with a --bundle for that"
    )
    parser.add_argument(
        "--bundle",
        metavar="FILE",
        type=_bundle,
        help=f"the network, or a shipped one by name ({', '.join(shipped.names())}); default: that of the task",
    )
    parser.add_argument(
        "--quality",
        choices=shipped.QUALITIES,
        help="which of the task's networks: the small one or, where there is one, the large one; "
        "default: best for images, fast for videos, what is live, and boards",
    )
    parser.add_argument(
        "--board",
        metavar="NAME",
        type=options.name,
        action="append",
        help="what computes; default: sim; given several times: all of them, each takes what it can",
    )
    parser.add_argument("--out", metavar="PATH", type=options.name, help="an image, a folder or a video; default: none")
    parser.add_argument(
        "--stats",
        metavar="FILE.json",
        type=_path,
        help="write latency, spikes and energy there; -: one line for each picture",
    )
    parser.add_argument(
        "--power",
        metavar="NAME",
        type=options.name,
        help="a sensor, a meter's FILE.csv, auto (default for --stats) or none",
    )
    parser.add_argument("--threads", metavar="N", type=_positive, help="at most so many; default: one per core")
    parser.add_argument("--tile", metavar="N", type=_positive, help="side of the tiles in pixels; same result")
    parser.add_argument(
        "--still", metavar="N", type=_grey_levels, help="of a video: changes of up to N grey levels are left out"
    )
    parser.add_argument("--max-frames", metavar="N", type=_positive, help="stop after N pictures")
    parser.add_argument(
        "--warmup", action="store_true", help="restore nothing: compile the kernels, so that the next start is quick"
    )
    parser.add_argument("--side-by-side", action="store_true", help="store input and result in one picture")
    needed = parser.add_mutually_exclusive_group()
    needed.add_argument(
        "--check",
        action="store_true",
        help="of several images, too, say which need no restoring, and keep them as they are",
    )
    needed.add_argument("--force", action="store_true", help="restore also an image that needs no restoring")
    options.add_archive(parser)
    options.add_live(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs the command and returns its exit code (argparse exits by itself).

    `argv` is without the program's name; None takes the process's own arguments, and keeps its signals until it ends,
    so that a second Ctrl-C does not spoil the ending.
    """
    if argv is None:
        terminal.open_streams()
    terminal.hide_urls(sys.argv[1:] if argv is None else argv)
    parser = build_parser()
    args = options.parsed(parser, argv)
    missing = [name for name, value in (("SOURCE", args.source), ("--task", args.task)) if value is None]
    if missing and not (args.warmup or args.list or args.list_cameras):
        parser.error(f"the following arguments are required: {', '.join(missing)}")
    stop = Stop()
    try:
        if args.list_cameras:
            code = _list_cameras()
        elif args.list:
            with stop.leaving(lambda: None):
                code = _list_networks()
        elif args.warmup:
            with stop.leaving(lambda: None):
                code = _warm_up(args)
        else:
            code = _run(args, stop)
    except UserError as error:
        terminal.say(str(error))
        code = 2
    except KeyboardInterrupt:
        code = 130
    finally:
        stop.no_more()
        if argv is not None:
            stop.restore()
    if argv is None:
        # A thread that hangs in a driver or a server's answer would hold the process up, and nobody need wait until
        # Python has taken everything apart.
        terminal.leave(code)
    return code


def _run(args: argparse.Namespace, stop: Stop) -> int:
    if args.bundle is not None and args.quality is not None:
        raise UserError("--quality chooses among the networks of a task, and --bundle names one: give one of the two.")
    if args.bundle is None:
        shipped.of_task(args.task, shipped.FAST)  # a task without a network is said before anything is opened
    terminal.silence_libraries()
    from edge import sources

    elsewhere = None
    if options.is_archive(args):
        from edge.archive import command

        found = command.open_video(args)
        if found is None:
            return command.run(args, stop)
        source, elsewhere = found
    else:
        source = sources.open_source(args.source, args.task, options.settings(args))
    try:
        pieces = options.pieces(args)
        best = isinstance(source, sources.Images) and args.board == [SIMULATOR]
        quality = args.quality or (shipped.BEST if best else shipped.FAST)
        return _restore(args, stop, args.bundle or shipped.of_task(args.task, quality), source, pieces, elsewhere)
    finally:
        source.close()


def _restore(
    args: argparse.Namespace,
    stop: Stop,
    bundle: Path,
    source: Source,
    pieces: Pieces | None,
    elsewhere: Callable[[Pixels], Result] | None,
) -> int:
    from edge import loading, pipeline, sinks, sources, watchers
    from simulator.network import Network

    if args.still is not None and isinstance(source, sources.Images):
        raise UserError("--still is for videos, cameras and streams; images are restored one by one: leave it out.")
    count = source.count if args.max_frames is None else min(source.count or args.max_frames, args.max_frames)
    taken = sinks.Inputs(bundle, sources.files(source))
    sink = sinks.open_sink(args.out, source, count, taken, pieces, lambda: stop.requested)
    while sink.notes:
        terminal.say(sink.notes.pop(0))
    to_stdout = args.stats is not None and str(args.stats) == "-"
    if args.stats is not None and not to_stdout:
        if terminal.is_url(str(args.stats)):
            raise UserError(f"--stats {args.stats} is an address; give the name of a file.")
        if args.out is not None and os.path.realpath(args.stats) == os.path.realpath(args.out):
            raise UserError(f"--stats and --out are both {args.stats}; give them different names.")
        sinks.check_output(args.stats, taken)
    with stop.leaving(source.close):
        if args.still is not None and args.board != [SIMULATOR]:
            raise loading.other_way("--still", args.board)
        follow = elsewhere is None and not isinstance(source, sources.Images)
        network = loading.open_network(args, bundle, alone=count == 1, follow=follow)
    progress = pipeline.Progress(count, quiet=args.quiet)
    if not isinstance(network, Network):
        network.hear(progress.say)
    if args.verbose:
        progress.say(_described(source, network, bundle))
    choice = _Choice(args, network, bundle)
    try:
        power = "none" if args.stats is None and args.view is None else "auto"
        recording = loading.open_recording(args.power or power, None if isinstance(network, Network) else network)
        if recording.source:
            progress.say(f"the power of doing nothing is measured first, for {recording.idle_s:.1f} s")
        with recording.run(), watchers.opened(args, source, choice.networks, recording.sensor) as seeing:
            choice.begin(seeing, progress)
            outcome = pipeline.restore(
                source,
                network,
                sink,
                progress,
                stop,
                limit=args.max_frames,
                tile=args.tile,
                still=args.still or 0,
                side_by_side=args.side_by_side,
                check=isinstance(source, sources.Images) and not args.force and (args.check or source.count == 1),
                watchers=seeing,
                other=choice.other,
                ahead=1 if isinstance(network, Network) else network.ahead,
                elsewhere=elsewhere,
            )
        network = choice.network
    finally:
        progress.close()
        sink.discard()
        if not isinstance(network, Network):
            network.close()
    if isinstance(source, sources.Images):
        for note in source.notes:
            terminal.say(note)
    if outcome.statistics:
        figures = _report(outcome, network, choice.name, recording, source)
        if args.stats is not None and not to_stdout:
            sinks.write_atomically(args.stats, (json.dumps(figures, indent=2) + "\n").encode())
        lines = [summary.frames_line(figures), *_psnr_line(outcome, source)]
        if "live" in figures:
            lines.append(summary.live_line(figures["live"]))
        if "latency_clock" in figures:
            lines[1:1] = summary.board_lines(figures)
        if figures["power"] is not None:
            lines.append(summary.power_line(figures["power"]))
        elif recording.source:
            terminal.say(f"power was not measured: {figures['power_reason']}")
        if outcome.written:
            lines.append(f"wrote {outcome.written}")
        elif args.out is None:
            lines.append("nothing was stored: give --out PATH to keep the result")
        kept = f"; {outcome.written} was written" if outcome.written else ""
        summary.tell(lines, quiet=args.quiet, beside_stats=to_stdout, kept=kept)
    return outcome.exit_code(source)


def _warm_up(args: argparse.Namespace) -> int:
    """Compile the kernels and load the bundle, if one is named; say how long it took and where kernels are kept."""
    begin = time.perf_counter()
    from edge import loading
    from simulator.engine import cache_folder

    try:
        folder = cache_folder()
        loading.compile_for_video()
    except ValueError as error:
        raise UserError(sentence(error)) from error
    loaded = ""
    if args.bundle is not None or args.task is not None:
        bundle = args.bundle or shipped.of_task(args.task, args.quality or shipped.BEST)
        loading.load_network(bundle, args.task, args.threads, args.tile)
        loaded = f", {bundle} is loaded"
    seconds = time.perf_counter() - begin
    compiled = f"kernels are compiled{loaded}: {seconds:.1f} s"
    kept = (
        "no folder is writable, so every start compiles them: set NUMBA_CACHE_DIR to a writable one"
        if folder is None
        else f"they are kept in {folder}"
    )
    try:
        terminal.print_out([f"{compiled}; {kept}"])
    except OSError as error:
        raise UserError(f"{compiled}, but this cannot be printed: {reason(error)}.") from error
    return 0


def _list_cameras() -> int:
    from edge.sources.camera import describe

    try:
        terminal.print_out(describe())
    except OSError as error:
        raise UserError(f"the cameras cannot be printed: {reason(error)}.") from error
    return 0


def _list_networks() -> int:
    from edge.networks import describe

    try:
        terminal.print_out(describe(shipped.BUNDLES))
    except OSError as error:
        raise UserError(f"the networks cannot be printed: {reason(error)}.") from error
    return 0


class _Choice:
    """The network that restores, and those that somebody who looks on may choose instead."""

    def __init__(self, args: argparse.Namespace, network: Network | BoardNetwork, bundle: Path) -> None:
        self.network, self.name = network, bundle.stem
        self._args = args
        on_board = args.board != [SIMULATOR]
        # A bundle's file begins with its task.
        self.networks = {} if on_board else {name: name.partition("-")[0] for name in shipped.names()}

    def begin(self, seeing: Watchers, progress: Progress) -> None:
        self._seeing, self._progress = seeing, progress
        seeing.named(self.network.task, self.name)

    def other(self) -> Network | None:
        """The network that has been chosen since this was last asked, loaded."""
        name = self._seeing.chosen()
        if name is None or name == self.name:
            return None
        from edge.loading import load_network

        try:
            network = load_network(shipped.named(name), None, self._args.threads, self._args.tile)
        except UserError as error:
            self._progress.say(str(error))
            return None
        self._progress.say(f"from here on with {name}")
        self.network, self.name = network, name
        self._seeing.named(network.task, name)
        return network


def _described(source: Source, network: Network | BoardNetwork, bundle: Path) -> str:
    """What -v says before the run."""
    from edge.sources.images import Images

    what = f"{source.count} images" if isinstance(source, Images) else f"{source.label}, {source.facts.fps or '?'} fps"
    return f"{what}; {bundle.name}, {network.bundle_hash[:12]}, on {network.backend}"


def _report(
    outcome: Outcome, network: Network | BoardNetwork, name: str, recording: Recording, source: Source
) -> dict[str, Any]:
    from edge.sources.images import Images
    from simulator.network import Network

    statistics = outcome.statistics
    figures = statistics.report(task=network.task, bundle_hash=network.bundle_hash, backend=network.backend)
    figures["network"] = name
    figures |= recording.report(len(statistics))
    if not isinstance(source, Images) and source.live:
        counts = {"dropped": source.dropped, "broken": source.broken, "reconnects": source.reconnects}
        figures["live"] = {**counts, "delay_ms": outcome.delays.report()}
    return figures if isinstance(network, Network) else figures | network.report()


def _psnr_line(outcome: Outcome, source: Source) -> list[str]:
    """For the sample, whose clean picture is known: how much better it got."""
    from edge.images import read_image
    from edge.pipeline import psnr
    from edge.sources import Images

    if not isinstance(source, Images) or source.reference is None or outcome.last is None:
        return []
    clean = read_image(source.reference).pixels
    before, after = (psnr(image, clean) for image in outcome.last)
    return [f"PSNR {before:.2f} dB before, {after:.2f} dB after (the sample's clean picture is known)"]


def _bundle(text: str) -> Path:
    """A file, or else a shipped bundle's name."""
    path = _path(text)
    if path.exists() or path.suffix or path.name != text:
        return path
    if text not in shipped.names():
        raise argparse.ArgumentTypeError(f"{text} is neither a file nor the name of a network that ships")
    return shipped.named(text)


def _path(text: str) -> Path:
    return Path(options.name(text))


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 1")
    return number


def _grey_levels(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) > 255:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of grey levels from 0 to 255")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
