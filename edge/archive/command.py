"""`edge-restore` for archives: what its options make of the list, what restores, and the journal."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge import loading, options, pyav, shipped, sinks, sources, summary, terminal
from edge.archive import run as running
from edge.archive.journal import Journal
from edge.archive.listing import Listing
from edge.archive.picture import Restorer
from edge.archive.places import place_of
from edge.archive.pool import Pool
from edge.archive.run import Account, Serial, Workers
from edge.archive.work import Recipe
from edge.errors import UserError, sentence
from edge.images import Pixels
from edge.options import SIMULATOR
from edge.pipeline import Progress
from edge.signals import Stop
from edge.sources.images import is_image
from firmware_bridge.power.recording import Recording
from simulator.bundle import Bundle, read_bundle
from simulator.network import Result

if TYPE_CHECKING:
    from edge.sources import Source

if TYPE_CHECKING:
    from edge.boards import BoardNetwork
    from edge.cluster.client import Cluster

# Options of sources whose pictures follow one another in time.
_LIVE = (
    *("view", "mqtt", "still", "segment", "keep", "size", "fps", "format", "control", "transport", "timeout"),
    *("reconnect", "drop"),
)


def run(args: argparse.Namespace, stop: Stop) -> int:
    """Restores the pictures of all SOURCEs; returns the exit code. Raises UserError where that cannot begin."""
    for name in _LIVE:
        if getattr(args, name) not in (None, []):
            raise UserError(f"--{name} is for videos, cameras and streams; of pictures, leave it out.")
    quality = args.quality or (shipped.BEST if args.board == [SIMULATOR] else shipped.FAST)
    recipe = Recipe(
        bundle=args.bundle or shipped.of_task(args.task, quality),
        task=args.task,
        threads=_threads(args),
        tile=args.tile,
        side_by_side=args.side_by_side,
        check=args.check,
    )
    _check_outputs(args, recipe.bundle)
    listing = Listing(args.sources, args.out, recursive=args.recursive, shard=args.shard, look=args.skip_existing)
    try:
        bundle = read_bundle(recipe.bundle)
    except (ValueError, OSError) as error:
        raise UserError(sentence(error)) from error
    loading.check_task(recipe.bundle, bundle.task, args.task)
    with contextlib.ExitStack() as stack:
        journal = None
        if args.out is not None:
            journal = Journal(args.out, bundle.content_hash, recipe.options, read=args.skip_existing)
            stack.callback(journal.close)
        progress = Progress(None, quiet=args.quiet)
        stack.callback(progress.close)
        workers: Workers
        elsewhere: BoardNetwork | Cluster | None
        if args.cluster is not None:
            workers = elsewhere = _cluster(args, recipe, bundle, progress)
            recorded = Recording(missing="power is measured on one machine, and there are many")
        else:
            workers, recorded, elsewhere = _workers(args, recipe, stop, stack)
        if recorded.source:
            progress.say(f"the power of doing nothing is measured first, for {recorded.idle_s:.1f} s")
        stack.enter_context(recorded.run())
        account = running.run(
            running.undone(listing, journal if args.skip_existing else None, args.max_frames),
            workers,
            progress,
            stop,
            journal=journal,
            lines=str(args.stats) == "-",
            max_failures=args.max_failures,
        )
    if listing.left_out:
        terminal.say(f"left out: {listing.left_out}.")
    if not (listing.found or account.failed or account.interrupted or account.fatal):
        deeper = "" if args.recursive else "; --recursive looks into folders below, too"
        raise UserError(f"the SOURCEs hold no images{deeper}.")
    _conclude(args, account, recipe.bundle.stem, bundle, recorded, elsewhere)
    return account.exit_code


def open_video(args: argparse.Namespace) -> tuple[Source, Callable[[Pixels], Result] | None] | None:
    """A video that --jobs alone was given for: (the source, what gives the network's results in its place, or None
    where it stays in one piece). None where the SOURCEs are pictures. Raises UserError."""
    path = Path(args.source).expanduser()
    if options.is_list(args) or terminal.is_url(args.source) or not path.is_file() or is_image(path):
        return None
    for name in ("still", "view", "drop"):
        if getattr(args, name) is not None:
            raise UserError(f"--{name} is for videos that one process restores: leave it or --jobs out.")
    if args.board != [SIMULATOR]:
        raise loading.other_way("--jobs", args.board)
    settings = options.settings(args)
    if pyav.library() is None:
        terminal.say(f"{args.source} cannot be cut without PyAV ({pyav.INSTALL}); it is restored in one piece.")
    elif args.jobs > 1:
        from edge.archive import video

        quality = args.quality or shipped.FAST
        recipe = Recipe(args.bundle or shipped.of_task(args.task, quality), args.task, _threads(args), args.tile)
        parts = video.open_parts(path, settings, recipe, args.jobs)
        if parts is not None:
            source, reader = parts
            return source, reader.result
        terminal.say(f"{args.source} is too short or has no key frames to be cut at; it is restored in one piece.")
    return sources.open_source(args.source, args.task, settings), None


def _threads(args: argparse.Namespace) -> int | None:
    """Of each process: together as many as there are cores, unless it is said."""
    if args.threads is not None or args.jobs is None or args.jobs == 1:
        threads: int | None = args.threads
        return threads
    return max(1, len(os.sched_getaffinity(0)) // int(args.jobs))


def _check_outputs(args: argparse.Namespace, bundle: Path) -> None:
    """Raises UserError for outputs that cannot be."""
    taken = sinks.Inputs(bundle)
    if args.out is None:
        if args.skip_existing:
            raise UserError("--skip-existing leaves out what is in the folder of --out: give both.")
    elif terminal.is_url(args.out):
        place_of(args.out)
        if args.out.lower().startswith("http"):
            raise UserError(f"--out {args.out} cannot be written: a web server only reads out what is there.")
    else:
        path = Path(args.out).expanduser()
        if path.suffix and not args.out.endswith(("/", os.sep)) and not sinks.is_folder(path):
            raise UserError(
                f"--out {args.out} is one file, and the images of an archive go into a folder;"
                " end a folder's name with /."
            )
        sinks.check_output(path / sinks.frame_name(1), taken)
    if args.stats is not None and str(args.stats) != "-":
        if terminal.is_url(str(args.stats)):
            raise UserError(f"--stats {args.stats} is an address; give the name of a file.")
        sinks.check_output(args.stats, taken)


def _cluster(args: argparse.Namespace, recipe: Recipe, bundle: Bundle, progress: Progress) -> Cluster:
    """Raises UserError."""
    for option, given in (("--jobs", args.jobs is not None), ("--board", args.board != [SIMULATOR]),
                          ("--power", args.power not in (None, "none"))):  # fmt: skip
        if given:
            raise UserError(f"{option} is for this machine alone, and --cluster for many: leave one of them out.")
    from edge.cluster.client import Cluster
    from edge.cluster.where import parse_where

    where = parse_where(args.cluster)
    if where.exposed:
        progress.say(
            f"{where.scheduler} is another machine, and without certificates everybody who reaches it can run programs "
            "there; a FILE.yaml says which to use (edge/FLEETS.md)"
        )
    return Cluster(where, recipe, bundle.content_hash, args.out, progress.say)


def _workers(
    args: argparse.Namespace, recipe: Recipe, stop: Stop, stack: contextlib.ExitStack
) -> tuple[Workers, Recording, BoardNetwork | None]:
    """What restores, what measures its power, and the boards if it is them. Raises UserError."""
    power = args.power or "none"
    if args.board == [SIMULATOR]:
        recorded = loading.open_recording(power, None)
        if args.jobs is not None and args.jobs > 1:
            return Pool(recipe, args.jobs), recorded, None

        def warm() -> Restorer:
            with stop.leaving(lambda: None):
                return Restorer(recipe)

        return Serial(warm, stop), recorded, None
    if args.jobs is not None:
        raise loading.other_way("--jobs", args.board)
    board = loading.open_boards(args, recipe.bundle, alone=False)
    stack.callback(board.close)
    return Serial(lambda: Restorer(recipe, board), stop, board.ahead), loading.open_recording(power, board), board


def _conclude(
    args: argparse.Namespace,
    account: Account,
    name: str,
    bundle: Bundle,
    recorded: Recording,
    elsewhere: BoardNetwork | Cluster | None,
) -> None:
    """Writes and prints what there is to say at the end. Raises UserError."""
    backend = "numba" if elsewhere is None else elsewhere.backend
    figures: dict[str, Any] = {"task": bundle.task, "bundle": bundle.content_hash, "backend": backend, "frames": 0}
    lines = []
    if account.statistics:
        figures = account.statistics.report(task=bundle.task, bundle_hash=bundle.content_hash, backend=backend)
        figures["network"] = name
        figures |= recorded.report(account.restored)
        lines.append(summary.frames_line(figures))
        if elsewhere is not None:
            figures |= elsewhere.report()
            lines += summary.workers_lines(figures) if "workers" in figures else summary.board_lines(figures)
        if figures["power"] is not None:
            lines.append(summary.power_line(figures["power"]))
        elif recorded.source:
            terminal.say(f"power was not measured: {figures['power_reason']}")
    figures |= account.report()
    to_stdout = str(args.stats) == "-"
    if args.stats is not None and not to_stdout:
        sinks.write_atomically(args.stats, (json.dumps(figures, indent=2) + "\n").encode())
    lines.append(account.line())
    if args.out is None:
        lines.append("nothing was stored: give --out FOLDER to keep the results")
    elif account.restored:
        lines.append(f"wrote {account.restored} image{'s' * (account.restored != 1)} in {args.out}")
    summary.tell(lines, quiet=args.quiet, beside_stats=to_stdout)
