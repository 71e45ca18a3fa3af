"""The five degradations, made from clean photographs: `python -m train.degradations` writes a fixed test set.

Everything random comes from the generator that is passed in, everything else is float64 arithmetic that is rounded to
8 bits at the end, so a seed gives the same bytes again. What is made here is synthetic; every result on it says so.

  denoise  white Gaussian noise (`gaussian_noise`), or a sensor's: Poisson and Gaussian noise in linear light
           ("camera"), also after what a camera does to it: colour filter array, demosaicing, JPEG ("photo")
  derain   streaks of one direction ("light"), or up to five directions and a bright veil ("heavy")
  dehaze   I = J t + A (1 - t), t = exp(-beta d) with a depth that rises upwards and follows the picture's edges
  deblur   camera shake: random trajectories, another one in each of two to four regions, in linear light ("slight":
           2 to 9 pixels, "strong": 9 to 27)
  defocus  disks of confusion that grow with |1/d - 1/d_focus|, layered from back to front, in linear light ("slight":
           radii up to 2 to 5 pixels in a picture, "strong": 5 to 15)

Pictures are uint8 RGB [H, W, 3]. A *field* is float64 [H, W], smooth over about a third of the picture.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from simulator.files import write_atomically

Picture = npt.NDArray[np.uint8]
Field = npt.NDArray[np.float64]

GAMMA = 2.2
TRAJECTORY = {"slight": (2.0, 9.0), "strong": (9.0, 27.0)}  # extent of a camera shake, pixels
DISK = {"slight": (2.0, 5.0), "strong": (5.0, 15.0)}  # largest radius of confusion in a picture, pixels
TRANSMISSION = (0.2, 0.9)
FIELD_CELLS = 4  # a field has so many cells along the longer side


def _rounded(values: Field) -> Picture:
    """To 8 bits: nearest, clipped."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


_LINEAR = (np.arange(256) / 255.0) ** GAMMA


def to_linear(picture: Picture) -> Field:
    """Linear light 0..1, float64 of the picture's shape."""
    return _LINEAR[picture]


def from_linear(light: Field) -> Picture:
    """The inverse of `to_linear`, rounded to 8 bits."""
    return _rounded(255.0 * np.clip(light, 0, 1) ** (1 / GAMMA))


def _log_uniform(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    return float(np.exp(rng.uniform(*np.log(bounds))))


def smooth_field(shape: tuple[int, ...], rng: np.random.Generator) -> Field:
    """A field of about 0..1 (cubic interpolation of uniform noise on a coarse grid)."""
    height, width = shape[:2]
    cell = max(height, width, 64) / FIELD_CELLS
    coarse = rng.uniform(size=(int(height / cell) + 4, int(width / cell) + 4))
    shift = rng.uniform(1, 2, size=2)
    ys, xs = np.arange(height) / cell + shift[0], np.arange(width) / cell + shift[1]
    return _cubic(len(coarse), ys) @ coarse @ _cubic(coarse.shape[1], xs).T


def _cubic(count: int, places: Field) -> Field:
    """Weights [len(places), count] of a cubic B-spline: positive, so nothing overshoots."""
    distance = np.abs(places[:, None] - np.arange(count))
    inner = 2 / 3 - distance**2 + distance**3 / 2
    outer = np.clip(2 - distance, 0, None) ** 3 / 6
    return np.where(distance < 1, inner, outer)


def follow_edges(field: Field, picture: Picture, radius: int = 12, smoothing: float = 1e-3) -> Field:
    """The field bent to the picture's edges by a guided filter (He, Sun, Tang, 2010) on the grey picture."""
    guide = picture.mean(2) / 255.0
    size = (2 * radius + 1, 2 * radius + 1)

    def mean(x: Field) -> Field:
        return cv2.boxFilter(x, cv2.CV_64F, size, borderType=cv2.BORDER_REFLECT)

    # The guide moves the field a little wherever it changes: objects are not where the smooth field says.
    field = field + 0.25 * (guide - mean(guide))
    guide_mean, field_mean = mean(guide), mean(field)
    slope = (mean(guide * field) - guide_mean * field_mean) / (mean(guide**2) - guide_mean**2 + smoothing)
    return mean(slope) * guide + mean(field_mean - slope * guide_mean)


def depth_field(picture: Picture, rng: np.random.Generator, extent: float) -> Field:
    """A depth of about 0..1 that rises upwards, with smooth variations, bent to the picture's edges.

    extent: rows over which the ramp rises by one: the height of the whole photograph where `picture` is a part of it.
    """
    height = len(picture)
    horizon = rng.uniform(0, max(0.0, extent - height))
    ramp = 1 - (np.arange(height) + horizon) / extent
    share = rng.uniform(0.3, 0.8)
    field = share * ramp[:, None] + (1 - share) * smooth_field(picture.shape, rng)
    return np.clip(follow_edges(field, picture), 0, 1)


# denoise


def gaussian_noise(clean: Picture, rng: np.random.Generator, sigma: float) -> Picture:
    """White Gaussian noise of standard deviation sigma (8-bit levels), rounded and clipped to 8 bits."""
    return _rounded(clean + sigma * rng.standard_normal(clean.shape))


def camera_noise(clean: Picture, rng: np.random.Generator) -> Picture:
    """A small sensor's noise: shot noise (Poisson) and read noise (Gaussian) in linear light, clipped, 8 bits.

    Full scale is 60 to 2,000 electrons, read noise 1 to 6 electrons.
    """
    return from_linear(_sensor(to_linear(clean), rng))


def _sensor(light: Field, rng: np.random.Generator) -> Field:
    """What a small sensor reads of linear light 0..1, on the same scale."""
    full, read = _log_uniform(rng, (60.0, 2000.0)), rng.uniform(1, 6)
    electrons: Field = rng.poisson(light * full) + read * rng.standard_normal(light.shape)
    return electrons / full


# Bilinear demosaicing: a channel's pixels are its neighbours' mean where the filter array (RGGB) has another colour.
_CROSS = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]]) / 4.0
_SQUARE = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 4.0
_SITES = (((0, 0),), ((0, 1), (1, 0)), ((1, 1),))  # rows and columns, modulo 2, of red, green and blue


