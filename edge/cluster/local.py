"""A scheduler and workers on this machine, for one run, started anew where they die."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType

from edge.cluster.certificates import make_certificates
from edge.cluster.where import Where

HOST = "127.0.0.1"
END_S = 5.0


class Local:
    """A context manager. where: of the scheduler. Other users of this machine are kept out by a certificate that is
    made for the run, in a folder that only its owner can read."""

    def __init__(self, given: Where, threads: int | None = None) -> None:
        """threads: of each worker; None: all together one for each core. Raises UserError."""
        self._files = contextlib.ExitStack()
        self._folder = Path(self._files.enter_context(tempfile.TemporaryDirectory(prefix="edge-cluster-")))
        certificates = make_certificates(self._folder)
        self.dashboard = given.dashboard != "" and importlib.util.find_spec("bokeh") is not None
        address = f"{HOST}:{_free_port()}"
        shown = ["--dashboard", given.dashboard or "none"] if given.dashboard is not None else []
        names = {"ca": "ca.pem", "cert": "cert.pem", "key": "key.pem"}
        (self._folder / "cluster.yaml").write_text(json.dumps({"scheduler": address, "tls": names}))  # JSON is YAML
        self.where = Where(address, certificates=certificates, wait_s=given.wait_s)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        each = threads or max(1, cores // given.local)
        self._commands = {
            "scheduler": ["edge.cluster.scheduler", str(self._folder / "cluster.yaml"), *shown, "--with-input"],
            "workers": [
                *("edge.worker", str(self._folder / "cluster.yaml"), "--workers", str(given.local)),
                *("--threads", str(each), "--with-input"),
            ],
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Local:
        self.keep_up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for process in reversed(self.processes.values()):
            process.terminate()
            assert process.stdin is not None
            process.stdin.close()  # which ends it, too
        for process in self.processes.values():
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._files.close()

    def keep_up(self) -> list[str]:
        """Starts what is not there; returns the names of those that had died."""
        died = []
        for name, arguments in self._commands.items():
            process = self.processes.get(name)
            if process is not None and process.poll() is None:
                continue
            if process is not None:
                died.append(name)
                assert process.stdin is not None
                process.stdin.close()
            root = Path(__file__).resolve().parents[2]
            path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                env={**os.environ, "PYTHONPATH": path},
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the run, which then ends them
            )
        return died


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as server:
        port: int = server.getsockname()[1]
    return port
