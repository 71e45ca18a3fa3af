"""What the command prints: every line fit to be shown, whatever names are in it and whatever the streams are like."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn, TextIO

from edge.containers import MOST_PIXELS

_SCHEME = r"\b(?!serial:)([a-z][a-z0-9+.-]+):/+"  # a serial port's address is the name of a device
_URL = _SCHEME + r"(?:[^\s/?#]*@)?([^\s/?#'\",;]*)([^\s'\",;]*)"
_LOGIN = r"[^\s/=]*:\S*@([^\s/?#\\]*)(\S*)"  # of an address that lacks its scheme, or has it misspelt
_URL_AT_END = _SCHEME + r"(.*)"  # patterns are compiled when there is an address, which is seldom: starting is quick
_hidden: dict[str, str] = {}  # what stands in arguments, and what is shown for it


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


def silence_libraries() -> None:
    """OpenCV and FFmpeg would comment on standard error; what matters is said here in sentences. Imports OpenCV."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # read by the first video
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MOST_PIXELS))  # read by the first image
    warnings.showwarning = _say_warning
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def _say_warning(
    message: Warning | str, category: object, filename: str, lineno: int, file: object = None, line: str | None = None
) -> None:
    """Says a Python warning's first line, without the place in a library's source where it was made."""
    say(str(message).strip().partition("\n")[0])


def wait_for_end_of_input() -> None:
    """Until standard input ends, as it does when the process that holds its other end does, however that ends."""
    while os.read(0, 1 << 16):
        pass  # by its number: a thread that hangs in a buffered read would spoil the interpreter's end


def is_url(text: str) -> bool:
    """Whether `text` is an address and no name of a file."""
    return ":/" in text and re.match(_SCHEME, text, re.IGNORECASE) is not None


def say(sentence: str) -> None:
    """One line on standard error; where that cannot be written to, as on a full disk, the line is lost."""
    try:
        print(f"edge-restore: {printable(sentence)}", file=sys.stderr, flush=True)
    except (OSError, ValueError):
        silence(sys.stderr, 2)


def print_out(lines: list[str]) -> None:
    """Lines on standard output. Raises OSError where they cannot be written; a reader that has gone is no error."""
    try:
        print("\n".join(map(printable, lines)), flush=True)
    except BrokenPipeError:
        silence(sys.stdout, 1)
    except OSError:
        silence(sys.stdout, 1)
        raise


def frames(count: int) -> str:
    """Such as "1 frame"."""
    return f"{count} frame{'s' * (count != 1)}"


def printable(text: str) -> str:
    """`text` on one line: no character that moves the cursor or has no code, and of URLs no more than the host."""
    for secret in sorted(_hidden, key=len, reverse=True):  # one may begin with another
        text = text.replace(secret, _hidden[secret])
    text = without_secrets(text)
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def hide_urls(arguments: Iterable[str]) -> None:
    """From now on `printable` shows no more than the host of the URLs that these arguments are, or end with.

    Where a URL ends can be seen in an argument, even with a space in its password, but not in a sentence.
    """
    _hidden.clear()
    for argument in arguments:
        if ":/" in argument and (url := re.search(_URL_AT_END, argument, re.IGNORECASE | re.DOTALL)):
            whole = url[0]
            host = without_secrets(f"{url[1]}://{url[2].rpartition('@')[2]}")
            _hidden[whole] = _hidden[str(Path(whole))] = host
            if "@" in url[2]:
                _hidden[url[2]] = "..."
        elif ":" in argument and "@" in argument and (login := re.search(_LOGIN, argument)):
            if not os.path.lexists(argument):  # a name with a time and a place in it may well be a file's
                _hidden[login[0]] = f"...@{login[1]}{'/...' if login[2] else ''}"


def without_secrets(text: str) -> str:
    """`text`, in which each URL ends behind its host: users, passwords and tokens stand before and after that."""
    if ":/" not in text:
        return text
    return re.sub(_URL, _host, text, flags=re.IGNORECASE)


def _host(url: re.Match[str]) -> str:
    return f"{url[1]}://{url[2]}{'/...' if url[3].strip('/') else ''}"


def leave(code: int) -> NoReturn:
    """Ends the process here and now, with what was printed."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def silence(stream: TextIO, number: int) -> None:
    """Sends what is still in `stream`, of file descriptor `number`, nowhere, so that the interpreter can end."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
        stream.flush()
    except (OSError, ValueError):
        pass