def _demosaiced(values: Field) -> Field:
    """[H, W, 3] of which each pixel keeps one channel; the others are interpolated bilinearly."""
    found = np.zeros_like(values)
    for channel, (sites, kernel) in enumerate(zip(_SITES, (_SQUARE, _CROSS, _SQUARE), strict=True)):
        mosaic = np.zeros(values.shape[:2])
        for y, x in sites:
            mosaic[y::2, x::2] = values[y::2, x::2, channel]
        found[..., channel] = cv2.filter2D(mosaic, cv2.CV_64F, kernel, borderType=cv2.BORDER_REFLECT_101)
    return found


def photo_noise(clean: Picture, rng: np.random.Generator) -> Picture:
    """A camera's noise as it is in its JPEGs: in grains of two or three pixels and in blocks of eight.

    The noise of `camera_noise`, and of it alone, goes through a colour filter array and bilinear demosaicing; the sum
    is stored as JPEG at a quality of 60 to 98, whose blocks start anywhere.
    """
    light = to_linear(clean)
    noisy = from_linear(light + _demosaiced(_sensor(light, rng) - light))
    quality, (top, left) = int(rng.integers(60, 99)), rng.integers(8, size=2)
    placed = cv2.copyMakeBorder(noisy[..., ::-1], int(top), 0, int(left), 0, cv2.BORDER_REPLICATE)
    _, stored = cv2.imencode(".jpg", placed, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.ascontiguousarray(cv2.imdecode(stored, cv2.IMREAD_COLOR)[top:, left:, ::-1]).astype(np.uint8)


# derain


def line_kernel(length: float, width: float, angle: float) -> Field:
    """An antialiased line through the middle, 1 on it: length and width in pixels, angle from the vertical, radians."""
    side = int(np.ceil(length / 2 + width)) + 1
    ys, xs = np.mgrid[-side : side + 1, -side : side + 1].astype(np.float64)
    along = xs * np.sin(angle) + ys * np.cos(angle)
    across = xs * np.cos(angle) - ys * np.sin(angle)
    distance = np.hypot(across, np.clip(np.abs(along) - length / 2, 0, None))
    return np.clip(width / 2 + 0.5 - distance, 0, 1)


def streaks(shape: tuple[int, ...], rng: np.random.Generator, density: float, angle: float) -> Field:
    """Rain of one direction, 0..1: `density` streaks per pixel, 10 to 40 pixels long and 1 to 3 wide."""
    layer = np.zeros(shape[:2])
    for part in range(2):  # near and far drops
        kernel = line_kernel(
            rng.uniform(10, 25) if part else rng.uniform(20, 40), rng.uniform(1, 3), angle + rng.normal(0, 0.03)
        )
        border = len(kernel) // 2
        canvas = (shape[0] + 2 * border, shape[1] + 2 * border)
        drops = np.zeros(canvas)
        count = rng.poisson(density / 2 * canvas[0] * canvas[1])
        drops[rng.integers(canvas[0], size=count), rng.integers(canvas[1], size=count)] = rng.uniform(0.25, 1, count)
        drawn = cv2.filter2D(drops, cv2.CV_64F, kernel, borderType=cv2.BORDER_CONSTANT)
        layer = np.maximum(layer, drawn[border : border + shape[0], border : border + shape[1]])
    return np.clip(layer, 0, 1)


def rain(clean: Picture, rng: np.random.Generator, heavy: bool) -> Picture:
    """Rain streaks, added or screened; light: one direction; heavy: two to five directions and a bright veil."""
    light = clean / 255.0
    main = rng.uniform(-np.pi / 4, np.pi / 4)
    for _ in range(rng.integers(2, 6) if heavy else 1):
        angle = float(np.clip(main + (rng.normal(0, 0.3) if heavy else 0), -np.pi / 4, np.pi / 4))
        density = _log_uniform(rng, (8e-4, 3e-3) if heavy else (5e-4, 2e-3))
        layer = rng.uniform(0.6, 1.0) * streaks(clean.shape, rng, density, angle)[..., None]
        light = light + layer * 0.8 if rng.uniform() < 0.5 else 1 - (1 - light) * (1 - layer)
        light = np.clip(light, 0, 1)
    if heavy:
        veil = rng.uniform(0.05, 0.25) * smooth_field(clean.shape, rng)[..., None]
        light = light * (1 - veil) + rng.uniform(0.7, 0.95) * veil
    return _rounded(255 * light)


# dehaze


def haze(clean: Picture, rng: np.random.Generator, extent: float | None = None) -> Picture:
    """I = J t + A (1 - t) (Koschmieder), t = exp(-beta d) within 0.2 to 0.9, A within 0.8 to 1.0 and nearly grey.

    extent: height of the whole photograph if `clean` is a part of it, pixels.
    """
    depth = depth_field(clean, rng, extent or len(clean))
    low, high = TRANSMISSION
    near, far = rng.uniform(0.0, 0.5), rng.uniform(0.5, 1.6)  # optical depth beta d at depth 0 and 1
    transmission = np.clip(np.exp(-(near + (far - near) * depth)), low, high)[..., None]
    airlight = np.clip(rng.uniform(0.8, 1.0) + rng.uniform(-0.02, 0.02, size=3), 0, 1)
    return _rounded(clean * transmission + 255 * airlight * (1 - transmission))


# deblur


def trajectory(rng: np.random.Generator, extent: float, points: int = 64) -> Field:
    """A hand's path during the exposure, [points, 2] pixels around its mean, `extent` pixels high or wide, whichever
    is more. Around its mean, because nothing in a picture tells where else the sharp one should lie.

    The velocity drifts and now and then changes abruptly.
    """
    turns = rng.normal(0, 0.25, points) + rng.normal(0, 1.5, points) * (rng.uniform(size=points) < 0.05)
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(turns) * rng.uniform(0, 1)
    speed = np.clip(1 + np.cumsum(rng.normal(0, 0.15, points)), 0.1, None)
    path = np.cumsum(speed[:, None] * np.stack([np.sin(heading), np.cos(heading)], 1), 0)
    return (path - path.mean(0)) * (extent / np.ptp(path, axis=0).max())


def path_kernel(path: Field) -> Field:
    """The kernel that a path draws, bilinear, sum 1; its side is odd."""
    half = int(np.ceil(np.abs(path).max())) + 1
    kernel = np.zeros((2 * half + 1, 2 * half + 1))
    base = np.floor(path).astype(int)
    part = path - base
    for dy in (0, 1):
        for dx in (0, 1):
            weight = np.abs(1 - dy - part[:, 0]) * np.abs(1 - dx - part[:, 1])
            np.add.at(kernel, (base[:, 0] + half + dy, base[:, 1] + half + dx), weight)
    return kernel / kernel.sum()


def motion_blur(clean: Picture, rng: np.random.Generator, strength: str) -> Picture:
    """Camera shake that varies over the picture: two to four paths, turned and scaled, blended by smooth fields.

    strength: a key of TRAJECTORY.
    """
    light = to_linear(clean)
    extent = _log_uniform(rng, TRAJECTORY[strength])
    path = trajectory(rng, extent)
    total, weights = np.zeros_like(light), np.zeros(clean.shape[:2])
    for _ in range(rng.integers(2, 5)):
        turn, scale = rng.normal(0, 0.15), rng.uniform(0.7, 1.0)
        turned = scale * path @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        blurred = cv2.filter2D(light, cv2.CV_64F, path_kernel(turned), borderType=cv2.BORDER_REFLECT)
        weight = smooth_field(clean.shape, rng) ** 4 + 1e-6
        total += blurred * weight[..., None]
        weights += weight
    return from_linear(total / weights[..., None])


# defocus


def disk_kernel(radius: float) -> Field:
    """An antialiased disk, sum 1, side odd; radius in pixels (0: nothing is blurred)."""
    half = int(np.ceil(radius + 0.5))
    ys, xs = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float64)
    kernel = np.clip(radius + 0.5 - np.hypot(ys, xs), 0, 1)
    return kernel / kernel.sum()


