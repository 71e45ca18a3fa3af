"""`python -m edge.worker HOST:PORT`: this machine restores pictures for `edge-restore --cluster` elsewhere.

It starts as many processes as there are cores, each with a warm network, takes batches from the scheduler there, waits
for it where it is gone, and ends with Ctrl-C. Whoever reaches a scheduler or a worker of Dask can run any program
there: without certificates it connects to this machine's own addresses only, unless --insecure is given.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
import tempfile
from typing import TYPE_CHECKING

from edge import terminal
from edge.cluster.task import THREADS
from edge.cluster.where import Where, parse_where
from edge.errors import UserError
from firmware_bridge.server import is_loopback, parse_address

if TYPE_CHECKING:
    from distributed import Nanny

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 8.0  # before a scheduler that is gone is tried again
CONNECT_S = 10.0


def main(argv: list[str] | None = None) -> int:
    """Serves until Ctrl-C or SIGTERM, then 0; 2 if it cannot."""
    parser = argparse.ArgumentParser(prog="python -m edge.worker", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("cluster", metavar="HOST:PORT|FILE.yaml", help="the scheduler, as --cluster names it")
    parser.add_argument("--workers", metavar="N", type=_positive, help="processes; default: one per core")
    parser.add_argument("--threads", metavar="N", type=_positive, default=1, help="of each process; default: 1")
    parser.add_argument(
        "--insecure", action="store_true", help="connect to another machine without certificates, see the documentation"
    )
    parser.add_argument("--with-input", action="store_true", help="end when standard input does")
    args = parser.parse_args(argv)
    try:
        where = parse_where(args.cluster)
        if where.local:
            raise UserError("a worker belongs to a scheduler: give its HOST:PORT, or a FILE.yaml that has it.")
        if where.exposed and not args.insecure:
            raise UserError(
                f"{where.scheduler} is another machine, and without certificates whoever reaches it or this worker can "
                "run any program on both: give a FILE.yaml with tls, or --insecure in a network where nobody else is."
            )
        try:
            import distributed  # noqa: F401
        except ImportError as error:
            raise UserError(
                "a worker needs Dask, which is not installed: pip install 'spikerir-edge[cluster]'."
            ) from error
        count = args.workers or len(os.sched_getaffinity(0))
        with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
            asyncio.run(_serve(where, count, args.threads, args.with_input))
    except UserError as error:
        print(f"edge.worker: {terminal.printable(str(error))}", file=sys.stderr)
        return 2
    print("edge.worker: ended", flush=True)
    return 0


async def _serve(where: Where, count: int, threads: int, with_input: bool) -> None:
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    loop = asyncio.get_running_loop()
    serving = asyncio.current_task()
    assert serving is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, serving.cancel)
    if with_input:
        loop.run_in_executor(None, sys.stdin.read).add_done_callback(lambda _: serving.cancel())
    wait_s, told = FIRST_WAIT_S, False
    with tempfile.TemporaryDirectory(prefix="edge-worker-") as folder:
        while True:
            try:
                async with contextlib.AsyncExitStack() as stack:
                    nannies = [_nanny(where, threads, folder) for _ in range(count)]
                    for nanny in nannies:
                        stack.push_async_callback(nanny.close, timeout=1)
                    await asyncio.gather(*nannies)
                    print(f"edge.worker: {count} processes work for {where.scheduler}", flush=True)
                    wait_s, told = FIRST_WAIT_S, False
                    await asyncio.wait(
                        [asyncio.ensure_future(nanny.finished()) for nanny in nannies],
                        return_when=asyncio.FIRST_COMPLETED,
                    )
            except (OSError, TimeoutError, RuntimeError, asyncio.TimeoutError):
                pass
            if not told:
                told = True
                print(f"edge.worker: {where.scheduler} is not there; waiting for it", flush=True)
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)


def _nanny(where: Where, threads: int, folder: str) -> Nanny:
    from distributed import Nanny

    host = parse_address(where.scheduler)[0]
    return Nanny(
        where.address,
        nthreads=1,
        host=host if is_loopback(host) else None,
        protocol="tls" if where.certificates else "tcp",
        security=where.certificates.security() if where.certificates else None,
        local_directory=folder,
        death_timeout=CONNECT_S,
        silence_logs=logging.CRITICAL,
        preload=["edge.cluster.task"],
        dashboard=False,
        env={THREADS: str(threads), "OMP_NUM_THREADS": "1"},
    )


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
