"""What a look at files tells about the runs in them, as plain data: from this a config is drafted."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class UnitDoubt:
    """Units of a variable that say too little to be used as they are.

    Attributes:
        variable: our name.
        stated: the files' attribute, perhaps empty.
        reason: why it is not enough.
        proposal: what it most likely means, or empty when nothing tells.
    """

    variable: str
    stated: str
    reason: str
    proposal: str = ""


@dataclass(frozen=True)
class FoundRun:
    """One model run, reanalysis or set of observations, found in files.

    Attributes:
        name: a token for the config.
        role: rcm, gcm, reanalysis or observations.
        why: on what the role rests, in words.
        sure: False where the role is a guess from the grid alone.
        model, driver, member, experiments: identity; empty where the files do not say.
        facets: global attributes worth copying to outputs.
        files: daily and fixed files that belong to it.
        channels: channel name -> its days (yyyymmdd, ascending).
        boxes: channel name -> west, east, south and north edge of its grid, degrees.
        static: fixed fields there are.
        doubts: units that say too little.
        calendar: canonical name.
        gaps: channel name -> gaps in words, where days are missing between the first and the last.
        grid: in words; ``grid_key`` is equal for equal grids.
        spacing_km: of neighbouring cells.
        shape: (rows, columns).
    """

    name: str
    role: str
    why: str
    sure: bool
    model: str
    driver: str
    member: str
    experiments: tuple[str, ...]
    facets: dict[str, str]
    files: tuple[Path, ...]
    channels: dict[str, tuple[int, ...]]
    calendar: str
    grid: str
    grid_key: str
    spacing_km: float
    shape: tuple[int, int]
    boxes: dict[str, tuple[float, float, float, float]] = field(default_factory=dict)
    static: tuple[str, ...] = ()
    doubts: tuple[UnitDoubt, ...] = ()
    gaps: dict[str, str] = field(default_factory=dict)

    @property
    def is_truth(self) -> bool:
        """Whether it holds fine fields to learn from."""
        return self.role in ("rcm", "observations")

    @property
    def days(self) -> tuple[int, ...]:
        """Days that any channel has."""
        return tuple(sorted(set().union(*self.channels.values()))) if self.channels else ()

    def common_days(self, channels: list[str]) -> tuple[int, ...]:
        """Days that all the given channels have."""
        sets = [set(self.channels[name]) for name in channels if name in self.channels]
        return tuple(sorted(set.intersection(*sets))) if sets else ()

    @property
    def words(self) -> str:
        """One line: what it is, when, on which grid."""
        days = self.days
        count = f"{len(days)} day{'s' * (len(days) != 1)}"
        span = f"{iso(days[0])} to {iso(days[-1])}, {count}, {self.calendar}" if days else "fixed fields only"
        driven = f" driven by {self.driver}" if self.driver else ""
        experiments = f", {' + '.join(self.experiments)}" if self.experiments else ""
        return f"{self.model or self.name}{driven}{experiments}: {span}; {self.grid}"


def iso(day: int) -> str:
    """yyyymmdd as yyyy-mm-dd."""
    return f"{day // 10000:04d}-{day // 100 % 100:02d}-{day % 100:02d}"
