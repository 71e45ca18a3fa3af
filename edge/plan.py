"""`python -m edge.plan`: how many machines and hours an archive takes, from what was measured.

    python -m edge.plan --pictures 1e6 1e9 --megapixels 2 --machines 1 10 100 --cores 16
    python -m edge.plan --measure --json costs.json    measures what a picture costs on this machine, with one worker
                                                       and with two, and says how far off the prediction is
    python -m edge.plan --costs costs.json ...         predicts from that

Predictions are checked twice: against runs on this machine (--measure), and beyond it against a simulation, whose
figure stands beside each (`edge.cluster.simulation`).
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import sys
import tempfile
import time
import typing
from pathlib import Path

from edge import shipped, terminal
from edge.cluster.simulation import Costs, Job, predict, simulate, size_of_batch
from edge.errors import UserError
from simulator.files import reason

# python -m edge.plan --measure --count 2400, `denoise`, two cores of an x86-64 with AVX-512 that did nothing else;
# the bytes are those of a JPEG read and a PNG written.
MEASURED = Costs(picture_s=0.0015, megapixel_s=0.090, client_s=0.00008, batch_s=0.0041, start_s=1.2, bytes_a_pixel=3.0)
_LEAST = (1e-9, 1e-9, 1e-9, 1e-9, 0.0, 0.0, 0.0, 1e-9)  # of costs, in the order of their names
LEAST_COUNT = 10  # pictures of a measured run
MOST_WORKERS = 100_000  # of a client, which the simulation follows one by one
SIZES = (96, 384)  # pixels a side of the pictures that are measured
_PHOTOGRAPH = Path(__file__).parent / "samples" / "clean.png"  # what they are parts of
_SIGMA = 15.0  # grey levels of noise in them


@dataclasses.dataclass(frozen=True)
class Run:
    """One measured run. start_s: until the first picture was there; the others count from then until the last was.

    seconds: of which those that other programs took of the cores are left out. wall_s: with them. task_s, workers_s,
    client_s, scheduler_s: of a core: in batches, in all of the workers' processes, in the others.
    """

    workers: int
    size: int
    pictures: int
    batches: int
    start_s: float
    seconds: float
    wall_s: float
    task_s: float
    workers_s: float
    client_s: float
    scheduler_s: float
    bytes_a_pixel: float


def main(argv: list[str] | None = None) -> int:
    """0; 1 if a prediction is off by more than --most-off; 2 for what cannot be done."""
    parser = argparse.ArgumentParser(
        prog="python -m edge.plan",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--pictures", metavar="N", type=_count, nargs="+", default=[10**6, 10**9])
    parser.add_argument("--megapixels", metavar="N", type=_number, default=2.0, help="of a picture; default: 2")
    parser.add_argument("--machines", metavar="N", type=_count, nargs="+", default=[1, 10, 100])
    parser.add_argument("--cores", metavar="N", type=_count, default=16, help="of a machine; default: 16")
    parser.add_argument("--clients", metavar="N", type=_count, default=1, help="shares of the list; default: 1")
    parser.add_argument("--store", metavar="MB/S", type=_number, default=1000.0, help="of the store; default: 1000")
    parser.add_argument("--failures", metavar="HOURS", type=_number, default=1000.0, help="between those of a worker")
    parser.add_argument("--costs", metavar="FILE.json", type=Path, help="as --measure --json wrote it")
    parser.add_argument("--measure", action="store_true", help="run here, with --workers, and compare")
    parser.add_argument("--workers", metavar="N", type=_count, nargs="+", default=[1, 2], help="of --measure")
    parser.add_argument("--count", metavar="N", type=_count, default=200, help="pictures of --measure; default: 200")
    parser.add_argument("--bundle", metavar="NAME", default="denoise", help="of --measure; default: denoise")
    parser.add_argument("--json", metavar="FILE", type=Path, help="what --measure found")
    parser.add_argument("--most-off", metavar="SHARE", type=_number, default=0.2, help="default: 0.2")
    args = parser.parse_args(argv)
    try:
        if args.json is not None and not args.measure:
            raise UserError("--json is for what --measure finds: give both, or leave it out.")
        code = 0
        if args.measure:
            code = _measure(args)
        else:
            _print_plan(args, MEASURED if args.costs is None else _read(args.costs))
        sys.stdout.flush()
    except UserError as error:
        print(f"edge.plan: {terminal.printable(str(error))}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `| head` has seen enough
        terminal.silence(sys.stdout, 1)
        return 0
    return code


def _print_plan(args: argparse.Namespace, costs: Costs) -> None:
    jobs = []
    for pictures in args.pictures:
        for machines in args.machines:
            job = Job(
                pictures,
                args.megapixels,
                machines,
                args.cores,
                clients=min(args.clients, machines),
                store_bytes_s=args.store * 1e6,
                failures_h=args.failures,
            )
            jobs.append(job)
            if job.in_all > MOST_WORKERS * job.clients:
                raise UserError(f"{job.in_all} workers: of each client at most {MOST_WORKERS} are simulated.")
            if size_of_batch(costs, job) * costs.worker_s(job.megapixels) > args.failures * 3600:
                raise UserError(f"a worker that fails every {args.failures:g} hours does not get a batch done.")
    many = "s" * (args.clients != 1)
    print(f"{args.megapixels:g} megapixels, {args.cores} cores a machine, {args.clients} client{many}\n")
    print("| pictures | machines | hours | narrowest | simulated | off |\n|---|---|---|---|---|---|")
    for job in jobs:
        predicted, simulated = predict(costs, job), simulate(costs, job)
        print(
            f"| {job.pictures:,} | {job.machines:,} | {_hours(predicted.seconds)} | {predicted.narrowest} "
            f"| {_hours(simulated)} | {_off(predicted.seconds, simulated)} |",
            flush=True,
        )


def _measure(args: argparse.Namespace) -> int:
    cores = len(os.sched_getaffinity(0))
    runs = []
    if args.count < LEAST_COUNT:
        raise UserError(f"--count {args.count}: at least {LEAST_COUNT} pictures show what one costs.")
    if args.json is not None and not args.json.parent.is_dir():
        raise UserError(f"{args.json} cannot be written: its folder is not there.")
    for workers in args.workers:
        for size in SIZES:
            run = run_here(shipped.named(args.bundle), args.count, size, workers)
            print(f"{run.pictures} pictures of {size}x{size}, {workers} workers: {run.wall_s:.2f} s", flush=True)
            runs.append(run)
    costs = fit([run for run in runs if run.workers == runs[0].workers])
    print(
        f"\na picture: {costs.picture_s * 1e3:.2f} ms and {costs.megapixel_s * 1e3:.0f} ms a megapixel of a worker's "
        f"core, {costs.client_s * 1e3:.2f} ms of the client's; a batch: {costs.handed_s * 1e3:.1f} ms of the worker's, "
        f"{costs.batch_s * 1e3:.1f} ms of the scheduler's; a worker is there after {costs.start_s:.1f} s\n"
    )
    print(f"| workers on {cores} cores | size | measured | predicted | off | simulated | off |")
    print("|---|---|---|---|---|---|---|")
    worst = 0.0
    for run in runs:
        job = Job(run.pictures, run.size**2 / 1e6, 1, cores, workers=run.workers, together=True)
        predicted, simulated = predict(costs, job).seconds - costs.start_s, simulate(costs, job) - costs.start_s
        worst = max(worst, abs(predicted / run.seconds - 1))
        print(
            f"| {run.workers} | {run.size}x{run.size} | {run.seconds:.2f} s | {predicted:.2f} s "
            f"| {_off(predicted, run.seconds)} | {simulated:.2f} s | {_off(simulated, run.seconds)} |"
        )
    others = 1 - sum(run.seconds for run in runs) / sum(run.wall_s for run in runs)
    print(f"\nother programs took {others:.0%} of the cores meanwhile, which is left out of what was measured")
    for size in SIZES:
        by = {run.workers: run.seconds for run in runs if run.size == size}
        if {1, 2} <= set(by):
            print(f"{size}x{size}: two workers are {by[1] / by[2]:.2f} times as fast as one, on {cores} cores")
    if args.json is not None:
        found = {"costs": dataclasses.asdict(costs), "cores": cores, "runs": [dataclasses.asdict(run) for run in runs]}
        try:
            args.json.write_text(json.dumps(found, indent=2) + "\n")
        except OSError as error:
            raise UserError(f"{args.json} cannot be written: {reason(error)}.") from error
    return int(worst > args.most_off)


def run_here(bundle: Path, pictures: int, size: int, workers: int) -> Run:
    """A run over parts of a photograph with noise, by so many workers of this machine, of one thread each.

    Raises UserError.
    """
    import cv2
    import numpy as np

    from edge.archive.listing import Listing
    from edge.archive.work import Done, Recipe
    from edge.cluster.client import Cluster
    from edge.cluster.where import Where
    from edge.images import read_image
    from simulator.bundle import BundleError, read_bundle

    try:
        content_hash = read_bundle(bundle).content_hash
    except BundleError as error:
        raise UserError(f"{error}.") from error
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "in"), Path(folder, "out")
        source.mkdir()
        random = np.random.default_rng(size)
        photograph = read_image(_PHOTOGRAPH).pixels
        height, width = photograph.shape[:2]
        photograph = np.tile(photograph, (-(-size // height) + 1, -(-size // width) + 1, 1))
        for number in range(pictures):
            row, column = random.integers(height), random.integers(width)
            part = np.rot90(photograph[row : row + size, column : column + size], number % 4)
            noisy = np.clip(part + random.normal(0, _SIGMA, part.shape), 0, 255).astype(np.uint8)
            cv2.imwrite(str(source / f"{number:06d}.png"), noisy)
        recipe = Recipe(bundle, threads=1)  # one worker alone would take all cores otherwise
        cluster = Cluster(Where(local=workers, dashboard=""), recipe, content_hash, str(out), terminal.say)
        clocks: list[_Clocks] = []
        count = 0

        def arrived(one: Done) -> None:
            nonlocal count
            count += 1
            if count in (1, pictures):
                clocks.append(_Clocks.now(cluster.processes, cluster.cpu_s))

        begin = time.monotonic()
        with contextlib.closing(cluster.results(iter(Listing([str(source)], str(out))), arrived)) as results:
            for _ in results:
                pass
        bytes_in_all = sum(path.stat().st_size for path in [*source.iterdir(), *out.glob("*.png")])
    if len(clocks) != 2:
        raise UserError(f"{count} of {pictures} pictures came back.")
    first, last = clocks
    spent = {name: getattr(last, name) - getattr(first, name) for name in ("wall_s", "idle_s", *_Clocks.OURS)}
    cores = len(os.sched_getaffinity(0))
    others = max(0.0, cores * spent["wall_s"] - spent["idle_s"] - sum(spent[name] for name in _Clocks.OURS))
    return Run(
        workers,
        size,
        pictures - 1,
        cluster.batches - 1,
        first.wall_s - begin,
        spent["wall_s"] - others / cores,
        spent["wall_s"],
        last.task_s - first.task_s,
        spent["workers_s"],
        spent["client_s"],
        spent["scheduler_s"],
        bytes_in_all / (pictures * size * size),
    )


@dataclasses.dataclass(frozen=True)
class _Clocks:
    """Seconds: of the wall, of the cores that this process may use doing nothing, and of cores used by each part."""

    wall_s: float
    idle_s: float
    workers_s: float
    client_s: float
    scheduler_s: float
    task_s: float
    OURS: typing.ClassVar = ("workers_s", "client_s", "scheduler_s")

    @staticmethod
    def now(processes: dict[str, int], task_s: float) -> _Clocks:
        import psutil

        def of_all(process: psutil.Process) -> float:
            return float(sum(sum(each.cpu_times()[:2]) for each in [process, *process.children(recursive=True)]))

        cores = psutil.cpu_times(percpu=True)
        idle = sum(cores[core].idle + getattr(cores[core], "iowait", 0.0) for core in os.sched_getaffinity(0))
        workers, scheduler = (of_all(psutil.Process(processes[name])) for name in ("workers", "scheduler"))
        return _Clocks(time.monotonic(), idle, workers, time.process_time(), scheduler, task_s)


def fit(runs: list[Run]) -> Costs:
    """What they cost, from runs of two sizes or more."""
    import numpy as np

    megapixels = np.array([run.size**2 / 1e6 for run in runs])
    each = np.array([run.task_s / run.pictures for run in runs])
    slope, base = np.polyfit(megapixels, each, 1)
    return Costs(
        picture_s=max(float(base), 1e-4),
        megapixel_s=max(float(slope), 1e-4),
        client_s=float(np.mean([run.client_s / run.pictures for run in runs])),
        batch_s=float(np.mean([run.scheduler_s / run.batches for run in runs])),
        start_s=float(np.mean([run.start_s for run in runs])),
        handed_s=float(np.mean([max(0.0, run.workers_s - run.task_s) / run.batches for run in runs])),
        bytes_a_pixel=float(np.mean([run.bytes_a_pixel for run in runs])),
    )


def _hours(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:,.0f}" if hours >= 1000 else f"{hours:.3g}"


def _off(found: float, right: float) -> str:
    return f"{round(found / right - 1, 2) + 0.0:+.0%}"  # + 0.0: never -0%


def _read(path: Path) -> Costs:
    try:
        costs = Costs(**json.loads(path.read_text())["costs"])
        sound = all(least <= cost <= 1e6 for cost, least in zip(dataclasses.astuple(costs), _LEAST, strict=True))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {reason(error)}.") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is not what --measure --json writes.") from error
    if not sound:
        raise UserError(f"{path} holds costs that are not seconds above 0.")
    return costs


def _count(text: str) -> int:
    number = _number(text)
    if number != int(number):
        raise argparse.ArgumentTypeError(f"{text} is not a whole number")
    return int(number)


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e15:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return number


if __name__ == "__main__":
    sys.exit(main())
