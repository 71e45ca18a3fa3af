"""How data sets lie on disk: samples, the folders in which they are looked for, and how each form is read.

Names of folders are compared without regard to case, "-" and "_". A folder may hold more than it needs to. Which set
lies in which forms stands in `train/tasks.py`; `train/datasets.py` looks for them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from train.data import IMAGE_SUFFIXES, DataError, image_paths, load_deep_image, load_image


@dataclass(frozen=True)
class Sample:
    """One test or training picture: paths only, read by `load`.

    degraded: None for the sets of clean images that noise is added to.
    extra: further views by name; DPDD's dual pixels are "left" and "right".
    group: the part of the set that is also scored on its own (DPDD: "indoor", "outdoor"), or None.
    frame: width in pixels of a frame that the clean picture may have around what the degraded one shows.
    """

    name: str
    clean: Path
    degraded: Path | None = None
    extra: tuple[tuple[str, Path], ...] = ()
    group: str | None = None
    frame: int = 0

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        """(degraded, clean), uint8 RGB [H, W, 3] of one size; 16-bit files lose their lower 8 bits.

        Raises DataError if a file cannot be read, the sizes differ, or there is no degraded picture.
        """
        if self.degraded is None:
            raise DataError(f"{self.clean} comes without a degraded picture; its set is one that noise is added to.")
        degraded, clean = load_image(self.degraded), load_image(self.clean)
        (height, width), cut = degraded.shape[:2], self.frame
        if cut and clean.shape[:2] == (height + 2 * cut, width + 2 * cut):
            clean = np.ascontiguousarray(clean[cut:-cut, cut:-cut])
        if degraded.shape != clean.shape:
            raise DataError(
                f"{self.degraded} has {width}x{height} pixels, its clean partner {self.clean} "
                f"{clean.shape[1]}x{clean.shape[0]}; the two must be of one size."
            )
        return degraded, clean

    def load_extra(self, name: str) -> np.ndarray:
        """A further view, RGB [H, W, 3], uint8 or uint16 as its file. Raises DataError if there is none."""
        views = dict(self.extra)
        if name not in views:
            raise DataError(f"{self.name} has no view {name}; it has {', '.join(views) or 'none'}.")
        return load_deep_image(views[name])


@dataclass(frozen=True)
class Protocol:
    """How a paired set is scored. Pictures are 8 bits before and after.

    ssim: the variant of `train.metrics`: "gaussian", "uniform" or "volume".
    crop: sides are cut about the middle to a multiple of this many pixels, before restoring.
    aligned: RealBlur's intensity matching and homography come first, for every row of the table.
    perceptual: MAE and LPIPS as well.
    """

    name: str
    channels: str = "RGB"
    ssim: str = "gaussian"
    crop: int = 1
    aligned: bool = False
    perceptual: bool = False

    def words(self) -> str:
        """For a caption."""
        windows = {"gaussian": "Gaussian window", "uniform": "uniform 7x7 window", "volume": "MATLAB's, 3-D window"}
        cut = "whole images" if self.crop == 1 else f"centre crop to a multiple of {self.crop}"
        aligned = ", after RealBlur's alignment (intensity and homography)" if self.aligned else ""
        more = " / MAE / LPIPS (AlexNet)" if self.perceptual else ""
        channels = "Y (MATLAB's rgb2ycbcr, 8 bits)" if self.channels == "Y" else self.channels
        return f"{channels} PSNR [dB] / SSIM ({windows[self.ssim]}){more}, {cut}{aligned}, 8-bit input and output"


@dataclass(frozen=True)
class Form:
    """One way that a set lies on disk.

    folders: where, below --data. needs: what must be below such a folder, "*" for any sub-folder; nothing means images
    directly inside. read: the folder's samples; raises DataError.
    """

    folders: tuple[str, ...]
    needs: tuple[str, ...]
    read: Callable[[Path], list[Sample]] = field(compare=False)  # readers that are made alike are not equal

    def lacks(self, folder: Path) -> list[str]:
        """What of `needs` is not below the folder."""
        if not self.needs:
            return [] if any(images_in(folder)) else ["images"]
        return [need for need in self.needs if not below(folder, need)]


@dataclass(frozen=True)
class DataSet:
    """One row of the table. synthetic: what made it, for the project's own sets; digest: SHA-256 of their pixels."""

    name: str
    task: str
    role: str  # "test" or "train"
    count: int
    protocols: tuple[Protocol, ...]  # none: clean images, noise is added by `train.evaluate`
    forms: tuple[Form, ...]
    source: str
    synthetic: str = ""
    digest: str = ""

    def places(self) -> list[str]:
        """What is looked for, such as "Test100 (or test/Test100) with input and target, or with rainy and gt"."""
        contents: dict[tuple[str, ...], list[str]] = {}
        for form in self.forms:
            contents.setdefault(form.folders, []).append(f"with {' and '.join(form.needs) or 'the images'}")
        words = []
        for (first, *others), inside in contents.items():
            also = f" (or {', '.join(others)})" if others else ""
            words.append(f"{first}{also} {', or '.join(inside)}")
        return words