def defocus_blur(
    clean: Picture, rng: np.random.Generator, strength: str, extent: float | None = None, layers: int = 6
) -> Picture:
    """Thin-lens defocus: radius proportional to |1/d - 1/d_focus|, composed from the farthest layer to the nearest.

    strength: a key of DISK. extent: height of the whole photograph if `clean` is a part of it, pixels.
    """
    light = to_linear(clean)
    depth = 1 + 4 * depth_field(clean, rng, extent or len(clean))  # 1 to 5 times the nearest distance
    signed = 1 / depth - 1 / rng.uniform(depth.min(), depth.max() + 0.5)
    signed *= _log_uniform(rng, DISK[strength]) / max(np.abs(signed).max(), 1e-3)
    edges = np.linspace(signed.min(), signed.max() + 1e-9, layers + 1)
    blurred, covered = np.zeros_like(light), np.zeros((*clean.shape[:2], 1))
    for low, high in zip(edges[:-1], edges[1:], strict=True):  # from far to near
        mask = ((signed >= low) & (signed < high)).astype(np.float64)
        if not mask.any():
            continue
        kernel = disk_kernel(abs(low + high) / 2)
        alpha = cv2.filter2D(mask, cv2.CV_64F, kernel, borderType=cv2.BORDER_REFLECT)[..., None]
        colour = cv2.filter2D(light * mask[..., None], cv2.CV_64F, kernel, borderType=cv2.BORDER_REFLECT)
        blurred = blurred * (1 - alpha) + colour
        covered = covered * (1 - alpha) + alpha
    return from_linear(blurred / np.maximum(covered, 1e-6))


