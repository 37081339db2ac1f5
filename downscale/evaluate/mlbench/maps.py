"""The diagnostics of the CORDEX ML-Bench as its evaluation code defines them (WCRP-CORDEX/ml-benchmark at 483d198).

Fields are (time, y, x) in working units, truth and prediction on the same days, without missing days; a cell that lacks a value on any day
is NaN in every map. Seasons are months; years are calendar years also in winter, whose December thus joins the January before it.
One pass over days (mlbench_days) and one over blocks of rows (mlbench_cells) find everything; this module puts it together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from downscale.evaluate.blocks import Spread, in_order, one_by_one
from downscale.evaluate.mlbench.cells import BINS, COMMON, OF_CELLS, WHICH, CellScores, Range, score_cells
from downscale.evaluate.mlbench.days import SPELLS, DayPass
from downscale.evaluate.mlbench.plan import ALL, SEASONS, SeasonPlan

TASK_BYTES = 48 * 2**20
DAYS = 64
_OF_FIELDS = ("rmse_scalar", "wasserstein_scalar", "ralsd")


@dataclass(frozen=True)
class Diagnostic:
    """One result.

    Attributes:
        name: e.g. rmse_time, bias_txx, psd_pred.
        variable: tasmax, pr, or tasmax_pr.
        season: of SEASONS.
        values: a map (y, x), a spectrum (k,), or one number.
        scalar: the benchmark's reduction of it; None for what it does not reduce.
    """

    name: str
    variable: str
    season: str
    values: np.ndarray
    scalar: float | None


@dataclass(frozen=True)
class Arrays:
    """Truth and prediction in memory: variable -> "truth" and "pred" -> (time, y, x)."""

    fields: Mapping[str, Mapping[str, np.ndarray]]

    def rows(self, variable: str, which: str, rows: slice) -> np.ndarray:
        """(time, cell) float32 of some rows."""
        some = self.fields[variable][which][:, rows]
        return np.asarray(some, dtype=np.float32).reshape(len(some), -1)


def diagnose(
    truth: Mapping[str, np.ndarray], prediction: Mapping[str, np.ndarray], days: np.ndarray, seasons: tuple[str, ...] = tuple(SEASONS)
) -> Iterator[Diagnostic]:
    """All diagnostics of fields in memory.

    Args:
        truth, prediction: variable -> (time, y, x).
        days: (time,) yyyymmdd, ascending.
        seasons: those wanted; one without days is left out.
    """
    plan = SeasonPlan(np.asarray(days))
    arrays = Arrays({name: {"truth": truth[name], "pred": prediction[name]} for name in truth})
    shape = next(iter(truth.values())).shape[1:]
    passes = new_passes(plan, list(truth), (shape[0], shape[1]))
    for (name, which), one in passes.items():
        field = arrays.fields[name][which]
        for start in range(0, len(field), DAYS):
            one.add(start, np.asarray(field[start : start + DAYS], dtype=np.float32))
    cells = score_rows(plan, arrays, list(truth), (shape[0], shape[1]), ranges_of(passes))
    yield from assemble(plan, passes, cells, seasons)


def new_passes(plan: SeasonPlan, variables: Sequence[str], shape: tuple[int, int]) -> dict[tuple[str, str], DayPass]:
    """(variable, "truth" or "pred") -> an empty pass over days."""
    return {(name, which): DayPass(plan, shape, spells=name == "pr") for name in variables for which in WHICH}


def ranges_of(passes: Mapping[tuple[str, str], DayPass]) -> dict[str, Range]:
    """The values that truth and prediction of each variable span."""
    result = {}
    for name in dict.fromkeys(variable for variable, _ in passes):
        low, high = (function(getattr(passes[name, which], end) for which in WHICH) for function, end in ((min, "low"), (max, "high")))
        result[name] = Range(low, high) if np.isfinite(low) else Range(0.0, 1.0)
    return result


def score_rows(
    plan: SeasonPlan,
    source: object,
    variables: Sequence[str],
    shape: tuple[int, int],
    ranges: dict[str, Range],
    spread: Spread = one_by_one,
) -> CellScores:
    """The point-wise diagnostics of whole maps, block by block of rows; maps are (y, x).

    Args:
        plan: the days.
        source: has ``rows(variable, which, rows)`` -> (time, cell) float32.
        variables, shape: what it holds.
        ranges: of each variable.
        spread: who does the blocks.
    """
    step = max(1, TASK_BYTES // max(len(plan.days) * shape[1] * 4 * 2 * len(variables), 1))
    starts = list(range(0, shape[0], step))
    tasks = [(plan, source, list(variables), slice(start, min(start + step, shape[0])), ranges) for start in starts]
    whole = CellScores()
    for start, block in in_order(spread(rows_task, tasks), starts):
        merge(whole, block)
        for key, values in block.maps.items():
            rows = values.reshape(-1, shape[1])
            whole.maps.setdefault(key, np.full(shape, np.nan))[start : start + len(rows)] = rows
    return whole


def rows_task(plan: SeasonPlan, source: object, variables: list[str], rows: slice, ranges: dict[str, Range]) -> tuple[int, CellScores]:
    """The first row of a block, and what was found on its rows."""
    fields = {name: {which: source.rows(name, which, rows) for which in WHICH} for name in variables}  # type: ignore[attr-defined]
    return rows.start, score_cells(plan, fields, ranges)


def merge(into: CellScores, block: CellScores) -> None:
    """Add sums and bins; the maps are left to the caller."""
    for key, value in block.squares.items():
        into.squares[key] = into.squares.get(key, 0.0) + value
        into.counts[key] = into.counts.get(key, 0) + block.counts[key]
    for key, found in block.bins.items():
        into.bins.setdefault(key, np.zeros((2, BINS), np.int64))[:] += found


def assemble(
    plan: SeasonPlan, passes: Mapping[tuple[str, str], DayPass], cells: CellScores, seasons: Iterable[str] = tuple(SEASONS)
) -> Iterator[Diagnostic]:
    """Everything that was found, season by season."""
    variables = list(dict.fromkeys(name for name, _ in passes))
    ranges = ranges_of(passes)
    for season in [name for name in plan.names if name in set(seasons)]:
        for name in variables:
            yield from _errors(plan, name, season, passes, cells, ranges[name])
            yield from _indices(name, season, passes, cells)
        if ("correlation_bias", "tasmax_pr", season) in cells.maps:
            for part in ("correlation_x0", "correlation_x1", "correlation_bias"):
                values = cells.maps[part, "tasmax_pr", season]
                yield Diagnostic(part, "tasmax_pr", season, values, mean_of(np.abs(values)) if part == "correlation_bias" else None)


def _errors(
    plan: SeasonPlan, name: str, season: str, passes: Mapping[tuple[str, str], DayPass], cells: CellScores, span: Range
) -> Iterator[Diagnostic]:
    rmse = cells.maps["rmse_time", name, season]
    yield Diagnostic("rmse_time", name, season, rmse, mean_of(rmse))
    count = cells.counts[name, season]
    yield _number("rmse_scalar", name, season, float(np.sqrt(cells.squares[name, season] / count)) if count else float("nan"))
    spectra = [passes[name, which].spectrum(season) for which in WHICH]
    for which, spectrum in zip(WHICH, spectra, strict=True):
        yield Diagnostic(f"psd_{which}", name, season, spectrum, None)
    yield _number("ralsd", name, season, ralsd(spectra[0], spectra[1]))
    spatial = cells.maps["wasserstein_spatial", name, season]
    yield Diagnostic("wasserstein_spatial", name, season, spatial, mean_of(spatial))
    wanted = list(plan.slices) if season == ALL else [season]
    found = [cells.bins[name, one] for one in wanted if (name, one) in cells.bins]
    yield _number("wasserstein_scalar", name, season, _flat_distance(np.sum(found, axis=0), span) if found else float("nan"))


def _flat_distance(bins: np.ndarray, span: Range) -> float:
    """Wasserstein-1 distance of two distributions (2, BINS) of equally many values."""
    apart = np.cumsum(bins[1] - bins[0])
    return float(np.abs(apart).sum() / bins[0].sum() * span.width)


def _indices(name: str, season: str, passes: Mapping[tuple[str, str], DayPass], cells: CellScores) -> Iterator[Diagnostic]:
    missing = passes[name, "truth"].missing | passes[name, "pred"].missing
    spells = [passes[name, which].spells() for which in WHICH]
    for index in (*OF_CELLS.get(name, COMMON), *(SPELLS if spells[0] else ())):
        if index in SPELLS:
            maps = [np.where(missing, np.nan, found[index, season]) for found in spells]
        else:
            maps = [cells.maps[f"index_{index}_{which}", name, season] for which in WHICH]
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(maps[0] != 0, maps[1] / maps[0], np.nan)
        for kind, values in zip(WHICH, maps, strict=True):
            yield Diagnostic(f"index_{index}_{kind}", name, season, values, mean_of(values))
        difference = maps[1] - maps[0]
        yield Diagnostic(f"bias_{index}", name, season, difference, mean_of(np.abs(difference)))
        yield Diagnostic(f"relbias_{index}", name, season, ratio - 1.0, mean_of(np.abs(ratio - 1.0)))
        yield Diagnostic(f"ratio_{index}", name, season, ratio, mean_of(ratio))


def _number(name: str, variable: str, season: str, value: float) -> Diagnostic:
    return Diagnostic(name, variable, season, np.array(value), value)


def mean_of(values: np.ndarray) -> float:
    """Plain mean over the cells that have a value, as the benchmark takes it: not weighted by area."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def ralsd(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Mean over rings of (10 log10(P_truth / P_prediction))^2, dB^2; the benchmark takes no root."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.mean(np.square(10.0 * np.log10(truth / prediction))))
