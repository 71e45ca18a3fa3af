"""What the kernel says of other processes."""

from __future__ import annotations

import os
from pathlib import Path


def spent(process: int) -> float:
    """Seconds of the processor that a process has had, all its threads together; also of one that has just ended."""
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
