"""What the command prints: every line fit to be shown, whatever names are in it and whatever the streams are like."""

from __future__ import annotations

import io
import os
import re
import sys
from typing import TextIO

_URL = re.compile(r"\b([a-z][a-z0-9+.-]+):/+(?:[^\s/?#]*@)?([^\s/?#]*)([^\s]*)", re.IGNORECASE)


def open_streams() -> None:
    """Gives the process the standard streams that it was started without, as with `2>&-`; what goes there is lost.

    Otherwise the next file to be opened would get the number of standard error, and with it whatever libraries print.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8", errors="backslashreplace", closefd=False))
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal may not know every letter of a name
        sys.stdout.reconfigure(errors="backslashreplace")


def say(sentence: str) -> None:
    """One line on standard error; where that cannot be written to, as on a full disk, the line is lost."""
    try:
        print(f"edge-restore: {printable(sentence)}", file=sys.stderr, flush=True)
    except (OSError, ValueError):
        silence(sys.stderr, 2)


def printable(text: str) -> str:
    """`text` on one line: no character that moves the cursor or has no code, and of URLs no more than the host."""
    text = without_secrets(text)
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def without_secrets(text: str) -> str:
    """`text`, in which each URL ends behind its host: users, passwords and tokens stand before and after that."""
    return _URL.sub(lambda url: f"{url[1]}://{url[2]}{'/...' if url[3].strip('/') else ''}", text)


def silence(stream: TextIO, number: int) -> None:
    """Sends what is still in `stream`, of file descriptor `number`, nowhere, so that the interpreter can end."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
        stream.flush()
    except (OSError, ValueError):
        pass