# One name per way of degrading; a task may have several. The last argument is the height of the whole photograph.
Degradation = Callable[[Picture, np.random.Generator, float | None], Picture]
VARIANTS: dict[str, dict[str, Degradation]] = {
    "denoise": {
        "sigma15": lambda clean, rng, _: gaussian_noise(clean, rng, 15),
        "sigma25": lambda clean, rng, _: gaussian_noise(clean, rng, 25),
        "sigma50": lambda clean, rng, _: gaussian_noise(clean, rng, 50),
        "camera": lambda clean, rng, _: camera_noise(clean, rng),
        "photo": lambda clean, rng, _: photo_noise(clean, rng),
    },
    "derain": {
        "light": lambda clean, rng, _: rain(clean, rng, False),
        "heavy": lambda clean, rng, _: rain(clean, rng, True),
    },
    "dehaze": {"outdoor": haze},
    "deblur": {
        "slight": lambda clean, rng, _: motion_blur(clean, rng, "slight"),
        "strong": lambda clean, rng, _: motion_blur(clean, rng, "strong"),
    },
    "defocus": {
        "slight": lambda clean, rng, extent: defocus_blur(clean, rng, "slight", extent),
        "strong": lambda clean, rng, extent: defocus_blur(clean, rng, "strong", extent),
    },
}
MARGIN = {"denoise": 0, "derain": 0, "dehaze": 24, "deblur": 24, "defocus": 24}  # of context around a training patch