# Folders


def _key(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir()) if os.path.isdir(folder) else []
    except OSError as error:
        raise DataError(f"The folder {folder} cannot be read: {error}.") from error


def below(folder: Path, path: str) -> list[Path]:
    """What lies at `path` below the folder: one place or none, several where the path has a "*"."""
    places = [folder]
    for part in path.split("/"):
        found = []
        for place in places:
            if part != "*" and os.path.exists(place / part):  # spares reading folders of many files
                found.append(place / part)
                continue
            matches = [e for e in _entries(place) if (e.is_dir() if part == "*" else _key(e.name) == _key(part))]
            found += matches if part == "*" else matches[:1]
        places = found
    return places


def images_in(folder: Path) -> Iterable[Path]:
    return (path for path in _entries(folder) if path.suffix.lower() in IMAGE_SUFFIXES)


# Readers: a folder that has what its form needs -> samples


def flat(folder: Path) -> list[Sample]:
    return [Sample(path.stem, path) for path in image_paths(folder)]


def named(ending: str) -> Callable[[Path], list[Sample]]:
    """Clean images whose names end so, among others."""
    return lambda folder: [sample for sample in flat(folder) if sample.name.endswith(ending)]


def beside(degraded: str, clean: str) -> Callable[[Path], list[Sample]]:
    """Pairs in one folder, told apart by how their names end."""

    def read(folder: Path) -> list[Sample]:
        by_stem = {path.stem: path for path in image_paths(folder)}
        samples = []
        for stem, path in by_stem.items():
            if stem.endswith(degraded):
                name = stem.removesuffix(degraded)
                if name + clean not in by_stem:
                    raise DataError(f"{path} has no clean partner: {folder} holds no image named {name}{clean}.")
                samples.append(Sample(name, by_stem[name + clean], path))
        if not samples:
            raise DataError(f"{folder} holds no image whose name ends in {degraded}.")
        return samples

    return read


def splits(folder: Path) -> list[Sample]:
    """Clean images in the sub-folders train, val and test, those of them that are there."""
    places = [place for split in ("train", "val", "test") for place in below(folder, split)]
    return [replace(sample, group=place.name) for place in places for sample in flat(place)]


def _same(stem: str) -> str:
    return stem


def rain_partner(stem: str) -> str:
    """rain-001 -> norain-001; 901_14 -> 901."""
    return f"no{stem}" if stem.startswith("rain-") else stem.split("_")[0]


def haze_partner(stem: str) -> str:
    """0001_0.8_0.2 -> 0001; 1400_1 -> 1400."""
    return stem.split("_")[0]


def _match(degraded: list[Path], clean: list[Path], partner: Callable[[str], str]) -> list[Sample]:
    """Pairs by name: the clean picture has the degraded one's stem, or what `partner` makes of it."""
    by_stem: dict[str, Path] = {}
    for path in clean:
        if path.stem in by_stem:
            raise DataError(f"{path.parent} holds two images named {path.stem}; keep one of them.")
        by_stem[path.stem] = path
    samples = []
    for path in degraded:
        found = by_stem.get(path.stem) or by_stem.get(partner(path.stem))
        if found is None:
            raise DataError(
                f"{path} has no clean partner: {clean[0].parent} holds no image named {partner(path.stem)}."
            )
        samples.append(Sample(path.stem, found, path))
    return samples


def _pairs(
    degraded: str, clean: str, partner: Callable[[str], str] = _same, frame: int = 0
) -> Callable[[Path], list[Sample]]:
    """Two folders, names matched; the degraded images may lie in sub-folders of theirs (OTS: part1, part2, ...)."""

    def read(folder: Path) -> list[Sample]:
        (left,), (right,) = below(folder, degraded), below(folder, clean)
        places = [left] if any(images_in(left)) else [place for place in below(left, "*") if any(images_in(place))]
        if not places:
            image_paths(left)  # says that there are none
        found = [path for place in places for path in image_paths(place)]
        return [replace(sample, frame=frame) for sample in _match(found, image_paths(right), partner)]

    return read


