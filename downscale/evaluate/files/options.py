"""How files that are judged without a config are read, and whose units are assumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from downscale.cf import units
from downscale.cf.calendar import month
from downscale.errors import ConfigError, InputDataError
from downscale.variables import lookup

WHICH = {"truth": "reference", "pred": "prediction"}
WINTER_MONTHS = (12, 1, 2)
Stated = Mapping[str, Mapping[str, Sequence[str]]]
"""Side -> variable -> the units that its files state."""


@dataclass(frozen=True)
class FileOptions:
    """How the files are read, and how their years are counted.

    Attributes:
        variables: those wanted; empty: all that both have.
        common_days: judge the days that both have where their days differ.
        assume_units: variable -> units, for the side whose files state none that can be converted.
        own_units: "prediction" or "reference" -> variable -> units that replace what its files state.
        fill_values: numbers that stand for missing, in both.
        own_fill_values: the same of one side.
        member: of an ensemble dimension, of the prediction, and of the reference where it has one.
        year_starts: month in which a year begins; None: December where all days are of winters, else January.
        december: winter of a December, as ``evaluate.december`` of the config.
    """

    variables: tuple[str, ...] = ()
    common_days: bool = False
    assume_units: dict[str, str] = field(default_factory=dict)
    own_units: dict[str, dict[str, str]] = field(default_factory=dict)
    fill_values: tuple[float, ...] = ()
    own_fill_values: dict[str, tuple[float, ...]] = field(default_factory=dict)
    member: str | None = None
    year_starts: int | None = None
    december: Literal["calendar", "next"] = "calendar"

    @property
    def counts_years(self) -> bool:
        """Whether anything is said of how years are counted."""
        return self.year_starts is not None or self.december != "calendar"

    def missing_of(self, side: str) -> tuple[float, ...]:
        """Numbers that stand for missing in the files of a side."""
        return (*self.fill_values, *self.own_fill_values.get(side, ()))

    def first_month(self, days: np.ndarray) -> int:
        """Month in which a year of these days begins."""
        if self.year_starts is not None:
            return self.year_starts
        return 12 if np.isin(month(days), WINTER_MONTHS).all() else 1

    def recipe(self, assumed: Mapping[str, Mapping[str, str]], days: np.ndarray | None) -> dict[str, Any]:
        """What a second evaluation compares: all that numbers depend on.

        Args:
            assumed: units that were assumed of each side.
            days: that are judged; None: the profile has years of its own.
        """
        result: dict[str, Any] = {
            "variables": list(self.variables),
            "common_days": self.common_days,
            "assume_units": dict(self.assume_units),
            "fill_values": list(self.fill_values),
            "member": self.member,
        }
        if any(dict(some) != self.assume_units for some in assumed.values()):
            result["units_of"] = {side: dict(some) for side, some in assumed.items() if some}
        if self.own_fill_values:
            result["own_fill_values"] = {side: list(some) for side, some in self.own_fill_values.items()}
        if days is not None and self.first_month(days) != 1:
            result["year_starts"] = self.first_month(days)
        if days is not None and self.december != "calendar":
            result["december"] = self.december
        return result

    def units_of(self, stated: Stated) -> dict[str, dict[str, str]]:
        """Side -> variable -> units that are assumed of its files.

        What is assumed of no side in particular is for the side whose files state nothing that can be converted: units that are right
        are not replaced.

        Args:
            stated: the units in the files of each side, by variable.

        Raises:
            ConfigError: a variable that is not judged, or units that no side needs.
        """
        judged = sorted(set.intersection(*(set(some) for some in stated.values())))
        result = {side: dict(self.own_units.get(side, {})) for side in stated}
        for name in dict.fromkeys([*self.assume_units, *(name for some in self.own_units.values() for name in some)]):
            if name not in judged:
                raise ConfigError(
                    f"--assume-units: '{name}' is not judged", where=f"both have {', '.join(judged)}", hint="VAR is one of these names"
                )
        for name, assumed in self.assume_units.items():
            open_sides = [side for side in stated if name not in self.own_units.get(side, {})]
            lacking = [side for side in open_sides if not all(_is_known(name, text) for text in stated[side][name])]
            if not lacking:
                said = (f"{side}: {', '.join(repr(text) for text in dict.fromkeys(stated[side][name]))}" for side in stated)
                raise ConfigError(
                    f"--assume-units {name}={assumed}: both sides state units that can be converted",
                    where=" | ".join(said),
                    hint=f"leave it out, or say whose units are wrong: --assume-units prediction:{name}=UNITS, or reference:{name}=UNITS",
                )
            for side in lacking:
                known = [text for text in stated[side][name] if _is_known(name, text)]
                if all(units.same(text, assumed) for text in known):
                    result[side][name] = assumed
        return result


def with_unit(metric: str, value: float, unit: str) -> str:
    """A number of the summary: its name, three digits, and its unit where it has one."""
    return f"{metric} {value:.3g}{'' if unit == '1' else f' {unit}'}".replace("mm day-1", "mm/day")


def _is_known(name: str, text: str) -> bool:
    """Whether units can be converted to those that a variable is worked on in."""
    try:
        units.to_working(lookup(name), text)
    except InputDataError:
        return False
    return True
