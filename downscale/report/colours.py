"""Colour scales of equal perceived steps: matplotlib's for fields, own ones through white for differences."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import Colormap, ListedColormap

SEQUENTIAL = {"temperature": "cividis", "precipitation": "viridis_r", "plain": "viridis"}
STEPS = 256
# ends of the arms in Oklab: lightness, green-red, blue-yellow; the middle is nearly white
_MIDDLE = (0.97, 0.0, 0.0)
_ENDS = {
    "temperature": ((0.42, -0.03, -0.14), (0.42, 0.13, 0.065)),
    "precipitation": ((0.42, 0.055, 0.075), (0.42, -0.072, 0.0)),
    "plain": ((0.42, -0.03, -0.14), (0.42, 0.13, 0.065)),
}
# linear sRGB from Oklab (Ottosson 2020)
_TO_CONES = np.array([[1.0, 0.3963377774, 0.2158037573], [1.0, -0.1055613458, -0.0638541728], [1.0, -0.0894841775, -1.2914855480]])
_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


def kind(variable: str) -> str:
    """Which colours a variable has: "precipitation", "temperature" or "plain"."""
    return "precipitation" if variable == "pr" else "temperature" if variable.startswith("ta") else "plain"


def sequential(variable: str) -> str:
    """Name of the colour map of a field."""
    return SEQUENTIAL[kind(variable)]


def diverging(variable: str) -> Colormap:
    """Colour map of a difference: equal steps of lightness from both ends to white; red is warmer, green is wetter."""
    low, high = _ENDS[kind(variable)]
    share = np.linspace(-1.0, 1.0, STEPS)[:, None]
    points = np.asarray(_MIDDLE) * (1 - np.abs(share)) + np.where(share < 0, low, high) * np.abs(share)
    return ListedColormap(rgb_of_oklab(points), name=f"difference_{kind(variable)}")


def rgb_of_oklab(points: np.ndarray) -> np.ndarray:
    """Colours (n, 3) of sRGB from Oklab, cut to 0 ... 1 (Ottosson 2020, "A perceptual color space for image processing")."""
    linear = np.clip((points @ _TO_CONES.T) ** 3 @ _TO_RGB.T, 0.0, 1.0)
    return np.asarray(np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055))
