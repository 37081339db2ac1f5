"""A virtual CORDEX ML-Bench: three domains with the benchmark's names, dimensions and oddities, made from the virtual climate.

The weather is the virtual climate's, only the coordinates are the benchmark's: index for index the virtual target lies where the real
one does. What is odd in each domain's files stands in fixture_files. There are no test targets, as in the benchmark.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from downscale.errors import ConfigError, OutputExistsError
from downscale.grid.engines import make_weights
from downscale.grid.grid import Grid, lonlat_grid
from downscale.grid.weights import Weights
from downscale.mlbench.fixture_files import FACTS, BenchFile, write_static, write_template
from downscale.profiles.mlbench import LETTERS, LEVELS, TARGETS
from downscale.virtual import geometry
from downscale.virtual.clock import Month, Period
from downscale.virtual.simulation import Chain
from downscale.virtual.world import Size, World

COARSE_CELLS = 16
PERIODS = {"1961-1980": (1961, 1980), "1981-2000": (1981, 2000), "2041-2060": (2041, 2060), "2080-2099": (2080, 2099)}
TRAINING = {"ESD_pseudo_reality": ("1961-1980",), "Emulator_hist_future": ("1961-1980", "2080-2099")}
TESTS = {"historical": "1981-2000", "mid_century": "2041-2060", "end_century": "2080-2099"}
TRAINING_GCM, OTHER_GCM = 0, 3
"""Places in the virtual climate's list of global models; both have leap days."""
_FEWEST_YEARS = 4
_DONE = "fixture.json"
ProgressCallback = Callable[[int, int, str], None]
Fields = dict[str, np.ndarray]


@dataclass(frozen=True)
class Extent:
    """How much is written.

    Attributes:
        cells: target cells along a side; 128 is the benchmark's.
        years: of each period, the last ones; 20 is the benchmark's.
        days: the first ones of each month; 31 is the benchmark's.
    """

    cells: int = 128
    years: int = 4
    days: int = 5

    def period(self, name: str) -> Period:
        """The years of a period of PERIODS that are written."""
        last = PERIODS[name][1]
        return Period(last - self.years + 1, last)

    def months(self, chain: Chain, year: int) -> Iterator[Month]:
        """Months of a year with their first days."""
        for month in chain.months(year, year):
            yield replace(month, phase=month.phase[: self.days])


def write_fixture(
    directory: Path,
    *,
    domains: Sequence[str] = (),
    extent: Extent = Extent(),
    seed: int = 0,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
) -> dict[str, Any]:
    """Write ``directory/D/D_domain`` for each domain, and ``directory/templates``.

    Args:
        directory: new or empty, or a fixture with overwrite given.
        domains: of ALPS, NZ, SA; all when empty.
        extent: how much.
        seed: of everything random.
        overwrite: replace a fixture.
        progress: called with (files of fields done, in all, domain).

    Returns:
        ``artefact``, files and bytes.

    Raises:
        ConfigError: an unknown domain, or an extent that leaves nothing to split.
        OutputExistsError: the folder is not empty.
    """
    unknown = [name for name in domains if name not in FACTS]
    if unknown:
        raise ConfigError(f"there is no domain '{unknown[0]}'", where="--domain", hint=f"have {', '.join(FACTS)}")
    if not (_FEWEST_YEARS <= extent.years <= 20 and 2 <= extent.days <= 31 and extent.cells >= COARSE_CELLS):
        raise ConfigError(
            f"a fixture of {extent.cells} cells, {extent.years} years and {extent.days} days a month",
            hint=f"at least {COARSE_CELLS} cells, {_FEWEST_YEARS} to 20 years, 2 to 31 days",
        )
    _make_room(directory, overwrite)
    names = list(domains or FACTS)
    for number, name in enumerate(names):
        if progress:
            progress(number, len(names), name)
        _DomainWriter(directory, name, extent, World(seed=seed + list(FACTS).index(name))).write()
    (directory / _DONE).write_text('{"made by": "downscale mlbench fixture"}\n')
    files = sorted(directory.rglob("*.nc"))
    return {"artefact": directory, "files": len(files), "MB": round(sum(path.stat().st_size for path in files) / 1e6, 1)}


def _make_room(directory: Path, overwrite: bool) -> None:
    if directory.exists() and any(directory.iterdir()):
        if not (overwrite and (directory / _DONE).is_file()):
            raise OutputExistsError(
                "the folder is not empty", where=str(directory), hint="choose another; --overwrite replaces a whole fixture only"
            )
        for place in [directory / name for name in (*FACTS, "templates")]:
            shutil.rmtree(place, ignore_errors=True)
        (directory / _DONE).unlink()
    directory.mkdir(parents=True, exist_ok=True)


