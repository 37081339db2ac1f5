"""From the runs found to an experiment: who drives whom, which variables, which years. Every choice says why, guesses are marked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from downscale.config.found import FoundRun, iso
from downscale.errors import InputDataError
from downscale.variables import UPPER_AIR, Channel

TARGETS = ("tasmax", "tasmin", "tas", "pr")
SURFACE = ("psl", "tas", "uas", "vas")
_YEAR_STARTS = 12
_BREAK_YEARS = 2
_HALF_YEAR = 200
_SHARES = (0.70, 0.15)
_COARSE_KM = 150.0
_FEWEST_CELLS = 4
_FEWEST_DAYS = 4


@dataclass(frozen=True)
class Years:
    """The split.

    Attributes:
        train, validation, test: periods as the config writes them.
        year_starts, gap_days: as in the config.
        why: in words.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    year_starts: int
    gap_days: int
    why: str


@dataclass(frozen=True)
class Choices:
    """What the config will say.

    Attributes:
        truths, coarse: runs that take part.
        drives: name of a coarse run -> (name of the truth that it drives, why, whether the files say so).
        predictors: channel names in order; ``spare`` are common too and left out.
        targets: names; ``static`` fixed fields.
        upscale: the value of upscale.to; on: the value of train.on.
        years: the split.
        grid_note: why the first predictor comes first, where the coarse run has several grids.
        left_out: runs that do not take part, and why.
        gaps: series with missing days: run and words.
    """

    truths: list[FoundRun]
    coarse: list[FoundRun]
    drives: dict[str, tuple[str, str, bool]]
    predictors: list[str]
    spare: list[str]
    targets: list[str]
    static: list[str]
    upscale: str | dict[str, int]
    on: str
    years: Years
    grid_note: str = ""
    left_out: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)


def choose(runs: Sequence[FoundRun]) -> Choices:
    """An experiment on the runs found.

    Raises:
        InputDataError: no fine run, no target, or no predictor that all have; the findings list what was found.
    """
    truths, left_out = _truths(runs)
    coarse = [run for run in runs if not run.is_truth]
    drives = _drivers(truths, coarse)
    left_out += _undriven(truths, drives)
    truths = [run for run in truths if run.role == "rcm" or run.name in {driven for driven, *_ in drives.values()}]
    if not truths:
        raise _nothing("the observations have no reanalysis or GCM with the same days", runs, "give the files of the reanalysis too")
    targets = [name for name in TARGETS if all(name in run.channels for run in truths)]
    if not targets:
        raise _nothing(f"no variable that can be a target ({', '.join(TARGETS)}) in the fine runs", runs, "give daily files of one of them")
    predictors, spare = _predictors(truths, [run for run in coarse if run.name in drives] or coarse, targets, runs)
    kept = [run for run in coarse if all(name in run.channels for name in predictors)]
    left_out += [
        f"{run.name}: lacks {', '.join(name for name in predictors if name not in run.channels)}, which the others have"
        for run in coarse
        if run not in kept
    ]
    first = truths[0]
    partner = next((name for name, (driven, *_) in drives.items() if driven == first.name), kept[0].name if kept else None)
    predictors, grid_note = _smallest_grid_first(predictors, next((run for run in kept if run.name == partner), None))
    used = {run.name: [name for name in (*predictors, *targets) if name in run.channels] for run in (*truths, *kept)}
    pairs = "perfect" if first.role == "rcm" else "imperfect"
    return Choices(
        truths=truths, coarse=kept, drives=drives, predictors=predictors, spare=spare, targets=targets,
        static=[name for name in ("orog", "sftlf") if name in first.static],
        grid_note=grid_note,
        upscale=partner or {"coarsen": _blocks(first)}, on=f"{first.name}/{pairs}",
        years=split_years(_training_days(truths, kept, drives, used)), left_out=left_out, gaps=_gaps([*truths, *kept], used),
    )  # fmt: skip


def _truths(runs: Sequence[FoundRun]) -> tuple[list[FoundRun], list[str]]:
    """Fine runs on one grid, RCMs before observations, the most frequent grid first."""
    fine = [run for run in runs if run.is_truth]
    if not fine:
        raise _nothing(
            "no RCM and no observations among the files: there is nothing fine to learn from", runs, "give the files of the RCM too"
        )
    grids = Counter(run.grid_key for run in fine)
    chosen = max(grids, key=lambda key: (any(run.role == "rcm" for run in fine if run.grid_key == key), grids[key]))
    others = [
        f"{run.name}: another grid than {next(r.name for r in fine if r.grid_key == chosen)}'s" for run in fine if run.grid_key != chosen
    ]
    return [run for run in fine if run.grid_key == chosen], others


