"""What colours mean: ICC profiles, and CMYK and CIELAB, which become sRGB by Pillow and Little CMS."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from edge.containers.record import BROKEN, NotReadError, Samples

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage
    from PIL.ImageCms import ImageCmsProfile


def is_profile(content: bytes) -> bool:
    """Whether it is a whole ICC profile: with its signature, and as long as it says."""
    return content[36:40] == b"acsp" and 128 <= int.from_bytes(content[:4], "big") <= len(content)


def cmyk_to_rgb(data: bytes, naive: Samples, profile: bytes | None) -> tuple[Samples, str]:
    """(RGB, a note) of a CMYK file: by its profile, or, without one, `naive`, as viewers do it."""
    if profile is None or profile[16:20] != b"CMYK":
        return (
            naive,
            "has the colours of a printing press (CMYK) and no profile; it is restored as RGB, roughly",
        )
    from PIL import Image, ImageCms

    try:
        with Image.open(io.BytesIO(data)) as picture:
            rgb = _convert(picture, ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    except (*BROKEN, Image.DecompressionBombError) as error:
        raise NotReadError(f"has CMYK colours that could not be converted ({error}); convert it to RGB") from error
    return rgb, "has the colours of a printing press (CMYK); it is restored as sRGB, converted by its profile"


def lab_to_rgb(picture: PillowImage) -> Samples:
    """sRGB of a Pillow picture of mode LAB (D50)."""
    from PIL import ImageCms

    return _convert(picture, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")))


def _convert(picture: PillowImage, profile: ImageCmsProfile) -> Samples:
    from PIL import ImageCms

    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    return np.asarray(ImageCms.profileToProfile(picture, profile, srgb, outputMode="RGB"), np.uint8)
