"""Predictions on disk: what they are, and their values on exactly the days asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import xarray as xr

from downscale.cf.calendar import canonical, decode_days
from downscale.errors import InputDataError
from downscale.hpc.paths import require_inside
from downscale.variables import Variable, lookup

MANIFEST = "prediction.json"
ADAPTATIONS = ("finetune", "few-shot")
MEMBER = "downscale_member"
"""Attribute of files that hold one member each."""
_PER_DAY = 86400.0


@dataclass(frozen=True)
class Prediction:
    """One run applied to one source.

    Attributes:
        folder: with a file per variable.
        run, group, kind: whose emulation of what; kind "perfect" (RCMu) or "imperfect" (GCM).
        role: "emulator" or "baseline".
        model, mode: e.g. "resunet", "pretrain".
        trained_on: pairs in the order of learning, e.g. ("RCM_A/perfect", "RCM_B/imperfect").
        adapted_to: those of them that a fine-tuning or few-shot training went on to.
        source_run: run that a fine-tuning started from, or None.
        shots: years of a few-shot run, or None.
        files: of each variable, in order of time, relative to the folder; empty: one file named after it.
    """

    folder: Path
    run: str
    group: str
    kind: str
    variables: tuple[str, ...]
    role: str
    model: str
    mode: str
    trained_on: tuple[str, ...]
    adapted_to: tuple[str, ...]
    source_run: str | None
    shots: int | None
    digest: str
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def case(self) -> str:
        """The case as GROUP/KIND."""
        return f"{self.group}/{self.kind}"

    def paths(self, variable: str) -> list[Path]:
        """Files of a variable, in order of time."""
        return [self.folder / name for name in self.files.get(variable, (f"{variable}.nc",))]

    def reader(self, variable: str, days: np.ndarray, calendar: str) -> PredictionReader:
        """Opens a variable on exactly some days (yyyymmdd); a context manager."""
        return PredictionReader(self, variable, days, calendar)

    def facts(self) -> dict[str, Any]:
        """What the run is, without paths."""
        return {
            "run": self.run,
            "role": self.role,
            "model": self.model,
            "mode": self.mode,
            "trained_on": " ".join(self.trained_on),
            "adapted_to": " ".join(self.adapted_to),
            "from": self.source_run or "",
            "shots": "" if self.shots is None else self.shots,
        }


def find_predictions(root: Path) -> list[Prediction]:
    """All complete predictions below a folder, sorted by run and case.

    Raises:
        InputDataError: there is none, or a prediction.json lacks something.
    """
    found, findings = [], []
    for path in sorted(root.glob(f"*/*/{MANIFEST}")):
        try:
            found.append(_read_manifest(path))
        except (KeyError, ValueError, TypeError) as error:
            findings.append(f"{path}: {type(error).__name__}: {error}")
    if findings:
        raise InputDataError(
            f"{len(findings)} prediction.json cannot be used", where=str(root), hint="run downscale apply again", findings=findings
        )
    if not found:
        raise InputDataError("there are no predictions to evaluate", where=str(root), hint="run downscale apply CONFIG first")
    return found


def _read_manifest(path: Path) -> Prediction:
    facts = json.loads(path.read_text())
    require_inside([facts["run"], facts["group"], facts["kind"], *facts["variables"]], path)
    files = {name: tuple(facts["files"][name]) for name in facts["variables"]} if isinstance(facts.get("files"), dict) else {}
    require_inside([part for names in files.values() for name in names for part in name.split("/")], path)
    source = facts.get("from") or facts.get("source_run")
    shots = facts.get("shots")
    mode = str(facts.get("mode") or "pretrain")
    pairs = [str(pair).partition(" ") for pair in facts["trained_on"]]
    trained_on = tuple(pair for pair, _, _ in pairs)
    adapted_to = tuple(pair for pair, _, how in pairs if how) or (trained_on[-1:] if mode in ADAPTATIONS else ())
    return Prediction(
        path.parent,
        str(facts["run"]),
        str(facts["group"]),
        str(facts["kind"]),
        tuple(facts["variables"]),
        str(facts["role"]),
        str(facts["model"]),
        mode,
        trained_on,
        adapted_to,
        Path(source).name if source else None,
        None if shots is None else int(shots),
        str(facts["digest"]),
        files,
    )


class PredictionReader:
    """One variable of one prediction on given days; a context manager. Of several members one is read, by default the first."""

    def __init__(self, prediction: Prediction, variable: str, days: np.ndarray, calendar: str, *, member: int = 0) -> None:
        self._variable, self._length, self._member = lookup(variable), len(days), member
        self._datasets: list[xr.Dataset] = []
        self._along = False
        self._files: list[_File] = []
        try:
            for path in prediction.paths(variable):
                self._files.append(self._open(path))
            label = list(dict.fromkeys(file.label for file in self._files))[member if not self._along else 0]
            self._files = [file for file in self._files if file.label == label]
            self._pieces = _pieces(*self._positions(days, calendar))
        except InputDataError:
            self.close()
            raise

    @property
    def shape(self) -> tuple[int, ...]:
        """(y, x) of the maps."""
        return tuple(self._files[0].values.shape[1:])

    def read(self, rows: slice = slice(None), days: slice = slice(None)) -> np.ndarray:
        """Rows of the maps on the wanted days (time, y, x) float32, working units, NaN missing.

        Args:
            rows: of the map.
            days: a part of the wanted days.
        """
        start, stop, _ = days.indices(self._length)
        parts = [self._piece(file, piece, rows) for file, piece in _clip(self._pieces, start, stop)]
        return np.concatenate(parts) if parts else np.empty((0, *self._files[0].values[0:0, rows].shape[1:]), np.float32)

    def _piece(self, number: int, piece: slice, rows: slice) -> np.ndarray:
        file = self._files[number]
        return np.asarray(file.values[piece, rows].values * file.factor).astype(np.float32, copy=False)

    def _open(self, path: Path) -> _File:
        dataset = _dataset(path)
        self._datasets.append(dataset)
        name = self._variable.name
        if name not in dataset:
            raise InputDataError(f"the file has no variable '{name}'", where=str(path), hint="run downscale apply again")
        values = dataset[name]
        others = [dim for dim in values.dims[:-2] if dim != "time"]
        self._along = bool(others)
        values = values.isel({dim: self._member for dim in others})
        label = str(dataset.attrs.get(MEMBER, ""))
        return _File(path, values, _factor(str(values.attrs.get("units", "")), self._variable, path), *_days(dataset), label)

    def _positions(self, days: np.ndarray, calendar: str) -> tuple[np.ndarray, np.ndarray]:
        """File and place in it of each wanted day."""
        own_calendar = self._files[0].calendar
        own, first = np.unique(np.concatenate([file.days for file in self._files]), return_index=True)
        number = np.repeat(np.arange(len(self._files)), [len(file.days) for file in self._files])
        within = np.concatenate([np.arange(len(file.days)) for file in self._files])
        place = np.minimum(np.searchsorted(own, days), max(len(own) - 1, 0))
        if own_calendar != calendar or not len(own) or not (own[place] == days).all():
            missing = len(np.setdiff1d(days, own))
            raise InputDataError(
                f"a prediction lacks {missing} of the {len(days)} days to be judged"
                if own_calendar == calendar
                else "a prediction has another calendar than the truth",
                where=f"{self._files[0].path}",
                hint="apply the run to the same prepared pairs, then evaluate again",
                findings=[f"prediction: {_axis(own, own_calendar)}", f"truth: {_axis(days, calendar)}"],
            )
        return number[first[place]], within[first[place]]

    def close(self) -> None:
        """Close the files."""
        for dataset in self._datasets:
            dataset.close()

    def __enter__(self) -> PredictionReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


@dataclass(frozen=True)
class _File:
    """One file: values (time, y, x), the factor to working units, the days yyyymmdd, their calendar, and whose member's file it is."""

    path: Path
    values: xr.DataArray
    factor: float
    days: np.ndarray
    calendar: str
    label: str