@dataclass
class _DomainWriter:
    """All files of one domain."""

    directory: Path
    name: str
    extent: Extent
    world: World
    size: Size = field(init=False)

    def __post_init__(self) -> None:
        self.size = Size(COARSE_CELLS, self.extent.cells, relaxation_cells=max(2, self.extent.cells // 16))
        self.facts = FACTS[self.name]
        self.folder = self.directory / self.name / f"{self.name}_domain"

    def write(self) -> None:
        """Fixed fields and templates, then each global model's periods, month by month into all files that hold them."""
        land = self._chain(TRAINING_GCM, "1961-1980").rcm_land
        cut = slice(*geometry.boxes(self.world, self.size).target)
        for experiment in TRAINING:
            write_static(self.folder / "train" / experiment / "predictors" / "Static_fields.nc", self.facts, land.height[cut, cut])
        for variable in TARGETS:
            write_template(self.directory / "templates" / f"{variable}_{self.name}.nc", self.facts, variable, self.extent.cells)
        for place in (TRAINING_GCM, OTHER_GCM):
            with ExitStack() as stack:
                files = {path: stack.enter_context(file) for path, file in self._files(place).items()}
                for period in PERIODS:
                    self._write_period(self._chain(place, period), period, files)

    def _write_period(self, chain: Chain, period: str, files: dict[Path, BenchFile]) -> None:
        wanted = [file for file in files.values() if period in file.periods]
        if not wanted:
            return
        for year in range(chain.period.first, chain.period.last + 1):
            months = list(self.extent.months(chain, year))
            days = np.concatenate([month.days for month in months])
            fields = {kind: _joined([self._fields(chain, month, kind) for month in months]) for kind in {file.kind for file in wanted}}
            for file in wanted:
                file.append(days, fields[file.kind])

    def _files(self, place: int) -> dict[Path, BenchFile]:
        """Files of a global model by path; training files and targets are those of the first one only."""
        gcm = self.facts.gcms[0 if place == TRAINING_GCM else 1]
        found: dict[Path, BenchFile] = {}
        trainings = TRAINING if place == TRAINING_GCM else {}
        for experiment, periods in trainings.items():
            name = f"{gcm}_{'_'.join(periods)}.nc"
            folder = self.folder / "train" / experiment
            found[folder / "predictors" / name] = self._file(folder / "predictors" / name, "perfect", periods)
            path = folder / "target" / f"pr_tasmax_{name}"
            found[path] = self._file(path, "target", periods)
        for (window, period), condition in itertools.product(TESTS.items(), ("perfect", "imperfect")):
            path = self.folder / "test" / window / "predictors" / condition / f"{gcm}_{period}.nc"
            found[path] = self._file(path, condition, (period,), other=place == OTHER_GCM)
        return found

    def _file(self, path: Path, kind: str, periods: tuple[str, ...], *, other: bool = False) -> BenchFile:
        return BenchFile(path, self.facts, kind, periods, self.extent.cells, other_gcm=other)

    def _fields(self, chain: Chain, month: Month, kind: str) -> Fields:
        """Fields of some days by their name in the files, (days, y, x)."""
        if kind == "imperfect":
            grid = (len(chain.gcm_grid.lat), len(chain.gcm_grid.lon))
            return self._letters(chain.gcm_state(month), grid, self._weights_of(chain))
        state = chain.rcm_state(month)
        side = self.size.rcm_cells
        if kind == "perfect":
            return self._letters(state, (side, side), self._upscaling)
        cut = slice(*geometry.boxes(self.world, self.size).target)
        drawn = chain.rcm_surface(chain.rcm_response(state, month), month)
        return {name: drawn[name].reshape(-1, side, side)[:, cut, cut] for name in TARGETS}

    def _letters(self, state: Fields, shape: tuple[int, int], weights: Weights) -> Fields:
        return {
            f"{letter}_{level}": weights.apply(state[f"{name}{level}"].reshape(-1, *shape))
            for name, letter in LETTERS.items()
            for level in LEVELS
        }

    def _chain(self, place: int, period: str) -> Chain:
        return Chain(self.world, self.size, place, self.extent.period(period))

    @cached_property
    def _coarse(self) -> Grid:
        west, east, south, north = geometry.boxes(self.world, self.size).coarse
        return lonlat_grid(np.linspace(south, north, COARSE_CELLS + 1), np.linspace(west, east, COARSE_CELLS + 1))

    @cached_property
    def _upscaling(self) -> Weights:
        grid = geometry.rcm_grid(self.world, self.size)
        return make_weights(Grid(grid.lat, grid.lon, grid.lat_vertices, grid.lon_vertices), self._coarse, engine="builtin")

    def _weights_of(self, chain: Chain) -> Weights:
        """Bilinear, from a global model's cells to the predictors' grid."""
        if chain.gcm_index not in self._bilinear:
            grid = chain.gcm_grid
            half = 0.5 * grid.spacing
            source = lonlat_grid(np.append(grid.lat - half, grid.lat[-1] + half), np.append(grid.lon - half, grid.lon[-1] + half))
            self._bilinear[chain.gcm_index] = make_weights(source, self._coarse, method="bilinear", engine="builtin")
        return self._bilinear[chain.gcm_index]

    @cached_property
    def _bilinear(self) -> dict[int, Weights]:
        return {}


def _joined(parts: Sequence[Fields]) -> Fields:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
