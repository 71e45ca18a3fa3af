"""`python -m edge.cluster.scheduler FILE.yaml`: the scheduler that the file names, for workers and runs elsewhere.

Dask's own (`dask scheduler`) does as well; this one keeps others out unless it is told not to, shows its dashboard to
its own machine alone, and says nothing. Ctrl-C ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import logging
import signal
import sys
import threading

from edge import terminal
from edge.cluster.where import Where, address, parse_where, refuse_exposed, spare
from edge.errors import UserError
from firmware_bridge.server import parse_address

ALLOWED_FAILURES = 5  # workers that a batch may bring down before it is given back
LOOPBACK = "127.0.0.1:0"


def main(argv: list[str] | None = None) -> int:
    """Serves until Ctrl-C or SIGTERM, then 0; 2 if it cannot."""
    parser = argparse.ArgumentParser(
        prog="python -m edge.cluster.scheduler", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("cluster", metavar="HOST:PORT|FILE.yaml", help="where it is, as --cluster names it")
    parser.add_argument("--listen", metavar="HOST:PORT", help="if that differs, as in a container")
    parser.add_argument(
        "--dashboard", metavar="HOST:PORT|none", help="shown by bokeh; default: to this machine, at any port"
    )
    parser.add_argument(
        "--insecure", action="store_true", help="let others in without certificates, see edge/FLEETS.md"
    )
    parser.add_argument("--with-input", action="store_true", help="end when standard input does")
    args = parser.parse_args(argv)
    try:
        where = parse_where(args.cluster)
        if where.local:
            raise UserError("a scheduler is at HOST:PORT, or in a FILE.yaml that has it.")
        if not args.insecure:
            refuse_exposed(where)
        if importlib.util.find_spec("distributed") is None:
            raise UserError("a scheduler needs Dask, which is not installed: pip install 'spikerir-edge[cluster]'.")
        listen = address(args.listen or where.scheduler, f"--listen {args.listen} is no HOST:PORT.")
        dashboard = "" if args.dashboard == "none" or not importlib.util.find_spec("bokeh") else LOOPBACK
        if args.dashboard and args.dashboard != "none":
            dashboard = address(args.dashboard, f"--dashboard {args.dashboard} is neither HOST:PORT nor none.")
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(_serve(where, listen, dashboard, args.with_input))
    except UserError as error:
        print(f"edge.cluster.scheduler: {terminal.printable(str(error))}", file=sys.stderr)
        return 2
    return 0


async def _serve(where: Where, listen: str, dashboard: str, with_input: bool) -> None:
    """Raises UserError where it cannot listen."""
    import dask
    from distributed import Scheduler

    spare()
    logging.disable(logging.CRITICAL)  # what matters is said in sentences
    dask.config.set({"distributed.scheduler.allowed-failures": ALLOWED_FAILURES})
    host, port = parse_address(listen)
    loop, serving = asyncio.get_running_loop(), asyncio.current_task()
    assert serving is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, serving.cancel)
    scheduler = Scheduler(
        host=host,
        port=port,
        protocol="tls" if where.certificates else "tcp",
        security=where.certificates.security() if where.certificates else None,
        dashboard=bool(dashboard),
        dashboard_address=dashboard or LOOPBACK,
    )
    try:
        await scheduler
    except (OSError, RuntimeError) as error:
        raise UserError(f"{listen} cannot be listened on: {error.__cause__ or error}.") from error
    async with scheduler:
        print(f"edge.cluster.scheduler: listening on {listen}", flush=True)
        if with_input:
            threading.Thread(target=_end_with_input, args=(loop, serving), daemon=True).start()
        await scheduler.finished()


def _end_with_input(loop: asyncio.AbstractEventLoop, serving: asyncio.Task[None]) -> None:
    terminal.wait_for_end_of_input()
    loop.call_soon_threadsafe(serving.cancel)


if __name__ == "__main__":
    sys.exit(main())