def _drivers(truths: Sequence[FoundRun], coarse: Sequence[FoundRun]) -> dict[str, tuple[str, str, bool]]:
    """By the driving model that the RCM names; where it names none, by equal calendar and days, as a guess."""
    drives: dict[str, tuple[str, str, bool]] = {}
    for truth in truths:
        free = [run for run in coarse if run.name not in drives and run.calendar == truth.calendar and set(run.days) & set(truth.days)]
        if truth.driver:
            named = [
                run
                for run in free
                if same_model(run.model, truth.driver) and (truth.member == run.member or not truth.member or not run.member)
            ]
            if named:
                drives[named[0].name] = (truth.name, f"{truth.name}'s files name {truth.driver} as their driver", True)
            continue
        close = sorted(free, key=lambda run: (-len(set(run.days) & set(truth.days)), -len(run.channels)))
        close = [run for run in close if len(set(run.days) & set(truth.days)) >= 0.5 * len(truth.days)]
        if close and (truth.role == "observations" or len(close) == 1):
            sure = close[0].role == "reanalysis" and truth.role == "observations"
            drives[close[0].name] = (truth.name, "the same calendar and days" + ("" if sure else "; the files do not name a driver"), sure)
    return drives


def same_model(one: str, other: str) -> bool:
    """Whether two names mean one model: equal, or one with its institution in front (CNRM-CERFACS-CNRM-CM5)."""
    first, second = one.lower(), other.lower()
    return bool(first) and bool(second) and (first == second or first.endswith(f"-{second}") or second.endswith(f"-{first}"))


def _undriven(truths: Sequence[FoundRun], drives: dict[str, tuple[str, str, bool]]) -> list[str]:
    driven = {name for name, *_ in drives.values()}
    return [f"{run.name}: no coarse run has its days" for run in truths if run.role == "observations" and run.name not in driven]


def _predictors(
    truths: Sequence[FoundRun], coarse: Sequence[FoundRun], targets: Sequence[str], runs: Sequence[FoundRun]
) -> tuple[list[str], list[str]]:
    """Upper air and surface fields that all have; the targets' own fields only where there is nothing aloft."""
    holders = [*(run for run in truths if run.role == "rcm"), *coarse]
    common = [name for name in holders[0].channels if all(name in run.channels for run in holders)]
    upper = [one for one in map(Channel.parse, common) if one.variable in UPPER_AIR]
    aloft = [one.name for one in sorted(upper, key=lambda one: (UPPER_AIR.index(one.variable), -(one.level_hpa or 0)))]
    surface = [name for name in SURFACE if name in common]
    chosen = [*aloft, *surface] if aloft else [name for name in common if name in (*SURFACE, *TARGETS)]
    if not chosen:
        raise _nothing("no variable that all runs have and that can be a predictor", runs, "give files of the same variables for all runs")
    return chosen, [name for name in common if name not in chosen]


def _smallest_grid_first(predictors: list[str], run: FoundRun | None) -> tuple[list[str], str]:
    """The training grid is that of the first predictor: where a run has several grids, one that the others cover goes first."""
    boxes = {name: run.boxes[name] for name in predictors if name in run.boxes} if run else {}
    if run is None or len(set(boxes.values())) < 2:
        return predictors, ""
    area = {name: (east - west) * (north - south) for name, (west, east, south, north) in boxes.items()}
    first = boxes[min(predictors, key=lambda name: area[name])]
    chosen = [name for name in predictors if boxes[name] == first]
    note = f"{run.name} has several grids: that of the first predictor is the training grid, the others are brought to it"
    return [*chosen, *(name for name in predictors if name not in chosen)], note


