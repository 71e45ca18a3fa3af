"""`python -m tests.edge.booted FOLDER`: packaging's unit under a real systemd: started, watched, killed and stopped.

FOLDER gets a Debian with this project in it, unless it is there from before; it is booted by systemd-nspawn, and sees
of this machine nothing but the network. Its camera is an HTTP server here. Prints what systemd says at each step; ends
with 1 where the service is not ready, is not started anew when the camera freezes or it is killed, takes more than 3
s to stop, or where a recording cannot be played. For root, with mmdebstrap, systemd-container and git.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av

from tests.edge.servers import free_port

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = "systemd,systemd-sysv,dbus,ca-certificates,python3,python3-venv"
ENVIRONMENT = Path("opt/edge-restore")
RECORDINGS = Path("var/lib/private/edge-restore")
READY_S = 900.0  # kernels may have to be compiled
WATCHDOG_S = 20
STOPS_S = 3.0
CONFIGURATION = """\
source = "http://127.0.0.1:{port}/s.mjpg"
task = "denoise"
bundle = "denoise-camera"
timeout = 5
reconnect = "forever"
out = "/var/lib/edge-restore/camera.mp4"
segment = 600
keep = 144
"""


def make(folder: Path) -> None:
    """A Debian with a virtual environment in it."""
    subprocess.run(["mmdebstrap", "--variant=minbase", f"--include={PACKAGES}", "trixie", folder], check=True)
    subprocess.run(["chroot", folder, "python3", "-m", "venv", f"/{ENVIRONMENT}"], check=True)


def install(folder: Path, port: int) -> None:
    """The project as it is committed, its unit, and a configuration."""
    with tempfile.TemporaryDirectory(dir=folder / "root") as name:
        source = Path(name)
        archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
        subprocess.run(["tar", "-x", "-C", source], input=archive, check=True)
        place, pip = f"/{source.relative_to(folder)}", ["chroot", folder, f"/{ENVIRONMENT}/bin/pip", "install", "-q"]
        subprocess.run([*pip, f"{place}[video]"], check=True)
        subprocess.run([*pip, "--force-reinstall", "--no-deps", place], check=True)  # it may have been there
    units = folder / "etc/systemd/system"
    shutil.copy(ROOT / "packaging/edge-restore.service", units)
    (units / "edge-restore.service.d").mkdir(exist_ok=True)
    (units / "edge-restore.service.d/soon.conf").write_text(f"[Service]\nWatchdogSec={WATCHDOG_S}\n")
    (folder / "etc/edge-restore.toml").write_text(CONFIGURATION.format(port=port))
    shutil.rmtree(folder / RECORDINGS, ignore_errors=True)


@contextlib.contextmanager
def booted(folder: Path) -> Iterator[Callable[..., str]]:
    """The system in `folder`; what is yielded runs a command in it and returns what that printed."""
    environment = {**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}
    command = ["systemd-nspawn", "--register=no", "--keep-unit", "--quiet", "--boot", f"--directory={folder}"]
    machine = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    children = Path(f"/proc/{machine.pid}/task/{machine.pid}/children")

    def inside(*words: str) -> str:
        init = children.read_text().split()[0]
        enter = ["nsenter", f"--target={init}", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]
        return subprocess.run([*enter, *words], capture_output=True, text=True).stdout.strip()

    try:
        until = time.monotonic() + READY_S
        while not children.read_text().strip() or inside("systemctl", "is-system-running") in ("", "offline"):
            assert machine.poll() is None and time.monotonic() < until, "the system does not boot"
            time.sleep(1)
        yield inside
    finally:
        machine.terminate()  # which systemd-nspawn makes an orderly end of
        machine.wait()


def main() -> int:
    folder, port = Path(sys.argv[1]).resolve(), free_port()
    if not folder.exists():
        make(folder)
    install(folder, port)
    camera = subprocess.Popen([sys.executable, "-m", "tests.edge.servers", str(port)], cwd=ROOT)
    wrong = []
    try:
        with booted(folder) as inside:

            def told(name: str) -> str:
                return inside("systemctl", "show", "edge-restore", f"--property={name}", "--value")

            def wait_for(what: str, pictures: bool, seconds: float) -> None:
                """Until the service is active, or no longer, and pictures come; said, and wrong if it takes longer."""
                begin = time.monotonic()
                while (told("ActiveState") == "active" and "pictures" in told("StatusText")) != pictures:
                    if time.monotonic() - begin > seconds:
                        wrong.append(what)
                        break
                    time.sleep(0.5)
                print(f"{what}: {time.monotonic() - begin:.1f} s; {told('ActiveState')}, {told('StatusText')!r}, last"
                      f" result {told('Result')}, restarts {told('NRestarts')}", flush=True)  # fmt: skip

            inside("systemctl", "enable", "--now", "--no-block", "edge-restore")
            wait_for("pictures come after the start", True, READY_S)
            camera.send_signal(signal.SIGSTOP)
            wait_for("ended because none come", False, WATCHDOG_S + 10)
            camera.send_signal(signal.SIGCONT)
            wait_for("and again", True, 120)
            inside("systemctl", "kill", "--signal=KILL", "edge-restore")
            wait_for("killed", False, 10)
            wait_for("and again", True, 120)
            begin = time.monotonic()
            inside("systemctl", "stop", "edge-restore")
            seconds = time.monotonic() - begin
            print(f"stopped: {seconds:.1f} s; {told('ActiveState')}, exit code {told('ExecMainStatus')}")
            if seconds > STOPS_S or told("ExecMainStatus") != "130":
                wrong.append("stop")
    finally:
        camera.kill()
    for path in sorted((folder / RECORDINGS).iterdir()):
        with av.open(str(path)) as recording:
            frames = sum(1 for _ in recording.decode(video=0))
        print(f"{path.name}: {frames} frames")
        if not frames or path.name.startswith("."):
            wrong.append(path.name)
    print(f"wrong: {', '.join(wrong)}" if wrong else "all is as it should be")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