def count_members(prediction: Prediction, variable: str) -> int:
    """Members of a prediction: along a dimension beside time, or in files of their own; 0 for fields that are no ensemble."""
    labels = set()
    for path in prediction.paths(variable):
        with _dataset(path) as dataset:
            if variable in dataset and (others := [dim for dim in dataset[variable].dims[:-2] if dim != "time"]):
                return int(dataset.sizes[others[0]])
            labels.add(str(dataset.attrs.get(MEMBER, "")))
    return len(labels - {""})


def _dataset(path: Path) -> xr.Dataset:
    try:
        return xr.open_dataset(path, decode_times=False, engine="zarr" if path.suffix == ".zarr" else "netcdf4")
    except (OSError, ValueError) as error:
        raise InputDataError(
            f"cannot read a prediction: {str(error).splitlines()[0]}", where=str(path), hint="run downscale apply again"
        ) from None


def _days(dataset: xr.Dataset) -> tuple[np.ndarray, str]:
    time = dataset["time"]
    calendar = canonical(str(time.attrs.get("calendar", "standard")))
    return np.asarray(decode_days(np.asarray(time.values), str(time.attrs["units"]), calendar)), calendar


def prediction_days(prediction: Prediction) -> tuple[np.ndarray, str]:
    """The day axis (yyyymmdd) and canonical calendar of a prediction."""
    found = []
    for path in prediction.paths(prediction.variables[0]):
        with _dataset(path) as dataset:
            found.append(_days(dataset))
    return np.unique(np.concatenate([days for days, _ in found])), found[0][1]


def _axis(days: np.ndarray, calendar: str) -> str:
    return f"{days[0]} to {days[-1]}, {len(days)} days, calendar {calendar}" if len(days) else f"no days, calendar {calendar}"


def _factor(units: str, variable: Variable, path: Path) -> float:
    if units == variable.units:
        return 1.0
    if units == variable.file_units == "kg m-2 s-1":
        return _PER_DAY
    raise InputDataError(
        f"{variable.name} is in '{units}', expected {variable.file_units}", where=str(path), hint="run downscale apply again"
    )


def _pieces(files: np.ndarray, positions: np.ndarray) -> list[tuple[int, slice]]:
    """Runs of consecutive positions in one file."""
    if not len(positions):
        return []
    steps = (np.diff(positions) != 1) | (np.diff(files) != 0)
    breaks = [0, *(np.flatnonzero(steps) + 1).tolist(), len(positions)]
    return [(int(files[start]), slice(int(positions[start]), int(positions[stop - 1]) + 1)) for start, stop in pairwise(breaks)]


def _clip(pieces: Sequence[tuple[int, slice]], start: int, stop: int) -> list[tuple[int, slice]]:
    """The part [start, stop) of what the pieces hold one after the other."""
    result, before = [], 0
    for file, piece in pieces:
        length = piece.stop - piece.start
        low, high = max(start - before, 0), min(stop - before, length)
        if low < high:
            result.append((file, slice(piece.start + low, piece.start + high)))
        before += length
    return result