def scenes(degraded: str, clean: str) -> Callable[[Path], list[Sample]]:
    """A folder per scene with a folder of degraded and one of clean images."""
    read_scene = _pairs(degraded, clean)

    def read(folder: Path) -> list[Sample]:
        scenes = [place for place in below(folder, "*") if below(place, degraded)]
        for scene in scenes:
            if not below(scene, clean):
                raise DataError(f"The scene {scene} has a folder {degraded} and none named {clean}.")
        return [replace(sample, name=f"{s.name}/{sample.name}") for s in scenes for sample in read_scene(s)]

    return read


def hide(folder: Path) -> list[Sample]:
    """HIDE as published: test/test-close-ups and test/test-long-shot, every clean picture in GT."""
    clean = image_paths(below(folder, "GT")[0])
    parts = {
        "close-ups": below(folder, "test/test-close-ups")[0],
        "long-shot": below(folder, "test/test-long-shot")[0],
    }
    return [replace(s, group=part) for part, place in parts.items() for s in _match(image_paths(place), clean, _same)]


def listed(listing: str) -> Callable[[Path], list[Sample]]:
    """RealBlur as published: a text file of lines "SCENE/gt/gt_1.png SCENE/blur/blur_1.png", relative to its folder."""

    def read(folder: Path) -> list[Sample]:
        (file,) = below(folder, listing)
        try:
            lines = file.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"The list {file} cannot be read: {error}.") from error
        samples = []
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            paths = [Path(word) for word in line.split()[:2]]
            kinds = {path.parent.name: folder / path for path in paths}
            if set(kinds) != {"gt", "blur"} or any(path.is_absolute() or ".." in path.parts for path in paths):
                raise DataError(f"Line {number} of {file} is not of the form SCENE/gt/NAME SCENE/blur/NAME.")
            for path in kinds.values():
                if not path.is_file():
                    raise DataError(f"{file} names {path} in line {number}, and there is no such file.")
            name = f"{kinds['blur'].parent.parent.name}/{kinds['blur'].stem}"
            samples.append(Sample(name, kinds["gt"], kinds["blur"]))
        if not samples:
            raise DataError(f"The list {file} is empty.")
        return samples

    return read


def dual_pixel(degraded: str, clean: str, left: str, right: str) -> Callable[[Path], list[Sample]]:
    """Defocus pairs with dual-pixel views where they are there.

    A scene's pictures bear different numbers, so they belong together by their order.
    """

    def read(folder: Path) -> list[Sample]:
        places = {name: below(folder, path) for name, path in (("left", left), ("right", right))}
        files = {"degraded": image_paths(below(folder, degraded)[0]), "clean": image_paths(below(folder, clean)[0])}
        files |= {name: image_paths(place[0]) for name, place in places.items() if place}
        counts = {name: len(paths) for name, paths in files.items()}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{count} {name}" for name, count in counts.items())
            raise DataError(f"{folder} holds {told} images; they pair by their order and must be as many.")
        groups = _labels(folder, counts["clean"])
        return [
            Sample(
                files["degraded"][i].stem,
                files["clean"][i],
                files["degraded"][i],
                tuple((view, files[view][i]) for view in places if view in files),
                groups.get(i),
            )
            for i in range(counts["clean"])
        ]

    return read


def _labels(folder: Path, count: int) -> dict[int, str]:
    """{index: "indoor" or "outdoor"} from indoor_labels.npy and outdoor_labels.npy (counted from 1), or nothing."""
    groups: dict[int, str] = {}
    for group in ("indoor", "outdoor"):
        for file in below(folder, f"{group}_labels.npy"):
            try:
                numbers = [int(number) for number in np.load(file, allow_pickle=False).ravel()]
            except (OSError, ValueError, EOFError) as error:
                raise DataError(f"{file} is not an array of image numbers ({error}).") from error
            if any(not 1 <= number <= count or number - 1 in groups for number in numbers):
                raise DataError(f"{file} does not fit the {count} images of {folder}: each has one number, from 1.")
            groups |= {number - 1: group for number in numbers}
    if groups and len(groups) != count:
        raise DataError(f"The labels in {folder} name {len(groups)} of its {count} images as indoor or outdoor.")
    return groups


def paired(
    *folders: str,
    names: tuple[str, str] = ("input", "target"),
    partner: Callable[[str], str] = _same,
    frame: int = 0,
) -> Form:
    return Form(folders, names, _pairs(*names, partner, frame))
