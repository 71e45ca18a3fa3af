"""`python -m edge.cluster.process FILE.yaml|HOST:PORT FOLDER`: one worker of Dask, until it loses its scheduler.

Started by `edge.worker`, and again when it has ended. It says "ready" when it takes work, and ends with its input.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading

from distributed import Worker

from edge import terminal
from edge.cluster.task import warm_up
from edge.cluster.where import Where, parse_where, spare
from firmware_bridge.server import is_loopback, parse_address

CONNECT_S = 10.0
NO_SCHEDULER = 3  # the exit code when none is there


def main(where: Where, folder: str) -> int:
    threading.Thread(target=_end_with_input, daemon=True).start()
    warm_up()
    try:
        asyncio.run(_serve(where, folder))
    except (OSError, TimeoutError, asyncio.TimeoutError, RuntimeError):  # as Dask tells that nobody answers
        return NO_SCHEDULER
    return 0


async def _serve(where: Where, folder: str) -> None:
    host = parse_address(where.scheduler)[0]
    spare()
    logging.disable(logging.CRITICAL)  # what matters is said in sentences
    async with Worker(
        where.address,
        nthreads=1,
        host=host if is_loopback(host) else None,
        protocol="tls" if where.certificates else "tcp",
        security=where.certificates.security() if where.certificates else None,
        local_directory=folder,
        death_timeout=CONNECT_S,
        memory_limit=0,  # nothing that lasts is kept in it
        dashboard=False,
    ) as worker:
        print("ready", flush=True)
        await worker.finished()


def _end_with_input() -> None:
    terminal.wait_for_end_of_input()
    os._exit(0)  # what is half written has no name yet


if __name__ == "__main__":
    sys.exit(main(parse_where(sys.argv[1]), sys.argv[2]))
