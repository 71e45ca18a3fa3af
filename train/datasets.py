"""The data sets of the five tasks as they lie on disk: `python -m train.datasets [--data DIR]`.

One table, `DATASETS`, says of each set what it is for, how many images it has, how it is scored, in which folders it
is looked for, and where it comes from. Nothing is downloaded. Without --data the command prints the table; with it,
what is there, how many images, and what is missing. `find` gives a set's samples: paths, read when they are asked for.

Names of folders are compared without regard to case, "-" and "_". A folder may hold more than it needs to.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from train.data import IMAGE_SUFFIXES, TASKS, DataError, image_paths, load_deep_image, load_image


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
    read: Callable[[Path], list[Sample]]

    def lacks(self, folder: Path) -> list[str]:
        """What of `needs` is not below the folder."""
        if not self.needs:
            return [] if any(_images(folder)) else ["images"]
        return [need for need in self.needs if not _below(folder, need)]


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


def _below(folder: Path, path: str) -> list[Path]:
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


def _images(folder: Path) -> Iterable[Path]:
    return (path for path in _entries(folder) if path.suffix.lower() in IMAGE_SUFFIXES)


# Readers: a folder that has what its form needs -> samples


def _flat(folder: Path) -> list[Sample]:
    return [Sample(path.stem, path) for path in image_paths(folder)]


def _named(ending: str) -> Callable[[Path], list[Sample]]:
    """Clean images whose names end so, among others."""
    return lambda folder: [sample for sample in _flat(folder) if sample.name.endswith(ending)]


def _splits(folder: Path) -> list[Sample]:
    """Clean images in the sub-folders train, val and test, those of them that are there."""
    places = [place for split in ("train", "val", "test") for place in _below(folder, split)]
    return [replace(sample, group=place.name) for place in places for sample in _flat(place)]


def _same(stem: str) -> str:
    return stem


def _rain(stem: str) -> str:
    """rain-001 -> norain-001; 901_14 -> 901."""
    return f"no{stem}" if stem.startswith("rain-") else stem.split("_")[0]


def _haze(stem: str) -> str:
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
        (left,), (right,) = _below(folder, degraded), _below(folder, clean)
        places = [left] if any(_images(left)) else [place for place in _below(left, "*") if any(_images(place))]
        if not places:
            image_paths(left)  # says that there are none
        found = [path for place in places for path in image_paths(place)]
        return [replace(sample, frame=frame) for sample in _match(found, image_paths(right), partner)]

    return read


def _scenes(degraded: str, clean: str) -> Callable[[Path], list[Sample]]:
    """A folder per scene with a folder of degraded and one of clean images."""
    read_scene = _pairs(degraded, clean)

    def read(folder: Path) -> list[Sample]:
        scenes = [place for place in _below(folder, "*") if _below(place, degraded)]
        for scene in scenes:
            if not _below(scene, clean):
                raise DataError(f"The scene {scene} has a folder {degraded} and none named {clean}.")
        return [replace(sample, name=f"{s.name}/{sample.name}") for s in scenes for sample in read_scene(s)]

    return read


def _hide(folder: Path) -> list[Sample]:
    """HIDE as published: test/test-close-ups and test/test-long-shot, every clean picture in GT."""
    clean = image_paths(_below(folder, "GT")[0])
    parts = {
        "close-ups": _below(folder, "test/test-close-ups")[0],
        "long-shot": _below(folder, "test/test-long-shot")[0],
    }
    return [replace(s, group=part) for part, place in parts.items() for s in _match(image_paths(place), clean, _same)]


def _listed(listing: str) -> Callable[[Path], list[Sample]]:
    """RealBlur as published: a text file of lines "SCENE/gt/gt_1.png SCENE/blur/blur_1.png", relative to its folder."""

    def read(folder: Path) -> list[Sample]:
        (file,) = _below(folder, listing)
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


def _dpdd(degraded: str, clean: str, left: str, right: str) -> Callable[[Path], list[Sample]]:
    """Defocus pairs with dual-pixel views where they are there.

    A scene's pictures bear different numbers, so they belong together by their order.
    """

    def read(folder: Path) -> list[Sample]:
        places = {name: _below(folder, path) for name, path in (("left", left), ("right", right))}
        files = {"degraded": image_paths(_below(folder, degraded)[0]), "clean": image_paths(_below(folder, clean)[0])}
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
        for file in _below(folder, f"{group}_labels.npy"):
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


# The table


def _paired(
    *folders: str,
    names: tuple[str, str] = ("input", "target"),
    partner: Callable[[str], str] = _same,
    frame: int = 0,
) -> Form:
    return Form(folders, names, _pairs(*names, partner, frame))


def _clean(name: str, count: int, folders: tuple[str, ...], source: str, *more: Form) -> DataSet:
    return DataSet(name, "denoise", "test", count, (), (*more, Form(folders, (), _flat)), source)


# Restormer's figures are on Y; PromptIR's and AdaIR's on RGB, cut to what their networks divide.
_DERAIN = (Protocol("y", channels="Y"), Protocol("rgb", ssim="uniform", crop=16))
_DEHAZE = (Protocol("rgb", ssim="uniform", crop=16),)
_MOTION = (Protocol("rgb", ssim="volume"),)
_REALBLUR = (Protocol("rgb", aligned=True),)
_DEFOCUS = (Protocol("rgb", ssim="uniform", perceptual=True),)


def _rain_test(name: str, folder: str, count: int, source: str) -> DataSet:
    places = (f"Rain13K/test/{folder}", f"test/{folder}", f"derain/{folder}", folder)
    forms = (_paired(*places, partner=_rain), _paired(*places, names=("rainy", "gt"), partner=_rain))
    return DataSet(name, "derain", "test", count, _DERAIN, forms, source)


def _realblur(kind: str) -> DataSet:
    places = (f"RealBlur_{kind}", f"test/RealBlur_{kind}", f"RealBlur/test/RealBlur_{kind}")
    listing = f"RealBlur_{kind}_test_list.txt"
    source = "RealBlur, Rim et al., Real-World Blur Dataset for Learning and Benchmarking Deblurring, ECCV 2020"
    forms = (_paired(*places), Form(("RealBlur", "."), (listing,), _listed(listing)))
    return DataSet(f"realblur-{kind.lower()}", "deblur", "test", 980, _REALBLUR, forms, source)


_BSD = "Arbelaez et al., Contour Detection and Hierarchical Image Segmentation, PAMI 2011"
_RAIN13K = "gathered by Jiang et al., MSPFN, CVPR 2020, and Zamir et al., MPRNet, CVPR 2021"
_RESIDE = "RESIDE, Li et al., Benchmarking Single-Image Dehazing and Beyond, TIP 2019"
_GOPRO = "Nah et al., Deep Multi-scale CNN for Dynamic Scene Deblurring, CVPR 2017"
_DPDD = "Abuolaim and Brown, Defocus Deblurring Using Dual-Pixel Data, ECCV 2020"
_SOTS_NAMES = (("hazy", "gt"), ("hazy", "clear"), ("input", "target"))

DATASETS: dict[str, DataSet] = {
    data_set.name: data_set
    for data_set in (
        _clean(
            "cbsd68", 68, ("CBSD68", "CBSD68/original_png", "denoise/bsd68"),
            f"68 images of BSDS (Roth and Black, Fields of Experts, CVPR 2005), in colour; {_BSD}",
        ),
        _clean("kodak24", 24, ("Kodak24", "Kodak"), "Kodak lossless true colour image suite (Franzen)"),
        _clean(
            "mcmaster", 18, ("McMaster", "McM"),
            "Zhang et al., Color Demosaicking by Local Directional Interpolation, JEI 2011",
        ),
        _clean(
            "urban100", 100, ("Urban100", "Urban100/HR", "denoise/urban100"),
            "Huang et al., Single Image Super-Resolution from Transformed Self-Exemplars, CVPR 2015",
            Form(("Urban100/image_SRF_4", "image_SRF_4"), ("img_001_SRF_4_HR.png",), _named("_HR")),
        ),
        DataSet(
            "bsds500", "denoise", "train", 500, (),
            (Form(("BSR/BSDS500/data/images", "BSDS500/data/images", "BSDS500"), ("train",), _splits),),
            f"BSDS500: 200 train, 100 val, 200 test; {_BSD}",
        ),
        _rain_test("test100", "Test100", 98, "Zhang et al., Image De-raining Using a Conditional GAN, TCSVT 2019"),
        _rain_test("rain100h", "Rain100H", 100, "Yang et al., Deep Joint Rain Detection and Removal, CVPR 2017"),
        _rain_test("rain100l", "Rain100L", 100, "Yang et al., Deep Joint Rain Detection and Removal, CVPR 2017"),
        _rain_test("test1200", "Test1200", 1200, "Zhang and Patel, Density-aware Single Image De-raining, CVPR 2018"),
        _rain_test("test2800", "Test2800", 2800, "Fu et al., Removing Rain from Single Images via a DDN, CVPR 2017"),
        DataSet(
            "rain13k", "derain", "train", 13712, _DERAIN,
            (_paired("Rain13K/train", "train/Rain13K", "Rain13K", partner=_rain),), f"Rain13K, {_RAIN13K}",
        ),
        DataSet(
            "sots-outdoor", "dehaze", "test", 500, _DEHAZE,
            tuple(
                _paired("RESIDE/SOTS/outdoor", "SOTS/outdoor", "test/dehaze", "dehaze", names=names, partner=_haze)
                for names in _SOTS_NAMES
            ),
            f"{_RESIDE} (492 clean images)",
        ),
        DataSet(
            "sots-indoor", "dehaze", "test", 500, _DEHAZE,
            tuple(
                _paired(
                    "RESIDE/SOTS/indoor", "RESIDE/SOTS/indoor/nyuhaze500", "SOTS/indoor", "SOTS/indoor/nyuhaze500",
                    "nyuhaze500", names=names, partner=_haze, frame=10,
                )
                for names in _SOTS_NAMES
            ),
            f"{_RESIDE} (50 clean images)",
        ),
        DataSet(
            "ots", "dehaze", "train", 72135, _DEHAZE,
            (
                *(
                    _paired("RESIDE/OTS", "RESIDE/OTS_BETA", "OTS", "OTS_BETA", names=names, partner=_haze)
                    for names in (("hazy", "clear"), ("haze", "clear"), ("hazy", "gt"))
                ),
                _paired("Train/Dehaze", "OTS", names=("synthetic", "original"), partner=_haze),
            ),
            f"{_RESIDE} (OTS_BETA: 2,061 clean images)",
        ),
        DataSet(
            "gopro", "deblur", "test", 1111, _MOTION,
            (
                Form(("GOPRO_Large/test", "GoPro/test"), ("*/blur", "*/sharp"), _scenes("blur", "sharp")),
                _paired("GoPro/test", "test/GoPro", "GoPro"),
                _paired("GoPro/test", names=("blur", "sharp")),
            ),
            f"{_GOPRO} (GOPRO_Large, its folders blur, not blur_gamma)",
        ),
        DataSet(
            "gopro-train", "deblur", "train", 2103, _MOTION,
            (
                Form(("GOPRO_Large/train", "GoPro/train"), ("*/blur", "*/sharp"), _scenes("blur", "sharp")),
                _paired("GoPro/train", "train/GoPro"),
                _paired("GoPro/train", names=("blur", "sharp")),
            ),
            f"{_GOPRO} (GOPRO_Large, its folders blur, not blur_gamma)",
        ),
        DataSet(
            "hide", "deblur", "test", 2025, _MOTION,
            (
                Form(("HIDE_dataset", "HIDE"), ("GT", "test/test-close-ups", "test/test-long-shot"), _hide),
                _paired("HIDE", "HIDE/test", "test/HIDE"),
            ),
            "Shen et al., Human-Aware Motion Deblurring, ICCV 2019",
        ),
        _realblur("J"),
        _realblur("R"),
        DataSet(
            "dpdd", "defocus", "test", 76, _DEFOCUS,
            (
                Form(
                    ("DPDD/test", "test/DPDD", "DPDD"), ("inputC", "target"),
                    _dpdd("inputC", "target", "inputL", "inputR"),
                ),
                Form(
                    ("dd_dp_dataset_canon", "DPDD"), ("test_c/source", "test_c/target"),
                    _dpdd("test_c/source", "test_c/target", "test_l/source", "test_r/source"),
                ),
            ),
            f"{_DPDD} (37 indoor, 39 outdoor)",
        ),
        DataSet(
            "dpdd-train", "defocus", "train", 350, _DEFOCUS,
            (
                Form(
                    ("DPDD/train", "train/DPDD"), ("inputC", "target"), _dpdd("inputC", "target", "inputL", "inputR")
                ),
                Form(
                    ("dd_dp_dataset_canon", "DPDD"), ("train_c/source", "train_c/target"),
                    _dpdd("train_c/source", "train_c/target", "train_l/source", "train_r/source"),
                ),
            ),
            _DPDD,
        ),
    )
}  # fmt: skip


# Finding


def find(name: str, root: str | Path, itself: bool = True) -> list[Sample]:
    """The samples of the set `name` below the folder `root`, sorted by name as its form gives them.

    itself: `root` may also be the set's own folder. Raises DataError: not there (what was expected), or not whole.
    """
    root, data_set = _root(root), DATASETS[name]
    unfit = []
    places = [(form, place) for form in data_set.forms for path in form.folders for place in _places(root, path)]
    for form, place in places + [(form, root) for form in data_set.forms if itself]:
        lacking = form.lacks(place)
        if not lacking:
            return form.read(place)
        if place != root:
            unfit.append((place, lacking))
    expected = "; or ".join(data_set.places())
    if unfit:
        place, lacking = unfit[0]
        raise DataError(f"{name}: {place} is there but has no {' and no '.join(lacking)}; expected {expected}.")
    own = ", or its contents directly in the folder" if itself else ""
    raise DataError(f"{name} is not in {root}; expected {expected}{own}.")


def find_synthetic(root: str | Path) -> list[tuple[DataSet, list[Sample]]]:
    """The project's own test sets, as `python -m train.degradations` writes them: `root` or folders directly below it.

    Raises DataError if one is there and damaged.
    """
    root = _root(root)
    folders = [place for place in (root, *_below(root, "*")) if (place / "set.json").is_file()]
    return [_synthetic(folder) for folder in folders]


def _synthetic(folder: Path) -> tuple[DataSet, list[Sample]]:
    file = folder / "set.json"
    wanted = {"task": str, "variant": str, "seed": int, "images": int, "sha256_of_pixels": str}
    try:
        about = json.loads(file.read_text())
        for key, kind in wanted.items():
            if not isinstance(about[key], kind):
                raise TypeError(f"{key} is {about[key]!r}")
        if about["task"] not in TASKS or about.get("synthetic") is not True:
            raise ValueError("it names none of the five tasks, or is not marked synthetic")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{file} is not the note that train.degradations leaves with a set ({error}).") from error
    form = _paired(folder.name)
    lacking = form.lacks(folder)
    if lacking:
        raise DataError(f"The synthetic set {folder} has no {' and no '.join(lacking)}; write it anew.")
    data_set = DataSet(
        f"synthetic {about['task']} {about['variant']}", about["task"], "test", about["images"], (Protocol("rgb"),),
        (form,), "python -m train.degradations", f"{about['variant']}, seed {about['seed']}", about["sha256_of_pixels"],
    )  # fmt: skip
    return data_set, form.read(folder)


def check_pixels(data_set: DataSet, samples: list[Sample]) -> None:
    """Raise DataError unless the pixels of a synthetic set are those that its note names."""
    digest = hashlib.sha256()
    for sample in samples:
        for picture in sample.load():
            digest.update(hashlib.sha256(picture.tobytes()).digest())
    if digest.hexdigest() != data_set.digest:
        raise DataError(
            f"The pixels in {samples[0].clean.parent.parent} are not those that its set.json names; write the set anew."
        )


def _root(root: str | Path) -> Path:
    root = Path(root)
    if not os.path.isdir(root):
        what = "is not a folder" if os.path.exists(root) else "does not exist"
        raise DataError(f"The data folder {root} {what}; pass the folder that holds the data sets.")
    return root


def _places(root: Path, path: str) -> list[Path]:
    return [root] if path == "." else [place for place in _below(root, path) if place.is_dir()]


# The command


def describe() -> str:
    """The table as text: every set, how it is scored, the folder forms, the source."""
    lines = []
    for data_set in DATASETS.values():
        lines.append(f"{data_set.name}: {data_set.task}, {data_set.role}, {data_set.count} images. {data_set.source}.")
        if data_set.role == "test":
            scored = [protocol.words() for protocol in data_set.protocols]
            noise = "RGB PSNR / SSIM (Gaussian window), whole images, Gaussian noise added, clipped or not"
            lines += [f"    scored: {words}" for words in scored or [noise]]
        lines += [f"    folder: {words}" for words in data_set.places()]
    return "\n".join(lines)


def survey(root: str | Path) -> str:
    """One line per set: how many images there are, or what is missing. Raises DataError if there is no folder."""
    root, lines, found = _root(root), [], 0
    for name, data_set in DATASETS.items():
        head = f"{name:13s}{data_set.task:9s}{data_set.role:7s}"
        try:
            samples = find(name, root, itself=False)
        except DataError as error:
            lines.append(f"{head}{'-':>14s}  {error}")
            continue
        found += 1
        short = "" if len(samples) == data_set.count else f"  {abs(len(samples) - data_set.count)} images too "
        short += "" if not short else "few." if len(samples) < data_set.count else "many."
        lines.append(f"{head}{f'{len(samples)} of {data_set.count}':>14s}{short}")
    try:
        for data_set, samples in find_synthetic(root):
            found += 1
            lines.append(
                f"{data_set.name}: {len(samples)} of {data_set.count}, {samples[0].clean.parent.parent} "
                f"(SYNTHETIC: {data_set.synthetic})"
            )
    except DataError as error:
        lines.append(f"synthetic: {error}")
    lines.append(f"{found} sets found in {root}.")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 when done, 2 if there is no such folder."""
    parser = argparse.ArgumentParser(
        prog="python -m train.datasets", description="Which data sets are known, and which of them are there."
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="look for the sets here (default: print the table)")
    options = parser.parse_args(arguments)
    try:
        print(describe() if options.data is None else survey(options.data))
    except DataError as error:
        print(f"train.datasets: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
