"""How the CORDEX ML-Bench files lie: domains, training experiments and test predictors below a folder, and where predictions go.

Layout (WCRP-CORDEX/ml-benchmark at 483d198): ``[D/]D_domain/train/EXPERIMENT/{predictors,target}`` and
``[D/]D_domain/test/WINDOW/predictors/CONDITION``; a submission is ``NAME/D_Domain/EXPERIMENT/WINDOW/CONDITION``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

from downscale.errors import ConfigError, InputDataError

EXPERIMENTS = ("ESD_pseudo_reality", "Emulator_hist_future")
WINDOWS = ("historical", "mid_century", "end_century")
CONDITIONS = ("perfect", "imperfect")
TARGETS = ("tasmax", "pr")
LEVELS = (850, 700, 500)
LETTERS = {"zg": "z", "ta": "t", "hus": "q", "ua": "u", "va": "v"}
"""Our variable: the letter in the benchmark's names, e.g. z_850."""
MEMBERS = 10
"""Members that the benchmark asks of a generative model."""
_UNITS = {"zg": "m", "ta": "K", "hus": "1", "ua": "m s-1", "va": "m s-1", "tasmax": "K", "pr": "mm/day"}
_GEOPOTENTIAL = 2.0e4
"""Above this z at 500 hPa is a geopotential (m2 s-2), below a height (m): they are near 54,000 and 5,500."""
_PREDICTORS = re.compile(r"(?P<gcm>.+?)_(?P<period>\d{4}-\d{4}(?:_\d{4}-\d{4})*)\.nc")
_STATIC = ("Static_fields.nc", "static_fields.nc", "static.nc")


@dataclass(frozen=True)
class PredictorFile:
    """Predictors to be emulated.

    Attributes:
        path: the file, GCM_PERIOD.nc.
        gcm: name of the global model.
        window: historical, mid_century or end_century.
        condition: perfect (upscaled RCM) or imperfect (the GCM's own).
    """

    path: Path
    gcm: str
    window: str
    condition: str

    @property
    def source(self) -> str:
        """Name as a source of the config."""
        return f"{self.window}-{self.condition}-{self.path.stem}"

    def prediction(self, experiment: str) -> Path:
        """Path of its prediction below the domain's folder of a submission."""
        return Path(experiment) / self.window / self.condition / f"Predictions_pr_tasmax_{self.path.name}"


@dataclass(frozen=True)
class Training:
    """Files of one training experiment: predictors, target, and the folder's fixed fields where there are any."""

    name: str
    gcm: str
    periods: tuple[str, ...]
    predictors: Path
    target: Path
    static: Path | None

    @property
    def driver(self) -> str:
        """Name of the predictors as a source of the config; that of the target is ``name``."""
        return f"{self.name}-predictors"


@dataclass(frozen=True)
class Domain:
    """One domain: what to learn from, what to emulate."""

    name: str
    folder: Path
    trainings: tuple[Training, ...]
    tests: tuple[PredictorFile, ...] = field(repr=False)


def find_domains(root: Path, domains: Sequence[str] = (), experiments: Sequence[str] = ()) -> list[Domain]:
    """Domains below a folder, all where none is named, by name.

    Args:
        root: the folder that the benchmark's archives were unpacked into, or a domain's folder itself.
        domains: names, e.g. ALPS.
        experiments: of EXPERIMENTS; all that are there when empty.

    Raises:
        ConfigError: an unknown domain or experiment is asked for.
        InputDataError: no domain, no training files, or no test predictors.
    """
    places = [root, *sorted(root.glob("*_domain")), *sorted(root.glob("*/*_domain"))]
    found = {place.name.removesuffix("_domain"): place for place in places if place.name.endswith("_domain") and place.is_dir()}
    if not found:
        raise InputDataError("no ML-Bench domain is here", where=str(root), hint="unpack D_domain.zip here, so that D_domain/train exists")
    for asked, known, option in ((domains, tuple(found), "--domain"), (experiments, EXPERIMENTS, "--experiment")):
        unknown = [name for name in asked if name not in known]
        if unknown:
            raise ConfigError(f"there is no '{unknown[0]}'", where=option, hint=f"have {', '.join(known)}")
    return [_domain(name, found[name], tuple(experiments)) for name in domains or sorted(found)]


