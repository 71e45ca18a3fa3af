from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import ImageCms

from edge.containers.record import Metadata
from edge.errors import UserError
from edge.images import WRITABLE, encode_image, read_image
from tests.edge.files import picture, store


def with_orientation(png: bytes, orientation: int) -> bytes:
    """`png` with an eXIf chunk that says how to turn it."""
    exif = b"MM\0\x2a\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)
    chunk = struct.pack(">I", len(exif)) + b"eXIf" + exif + struct.pack(">I", zlib.crc32(b"eXIf" + exif))
    after_header = 8 + 25
    return png[:after_header] + chunk + png[after_header:]


def test_colour_comes_red_first(tmp_path):
    pixels = np.zeros((4, 5, 3), np.uint8)
    pixels[..., 0] = 200
    assert np.array_equal(read_image(store(tmp_path / "red.png", pixels)).pixels, pixels)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_gray_colour_and_alpha_are_kept(tmp_path, channels):
    pixels = picture(channels=channels)
    read = read_image(store(tmp_path / "a.png", pixels))
    assert np.array_equal(read.pixels, pixels)
    assert read.notes == ()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_exif_orientation_turns_the_picture_and_its_alpha(tmp_path, channels):
    pixels = picture(channels=channels)
    path = store(tmp_path / "a.png", pixels)
    path.write_bytes(with_orientation(path.read_bytes(), 6))  # 6: turn a quarter clockwise
    assert np.array_equal(read_image(path).pixels, np.rot90(pixels, -1))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_are_kept_beside_their_rounded_eight(tmp_path, channels):
    pixels = picture(channels=channels)
    deep = pixels.astype(np.uint16) * 257
    deep[pixels < 255] += 100
    read = read_image(store(tmp_path / "a.png", deep))
    assert np.array_equal(read.pixels, pixels)
    assert read.deep is not None and np.array_equal(read.deep, deep)
    assert read.notes == ()


def test_floating_point_pictures_are_refused(tmp_path):
    path = store(tmp_path / "a.tif", picture().astype(np.float32))
    with pytest.raises(UserError, match="floating-point"):
        read_image(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp", ".webp", ".jp2", ".avif", ".gif", ".ppm"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.995])
def test_a_picture_cut_short_is_refused_whatever_its_format(tmp_path, suffix, part, capfd):
    path = store(tmp_path / f"a{suffix}", picture(200, 300))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(UserError, match="damaged, cut short or not an image"):
        read_image(path)
    assert "libpng" not in capfd.readouterr().err


def test_a_png_with_one_flipped_bit_is_refused(tmp_path):
    path = store(tmp_path / "a.png", picture(60, 60))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    with pytest.raises(UserError):
        read_image(path)


def test_a_damaged_jpeg_is_read_with_a_note_and_without_the_librarys_own_words(tmp_path, capfd):
    path = store(tmp_path / "a.jpg", cv2.GaussianBlur(picture(400, 400), (0, 0), 2))
    data = bytearray(path.read_bytes())
    del data[len(data) // 2 : len(data) // 2 + 60]
    path.write_bytes(data)
    assert "damaged JPEG" in read_image(path).notes[0]
    assert capfd.readouterr().err == ""


def test_of_several_pictures_in_a_file_the_first_is_taken_with_a_note(tmp_path):
    first, second = picture(seed=1), picture(seed=2)
    path = tmp_path / "a.tif"
    assert cv2.imwritemulti(str(path), [first[..., ::-1].copy(), second[..., ::-1].copy()])
    read = read_image(path)
    assert np.array_equal(read.pixels, first)
    assert "2 pictures" in read.notes[0]


@pytest.mark.parametrize(("content", "words"), [(b"", "is empty"), (b"just a text", "not an image")])
def test_what_is_no_picture_is_refused(tmp_path, content, words):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(UserError, match=words):
        read_image(path)


def test_a_machine_without_a_folder_for_temporary_files_reads_images(tmp_path, monkeypatch):
    def nowhere():
        raise FileNotFoundError("no usable temporary directory")

    monkeypatch.setattr("tempfile.TemporaryFile", nowhere)
    assert np.array_equal(read_image(store(tmp_path / "a.png", picture())).pixels, picture())


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", sorted(set(WRITABLE) - {".jpg", ".jpeg", ".pgm"}))
@pytest.mark.parametrize("channels", [1, 3])
def test_every_other_format_than_jpeg_is_written_without_loss(tmp_path, suffix, channels):
    pixels = picture(channels=channels)
    path = tmp_path / f"a{suffix}"
    content, notes = encode_image(pixels, path)
    path.write_bytes(content)
    read = read_image(path).pixels
    colour_only = suffix in {".webp", ".ppm"}
    expected = np.dstack([pixels] * 3) if channels == 1 and colour_only else pixels
    assert np.array_equal(read, expected)
    assert notes == ()


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".avif"])
def test_alpha_is_written_where_the_format_has_it(tmp_path, suffix):
    pixels = picture(channels=4)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encode_image(pixels, path)[0])
    assert np.array_equal(read_image(path).pixels, pixels)


def test_alpha_left_out_by_a_format_is_said(tmp_path):
    pixels = picture(channels=4)
    content, notes = encode_image(pixels, tmp_path / "a.ppm")
    (tmp_path / "a.ppm").write_bytes(content)
    assert np.array_equal(read_image(tmp_path / "a.ppm").pixels, pixels[..., :3])
    assert "transparency" in notes[0]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".avif", ".tif"])
@pytest.mark.parametrize(("space", "kept"), [(b"RGB ", True), (b"CMYK", False)])
def test_the_colour_profile_goes_along_where_it_fits(tmp_path, suffix, space, kept):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = srgb[:16] + space + srgb[20:]
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encode_image(picture(), path, Metadata(profile))[0])
    assert read_image(path).metadata.profile == (profile if kept else None)


def test_jpeg_is_written_close_to_the_pixels(tmp_path):
    pixels = picture()
    path = tmp_path / "a.jpg"
    path.write_bytes(encode_image(pixels, path)[0])
    assert np.abs(read_image(path).pixels.astype(int) - pixels).max() <= 6


def test_a_picture_that_a_format_cannot_hold_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"colour picture of 32x24 .*\.pgm"):
        encode_image(picture(), tmp_path / "a.pgm")
