"""Decadal predictions: the time since the start of a forecast stays beside its days."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from downscale.cf.calendar import encode_days
from downscale.errors import InputDataError

_START = re.compile(r"s(\d{4})(\d{2})?(\d{2})?")
_NONE = ("", "none", "n/a")


@dataclass(frozen=True)
class DayNumbers:
    """A number for each day of a prediction.

    Attributes:
        attributes: of the variable in the files.
        values: (n,) float32.
    """

    attributes: Mapping[str, Any]
    values: np.ndarray


def lead_time(facets: Mapping[str, str], days: np.ndarray, calendar: str) -> dict[str, DayNumbers]:
    """``lead_time``: days from the start of the forecast to the middle of each day; nothing for a run that is no forecast.

    The start is the facet ``start_date`` (yyyymmdd) where there is one, else the first day: decadal predictions of CMIP6 begin near the
    end of the year that ``sub_experiment_id`` names (s1960: 1 November 1960), and their files hold them from the first day on.

    Args:
        facets: of the source, with ``sub_experiment_id`` for a decadal prediction.
        days: yyyymmdd, ascending.
        calendar: of the days.

    Raises:
        InputDataError: the label names no year, or days lie before the start.
    """
    label = str(facets.get("sub_experiment_id", ""))
    if label.lower() in _NONE or not len(days):
        return {}
    found = _START.fullmatch(label)
    start = str(facets.get("start_date", "")) or str(days[0])
    if found is None or not re.fullmatch(r"\d{8}", start):
        raise InputDataError(
            f"sub_experiment_id '{label}', start_date '{facets.get('start_date', '')}': not the start of a forecast",
            where="facets of the source",
            hint="give them as s1960 and 19601101",
        )
    if int(start) > int(days[0]) or not 0 <= int(start[:4]) - int(found[1]) <= 1:
        raise InputDataError(
            f"the forecast {label} starts on {start}, its days on {days[0]}",
            where="facets of the source",
            hint="give all its files from the first day on, or facets.start_date: yyyymmdd",
        )
    begin = float(np.asarray(encode_days(np.array([int(start)]), calendar))[0]) - 0.5
    attributes = {
        "standard_name": "forecast_period",
        "long_name": "time since the start of the forecast",
        "units": "days",
        "forecast_reference_time": f"{start[:4]}-{start[4:6]}-{start[6:]}",
    }
    return {"lead_time": DayNumbers(attributes, (np.asarray(encode_days(days, calendar)) - begin).astype(np.float32))}
