"""What is in a file comes out of it, whatever the format, depth, transparency, profile and turn."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from edge.containers.record import Metadata
from edge.containers.turning import turned
from edge.errors import UserError
from edge.images import WRITABLE, carried, encode_image, read_image, shallow
from tests.edge.formats import SRGB, Sample, pillow, samples, smooth, tiff

SAMPLES = samples()
GRAY_PROFILE = SRGB[:16] + b"GRAY" + SRGB[20:]
LOSSLESS = [suffix for suffix in WRITABLE if suffix not in (".jpg", ".jpeg")]


def stored(tmp_path, sample: Sample):
    path = tmp_path / sample.name
    path.write_bytes(sample.content)
    return path


@pytest.mark.parametrize("suffix", ["own", ".png", ".jpg", ".bin"])
@pytest.mark.parametrize("sample", [s for s in SAMPLES if s.truth is not None], ids=lambda sample: sample.name)
def test_every_format_is_read_rightly_whatever_the_file_is_called(tmp_path, sample, suffix):
    path = stored(tmp_path, sample)
    if suffix != "own":
        path = path.rename(tmp_path / f"x{suffix}")
    read = read_image(path)
    found = read.pixels if read.deep is None else read.deep
    assert found.dtype == sample.truth.dtype and found.shape == sample.truth.shape
    near = 0 if sample.exact else 8 * (257 if found.dtype == np.uint16 else 1)
    off = np.abs(found.astype(int) - sample.truth)
    if found.ndim == 3 and found.shape[2] == 4 and not sample.exact:
        off[..., :3] = off[..., :3] * (sample.truth[..., 3:] / np.iinfo(found.dtype).max)  # as far as colours show
    assert off.max() <= near


@pytest.mark.parametrize("sample", [s for s in SAMPLES if s.truth is None], ids=lambda sample: sample.name)
def test_what_is_not_read_is_refused_by_name_and_with_what_to_do(tmp_path, sample):
    path = stored(tmp_path, sample)
    with pytest.raises(UserError, match=r"convert|develop") as caught:
        read_image(path)
    assert "damaged" not in str(caught.value)


@pytest.mark.parametrize(
    ("suffix", "channels"),
    [(suffix, channels) for suffix in (".tif", ".png", ".webp", ".avif") for channels in (3, 4)] + [(".jpg", 3)],
)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turn_is_made_once_and_said_no_more(tmp_path, suffix, channels, orientation):
    upright = smooth(channels)
    # What `turned` makes upright: its inverse, which for all but 6 and 8 is itself.
    as_stored = turned(upright, {6: 8, 8: 6}.get(orientation, orientation))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "Maker"
    kind = {".tif": "TIFF", ".jpg": "JPEG"}.get(suffix, suffix[1:].upper())
    options = {
        ".webp": {"lossless": True, "exact": True},
        ".jpg": {"quality": 100, "subsampling": 0},
        ".avif": {"quality": 100, "subsampling": "4:4:4"},
    }.get(suffix, {})
    path = tmp_path / f"a{suffix}"
    path.write_bytes(pillow(as_stored, kind, exif=exif, **options))
    read = read_image(path)
    assert read.pixels.shape == upright.shape
    shown = 1 if channels == 3 else upright[..., 3:] / 255
    assert (np.abs(read.pixels.astype(int) - upright) * shown).max() <= (
        0 if suffix in (".tif", ".png", ".webp") else 8
    )
    out = tmp_path / "out.png"
    out.write_bytes(encode_image(read.pixels, out, read.metadata)[0])
    with Image.open(out) as written:
        assert written.getexif().get(0x0112, 1) == 1
        assert written.getexif().get(0x010F) == "Maker"


@pytest.mark.parametrize("most", [255, 65535])
def test_colours_multiplied_by_alpha_come_back_as_near_as_the_file_can_tell(tmp_path, most):
    """Every 8-bit colour with every alpha, or 256 of each of 16 bits: what was rounded away is all that is lost."""
    kind = np.uint8 if most == 255 else np.uint16
    levels = np.arange(256) * (most // 255)
    alpha, colour = np.meshgrid(levels, levels, indexing="ij")
    multiplied = np.dstack([(2 * colour * alpha + most) // (2 * most)] * 3 + [alpha]).astype(kind)
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(multiplied, photometric="rgb", extrasamples=["assocalpha"]))
    read = read_image(path)
    found = (read.pixels if most == 255 else read.deep).astype(int)
    assert np.array_equal(found[..., 3], alpha) and not found[0, :, :3].any()
    assert (2 * alpha * np.abs(found[..., 0] - colour) <= most + alpha)[1:].all()


def test_a_turned_tiff_of_16_bits_stands_upright(tmp_path):
    upright = smooth(3).astype(np.uint16) * 257
    for orientation in range(1, 9):
        as_stored = turned(upright, {6: 8, 8: 6}.get(orientation, orientation))
        path = tmp_path / f"{orientation}.tif"
        path.write_bytes(tiff(as_stored, photometric="rgb", extratags=[(0x0112, "H", 1, orientation, True)]))
        assert np.array_equal(read_image(path).deep, upright)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3, 4])),
    deep=st.booleans(),
    seed=st.integers(0, 1000),
    profile=st.sampled_from([None, SRGB, GRAY_PROFILE, b"no profile"]),
    exif=st.booleans(),
    xmp=st.sampled_from([None, b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>']),
    suffixes=st.lists(st.sampled_from(LOSSLESS), min_size=1, max_size=4),
)
def test_the_same_pixels_come_back_from_every_container(tmp_path, shape, deep, seed, profile, exif, xmp, suffixes):
    """Written and read, and what was read written in the next format: only what a note says is lost."""
    random = np.random.RandomState(seed)
    pixels = random.randint(0, 65536 if deep else 256, shape).astype(np.uint16 if deep else np.uint8)
    pixels = pixels[..., 0] if shape[2] == 1 else pixels
    block = Image.Exif()
    block[0x010F], block[0x0132] = "Maker", "2020:02:03 04:05:06"
    metadata = Metadata(profile, block.tobytes().removeprefix(b"Exif\0\0") if exif else None, xmp)
    for number, suffix in enumerate(suffixes):
        path = tmp_path / f"{number}{suffix}"
        try:
            content, notes = encode_image(pixels, path, metadata)
        except UserError:
            assert suffix == ".pgm" and pixels.ndim == 3
            continue
        path.write_bytes(content)
        read = read_image(path)
        back = read.pixels if read.deep is None else read.deep
        said = " ".join(notes)
        if back.dtype != pixels.dtype:
            assert "8 bits" in said
            pixels = shallow(pixels)
        if pixels.ndim == 3 and pixels.shape[2] == 4 and back.shape[2:] != (4,):
            assert "transparency" in said or (pixels[..., 3] == 255).all()
            pixels = pixels[..., :3]
        if pixels.ndim == 2 and back.ndim == 3:
            assert suffix in (".ppm", ".webp")
            pixels = np.dstack([pixels] * 3)
        if suffix == ".webp" and back.shape[2:] == (4,):
            hidden = back[..., 3] == 0  # WebP drops the colour of what cannot be seen
            pixels = np.where(hidden[..., None], back, pixels)
        assert np.array_equal(back, pixels)
        for name, kept in (("profile", "colour profile"), ("exif", "EXIF"), ("xmp", "XMP")):
            before, after = getattr(metadata, name), getattr(read.metadata, name)
            assert (after is not None) == (before is not None) or kept in said, (name, suffix)
            if name != "exif" and after is not None:
                assert after == before
        if read.metadata.exif is not None:
            found = Image.Exif()
            found.load(read.metadata.exif)
            assert found[0x010F] == "Maker" and found[0x0132] == "2020:02:03 04:05:06"
        metadata = read.metadata


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_tiffs_are_read_the_same_by_others(tmp_path, channels, deep):
    pixels = smooth(channels)[..., 0] if channels == 1 else smooth(channels)
    pixels = pixels.astype(np.uint16) * 257 if deep else pixels
    path = tmp_path / "a.tif"
    path.write_bytes(encode_image(pixels, path, Metadata(SRGB if channels > 1 else GRAY_PROFILE, None, b"<x/>"))[0])
    assert np.array_equal(tifffile.imread(path), pixels)
    if not deep or channels == 1:
        with Image.open(path) as read:
            assert np.array_equal(np.array(read), pixels)
            assert "icc_profile" in read.info


@pytest.mark.parametrize("channels", [1, 3])
def test_a_transparent_value_of_16_bits_is_transparency(tmp_path, channels):
    samples = smooth(channels).astype(np.uint16) * 257 + 5
    clear = (samples == samples[3, 3]).all(axis=2)
    key = struct.pack(f">{channels}H", *map(int, samples[3, 3]))
    png = cv2.imencode(".png", samples[..., ::-1].copy())[1].tobytes()
    chunk = struct.pack(">I", len(key)) + b"tRNS" + key + struct.pack(">I", zlib.crc32(b"tRNS" + key))
    path = tmp_path / "a.png"
    path.write_bytes(png[:33] + chunk + png[33:])
    deep = read_image(path).deep
    assert deep is not None and np.array_equal(deep[..., 3], np.where(clear, 0, 65535))
    assert np.array_equal(deep[..., :3], np.broadcast_to(samples, deep[..., :3].shape))


def test_a_change_is_carried_into_sixteen_bits():
    random = np.random.RandomState(0)
    deep = random.randint(0, 65536, (50, 60, 3)).astype(np.uint16)
    before = shallow(deep)
    after = np.clip(before + random.randint(-30, 31, before.shape), 0, 255).astype(np.uint8)
    result = carried(deep, before, after)
    assert np.array_equal(shallow(result), after)
    assert np.array_equal(carried(deep, before, before), deep)


def test_makers_notes_stay_where_they_point_to(tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    exif.get_ifd(0x8769)[0x927C] = b"notes of the maker" * 10
    for suffix in (".jpg", ".png", ".tif", ".webp", ".avif"):
        source = tmp_path / "a.jpg"
        source.write_bytes(pillow(smooth(3), "JPEG", exif=exif))
        read = read_image(source)
        assert read.metadata.exif is not None
        place = read.metadata.exif.index(b"notes of the maker")
        out = tmp_path / f"b{suffix}"
        content, _ = encode_image(read.pixels, out, read.metadata)
        out.write_bytes(content)
        again = read_image(out)
        assert again.metadata.exif is not None and b"notes of the maker" in again.metadata.exif
        if suffix == ".tif":
            assert content.index(b"notes of the maker") == place


def test_of_a_thumbnail_nothing_is_left(tmp_path):
    """It would show the picture as it came."""
    exif = b"II*\0\x08\0\0\0" + b"\1\0" + b"\x12\1\3\0\1\0\0\0\6\0\0\0" + b"\x1a\0\0\0"
    exif += b"\2\0" + b"\1\2\4\0\1\0\0\0\x38\0\0\0" + b"\2\2\4\0\1\0\0\0\4\0\0\0" + bytes(4) + b"THMB"
    path = tmp_path / "a.png"
    path.write_bytes(pillow(smooth(3), "PNG", exif=exif))
    kept = read_image(path).metadata.exif
    assert kept is not None and b"THMB" not in kept and kept[18:20] == b"\1\0"


def test_a_turn_in_xmp_is_said_no_more(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encode_image(smooth(3), path, Metadata(xmp=b'<x tiff:Orientation="6"/>'))[0])
    assert read_image(path).metadata.xmp == b'<x tiff:Orientation="1"/>'


def test_a_gain_map_is_left_out_with_a_word_and_not_described_in_the_output(tmp_path):
    xmp = b'<x xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/"/>'
    path = tmp_path / "a.jpg"
    path.write_bytes(encode_image(smooth(3), path, Metadata(xmp=xmp))[0] + pillow(smooth(3), "JPEG"))
    read = read_image(path)
    assert "gain map" in read.notes[0] and read.metadata.xmp is None


@pytest.mark.parametrize("code", [16, 18])
def test_high_dynamic_range_is_refused(tmp_path, code):
    png = pillow(smooth(3), "PNG")
    content = bytes([9, code, 0, 1])
    chunk = b"\0\0\0\4cICP" + content + struct.pack(">I", zlib.crc32(b"cICP" + content))
    path = tmp_path / "a.png"
    path.write_bytes(png[:33] + chunk + png[33:])
    with pytest.raises(UserError, match="high dynamic range"):
        read_image(path)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def test_primaries_by_numbers_are_left_out_with_a_word_unless_they_are_those_of_srgb(tmp_path):
    png, path = pillow(smooth(3), "PNG"), tmp_path / "a.png"
    srgb, p3 = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000), (31270, 32900, 68000, 32000, 26500, 69000)
    for primaries, said in ((srgb, 0), ((*p3, 15000, 6000), 1)):
        path.write_bytes(png[:33] + chunk(b"cHRM", struct.pack(">8I", *primaries)) + png[33:])
        assert sum("cHRM" in note for note in read_image(path).notes) == said


def test_an_app_s_png_for_iphones_is_refused_by_its_name(tmp_path):
    png, path = pillow(smooth(3), "PNG"), tmp_path / "a.png"
    path.write_bytes(png[:8] + chunk(b"CgBI", b"P\0 \2") + png[8:])
    with pytest.raises(UserError, match="CgBI"):
        read_image(path)


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_profile_that_is_not_whole_is_left_out_with_a_word(tmp_path, missing):
    """In JPEG it comes in pieces, of which one can get lost."""
    jpeg, path = pillow(smooth(3), "JPEG"), tmp_path / "a.jpg"
    pieces = [SRGB[:200], SRGB[200:400], SRGB[400:]]
    segments = [b"ICC_PROFILE\0" + bytes((number, 3)) + piece for number, piece in enumerate(pieces, 1)]
    for kept in (segments[::-1], segments[:missing] + segments[missing + 1 :]):
        more = b"".join(b"\xff\xe2" + struct.pack(">H", len(segment) + 2) + segment for segment in kept)
        path.write_bytes(jpeg[:2] + more + jpeg[2:])
        read = read_image(path)
        assert read.metadata.profile == (SRGB if len(kept) == 3 else None)
        assert any("damaged colour profile" in note for note in read.notes) == (len(kept) < 3)


@pytest.mark.parametrize(
    ("space", "kept", "said"),
    [("embedded", True, 0), ("linked", False, 1), ("calibrated", False, 1), ("sRGB", False, 0)],
)
def test_the_profile_of_a_bmp_is_kept_or_its_loss_is_said(tmp_path, space, kept, said):
    rgb = smooth(3)
    rows = rgb[::-1, :, ::-1].tobytes()
    number = {"embedded": b"DEBM", "linked": b"KNIL", "calibrated": bytes(4), "sRGB": b"BGRs"}[space]
    header = struct.pack("<IiiHHIIiiII", 124, rgb.shape[1], rgb.shape[0], 1, 24, 0, len(rows), 0, 0, 0, 0)
    header += struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0) + number
    header += (b"\1" if space == "calibrated" else b"\0") * 48 + struct.pack("<4I", 4, 124 + len(rows), len(SRGB), 0)
    path = tmp_path / "a.bmp"
    path.write_bytes(struct.pack("<2sIHHI", b"BM", 138 + len(rows), 0, 0, 138) + header + rows + SRGB)
    read = read_image(path)
    assert np.array_equal(read.pixels, rgb)
    assert read.metadata.profile == (SRGB if kept else None) and len(read.notes) == said


@pytest.mark.parametrize("largest", [1, 100, 255, 1023, 65535])
@pytest.mark.parametrize("depth", [1, 3])
def test_netpbm_texts_are_read_whatever_their_lines_and_largest_value(tmp_path, largest, depth):
    values = np.random.RandomState(0).randint(0, largest + 1, (5, 7, depth))
    header = b"P%d # %d\n7 5\n# values\n%d\n" % (2 if depth == 1 else 3, depth, largest)
    text = header + b"\n# more\n".join(b" ".join(b"%d" % value for value in row.ravel()) for row in values)
    path = tmp_path / "a.pnm"
    path.write_bytes(text)
    read = read_image(path)
    top = 255 if largest < 256 else 65535
    found = read.pixels if read.deep is None else read.deep
    assert np.array_equal(found.reshape(values.shape), (values * top + largest // 2) // largest)
    for broken in (text[:-9], text.replace(b"\n7 5\n", b"\n7 500\n"), header + b"-1 " * 105):
        path.write_bytes(broken)
        with pytest.raises(UserError, match="damaged"):
            read_image(path)


def test_a_camera_s_raw_file_is_not_taken_for_its_preview(tmp_path):
    path = tmp_path / "a.dng"
    path.write_bytes(tiff(smooth(3), photometric="rgb", subfiletype=1, extratags=[(50706, "B", 4, (1, 4, 0, 0), True)]))
    with pytest.raises(UserError, match="raw file"):
        read_image(path)


def test_a_cmyk_picture_is_converted_by_its_profile_and_that_is_said(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(pillow(smooth(3), "JPEG", mode="CMYK"))
    read = read_image(path)
    assert read.pixels.shape == smooth(3).shape and "CMYK" in read.notes[0] and read.metadata.profile is None


def test_reading_common_files_needs_no_pillow(tmp_path):
    for name, kind in (("a.png", "PNG"), ("a.jpg", "JPEG"), ("a.tif", "TIFF"), ("a.webp", "WEBP")):
        (tmp_path / name).write_bytes(pillow(smooth(3), kind))
    code = (
        "import pathlib, sys\nfrom edge.images import read_image\n"
        "[read_image(path) for path in pathlib.Path(sys.argv[1]).iterdir()]\nprint('PIL' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=100)
    assert done.stdout.strip() == "False", done.stderr


def test_heic_is_read_where_its_package_is_and_else_says_which(tmp_path, monkeypatch):
    path = tmp_path / "a.jpg"  # whatever its name says
    path.write_bytes(b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf" + bytes(100))
    with pytest.raises(UserError, match="HEIC"):
        read_image(path)
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    with pytest.raises(UserError, match=r"HEIC .*pip install 'spikerir-edge\[heif\]'"):
        read_image(path)


def test_the_pixels_of_common_files_are_those_of_opencv(tmp_path):
    """So that the restored bits of 8-bit pictures are those of every version before."""
    for sample in SAMPLES:
        if sample.name in ("rgb.png", "rgb.jpg", "gray.jpg", "progressive.jpg", "rgb.tif", "rgb.bmp", "rgb.jp2"):
            found = cv2.imdecode(np.frombuffer(sample.content, np.uint8), cv2.IMREAD_ANYCOLOR)
            found = found if found.ndim == 2 else found[..., ::-1]
            assert np.array_equal(read_image(stored(tmp_path, sample)).pixels, found)
