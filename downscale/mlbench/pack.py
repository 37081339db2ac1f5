"""From the predictions of a workspace to the files of a submission."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import netCDF4
import numpy as np

from downscale import __version__
from downscale.cf.calendar import canonical, decode_days, iso
from downscale.cf.days import file_days
from downscale.cf.header import read_header
from downscale.cf.units import to_working
from downscale.errors import InputDataError
from downscale.hpc.paths import require_inside
from downscale.profiles.mlbench import LETTERS, LEVELS, TARGETS, PredictorFile
from downscale.profiles.mlbench_output import Template, fault_of, write_prediction
from downscale.variables import lookup

log = logging.getLogger(__name__)
BLOCK_DAYS = 256
_BLOCK_BYTES = 2**28
_MANIFEST = "prediction.json"
_DIGEST = "downscale_prediction_sha256"


@dataclass
class Emulated:
    """A prediction of the workspace; a context manager.

    Attributes:
        folder: of the prediction.
        digest: of what decides its numbers.
        members: 0 where there is no such dimension.
    """

    folder: Path
    digest: str
    paths: dict[str, list[str]] = field(repr=False)
    members: int = field(default=0, init=False)
    _files: dict[str, list[netCDF4.Dataset]] = field(default_factory=dict, init=False, repr=False)
    _stack: ExitStack = field(default_factory=ExitStack, init=False, repr=False)

    @classmethod
    def at(cls, folder: Path) -> Emulated:
        """The prediction in a folder; InputDataError where there is none."""
        try:
            facts = json.loads((folder / _MANIFEST).read_text())
            names = [str(name) for name in facts["variables"]]
            paths = {name: [str(path) for path in facts.get("files", {}).get(name, [f"{name}.nc"])] for name in names}
            require_inside([path for some in paths.values() for path in some], folder / _MANIFEST)
            return cls(folder, str(facts["digest"]), paths)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputDataError(
                f"no prediction is here: {error}".splitlines()[0], where=str(folder), hint="run the same command again"
            ) from None

    def __enter__(self) -> Emulated:
        """Open its files."""
        for name, paths in self.paths.items():
            self._files[name] = [self._stack.enter_context(netCDF4.Dataset(self.folder / path)) for path in paths]
        first = next(iter(self._files.values()))[0]
        self.members = len(first.dimensions["realization"]) if "realization" in first.dimensions else 0
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close them."""
        self._stack.close()

    @cached_property
    def calendar(self) -> str:
        """Canonical name."""
        return canonical(str(next(iter(self._files.values()))[0]["time"].calendar))

    @cached_property
    def days(self) -> np.ndarray:
        """yyyymmdd, ascending."""
        return np.concatenate([self._days_of(file) for file in next(iter(self._files.values()))])

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        """Days ``start`` to ``stop`` of a variable: (n, y, x), or (n, member, y, x), float32, working units."""
        parts, before = [], 0
        for file in self._files[name]:
            length = len(file.dimensions["time"])
            low, high = max(start - before, 0), min(stop - before, length)
            if low < high:
                parts.append(self._values(file, name, low, high))
            before += length
        return np.concatenate(parts)

    def _values(self, file: netCDF4.Dataset, name: str, low: int, high: int) -> np.ndarray:
        variable = file[name]
        index = tuple(slice(low, high) if dim == "time" else slice(None) for dim in variable.dimensions)
        values = np.ma.filled(variable[index].astype(np.float32), np.nan)
        order = [variable.dimensions.index("time")] + [i for i, dim in enumerate(variable.dimensions) if dim != "time"]
        values = np.ascontiguousarray(values.transpose(order))
        return to_working(lookup(name), str(variable.units)).apply(values)

    @staticmethod
    def _days_of(file: netCDF4.Dataset) -> np.ndarray:
        time = file["time"]
        return np.asarray(decode_days(np.ma.filled(time[:]), str(time.units), str(time.calendar)))


@dataclass(frozen=True)
class Packed:
    """One file of a submission: its days, those without a prediction, members, and whether it was there already."""

    path: Path
    days: int
    missing: list[str]
    members: int
    kept: bool


