"""Image files in and out.

In memory a picture is a uint8 array in the channel order of the network, RGB:
[H, W] grayscale, [H, W, 3] colour, [H, W, 4] colour and alpha. A file of 16 bits keeps its own samples beside it.
What each format holds is in `edge.containers`; what is kept and what is refused, in FORMATS.md.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.containers import kinds
from edge.containers.colour import is_profile
from edge.containers.record import NO_METADATA, Decoded, Metadata, NotReadError, Samples, opencv
from edge.containers.turning import turned
from edge.errors import UserError
from simulator.files import reason

Pixels = NDArray[np.uint8]
Deep = NDArray[np.uint16]

# Files with these suffixes are images, whatever is in them; others are looked into.
READABLE = frozenset(
    (
        ".apng .avif .bmp .dib .gif .heic .heif .hif .j2k .jfif .jp2 .jpeg .jpg .jpe .pam .pbm .pgm .png .pnm .ppm .ras"
        " .sr .tif .tiff .webp"
    ).split()
)

# What is written, and how: without loss, but for JPEG, which is written as close to the pixels as it goes.
WRITABLE = (".png", ".tif", ".tiff", ".bmp", ".webp", ".avif", ".ppm", ".pgm", ".pnm", ".jpg", ".jpeg")
_WITH_ALPHA = frozenset({".png", ".tif", ".tiff", ".bmp", ".webp", ".avif"})
_WITH_METADATA = frozenset({".png", ".tif", ".tiff", ".webp", ".avif", ".jpg", ".jpeg"})
_DEEP = frozenset({".png", ".tif", ".tiff", ".ppm", ".pgm", ".pnm"})

# Far above any picture that can be restored (4096x4096 RGBA is 64 MiB); keeps a mistaken path from filling the memory.
LARGEST_FILE = 1 << 30
_XMP_ORIENTATION = rb"""(tiff:Orientation\s*(?:=\s*["']|>\s*))[2-8]"""


class UnfitError(UserError):
    """One picture cannot be restored, or does not go into the format of its output; others may."""


@dataclass(frozen=True)
class Picture:
    """A decoded image file.

    `deep` are the samples of a file with 16 bits per channel, of which `pixels` are the rounded 8; None for other
    files. `metadata` goes along to the output; `notes` are sentences that the person should read.
    """

    pixels: Pixels
    deep: Deep | None = None
    metadata: Metadata = Metadata()
    notes: tuple[str, ...] = ()


def utf8(path: Path) -> bool:
    """Whether OpenCV can take this file name: it crashes on one that is not UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def kind_of(path: Path) -> str | None:
    """The image format that the content of `path` says, as `edge.containers.kinds` calls it. Raises OSError."""
    with path.open("rb") as file:
        return kinds.kind_of(file.read(kinds.HEAD))


def read_image(path: Path) -> Picture:
    """`decoded_image` of a file. Raises UserError also for one that is missing or unreadable."""
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise too_large(path, size)
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {reason(error)}.") from error
    return decoded_image(data, path)


def too_large(path: Path | str, size: int) -> UserError:
    return UserError(f"{path} has {size >> 20} MiB, far more than an image that fits; give an image file.")


def decoded_image(data: bytes, path: Path | str) -> Picture:
    """The image that a file's content is, upright, alpha and grayscale kept, nothing of it converted without a note.

    path: what it is called in messages. Raises UserError for what is damaged, cut short, or of a kind that is not read.
    """
    if not data:
        raise UserError(f"{path} is empty; an image file was expected.")
    with _native_messages() as messages, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about damaged fields of which nothing is used
        try:
            decoded = _decode(data)
        except NotReadError as error:
            raise UserError(f"{path} {error}.") from error
        except MemoryError as error:
            raise UserError(f"{path} needs more memory than there is to be decoded; cut it into parts.") from error
    notes = [f"{path} {note}." for note in decoded.notes]
    if decoded.pictures > 1:
        notes.append(f"{path} holds {decoded.pictures} pictures; only the first is restored.")
    if messages and "Corrupt JPEG data" in messages[0]:
        # The pixels after such a place may be wrong, yet every viewer shows the picture: restore it, but say so.
        notes.append(f"{path} is a damaged JPEG; it is restored as far as it could be decoded.")
    samples = turned(decoded.pixels, decoded.orientation)
    metadata = decoded.metadata
    if metadata.profile is not None and not is_profile(metadata.profile):
        metadata = replace(metadata, profile=None)
        notes.append(f"{path} has a damaged colour profile, which is left out.")
    if metadata.exif is not None:
        from edge.containers import exif

        upright = exif.upright(metadata.exif)
        metadata = replace(metadata, exif=upright)
        if upright is None:
            notes.append(f"{path} has damaged EXIF data, which are left out.")
    if metadata.xmp is not None:
        metadata = replace(metadata, xmp=re.sub(_XMP_ORIENTATION, rb"\g<1>1", metadata.xmp))
    if samples.dtype == np.uint16:
        return Picture(shallow(samples), np.asarray(samples, np.uint16), metadata, tuple(notes))
    return Picture(shallow(samples), None, metadata, tuple(notes))


def shallow(samples: Samples) -> Pixels:
    """uint8 of uint8 or uint16 samples, rounded to the nearest of the values that 8 bits have."""
    if samples.dtype == np.uint8:
        return np.asarray(samples, np.uint8)
    return np.asarray(((np.arange(65536) + 128) // 257).astype(np.uint8)[samples])


def carried(deep: Deep, before: Pixels, after: Pixels) -> Deep:
    """The restored picture in 16 bits: what the network changed, added to the samples as they came.

    deep, before, after: one shape; before is `shallow(deep)`, after what the network made of it. Rounded to 8 bits the
    result is `after` again, and where the network changed nothing, every sample stays.
    """
    change = after.astype(np.int32) - before
    return np.clip(deep + 257 * change, 0, 65535).astype(np.uint16)


def encode_image(pixels: Samples, path: Path, metadata: Metadata = NO_METADATA) -> tuple[bytes, tuple[str, ...]]:
    """(file content, notes) for `pixels` in the format that the suffix of `path` names, one of WRITABLE.

    What the format cannot hold (transparency, 16 bits, metadata) is left out with a note; a profile for another number
    of colours, too. Raises UnfitError where it cannot hold the picture at all, such as colour in .pgm.
    """
    suffix = path.suffix.lower()
    notes = []
    if pixels.dtype == np.uint16 and suffix not in _DEEP:
        pixels = shallow(pixels)
        notes.append(f"{path} holds 8 bits per channel of the 16 of the source; choose .png to keep them.")
    if pixels.ndim == 3 and pixels.shape[2] == 4 and suffix not in _WITH_ALPHA:
        pixels = np.ascontiguousarray(pixels[..., :3])
        notes.append(f"{path} cannot hold transparency, which is left out; choose .png to keep it.")
    lost = []
    if suffix not in _WITH_METADATA:
        names = (("colour profile", metadata.profile), ("EXIF data", metadata.exif), ("XMP data", metadata.xmp))
        lost = [name for name, content in names if content]
        metadata = NO_METADATA
    elif metadata.profile and not _fits(metadata.profile, pixels, suffix):
        lost = ["colour profile (it is for another kind of picture)"]
        metadata = replace(metadata, profile=None)
    try:
        if suffix in (".tif", ".tiff"):
            from edge.containers import tiff

            content = tiff.write(pixels, metadata)
        else:
            content, more = _encoded(pixels, suffix, metadata)
            lost += more
    except cv2.error as error:
        kind = "grayscale" if pixels.ndim == 2 else "colour"
        size = f"{pixels.shape[1]}x{pixels.shape[0]}"
        raise UnfitError(f"a {kind} picture of {size} pixels does not go into {path}; choose .png.") from error
    if lost:
        notes.append(f"{path} cannot hold the {' and the '.join(lost)} of the source; choose .png to keep what fits.")
    return content, tuple(notes)


def _decode(data: bytes) -> Decoded:
    head = data[: kinds.HEAD]
    kind = kinds.kind_of(head)
    if kind == "refused":
        raise NotReadError(kinds.refusal(head))
    # What a run does not need is not imported.
    if kind == "png":
        from edge.containers import png

        return png.read(data)
    if kind == "jpeg":
        from edge.containers import jpeg

        return jpeg.read(data)
    if kind == "tiff":
        from edge.containers import tiff

        return tiff.read(data)
    if kind == "webp":
        from edge.containers import webp

        return webp.read(data)
    if kind == "heif":
        from edge.containers import heif

        return heif.read(data)
    if kind == "gif":
        from edge.containers import gif

        return gif.read(data)
    if kind == "netpbm":
        from edge.containers import netpbm

        return netpbm.read(data)
    if kind == "bmp":
        from edge.containers import bmp

        return bmp.read(data)
    if kind == "jp2":
        from edge.containers import jp2

        return jp2.read(data)
    return Decoded(opencv(data))


def _encoded(pixels: Samples, suffix: str, metadata: Metadata) -> tuple[bytes, list[str]]:
    """(file content, what of the metadata did not fit) by OpenCV. Raises cv2.error."""
    if pixels.ndim == 3:
        code: int | None = cv2.COLOR_RGB2BGR if pixels.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
    else:
        code = cv2.COLOR_GRAY2BGR if suffix == ".ppm" else None
    picture = pixels if code is None else np.asarray(cv2.cvtColor(pixels, code), pixels.dtype)
    if suffix == ".png":
        from edge.containers import png

        return png.write(picture, metadata), []
    if suffix in (".jpg", ".jpeg"):
        from edge.containers import jpeg

        return jpeg.write(picture, metadata)
    if suffix == ".webp":
        from edge.containers import webp

        return webp.write(picture, metadata), []
    if suffix == ".avif":
        from edge.containers import heif

        return heif.write(picture, metadata), []
    done, encoded = cv2.imencode(suffix, picture)
    if not done:
        raise cv2.error(f"{suffix} was not written")
    return encoded.tobytes(), []


def _fits(profile: bytes, pixels: Samples, suffix: str) -> bool:
    """Whether an ICC profile describes colours with as many channels as the file will have."""
    gray = pixels.ndim == 2 and suffix != ".webp"  # which has colour only
    return profile[16:20] == (b"GRAY" if gray else b"RGB ")


@contextlib.contextmanager
def _native_messages() -> Iterator[list[str]]:
    """Collects what the image libraries print to file descriptor 2, so that one sentence can be said instead.

    The list that is yielded is empty inside the block and holds the text, if any, after it.
    """
    collected: list[str] = []
    try:
        saved = os.dup(2)
    except OSError:  # there is no standard error to keep clean
        yield collected
        return
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, saved)
        try:
            sink = stack.enter_context(tempfile.TemporaryFile())
        except OSError:  # no folder for temporary files: what the libraries print is lost
            sink = stack.enter_context(open(os.devnull, "w+b"))
        os.dup2(sink.fileno(), 2)
        try:
            yield collected
        finally:
            os.dup2(saved, 2)
        sink.seek(0)
        text = sink.read().decode(errors="replace")
        if text:
            collected.append(text)
