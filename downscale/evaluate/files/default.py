"""Files judged as the predictions of a workspace are: the same scores, maps and tables, from series that were put aside by rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from downscale.config.evaluate import EvaluateConfig
from downscale.evaluate import daily
from downscale.evaluate.blocks import Spread
from downscale.evaluate.context import Context, Region, Sources, cell_areas
from downscale.evaluate.diagnoses import Diagnosis
from downscale.evaluate.experiment import RUN_COLUMNS, Experiment
from downscale.evaluate.files.opened import FilePair
from downscale.evaluate.files.options import with_unit
from downscale.evaluate.files.spool import Spool, read_all
from downscale.evaluate.metrics import joint
from downscale.evaluate.predictions import Prediction, PredictionReader
from downscale.evaluate.scorecard import Scorecard, write_scores, write_table
from downscale.evaluate.table import unit_of
from downscale.pairs.store import PairStore

HEADLINE = ("rmse", "bias", "abs_bias", "correlation")
RUN, GROUP, KIND = "prediction", "files", "prediction"
DIAGNOSES: tuple[tuple[str, Diagnosis], ...] = (("joint", joint.diagnose), ("neighbourhoods", daily.diagnose))
"""Those that need nothing but truth and prediction."""
BLOCK_BYTES = 24 * 2**20
"""Of a block of rows of one series: small, because several are worked on at once, and reading rows from the spool costs little."""


@dataclass(frozen=True)
class YearCount:
    """How years are counted: the month in which they begin, and the winter of a December (``evaluate.december``)."""

    starts: int = 1
    december: Literal["calendar", "next"] = "calendar"


@dataclass(frozen=True, eq=False)
class FileGroup:
    """The reference, as a group of pairs is seen by an evaluation.

    Attributes:
        spool: of the series.
        days, calendar: of the files.
        targets: variables.
        notes: of the files.
    """

    spool: Spool
    days: np.ndarray
    calendar: str
    targets: tuple[str, ...]
    notes: list[str]
    name: str = GROUP
    kinds: tuple[str, ...] = (KIND,)
    has_truth: bool = True

    def split(self, name: str) -> np.ndarray:
        """All days are test days."""
        return np.arange(len(self.days)) if name == "test" else np.zeros(0, np.int64)

    def target(self, index: slice | np.ndarray) -> np.ndarray:
        """Fine truth (time, target, y, x)."""
        places = np.arange(len(self.days))[index]
        if not len(places):
            return np.empty((0, len(self.targets), *self.spool.inside.shape), np.float32)
        part = slice(int(places[0]), int(places[-1]) + 1)
        return np.stack([self.spool.stores[name, "truth"].read(days=part)[places - places[0]] for name in self.targets], axis=1)

    def target_rows(self, index: np.ndarray, rows: slice) -> np.ndarray:
        """Fine truth on some rows (target, time, y, x)."""
        return np.stack([_on_days(self.spool.stores[name, "truth"].read(rows), index) for name in self.targets])


@dataclass(frozen=True, eq=False)
class FileStore:
    """What an evaluation asks of a pair store."""

    groups: dict[str, FileGroup]
    fine: Any
    targets: list[str]

    @property
    def coarse(self) -> Any:
        """There is no coarse grid; predictors are not judged."""
        return self.fine

    @property
    def static(self) -> dict[str, np.ndarray]:
        """None."""
        return {}

    @property
    def channels(self) -> list[str]:
        """None."""
        return []


@dataclass(frozen=True)
class FilePrediction(Prediction):
    """The prediction, read from the spool."""

    group_of: FileGroup | None = None

    def reader(self, variable: str, days: np.ndarray, calendar: str, *, member: int = 0) -> PredictionReader:
        """Opens a variable on exactly some days."""
        return cast(PredictionReader, FileReader(cast(FileGroup, self.group_of), variable, days))


class FileReader:
    """One variable of the prediction on given days; as PredictionReader."""

    def __init__(self, group: FileGroup, variable: str, days: np.ndarray) -> None:
        self._store = group.spool.stores[variable, "pred"]
        self._places = np.searchsorted(group.days, days)

    @property
    def shape(self) -> tuple[int, ...]:
        """(y, x)."""
        return self._store.shape[1:]

    def read(self, rows: slice = slice(None), days: slice = slice(None)) -> np.ndarray:
        """(time, y, x) float32."""
        places = self._places[days]
        if not len(places):
            return self._store.read(rows, slice(0, 0))
        part = self._store.read(rows, slice(int(places[0]), int(places[-1]) + 1))
        return _on_days(part, places - places[0])

    def close(self) -> None:
        """Nothing to close: the spool stays."""

    def __enter__(self) -> FileReader:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()


def score_default(
    pair: FilePair, spool: Spool, folder: Path, region: str, spread: Spread, tell: Callable[[int, int, str], None], years: YearCount
) -> Scorecard:
    """The scores of a workspace evaluation, into a folder; the recipe holds ``headline``, a line for each variable."""
    n = len(pair.days)
    read_all(pair, spool, lambda *_: None, lambda done: tell(done, 2 * n, "read"))
    group = FileGroup(spool, pair.days, pair.calendar, pair.variables, pair.notes)
    options = EvaluateConfig(december=years.december).model_dump()
    store = FileStore({GROUP: group}, pair.grid, list(pair.variables))
    prediction = FilePrediction(
        folder, RUN, GROUP, KIND, pair.variables, "emulator", "files", "files", (), (), None, None, "", group_of=group
    )
    area = np.where(spool.inside, cell_areas(pair.grid), 0.0)
    context = Context(
        cast(PairStore, store), [prediction], Region(region, area), options, years.starts, (), Sources(), folder, folder
    )  # fmt: skip
    experiment = Experiment(context, DIAGNOSES, spread, BLOCK_BYTES)
    card = experiment.score(lambda done, total, note: tell(n + n * done // max(total, 1), 2 * n, note))
    context.extend("runs", RUN_COLUMNS, [prediction.facts()])
    for name, (columns, rows) in context.tables.items():
        if rows:
            write_table(folder / f"{name}.csv", rows, columns)
    write_scores(folder, card)
    case = f"{GROUP}/{KIND}"
    lines = {
        name: ", ".join(with_unit(metric, card.value(RUN, case, name, metric), unit_of(metric, name)) for metric in HEADLINE)
        for name in pair.variables
    }
    return replace(card, recipe={**card.recipe, "headline": lines})


def _on_days(fields: np.ndarray, places: np.ndarray) -> np.ndarray:
    whole = len(places) == len(fields) and (not len(places) or (places[0] == 0 and bool((np.diff(places) == 1).all())))
    return fields if whole else fields[places]
