"""dehaze: I = J t + A (1 - t), with a depth that rises upwards and follows the picture's edges."""

from __future__ import annotations

import numpy as np

from train.degradations.pictures import Picture, depth_field, rounded

TRANSMISSION = (0.2, 0.9)


def haze(clean: Picture, rng: np.random.Generator, extent: float | None = None) -> Picture:
    """I = J t + A (1 - t) (Koschmieder), t = exp(-beta d) within 0.2 to 0.9, A within 0.8 to 1.0 and nearly grey.

    extent: height of the whole photograph if `clean` is a part of it, pixels.
    """
    depth = depth_field(clean, rng, extent or len(clean))
    low, high = TRANSMISSION
    near, far = rng.uniform(0.0, 0.5), rng.uniform(0.5, 1.6)  # optical depth beta d at depth 0 and 1
    transmission = np.clip(np.exp(-(near + (far - near) * depth)), low, high)[..., None]
    airlight = np.clip(rng.uniform(0.8, 1.0) + rng.uniform(-0.02, 0.02, size=3), 0, 1)
    return rounded(clean * transmission + 255 * airlight * (1 - transmission))