def _blocks(run: FoundRun) -> int:
    """Fine cells a side of a coarse cell: about the cell of a GCM, and at least four coarse cells each way where the grid allows it."""
    return max(2, min(round(_COARSE_KM / max(run.spacing_km, 1.0)), min(run.shape) // _FEWEST_CELLS))


def _training_days(
    truths: Sequence[FoundRun], coarse: Sequence[FoundRun], drives: dict[str, tuple[str, str, bool]], used: dict[str, list[str]]
) -> list[int]:
    """Days that can be paired, over all fine runs."""
    driver = {driven: next(run for run in coarse if run.name == name) for name, (driven, *_) in drives.items() if name in used}
    days: set[int] = set()
    for run in truths:
        own = set(run.common_days(used[run.name]))
        partner = driver.get(run.name)
        days |= own & set(partner.common_days(used[partner.name])) if partner else own
    return sorted(days)


def _gaps(runs: Sequence[FoundRun], used: dict[str, list[str]]) -> list[str]:
    """Runs with missing days inside a series, or with series of different days."""
    lines = []
    for run in runs:
        holes = {run.gaps[name] for name in used[run.name] if name in run.gaps}
        spans = {run.channels[name] for name in used[run.name]}
        if holes:
            lines.append(f"{run.name}: {min(holes)}")
        elif len(spans) > 1:
            lines.append(f"{run.name}: its variables have different days; common ones are used")
    return lines


def split_years(days: Sequence[int]) -> Years:
    """Whole winters-kept-whole years, about 70, 15 and 15 % of each unbroken stretch; dates where there are fewer than three years."""
    if not days:
        raise InputDataError("the runs have no day in common", hint="give files of the same period")
    if len(days) < _FEWEST_DAYS:
        raise InputDataError(
            f"{len(days)} day{'s' * (len(days) != 1)} to learn from: too few for training, validation and test",
            where=f"{iso(days[0])} to {iso(days[-1])}",
            hint="give longer files; downscale inspect shows what these hold",
        )
    count = Counter(_year(day) for day in days)
    usual = sorted(count.values())[len(count) // 2]
    gap = 10 if usual > _HALF_YEAR else 0
    why = "" if gap else "the series holds seasons, months apart: no days need to be dropped between them"
    stretches = [_whole(stretch, count, usual) for stretch in _stretches(sorted(count))]
    longest = max(stretches, key=lambda stretch: len(stretch[1]))
    if len(longest[1]) < 3:
        return _by_dates(days, gap)
    parts: tuple[list[str], list[str], list[str]] = ([], [], [])
    for (first, last), years in stretches:
        for part, period in zip(parts, _parts(first, last, years), strict=True):
            part += [period] if period else []
    return Years(tuple(parts[0]), tuple(parts[1]), tuple(parts[2]), _YEAR_STARTS, gap, why)


def _year(day: int) -> int:
    return day // 10000 + int(day // 100 % 100 >= _YEAR_STARTS)


def _stretches(years: Sequence[int]) -> list[list[int]]:
    """Years without a break of two or more."""
    found = [[years[0]]]
    for before, year in pairwise(years):
        if year - before > _BREAK_YEARS:
            found.append([])
        found[-1].append(year)
    return found


def _whole(stretch: list[int], count: Counter[int], usual: int) -> tuple[tuple[int, int], list[int]]:
    """First and last year of a stretch, and its years that are at least half there; a rump at an end goes with its neighbour."""
    return (stretch[0], stretch[-1]), [year for year in stretch if count[year] >= usual / 2]


def _parts(first: int, last: int, years: list[int]) -> tuple[str, str, str]:
    """The three periods of a stretch; a stretch of one or two years is all for testing."""
    n = len(years)
    if n < 3:
        return "", "", _span(first, last)
    held = max(1, round(n * _SHARES[1]))
    train = max(1, n - 2 * held)
    validation, test = years[train], years[train + held]
    return _span(first, validation - 1), _span(validation, test - 1), _span(test, last)


def _span(first: int, last: int) -> str:
    return f"{first}" if first == last else f"{first}-{last}"


def _by_dates(days: Sequence[int], gap: int) -> Years:
    """A split by dates for less than three years."""
    n = len(days)
    one, two = max(1, int(n * _SHARES[0])), max(2, int(n * sum(_SHARES)))
    edges = [(0, one), (one, two), (two, n)]
    periods = [f"{iso(days[start])}/{iso(days[max(stop - 1, start)])}" for start, stop in edges]
    why = "fewer than three whole years: split by dates, too short to judge a climate"
    return Years((periods[0],), (periods[1],), (periods[2],), 1, min(gap, n // 20), why)


def _nothing(message: str, runs: Sequence[FoundRun], hint: str) -> InputDataError:
    found = [f"{run.name} ({run.role}): {run.words}; {', '.join(run.channels) or 'no variable'}" for run in runs]
    return InputDataError(message, where=f"{len(runs)} run{'s' * (len(runs) != 1)} found", hint=hint, findings=found)
