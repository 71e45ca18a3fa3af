"""What the paper (SpikerIR and H-KD, arXiv 2504.01755) printed, to stand beside what this project measures.

Every figure is copied as it stands there; what an honest reading finds about a table stands in its note. "as published"
marks figures of other authors. Nothing in this file was measured here.
"""

from __future__ import annotations

from dataclasses import dataclass

Values = dict[str, float | None]  # by metric: psnr [dB], ssim, mae, lpips


@dataclass(frozen=True)
class PaperTable:
    """One of the paper's tables of scores. datasets: the sets it has, by their names in `train.tasks`."""

    number: int
    datasets: tuple[str, ...]
    notes: tuple[str, ...] = ()


TABLE_1 = PaperTable(
    1, ("cbsd68",),
    (
        "As printed: the paper's protocol (clipped or not, window of SSIM) is not said in it.",
        "The paper's Restormer row matches Restormer's grayscale results; the colour network is published at "
        "34.35 / 31.75 / 28.56 dB.",
        "As published: their authors' figures, for noise that is not clipped.",
    ),
)  # fmt: skip
TABLE_2 = PaperTable(
    2, ("test100", "rain100h", "rain100l"),
    (
        "The paper's Restormer row is PSNR on Y, its PromptIR and AdaIR rows are on RGB (about 1.8 dB less for the "
        "same picture); each stands under its own protocol, and the students, whose channels are not said, under "
        "both.",
    ),
)  # fmt: skip
TABLE_3 = PaperTable(
    3, ("gopro", "realblur-j", "realblur-r"),
    ("The paper does not say whether its RealBlur row is of J or of R, nor whether pictures were aligned.",),
)  # fmt: skip
TABLE_4 = PaperTable(
    4, ("dpdd",),
    ("The paper's SpikerIR row equals the untouched input's, 23.89 dB / 0.725: it removes no blur.",),
)  # fmt: skip
TABLE_5 = PaperTable(5, ("sots-outdoor",))

# Table 1, CBSD68: {noise level: (PSNR, SSIM)}.
DENOISE: dict[str, dict[int, tuple[float, float | None]]] = {
    "SpikerIR (Restormer teacher), as printed": {15: (32.35, 0.894), 25: (29.72, 0.825), 50: (26.13, 0.678)},
    "SpikerIR (PromptIR teacher), as printed": {15: (32.48, 0.898), 25: (29.70, 0.829), 50: (25.59, 0.642)},
    "SpikerIR (AdaIR teacher), as printed": {15: (32.29, 0.889), 25: (29.53, 0.817), 50: (25.34, 0.623)},
    "Restormer, as printed": {15: (31.96, 0.900), 25: (29.52, 0.884), 50: (26.62, 0.688)},
    "PromptIR, as printed": {15: (33.98, 0.933), 25: (31.31, 0.888), 50: (28.06, 0.799)},
    "AdaIR, as printed": {15: (34.12, 0.935), 25: (31.45, 0.892), 50: (28.19, 0.802)},
    "Restormer (colour), as published": {15: (34.35, None), 25: (31.75, None), 50: (28.56, None)},
    "LIDIA (94,060 parameters), as published": {15: (34.03, None), 25: (31.31, None), 50: (27.99, None)},
    "CBM3D, as published": {15: (33.50, None), 25: (30.68, None), 50: (27.36, None)},
}

# Tables 2 to 5, by set: (row, protocol, values). A protocol's name means that the row was printed for it alone, "" that
# the paper does not say. Deraining is PSNR only.
_STUDENT = "SpikerIR, as printed"
PAIRS: dict[str, list[tuple[str, str, Values]]] = {
    **{
        name: [
            ("SpikerIR (Restormer teacher), as printed", "", {"psnr": students[0]}),
            ("SpikerIR (PromptIR teacher), as printed", "", {"psnr": students[1]}),
            ("SpikerIR (AdaIR teacher), as printed", "", {"psnr": students[2]}),
            ("Restormer, as printed", "y", {"psnr": teachers[0]}),
            ("PromptIR, as printed", "rgb", {"psnr": teachers[1]}),
            ("AdaIR, as printed", "rgb", {"psnr": teachers[2]}),
        ]
        for name, students, teachers in (
            ("test100", (28.20, 30.22, 31.55), (32.00, 30.23, 31.79)),
            ("rain100h", (29.06, 30.15, 28.64), (31.46, 30.88, 30.99)),
            ("rain100l", (34.90, 33.71, 34.51), (38.99, 37.44, 38.02)),
        )
    },
    "sots-outdoor": [(_STUDENT, "", {"psnr": 31.66, "ssim": 0.975})],
    "gopro": [(_STUDENT, "", {"psnr": 29.89, "ssim": 0.931})],
    "realblur-j": [(f"{_STUDENT} (J or R unsaid)", "", {"psnr": 30.25, "ssim": 0.899})],
    "realblur-r": [(f"{_STUDENT} (J or R unsaid)", "", {"psnr": 30.25, "ssim": 0.899})],
    "dpdd": [(_STUDENT, "", {"psnr": 23.89, "ssim": 0.727, "mae": 0.045, "lpips": 0.351})],
}

# Table 7 and the abstract: what was printed of cost. Parameters in millions, operations in 10^9.
STUDENT_MILLIONS, STUDENT_OPERATIONS = 0.07, 0.03
EQUIVALENT_ANN = {15: 33.00, 25: 30.33, 50: 26.87}  # PSNR [dB] of Restormer with 2 blocks per level
COST_NOTES = (
    "The paper prints 0.07 M parameters and 0.03 G operations for its student, with the headings Flops and Params "
    "swapped in its Table 7. Both come from a counter that skips subclassed layers; the network as described has what "
    "this table counts.",
)


def best_student(dataset: str, sigma: str | None = None) -> float | None:
    """The highest PSNR [dB] that the paper prints for its student on a set (denoise: at a noise level), or None."""
    if sigma is not None:
        levels = [rows.get(int(float(sigma))) for label, rows in DENOISE.items() if label.startswith("SpikerIR")]
        found = [level[0] for level in levels if level] if dataset == "cbsd68" and float(sigma).is_integer() else []
    else:
        rows = [values["psnr"] for label, _, values in PAIRS.get(dataset, []) if label.startswith("SpikerIR")]
        found = [value for value in rows if value is not None]
    return max(found, default=None)
