"""How pictures and journals are called."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from datetime import datetime, timezone


def in_shard(name: str, number: int, count: int) -> bool:
    """Whether a picture is in the share with that number, from 1, of so many; its name alone decides."""
    hashed = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(hashed, "big") % count == number - 1


def common_folder(folders: list[str]) -> str:
    """The longest path or address in which all of them lie, without a slash at its end."""
    parts = [folder.rstrip("/").split("/") for folder in folders]
    shared = []
    for level in zip(*parts, strict=False):
        if len(set(level)) > 1:
            break
        shared.append(level[0])
    return "/".join(shared)


def below(address: str, folder: str) -> bool:
    """Whether it lies in the folder, or is it."""
    return address == folder or address.startswith(folder.rstrip("/") + "/")


def upwards(address: str) -> Iterator[str]:
    """It, and all the folders it is in, each without a slash at its end."""
    address = address.rstrip("/")
    while True:
        yield address
        if "/" not in address:
            return
        address = address.rpartition("/")[0]


def log_name() -> str:
    """Not in use, and behind those before in the alphabet."""
    return f"{datetime.now(timezone.utc):%Y%m%dT%H%M%S.%f}Z-{secrets.token_hex(4)}.jsonl"
