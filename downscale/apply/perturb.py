"""Small, physically readable changes of predictors, to see what an emulator makes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from downscale.variables import Channel

TEMPERATURES = ("ta", "tas", "tasmax", "tasmin")
HUMIDITIES = ("hus", "huss")
EASTWARD, NORTHWARD = ("ua", "uas"), ("va", "vas")


@dataclass(frozen=True)
class Perturbation:
    """A change of some channels.

    Attributes:
        name: in files and tables.
        words: what is done.
        variables: whose channels.
        change: of maps (n, C, H, W), working units.
    """

    name: str
    words: str
    variables: tuple[str, ...]
    change: Callable[[np.ndarray], np.ndarray]

    def places(self, channels: Sequence[Channel], dropped: Sequence[str]) -> list[int]:
        """Positions of the channels that it changes; those that a run does not read are not among them."""
        return [i for i, channel in enumerate(channels) if channel.variable in self.variables and channel.name not in dropped]

    def __call__(self, maps: np.ndarray, places: Sequence[int], channels: int) -> np.ndarray:
        """The changed maps; of runs that read several days, all days change.

        Args:
            maps: (n, days * C, H, W).
            places: of the channels among C.
            channels: C.
        """
        changed = maps.copy()
        every = [day + place for day in range(0, maps.shape[1], channels) for place in places]
        changed[:, every] = self.change(maps[:, every])
        return changed


def _moved(axis: int) -> Callable[[np.ndarray], np.ndarray]:
    """All maps one cell further along an axis; the edge row stays and stands twice."""

    def change(maps: np.ndarray) -> np.ndarray:
        moved = np.roll(maps, 1, axis=axis)
        edge: list[slice] = [slice(None)] * maps.ndim
        edge[axis] = slice(0, 1)
        moved[tuple(edge)] = maps[tuple(edge)]
        return moved

    return change


PERTURBATIONS = (
    Perturbation("temperature_plus_1K", "all temperatures 1 K higher", TEMPERATURES, lambda maps: maps + np.float32(1.0)),
    Perturbation("humidity_plus_10pct", "specific humidity 10 % higher", HUMIDITIES, lambda maps: maps * np.float32(1.1)),
    Perturbation("eastward_wind_plus_1ms", "eastward wind 1 m/s stronger", EASTWARD, lambda maps: maps + np.float32(1.0)),
    Perturbation("northward_wind_plus_1ms", "northward wind 1 m/s stronger", NORTHWARD, lambda maps: maps + np.float32(1.0)),
    Perturbation("winds_one_cell_along_x", "wind fields one coarse cell further along x", (*EASTWARD, *NORTHWARD), _moved(3)),
    Perturbation("winds_one_cell_along_y", "wind fields one coarse cell further along y", (*EASTWARD, *NORTHWARD), _moved(2)),
)


def applicable(channels: Sequence[Channel], dropped: Sequence[str] = ()) -> dict[Perturbation, list[int]]:
    """The perturbations that change a channel of a run, and where."""
    return {one: places for one in PERTURBATIONS if (places := one.places(channels, dropped))}