def fixed(task: str, variant: str, clean: Picture, seed: int, index: int) -> Picture:
    """The degraded picture of a fixed test set: depends on the clean one, the variant, the seed and the index alone."""
    key = list(f"{task}/{variant}".encode())
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index, *key])))
    return VARIANTS[task][variant](clean, rng, None)


def contact_sheet(pairs: list[tuple[Picture, Picture]], width: int = 240) -> Picture:
    """A picture to look at: clean above degraded, one column per pair, scaled to `width` pixels."""
    columns = []
    for clean, degraded in pairs:
        height = max(1, round(width * clean.shape[0] / clean.shape[1]))
        small = [cv2.resize(p, (width, height), interpolation=cv2.INTER_AREA) for p in (clean, degraded)]
        columns.append(np.concatenate(small))
    tallest = max(len(column) for column in columns)
    return np.concatenate([np.pad(c, ((0, tallest - len(c)), (0, 4), (0, 0))) for c in columns], axis=1)


def write_png(path: Path, picture: Picture) -> bytes:
    """Write RGB as PNG, atomically; returns the SHA-256 of the pixels (the file's own bytes depend on the encoder)."""
    write_atomically(path, cv2.imencode(".png", np.ascontiguousarray(picture[..., ::-1]))[1].tobytes())
    return hashlib.sha256(np.ascontiguousarray(picture).tobytes()).digest()


def main(arguments: list[str] | None = None) -> int:
    """The command: 0 when written, 2 for a mistake the user can mend."""
    from train.data import DataError, image_paths, load_image

    parser = argparse.ArgumentParser(
        prog="python -m train.degradations", description="Write a fixed synthetic test set from clean photographs."
    )
    add = parser.add_argument
    add("--task", choices=tuple(VARIANTS), required=True)
    add("--variant", help="which way of degrading (default: the task's first)")
    add("--data", type=Path, required=True, metavar="DIR", help="folder of clean images")
    add(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="for input/, target/, set.json and sheet.png",
    )
    add("--seed", type=int, default=0)
    add("--limit", type=int, help="only the first N images")
    options = parser.parse_args(arguments)
    variant = options.variant or next(iter(VARIANTS[options.task]))
    if variant not in VARIANTS[options.task]:
        parser.error(f"--variant of {options.task} is one of {', '.join(VARIANTS[options.task])}, not {variant}")
    if options.limit is not None and options.limit < 1:
        parser.error(f"--limit must be at least 1, not {options.limit}")
    if options.seed < 0:
        parser.error(f"--seed must not be negative, not {options.seed}")
    try:
        paths = image_paths(options.data)[: options.limit]
        if options.out.resolve() == options.data.resolve():
            raise DataError(f"{options.out} holds the clean images; choose another folder for --out.")
        for name in ("input", "target"):
            (options.out / name).mkdir(parents=True, exist_ok=True)
        digest, pairs = hashlib.sha256(), []
        for index, path in enumerate(tqdm(paths, unit="image", disable=not sys.stderr.isatty())):
            clean = load_image(path)
            degraded = fixed(options.task, variant, clean, options.seed, index)
            digest.update(write_png(options.out / "input" / f"{path.stem}.png", degraded))
            digest.update(write_png(options.out / "target" / f"{path.stem}.png", clean))
            if len(pairs) < 6:
                pairs.append((clean, degraded))
        write_png(options.out / "sheet.png", contact_sheet(pairs))
        about = {
            "task": options.task, "variant": variant, "seed": options.seed, "images": len(paths), "synthetic": True,
            "sha256_of_pixels": digest.hexdigest(),
        }  # fmt: skip
        write_atomically(options.out / "set.json", (json.dumps(about, indent=1) + "\n").encode())
    except (DataError, OSError) as error:
        print(f"train.degradations: {error}", file=sys.stderr)
        return 2
    print(f"wrote {len(paths)} pairs to {options.out} (synthetic {options.task}, {variant}; {digest.hexdigest()[:12]})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
