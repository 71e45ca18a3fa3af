"""`python -m tests.edge.guest [--loopback] COMMAND...`: a command in an emulated machine that has a V4L2 camera.

The camera is that of the kernel's driver vivid, which draws what it films: /dev/video0, and /dev/video1 is its device
for output. --loopback: /dev/video9 is v4l2loopback's, whose module is built for that kernel, with gcc and make. The
machine sees the files of this one, read only but for /tmp, and ends with the command, whose exit code this is. Needs
qemu-system-x86 and busybox-static; Debian's kernel is downloaded, not installed. Everything is emulated, so it is slow:
the engine's kernels would take minutes to compile, and --board native, once it is built on this machine, does without.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUSYBOX = Path("/bin/busybox")
WANTED = ("virtio_pci", "9pnet_virtio", "9p", "vivid")
LOOPBACK = "video_nr=9 exclusive_caps=1 card_label=edge-restore"  # as browsers want it
INIT = """\
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs dev /dev
for module in {modules}; do /bin/busybox insmod /modules/$module.ko; done
/bin/busybox test ! -e /modules/v4l2loopback.ko || /bin/busybox insmod /modules/v4l2loopback.ko {loopback}
/bin/busybox mount -t 9p -o trans=virtio,version=9p2000.L,msize=1048576,cache=loose,ro host /host
for name in proc sys dev; do /bin/busybox mount -o bind /$name /host/$name; done
/bin/busybox mount -t tmpfs tmp /host/tmp
/bin/busybox ip link set lo up
/bin/busybox chroot /host /bin/sh -c {command}
echo "exit code $?"
/bin/busybox poweroff -f
"""


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kernel, modules = unpacked_kernel(folder)
        looped = sys.argv[1:2] == ["--loopback"]
        content = {"init": init(modules, sys.argv[1 + looped :]).encode(), "bin/busybox": BUSYBOX.read_bytes()}
        if looped:
            content["modules/v4l2loopback.ko"] = built_loopback(folder, kernel.name.removeprefix("vmlinuz-"))
        content |= {f"modules/{module.name}": module.read_bytes() for module in modules}
        (folder / "initramfs").write_bytes(archive(content, ("proc", "sys", "dev", "host", "bin", "modules")))
        command = ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "2048", "-smp", "1", "-nographic"]
        command += ["-no-reboot", "-nic", "none", "-kernel", str(kernel), "-initrd", str(folder / "initramfs")]
        command += ["-append", "console=ttyS0 quiet panic=-1 no_timer_check", "-virtfs"]
        command += ["local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"]
        code = 2
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as machine:
            assert machine.stdout is not None
            for line in machine.stdout:
                if ended := re.fullmatch(r"exit code (\d+)\s*", line):
                    code = int(ended[1])
                else:
                    print(line, end="", flush=True)
    return code


def unpacked_kernel(folder: Path) -> tuple[Path, list[Path]]:
    """(the kernel, the modules that are wanted in the order in which they are loaded)."""
    package = next((name for name in needed("linux-image-amd64") if name.startswith("linux-image-")), None)
    assert package is not None, "there is no Debian kernel to be had"
    unpack(folder / "kernel", package)
    files = {module.stem.replace("-", "_"): module for module in folder.rglob("*.ko")}
    order: list[str] = []

    def load(name: str) -> None:
        if name in files and name not in order:
            for other in re.findall(rb"\0depends=([^\0]*)\0", files[name].read_bytes())[0].decode().split(","):
                load(other.replace("-", "_"))
            order.append(name)

    for name in WANTED:
        load(name)
    (kernel,) = (folder / "kernel" / "boot").glob("vmlinuz-*")
    return kernel, [files[name] for name in order]


def built_loopback(folder: Path, release: str) -> bytes:
    """The module v4l2loopback for the kernel of that release."""
    headers = f"linux-headers-{release}"
    others = [name for name in needed(headers) if name.startswith(("linux-headers-", "linux-kbuild-"))]
    unpack(folder / "build", headers, *others, "v4l2loopback-dkms")
    sources = folder / "build" / "usr" / "src"
    makefile = sources / headers / "Makefile"
    makefile.write_text(makefile.read_text().replace("/usr/src/", f"{sources}/"))
    (module,) = sources.glob("v4l2loopback-*")
    subprocess.run(["make", "-s", "-C", makefile.parent, f"M={module}", "modules"], check=True, stdout=sys.stderr)
    return (module / "v4l2loopback.ko").read_bytes()


def needed(package: str) -> list[str]:
    """The names of the Debian packages that `package` depends on."""
    said = subprocess.run(["apt-cache", "depends", package], capture_output=True, text=True, check=True).stdout
    return re.findall(r"^ +Depends: (\S+)", said, re.MULTILINE)


def unpack(folder: Path, *packages: str) -> None:
    """Downloads Debian packages and unpacks them into `folder`."""
    folder.mkdir()
    subprocess.run(["apt-get", "download", "-qq", *packages], cwd=folder, check=True)
    for deb in folder.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", deb, folder], check=True)


def init(modules: list[Path], command: list[str]) -> str:
    kept = {name: os.environ[name] for name in ("HOME", "PATH", "PYTHONPATH") if name in os.environ}
    settings = shlex.join(f"{name}={value}" for name, value in kept.items())
    line = f"cd {shlex.quote(str(ROOT))} && exec env {settings} {shlex.join(command)}"
    names = " ".join(module.stem for module in modules)
    return INIT.format(modules=names, loopback=LOOPBACK, command=shlex.quote(line))


def archive(content: dict[str, bytes], folders: tuple[str, ...]) -> bytes:
    """A cpio archive ("newc", of the kernel's buffer-format.rst) of files that may be run, and folders."""
    file = io.BytesIO()

    def put(name: str, mode: int, data: bytes) -> None:
        numbers = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        file.write(b"070701" + b"".join(b"%08x" % number for number in numbers) + name.encode() + b"\0")
        file.write(bytes(-file.tell() % 4) + data)
        file.write(bytes(-file.tell() % 4))

    for name in folders:
        put(name, 0o040755, b"")
    for name, data in content.items():
        put(name, 0o100755, data)
    put("TRAILER!!!", 0, b"")
    return file.getvalue()


if __name__ == "__main__":
    sys.exit(main())