def _domain(name: str, folder: Path, experiments: tuple[str, ...]) -> Domain:
    present = [(one, _experiment_folder(folder, one)) for one in EXPERIMENTS]
    trainings = tuple(_training(one, place) for one, place in present if place is not None and (not experiments or one in experiments))
    absent = [one for one in experiments if one not in [training.name for training in trainings]]
    if absent or not trainings:
        raise InputDataError(
            f"domain {name} has no training experiment {absent[0] if absent else ''}".rstrip(),
            where=str(folder / "train"),
            hint=f"it holds the folders {' and '.join(EXPERIMENTS)}",
        )
    tests = tuple(_tests(folder))
    if not tests:
        raise InputDataError(f"domain {name} has no test predictors", where=str(folder / "test"), hint="unpack the whole archive")
    return Domain(name, folder, trainings, tests)


def _experiment_folder(folder: Path, name: str) -> Path | None:
    """The folder of an experiment, with underscores as in the files or with a hyphen as in the benchmark's description."""
    places = (folder / "train" / name, folder / "train" / name.replace("pseudo_", "pseudo-"))
    return next((place for place in places if place.is_dir()), None)


def _training(name: str, folder: Path) -> Training:
    predictors = [(path, match) for path in sorted((folder / "predictors").glob("*.nc")) if (match := _PREDICTORS.fullmatch(path.name))]
    if len(predictors) != 1:
        raise InputDataError(
            f"{len(predictors)} files of training predictors, expected one",
            where=str(folder / "predictors"),
            hint="it holds GCM_PERIOD.nc, and Static_fields.nc beside it",
        )
    path, match = predictors[0]
    target = folder / "target" / f"pr_tasmax_{path.name}"
    if not target.is_file():
        raise InputDataError("the target of the training predictors is missing", where=str(target), hint="unpack the whole archive")
    static = next((place for name in _STATIC if (place := folder / "predictors" / name).is_file()), None)
    return Training(name, match["gcm"], tuple(match["period"].split("_")), path, target, static)


def _tests(folder: Path) -> list[PredictorFile]:
    found = []
    for window in WINDOWS:
        for condition in CONDITIONS:
            for path in sorted((folder / "test" / window / "predictors" / condition).glob("*.nc")):
                match = _PREDICTORS.fullmatch(path.name)
                if match is None:
                    raise InputDataError("the name of a test file is not GCM_PERIOD.nc", where=str(path), hint="give it its name back")
                found.append(PredictorFile(path, match["gcm"], window, condition))
    return found


def file_settings(path: Path, variables: Sequence[str]) -> dict[str, Any]:
    """What a source's section of the config must say about a file of the benchmark.

    Args:
        path: predictors or target.
        variables: our names that it should hold.

    Returns:
        ``variables`` (our name -> name in the file) and ``assume_units`` for those without units: the benchmark's own (z in m unless
        its size says that it is a geopotential).

    Raises:
        InputDataError: the file cannot be read.
    """
    units, names = {}, {}
    with _opened(path) as file:
        for name in variables:
            levels = [f"{LETTERS[name]}_{level}" for level in LEVELS] if name in LETTERS else [name]
            held = [one for one in levels if one in file.variables]
            if held and name in LETTERS:
                names[name] = f"{LETTERS[name]}_{{level}}"
            if any(not str(getattr(file[one], "units", "")).strip() for one in held):
                units[name] = "m2 s-2" if name == "zg" and _mean(file[held[-1]]) > _GEOPOTENTIAL else _UNITS[name]
    return {"variables": names, "assume_units": units}


@contextmanager
def _opened(path: Path) -> Iterator[netCDF4.Dataset]:
    """An open file; InputDataError where it cannot be opened, or lacks a variable that is looked for inside."""
    try:
        with netCDF4.Dataset(path) as file:
            yield file
    except (OSError, IndexError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).splitlines()[0]
        raise InputDataError(f"cannot be read as a file of the benchmark: {reason}", where=str(path), hint="unpack it again") from None


def _mean(variable: netCDF4.Variable) -> float:
    return float(np.nanmean(np.ma.filled(variable[0].astype(np.float64), np.nan)))


def centres_box(path: Path) -> list[float]:
    """[lon_min, lon_max, lat_min, lat_max] of the cell centres of a predictor file; InputDataError where it has none."""
    with _opened(path) as file:
        axes = [np.asarray(file[name][:], np.float64) for name in ("lon", "lat")]
    return [float(value) for axis in axes for value in (axis.min(), axis.max())]


def plane_shape(path: Path) -> tuple[int, int]:
    """(ny, nx) of a target file; InputDataError where it holds no target."""
    with _opened(path) as file:
        variable = file[TARGETS[0]]
        return int(variable.shape[-2]), int(variable.shape[-1])
