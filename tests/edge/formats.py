"""Valid files of every format that is read, made on the spot, each beside the samples that are in it."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from PIL import Image, ImageCms

from tests.edge.files import store_frames

HEIGHT, WIDTH = 24, 32
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@dataclass(frozen=True)
class Sample:
    """A file's content, and what is in it: uint8 or uint16, red first; None where it is to be refused.

    `exact`: whether the format keeps samples as they are. Where alpha is 0, colours say nothing and are not compared.
    """

    name: str
    content: bytes
    truth: np.ndarray | None
    exact: bool = True


def smooth(channels: int, seed: int = 0) -> np.ndarray:
    """A picture that lossy formats keep well; alpha, if it has one, goes over the whole range."""
    random = np.random.RandomState(seed)
    noise = random.randint(0, 256, (HEIGHT, WIDTH, channels)).astype(np.uint8)
    pixels = cv2.GaussianBlur(noise, (0, 0), 3).reshape(HEIGHT, WIDTH, channels)
    if channels in (2, 4):
        pixels[:, :6, -1], pixels[:, 26:, -1] = 0, 255
    return pixels


def deep(pixels: np.ndarray) -> np.ndarray:
    """The same picture with 16 bits, of which the lower eight say something."""
    lower = np.random.RandomState(7).randint(-128, 129, pixels.shape)
    return np.clip(pixels.astype(np.int64) * 257 + lower, 0, 65535).astype(np.uint16)


def pillow(pixels: np.ndarray | Image.Image, kind: str, mode: str | None = None, **options: Any) -> bytes:
    """A file by Pillow."""
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    if mode is not None:
        picture = picture.convert(mode)
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def tiff(samples: np.ndarray, **options: Any) -> bytes:
    """A TIFF by tifffile."""
    file = io.BytesIO()
    tifffile.imwrite(file, samples, **options)
    return file.getvalue()


def opencv(suffix: str, pixels: np.ndarray, *options: int) -> bytes:
    """A file by OpenCV of red-first samples."""
    picture = pixels if pixels.ndim == 2 else pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
    done, encoded = cv2.imencode(suffix, picture, list(options))
    assert done
    return encoded.tobytes()


def rgba(gray: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return np.dstack([gray, gray, gray, alpha])


def samples() -> list[Sample]:
    """One file of every kind that behaves in its own way."""
    rgb, gray, both = smooth(3), smooth(1)[..., 0], smooth(2)
    alpha = both[..., 1]
    clear = np.dstack([rgb, alpha])
    rgb16, gray16, clear16 = deep(rgb), deep(gray), deep(clear)
    bits = np.where(gray > 127, 255, 0).astype(np.uint8)
    palette = Image.fromarray(rgb).quantize(16)
    of_palette = np.array(palette.convert("RGB"))
    hole = np.where(np.array(palette) == 3, 0, 255).astype(np.uint8)
    of_black = np.dstack([gray, gray, gray, np.where(gray == gray[3, 3], 0, 255).astype(np.uint8)])
    multiplied = np.dstack([np.round(rgb * (alpha[..., None] / 255)).astype(np.uint8), alpha])
    multiplied16 = np.round(clear16[..., :3] * (clear16[..., 3:] / 65535)).astype(np.uint16)
    multiplied16 = np.dstack([multiplied16, clear16[..., 3]])
    lab = ImageCms.profileToProfile(
        Image.fromarray(rgb), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    shape = b"%d %d\n" % (WIDTH, HEIGHT)
    pam = b"P7\nWIDTH %d\nHEIGHT %d\nDEPTH %d\nMAXVAL 255\nTUPLTYPE %s\nENDHDR\n"
    wide, high = {"quality": 100}, {"quality": 100, "subsampling": 0}
    full = {"quality": 100, "subsampling": "4:4:4"}
    best = (cv2.IMWRITE_AVIF_QUALITY, 100)
    animated = {"save_all": True, "append_images": [Image.fromarray(255 - rgb)]}
    rgb_tiff, gray_tiff = {"photometric": "rgb"}, {"photometric": "minisblack"}
    plane = {"photometric": "rgb", "planarconfig": "separate"}
    straight, associated = {"extrasamples": ["unassalpha"]}, {"extrasamples": ["assocalpha"]}
    row = np.dstack([rgb[::-1, :, ::-1], np.zeros_like(gray)])  # from the bottom, blue first, a byte unused
    bmp = struct.pack("<2sIHHI", b"BM", 54 + row.size, 0, 0, 54)
    bmp += struct.pack("<IiiHHIIiiII", 40, WIDTH, HEIGHT, 1, 32, 0, row.size, 0, 0, 0, 0) + row.tobytes()
    return [
        Sample("rgb.png", pillow(rgb, "PNG"), rgb),
        Sample("gray_alpha.png", pillow(both, "PNG"), rgba(both[..., 0], alpha)),
        Sample("palette.png", pillow(palette, "PNG"), of_palette),
        Sample("palette_hole.png", pillow(palette, "PNG", transparency=3), np.dstack([of_palette, hole])),
        Sample("gray_hole.png", pillow(gray, "PNG", transparency=int(gray[3, 3])), of_black),
        Sample("bits.png", pillow(gray > 127, "PNG"), bits),
        Sample("animated.png", pillow(rgb, "PNG", **animated), rgb),
        Sample("rgb16.png", opencv(".png", rgb16), rgb16),
        Sample("gray16.png", opencv(".png", gray16), gray16),
        Sample("clear16.png", opencv(".png", clear16), clear16),
        Sample("rgb.jpg", pillow(rgb, "JPEG", **high), rgb, False),
        Sample("gray.jpg", pillow(gray, "JPEG", **wide), gray, False),
        Sample("progressive.jpg", pillow(rgb, "JPEG", progressive=True, **high), rgb, False),
        Sample("cmyk.jpg", pillow(rgb, "JPEG", mode="CMYK", **wide), rgb, False),
        Sample("mpo.jpg", pillow(rgb, "MPO", **animated, **high), rgb, False),
        Sample("palette.gif", pillow(palette, "GIF"), of_palette),
        Sample("hole.gif", pillow(palette, "GIF", transparency=3), np.dstack([of_palette, hole]), False),
        Sample("clear.webp", pillow(clear, "WEBP", lossless=True, exact=True), clear),
        Sample("animated.webp", pillow(rgb, "WEBP", lossless=True, **animated), rgb),
        Sample("rgb.avif", pillow(rgb, "AVIF", **full), rgb, False),
        Sample("clear.avif", pillow(clear, "AVIF", **full), clear, False),
        Sample("gray.avif", pillow(gray, "AVIF", **wide), gray, False),
        Sample("animated.avif", pillow(rgb, "AVIF", **animated, **full), rgb, False),
        Sample("ten.avif", opencv(".avif", rgb16 >> 6, *best, cv2.IMWRITE_AVIF_DEPTH, 10), rgb16, False),
        Sample("twelve.avif", opencv(".avif", gray16 >> 4, *best, cv2.IMWRITE_AVIF_DEPTH, 12), gray16, False),
        Sample("rgb.tif", tiff(rgb, **rgb_tiff), rgb),
        Sample("big.tif", tiff(rgb, bigtiff=True, **rgb_tiff), rgb),
        Sample("plane.tif", tiff(np.moveaxis(rgb, 2, 0).copy(), **plane), rgb),
        Sample("palette.tif", pillow(palette, "TIFF"), of_palette),
        Sample("bits.tif", pillow(gray > 127, "TIFF", compression="group4"), bits),
        Sample("white.tif", tiff(255 - gray, photometric="miniswhite"), gray),
        Sample("white16.tif", tiff(65535 - gray16, photometric="miniswhite"), gray16),
        Sample("rgb16.tif", tiff(rgb16, byteorder="<", **rgb_tiff), rgb16),
        Sample("big_end16.tif", tiff(rgb16, byteorder=">", **rgb_tiff), rgb16),
        Sample("deflate16.tif", tiff(rgb16, compression="zlib", predictor=True, **rgb_tiff), rgb16),
        Sample("clear.tif", tiff(clear, **rgb_tiff, **straight), clear),
        Sample("clear_plane.tif", tiff(np.moveaxis(clear, 2, 0).copy(), **plane, **straight), clear),
        Sample("clear16.tif", tiff(clear16, byteorder=">", **rgb_tiff, **straight), clear16),
        Sample("multiplied.tif", tiff(multiplied, **rgb_tiff, **associated), clear, False),
        Sample(
            "multiplied16.tif",
            tiff(multiplied16, **rgb_tiff, **associated),
            clear16,
            False,
        ),
        Sample("gray_alpha.tif", tiff(both, **gray_tiff, **straight), rgba(both[..., 0], alpha)),
        Sample("cmyk.tif", pillow(rgb, "TIFF", mode="CMYK"), rgb, False),
        Sample("lab.tif", pillow(lab, "TIFF"), rgb, False),
        Sample("ycbcr.tif", pillow(rgb, "TIFF", mode="YCbCr", compression="jpeg", **wide), rgb, False),
        Sample("zstd.tif", pillow(rgb, "TIFF", compression="zstd"), rgb),
        Sample("float.tif", tiff(rgb.astype(np.float32), **rgb_tiff), None),
        Sample("signed.tif", tiff(gray.astype(np.int16), **gray_tiff), None),
        Sample("plane16.tif", tiff(np.moveaxis(rgb16, 2, 0).copy(), **plane), None),
        Sample("five.tif", tiff(np.dstack([clear, gray]), extrasamples=["unspecified"] * 2, **rgb_tiff), None),
        Sample("rgb.bmp", pillow(rgb, "BMP"), rgb),
        Sample("unused.bmp", bmp, rgb),
        Sample("clear.bmp", opencv(".bmp", clear), clear),
        Sample("gray.pgm", b"P5\n" + shape + b"255\n" + gray.tobytes(), gray),
        Sample("hundred.pgm", b"P5\n" + shape + b"100\n" + (gray // 3).tobytes(), np.uint8(np.round(gray // 3 * 2.55))),
        Sample("ten.ppm", b"P6 # ten bits\n" + shape + b"1023\n" + (rgb16 >> 6).astype(">u2").tobytes(), rgb16, False),
        Sample("rgb16.ppm", b"P6\n" + shape + b"65535\n" + rgb16.astype(">u2").tobytes(), rgb16),
        Sample("bits.pbm", b"P4\n" + shape + np.packbits(bits == 0, axis=1).tobytes(), bits),
        Sample("clear.pam", pam % (WIDTH, HEIGHT, 4, b"RGB_ALPHA") + clear.tobytes(), clear),
        Sample("rgb.jp2", pillow(rgb, "JPEG2000"), rgb),
        Sample("gray_alpha.jp2", pillow(Image.fromarray(both), "JPEG2000"), rgba(both[..., 0], alpha)),
        Sample("gray16.jp2", pillow(gray16, "JPEG2000"), gray16),
        Sample("bare.j2k", pillow(rgb, "JPEG2000", no_jp2=True), rgb),
        Sample("photo.exr", b"v/1\x01\x02\0\0\0", None),
        Sample("photo.hdr", opencv(".hdr", rgb.astype(np.float32)), None),
        Sample("photo.jxl", b"\xff\x0a" + bytes(20), None),
        Sample("photo.psd", b"8BPS\0\1" + bytes(40), None),
    ]


def videos(folder: Path) -> list[Sample]:
    """Short videos of every container that is written, and bare JPEGs in a row; `folder` is for making them."""
    frames = [smooth(3, seed) for seed in range(4)]
    made = [Sample("raw.mjpeg", b"".join(pillow(frame, "JPEG") for frame in frames), None)]
    for suffix in (".mkv", ".avi", ".mov", ".mp4"):
        path = store_frames(folder / f"video{suffix}", frames, codec="mp4v" if suffix == ".mp4" else "MJPG")
        made.append(Sample(path.name, path.read_bytes(), None))
    return made
