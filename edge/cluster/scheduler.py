"""`python -m edge.cluster.scheduler FILE.json`: a scheduler for the workers of one machine, until its input ends.

FILE.json: {address: HOST:PORT, certificates: [ca, cert, key], dashboard: HOST:PORT or ""}.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import dask
from distributed import Scheduler

from edge.cluster.where import Certificates, quieten
from firmware_bridge.server import parse_address

ALLOWED_FAILURES = 5  # workers that a batch may bring down before it is given back


async def main(settings: Path) -> None:
    given = json.loads(settings.read_text())
    host, port = parse_address(given["address"])
    quieten()
    dask.config.set({"distributed.scheduler.allowed-failures": ALLOWED_FAILURES})
    async with Scheduler(
        host=host,
        port=port,
        protocol="tls",
        security=Certificates(*map(Path, given["certificates"])).security(),
        dashboard=bool(given["dashboard"]),
        dashboard_address=given["dashboard"] or None,
    ):
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