def pack_file(path: Path, test: PredictorFile, prediction: Path, template: Template, attributes: Mapping[str, str]) -> Packed:
    """Write the prediction for one test file, unless the same one stands there already.

    Days that the prediction does not hold, or that have no value, are NaN and listed.

    Args:
        path: of the file in the submission.
        test: the predictors.
        prediction: folder of the prediction.
        template: of the domain.
        attributes: global attributes.

    Raises:
        InputDataError: there is no prediction, or its calendar or grid is another.
        DownscaleError: the file cannot be written.
    """
    days, calendar = test_days(test.path)
    with Emulated.at(prediction) as emulated:
        if emulated.calendar != calendar:
            raise InputDataError(
                f"the prediction has calendar {emulated.calendar}, its predictors {calendar}", where=str(test.path), hint="apply again"
            )
        kept = _digest_of(path) == emulated.digest and not fault_of(path, template, test.path, emulated.members)
        missing: list[str] = []
        if kept:
            missing = _missing_of(path)
        else:
            own = {_DIGEST: emulated.digest, "downscale_version": __version__}
            blocks = _blocks(emulated, days, template, missing)
            write_prediction(path, template, test.path, blocks, members=emulated.members, attributes={**attributes, **own})
        if missing:
            log.warning("%s: %d day(s) without a prediction are NaN", path.name, len(missing))
        return Packed(path, len(days), missing, emulated.members, kept)


def test_days(path: Path) -> tuple[np.ndarray, str]:
    """Days (yyyymmdd) of a predictor file in the order of its time steps, and its canonical calendar."""
    header = read_header(path)
    for name in [f"{letter}_{level}" for letter in LETTERS.values() for level in LEVELS]:
        if name in header.variables:
            found = file_days(header, header.variables[name])
            return found.days, found.calendar
    raise InputDataError("the file holds none of the benchmark's predictors", where=str(path), hint="it has t_850, z_500 and so on")


def _blocks(emulated: Emulated, days: np.ndarray, template: Template, missing: list[str]) -> Iterator[tuple[slice, dict[str, np.ndarray]]]:
    place = np.minimum(np.searchsorted(emulated.days, days), len(emulated.days) - 1)
    there = emulated.days[place] == days
    size = max(1, min(BLOCK_DAYS, _BLOCK_BYTES // (8 * max(emulated.members, 1) * template.shape[0] * template.shape[1])))
    for start in range(0, len(days), size):
        window = slice(start, min(start + size, len(days)))
        some, where = there[window], place[window]
        fields: dict[str, np.ndarray] = {}
        for name in TARGETS:
            shape = (len(some), *([emulated.members] if emulated.members else []), *template.shape)
            fields[name] = np.full(shape, np.nan, np.float32)
            if some.any():
                first, last = int(where[some].min()), int(where[some].max()) + 1
                values = emulated.read(name, first, last)
                if values.shape[1:] != shape[1:]:
                    raise InputDataError(
                        f"the prediction has fields of {values.shape[1:]}, the template {shape[1:]}", where=str(emulated.folder),
                        hint="another fine_box than the whole target?",
                    )  # fmt: skip
                fields[name][some] = values[where[some] - first]
        whole = np.all([np.isfinite(field).reshape(len(some), -1).any(axis=1) for field in fields.values()], axis=0)
        missing += [iso(int(day)) for day in days[window][~whole]]
        yield window, fields


def _digest_of(path: Path) -> str:
    return str(_attribute(path, _DIGEST))


def _attribute(path: Path, name: str) -> Any:
    try:
        with netCDF4.Dataset(path) as file:
            return getattr(file, name, "")
    except OSError:
        return ""


def _missing_of(path: Path) -> list[str]:
    """Days without any value in a file of a submission."""
    with netCDF4.Dataset(path) as file:
        time = file["time"]
        days = decode_days(np.ma.filled(time[:]), str(time.units), str(time.calendar))
        found = []
        for start in range(0, len(days), BLOCK_DAYS):
            window = slice(start, start + BLOCK_DAYS)
            part = np.ma.filled(file[TARGETS[0]][window], np.nan)
            found += [iso(int(day)) for day in days[window][~np.isfinite(part).reshape(len(part), -1).any(axis=1)]]
        return found
