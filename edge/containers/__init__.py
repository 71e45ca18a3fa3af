"""Image files: what each format holds beside its pixels, and who decodes it.

    kinds.py    which format a file has, by its first bytes, and what is refused by name
    record.py   what a decoded file is: pixels, metadata, notes
    exif.py     the EXIF block: which way is up, and how to say "upright" after turning
    png.py, jpeg.py, webp.py, tiff.py, heif.py (AVIF and HEIC), netpbm.py, jp2.py, other.py

One file per format. Each has `read(data) -> Decoded`, and, where the format is written, a function that puts pixels and
metadata into it. OpenCV decodes and encodes pixels wherever its result was found to be right; what it gets wrong, or
cannot read, Pillow does, which is imported only then. Nothing here changes what a pixel value means: no reader turns,
scales or composes on its own, but for what its docstring says.
"""

# Of one image: a small file can claim more than the memory holds.
MOST_PIXELS = 1 << 27
