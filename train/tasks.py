"""The tasks: one entry each, from which every table of tasks in this package is made.

What a task is: how its pictures are degraded, what it is trained and validated on, what the paper says of it, how it
is named in tables and figures. A new task is an entry here, its function in `train/degradations`, and its name in
`simulator/tasks.py`, which says what a bundle may be for and what `edge-restore` offers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from train import published
from train.degradations.camera import varied_camera_noise
from train.degradations.defocus import defocus_blur, varied_defocus
from train.degradations.haze import haze
from train.degradations.jpeg import jpeg, varied_jpeg
from train.degradations.motion import motion_blur, varied_motion
from train.degradations.noise import camera_noise, gaussian_noise, photo_noise
from train.degradations.pictures import Degradation
from train.degradations.rain import rain
from train.degradations.varied_haze import varied_haze
from train.degradations.varied_rain import varied_rain
from train.folders import (
    DataSet,
    Form,
    Protocol,
    beside,
    dual_pixel,
    flat,
    haze_partner,
    hide,
    listed,
    named,
    paired,
    rain_partner,
    scenes,
    splits,
)


@dataclass(frozen=True)
class Losses:
    """Weights of the losses beside L1, where the command does not give them (the paper's: 0.1, 0.12, no third)."""

    fft_weight: float = 0.1
    hint_weight: float = 0.12
    psnr_weight: float = 0.0


@dataclass(frozen=True)
class Task:
    """One kind of restoration, or several at once.

    variants: ways of degrading by name; a test set is made by one of them, the first if none is named.
    drawn: the variants that a training patch is degraded by, one of them by chance, as often as it is named here; all
      alike if none is named.
    noise_levels: the task is white Gaussian noise: a training patch draws its level from --sigma, validation and tests
      take each of these (8-bit levels), and test sets are clean images. Empty: variants take turns in validation.
    margin: pixels of context that a training patch is degraded with, around itself.
    epochs: of training, where the command does not say how long: the paper's, for its tasks.
    title, colour: in headlines and in figures (Matplotlib's). paper: its table of this task, None if it has none.
    sample: the variant that made the task's picture in edge/samples; None: it has none, and the noisy one is shown.
    alike: tasks whose degradation cannot be told from this one's, so that nobody can ask for one to be left alone.
    parts: the tasks of an all-in-one network, which is not told how a picture was degraded; it has no more than that.
    """

    title: str
    epochs: int
    variants: Mapping[str, Degradation] = field(default_factory=dict)
    drawn: tuple[str, ...] = ()
    noise_levels: tuple[int, ...] = ()
    margin: int = 0
    losses: Losses = Losses()
    datasets: tuple[DataSet, ...] = ()
    colour: str = "C7"
    paper: published.PaperTable | None = None
    sample: str | None = None
    alike: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()

    def headline(self, dataset: str, synthetic: bool) -> str:
        """Which of the paper's tables a table of this set corresponds to."""
        if self.paper is None:
            return f"{self.title[0].upper()}{self.title[1:]}: a task that the paper does not have."
        number = self.paper.number
        if synthetic:
            return f"Synthetic twin of the paper's Table {number} ({self.title}); no figure of the paper is comparable."
        if dataset in self.paper.datasets:
            return f"Table {number} of the paper: {self.title}"
        return f"Beside Table {number} of the paper ({self.title}): a set that the paper does not have."

    def in_paper(self, dataset: str) -> bool:
        """Whether the paper prints figures of this set."""
        return self.paper is not None and dataset in self.paper.datasets


def _clean(name: str, count: int, folders: tuple[str, ...], source: str, *more: Form) -> DataSet:
    return DataSet(name, "denoise", "test", count, (), (*more, Form(folders, (), flat)), source)


# Restormer's figures are on Y; PromptIR's and AdaIR's on RGB, cut to what their networks divide.
_DERAIN = (Protocol("y", channels="Y"), Protocol("rgb", ssim="uniform", crop=16))
_DEHAZE = (Protocol("rgb", ssim="uniform", crop=16),)
_MOTION = (Protocol("rgb", ssim="volume"),)
_REALBLUR = (Protocol("rgb", aligned=True),)
_DEFOCUS = (Protocol("rgb", ssim="uniform", perceptual=True),)
_CAMERA = (Protocol("rgb"),)


def _rain_test(name: str, folder: str, count: int, source: str) -> DataSet:
    places = (f"Rain13K/test/{folder}", f"test/{folder}", f"derain/{folder}", folder)
    forms = (paired(*places, partner=rain_partner), paired(*places, names=("rainy", "gt"), partner=rain_partner))
    return DataSet(name, "derain", "test", count, _DERAIN, forms, source)


def _realblur(kind: str) -> DataSet:
    places = (f"RealBlur_{kind}", f"test/RealBlur_{kind}", f"RealBlur/test/RealBlur_{kind}")
    listing = f"RealBlur_{kind}_test_list.txt"
    source = "RealBlur, Rim et al., Real-World Blur Dataset for Learning and Benchmarking Deblurring, ECCV 2020"
    forms = (paired(*places), Form(("RealBlur", "."), (listing,), listed(listing)))
    return DataSet(f"realblur-{kind.lower()}", "deblur", "test", 980, _REALBLUR, forms, source)


_BSD = "Arbelaez et al., Contour Detection and Hierarchical Image Segmentation, PAMI 2011"
_RAIN13K = "gathered by Jiang et al., MSPFN, CVPR 2020, and Zamir et al., MPRNet, CVPR 2021"
_RESIDE = "RESIDE, Li et al., Benchmarking Single-Image Dehazing and Beyond, TIP 2019"
_GOPRO = "Nah et al., Deep Multi-scale CNN for Dynamic Scene Deblurring, CVPR 2017"
_DPDD = "Abuolaim and Brown, Defocus Deblurring Using Dual-Pixel Data, ECCV 2020"
_SOTS_NAMES = (("hazy", "gt"), ("hazy", "clear"), ("input", "target"))

TASKS: dict[str, Task] = {
    "denoise": Task(
        title="colour denoising",
        epochs=51,
        variants={
            "sigma15": lambda clean, rng, _: gaussian_noise(clean, rng, 15),
            "sigma25": lambda clean, rng, _: gaussian_noise(clean, rng, 25),
            "sigma50": lambda clean, rng, _: gaussian_noise(clean, rng, 50),
            "camera": lambda clean, rng, _: camera_noise(clean, rng),
            "photo": lambda clean, rng, _: photo_noise(clean, rng),
            "varied": lambda clean, rng, _: varied_camera_noise(clean, rng),
        },
        noise_levels=(15, 25, 50),
        colour="C0",
        paper=published.TABLE_1,
        datasets=(
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
                Form(("Urban100/image_SRF_4", "image_SRF_4"), ("img_001_SRF_4_HR.png",), named("_HR")),
            ),
            DataSet(
                "polyu", "denoise", "test", 100, _CAMERA,
                (Form(("PolyU", "polyu/CroppedImages", "CroppedImages"), (), beside("_real", "_mean")),),
                "Xu et al., Real-world Noisy Image Denoising: A New Benchmark, 2018 (clean: the mean of many shots)",
            ),
            DataSet(
                "bsds500", "denoise", "train", 500, (),
                (Form(("BSR/BSDS500/data/images", "BSDS500/data/images", "BSDS500"), ("train",), splits),),
                f"BSDS500: 200 train, 100 val, 200 test; {_BSD}",
            ),
        ),
    ),
    "derain": Task(
        title="deraining",
        epochs=8,
        variants={
            "light": lambda clean, rng, _: rain(clean, rng, False),
            "heavy": lambda clean, rng, _: rain(clean, rng, True),
            "varied": varied_rain,
        },
        drawn=("varied", "varied", "varied", "light", "heavy"),
        colour="C2",
        paper=published.TABLE_2,
        sample="light",
        datasets=(
            _rain_test("test100", "Test100", 98, "Zhang et al., Image De-raining Using a Conditional GAN, TCSVT 2019"),
            _rain_test("rain100h", "Rain100H", 100, "Yang et al., Deep Joint Rain Detection and Removal, CVPR 2017"),
            _rain_test("rain100l", "Rain100L", 100, "Yang et al., Deep Joint Rain Detection and Removal, CVPR 2017"),
            _rain_test(
                "test1200", "Test1200", 1200, "Zhang and Patel, Density-aware Single Image De-raining, CVPR 2018"
            ),
            _rain_test(
                "test2800", "Test2800", 2800, "Fu et al., Removing Rain from Single Images via a DDN, CVPR 2017"
            ),
            DataSet(
                "rain13k", "derain", "train", 13712, _DERAIN,
                (paired("Rain13K/train", "train/Rain13K", "Rain13K", partner=rain_partner),), f"Rain13K, {_RAIN13K}",
            ),
        ),
    ),
    "dehaze": Task(
        title="dehazing",
        epochs=5,
        variants={"outdoor": haze, "varied": varied_haze},
        drawn=("varied", "varied", "outdoor"),
        margin=24,
        colour="C1",
        paper=published.TABLE_5,
        sample="outdoor",
        datasets=(
            DataSet(
                "sots-outdoor", "dehaze", "test", 500, _DEHAZE,
                tuple(
                    paired(
                        "RESIDE/SOTS/outdoor", "SOTS/outdoor", "test/dehaze", "dehaze",
                        names=names, partner=haze_partner,
                    )
                    for names in _SOTS_NAMES
                ),
                f"{_RESIDE} (492 clean images)",
            ),
            DataSet(
                "sots-indoor", "dehaze", "test", 500, _DEHAZE,
                tuple(
                    paired(
                        "RESIDE/SOTS/indoor", "RESIDE/SOTS/indoor/nyuhaze500", "SOTS/indoor", "SOTS/indoor/nyuhaze500",
                        "nyuhaze500", names=names, partner=haze_partner, frame=10,
                    )
                    for names in _SOTS_NAMES
                ),
                f"{_RESIDE} (50 clean images)",
            ),
            DataSet(
                "ots", "dehaze", "train", 72135, _DEHAZE,
                (
                    *(
                        paired("RESIDE/OTS", "RESIDE/OTS_BETA", "OTS", "OTS_BETA", names=names, partner=haze_partner)
                        for names in (("hazy", "clear"), ("haze", "clear"), ("hazy", "gt"))
                    ),
                    paired("Train/Dehaze", "OTS", names=("synthetic", "original"), partner=haze_partner),
                ),
                f"{_RESIDE} (OTS_BETA: 2,061 clean images)",
            ),
        ),
    ),
    "deblur": Task(
        title="motion deblurring",
        epochs=77,
        variants={
            "slight": lambda clean, rng, _: motion_blur(clean, rng, "slight"),
            "strong": lambda clean, rng, _: motion_blur(clean, rng, "strong"),
            "varied": varied_motion,
        },
        drawn=(*["varied"] * 6, "slight", "strong"),
        margin=24,
        colour="C4",
        paper=published.TABLE_3,
        sample="slight",
        alike=("defocus",),
        datasets=(
            DataSet(
                "gopro", "deblur", "test", 1111, _MOTION,
                (
                    Form(("GOPRO_Large/test", "GoPro/test"), ("*/blur", "*/sharp"), scenes("blur", "sharp")),
                    paired("GoPro/test", "test/GoPro", "GoPro"),
                    paired("GoPro/test", names=("blur", "sharp")),
                ),
                f"{_GOPRO} (GOPRO_Large, its folders blur, not blur_gamma)",
            ),
            DataSet(
                "gopro-train", "deblur", "train", 2103, _MOTION,
                (
                    Form(("GOPRO_Large/train", "GoPro/train"), ("*/blur", "*/sharp"), scenes("blur", "sharp")),
                    paired("GoPro/train", "train/GoPro"),
                    paired("GoPro/train", names=("blur", "sharp")),
                ),
                f"{_GOPRO} (GOPRO_Large, its folders blur, not blur_gamma)",
            ),
            DataSet(
                "hide", "deblur", "test", 2025, _MOTION,
                (
                    Form(("HIDE_dataset", "HIDE"), ("GT", "test/test-close-ups", "test/test-long-shot"), hide),
                    paired("HIDE", "HIDE/test", "test/HIDE"),
                ),
                "Shen et al., Human-Aware Motion Deblurring, ICCV 2019",
            ),
            _realblur("J"),
            _realblur("R"),
        ),
    ),
    "defocus": Task(
        title="defocus deblurring",
        epochs=208,
        variants={
            "slight": lambda clean, rng, extent: defocus_blur(clean, rng, "slight", extent),
            "strong": lambda clean, rng, extent: defocus_blur(clean, rng, "strong", extent),
            "varied": varied_defocus,
        },
        drawn=(*["varied"] * 6, "slight", "strong"),
        margin=24,
        colour="C3",
        paper=published.TABLE_4,
        sample="strong",
        alike=("deblur",),
        datasets=(
            DataSet(
                "dpdd", "defocus", "test", 76, _DEFOCUS,
                (
                    Form(
                        ("DPDD/test", "test/DPDD", "DPDD"), ("inputC", "target"),
                        dual_pixel("inputC", "target", "inputL", "inputR"),
                    ),
                    Form(
                        ("dd_dp_dataset_canon", "DPDD"), ("test_c/source", "test_c/target"),
                        dual_pixel("test_c/source", "test_c/target", "test_l/source", "test_r/source"),
                    ),
                ),
                f"{_DPDD} (37 indoor, 39 outdoor)",
            ),
            DataSet(
                "dpdd-train", "defocus", "train", 350, _DEFOCUS,
                (
                    Form(
                        ("DPDD/train", "train/DPDD"), ("inputC", "target"),
                        dual_pixel("inputC", "target", "inputL", "inputR"),
                    ),
                    Form(
                        ("dd_dp_dataset_canon", "DPDD"), ("train_c/source", "train_c/target"),
                        dual_pixel("train_c/source", "train_c/target", "train_l/source", "train_r/source"),
                    ),
                ),
                _DPDD,
            ),
        ),
    ),
    "dejpeg": Task(
        title="JPEG artefact removal",
        epochs=51,
        variants={
            "q10": lambda clean, _, __: jpeg(clean, 10),
            "q20": lambda clean, _, __: jpeg(clean, 20),
            "q40": lambda clean, _, __: jpeg(clean, 40),
            "varied": lambda clean, rng, _: varied_jpeg(clean, rng),
        },
        drawn=("varied",),
        colour="C5",
        sample="q20",
    ),
    "auto": Task(
        title="all-in-one",
        epochs=51,  # ours: the paper has no such network
        parts=("denoise", "derain", "dehaze", "deblur", "defocus"),
    ),
}  # fmt: skip
SINGLE = tuple(name for name, task in TASKS.items() if not task.parts)  # one degradation each


def parts_of(task: str) -> tuple[str, ...]:
    """The tasks that a network for `task` was trained on: itself, or those of an all-in-one."""
    return TASKS[task].parts or (task,)


def foreign_to(task: str) -> tuple[str, ...]:
    """The tasks whose degradations a network for `task` should leave alone; none for one that removes them all."""
    own = {name for part in parts_of(task) for name in (part, *TASKS[part].alike)}
    return tuple(name for name in SINGLE if name not in own)


def removes_noise(task: str) -> bool:
    """Whether white Gaussian noise is among what a network for `task` was trained to remove."""
    return any(TASKS[part].noise_levels for part in parts_of(task))


def paper_order(task: str) -> int:
    """To sort tasks as the paper's tables are numbered; those that it does not have come last."""
    paper = TASKS[task].paper
    return len(TASKS) if paper is None else paper.number
