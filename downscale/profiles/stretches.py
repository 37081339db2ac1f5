"""Which days of an output go to which file of an archive, and outputs whose files would have the same names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from downscale.errors import ConfigError
from downscale.profiles.facets import experiments
from downscale.profiles.rules import Archive


@dataclass(frozen=True)
class Stretch:
    """Days of one file: positions ``start`` to ``stop`` of the output's, first and last of them, and the experiment."""

    start: int
    stop: int
    first: int
    last: int
    experiment: str


def stretches(days: np.ndarray, named: list[str], archive: Archive) -> list[Stretch]:
    """Which days go to which file: an edge after every fifth year and where the experiment changes.

    Args:
        days: yyyymmdd, ascending.
        named: the driving experiments in order of time, one or two.
        archive: the rules.

    Raises:
        ConfigError: days after the end of historical, or before a scenario begins, with no experiment named for them.
    """
    past = days <= archive.historical_ends
    if len(named) == 1 and named[0] not in archive.free_experiments:
        wrong = days[~past] if named[0] == "historical" else days[past]
        if len(wrong):
            other = f"historical,{'SCENARIO' if named[0] == 'historical' else named[0]}"
            raise ConfigError(
                f"{len(wrong)} days from {wrong[0]} to {wrong[-1]} are not of the experiment {named[0]}",
                where="driving_experiment_id (experiment_id of the source's facets)",
                hint=f"historical ends on {archive.historical_ends}; for days of both give '{other}'",
            )
    which = np.where(past, 0, len(named) - 1)
    number = (days // 10000 - 1) // archive.years_a_file
    edges = [0, *(np.flatnonzero((np.diff(number) != 0) | (np.diff(which) != 0)) + 1).tolist(), len(days)]
    return [Stretch(a, b, int(days[a]), int(days[b - 1]), named[int(which[a])]) for a, b in pairwise(edges) if b > a]


@dataclass(frozen=True)
class Named:
    """An output before it is made: what it is, its facets, variables and days (yyyymmdd, ascending)."""

    what: str
    facets: Mapping[str, str]
    variables: Sequence[str]
    days: np.ndarray


def check_apart(archive: Archive, outputs: Iterable[Named]) -> None:
    """Refuse outputs whose files would have the same names.

    Raises:
        ConfigError: with the first two such outputs.
    """
    seen: dict[tuple[str, ...], list[tuple[Stretch, str]]] = {}
    for output in outputs:
        facets = {**archive.assumed, **output.facets}
        common = tuple(facets[name] for name in archive.tokens if name != "driving_experiment_id")
        for stretch in stretches(output.days, experiments(facets), archive):
            for variable in output.variables:
                others = seen.setdefault((*common, stretch.experiment, variable), [])
                for other, what in others:
                    if stretch.first <= other.last and other.first <= stretch.last:
                        raise ConfigError(
                            f"two predictions would have the same file names in {archive.fixed['project_id']}: {what}; {output.what}",
                            where=f"{variable} of {stretch.first}-{stretch.last}: {' '.join((*common, stretch.experiment))}",
                            hint="make one at a time (--run, --source, --member), or give them other facets of their sources",
                        )
                others.append((stretch, output.what))
