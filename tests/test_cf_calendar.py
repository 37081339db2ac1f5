from __future__ import annotations

import cftime
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from downscale.cf.calendar import (
    canonical,
    day_bounds,
    decode_days,
    encode_days,
    expected_days,
    month,
    season_phase,
    years,
)
from downscale.errors import InputDataError

CALENDARS = ["standard", "proleptic_gregorian", "noleap", "365_day", "360_day", "julian", "all_leap"]


@pytest.mark.parametrize("calendar", CALENDARS)
def test_days_agree_with_cftime(calendar):
    numbers = np.arange(-60_000, 120_000, 11) + 0.5
    dates = cftime.num2date(numbers, "days since 1850-01-01", calendar=calendar)
    wanted = np.array([date.year * 10000 + date.month * 100 + date.day for date in dates])
    days = decode_days(numbers, "days since 1850-01-01", calendar)
    np.testing.assert_array_equal(days, wanted)
    np.testing.assert_array_equal(encode_days(days, calendar), numbers)
    length = {"360_day": 360.0, "all_leap": 366.0}.get(canonical(calendar), 365.0)
    phase = season_phase(days, calendar)
    assert phase.min() > 0 and phase.max() < 1
    np.testing.assert_allclose(phase, [(date.dayofyr - 0.5) / length for date in dates], rtol=0.003)


@given(st.sampled_from(CALENDARS), st.integers(-50_000, 150_000), st.sampled_from([(1, "days"), (24, "hours"), (86400, "seconds")]))
def test_units_and_epochs_do_not_change_the_day(calendar, number, step):
    day = decode_days([float(number)], "days since 1850-01-01", calendar)
    units = f"{step[1]} since 1949-12-01T00:00:00Z"
    begin = cftime.date2num(cftime.num2date(number, "days since 1850-01-01", calendar=calendar), units, calendar=calendar)
    np.testing.assert_array_equal(decode_days([begin, begin + 0.999 * step[0]], units, calendar), np.repeat(day, 2))


def test_stamps_a_few_seconds_before_midnight_belong_to_the_next_day():
    assert decode_days([0.99995, 1.0, 1.4, 1.99], "days since 2001-01-01", "standard").tolist() == [20010102, 20010102, 20010102, 20010102]


def test_epochs_before_the_gregorian_reform_follow_the_named_calendar():
    number = cftime.date2num(cftime.datetime(2000, 3, 1, calendar="standard"), "days since 0001-01-01", calendar="standard")
    assert decode_days([number], "days since 0001-01-01", "standard").tolist() == [20000301]
    assert decode_days([number], "days since 0001-01-01", "proleptic_gregorian").tolist() == [20000303]


def test_a_year_may_begin_in_december():
    days = [19991130, 19991201, 20000229]
    assert years(days).tolist() == [1999, 1999, 2000]
    assert years(days, 12).tolist() == [1999, 2000, 2000]
    assert month(days).tolist() == [11, 12, 2]


def test_expected_days_follow_the_calendar():
    assert expected_days(20000227, 20000301, "standard").tolist() == [20000227, 20000228, 20000229, 20000301]
    assert expected_days(20000227, 20000301, "noleap").tolist() == [20000227, 20000228, 20000301]
    assert expected_days(20000227, 20000301, "360_day").tolist() == [20000227, 20000228, 20000229, 20000230, 20000301]


def test_day_bounds_enclose_the_stamp():
    days = expected_days(20000225, 20000305, "360_day")
    bounds, stamps = day_bounds(days, "360_day"), encode_days(days, "360_day")
    np.testing.assert_array_equal(bounds.mean(axis=1), stamps)
    np.testing.assert_array_equal(bounds[1:, 0], bounds[:-1, 1])


@pytest.mark.parametrize(
    ("units", "calendar", "says"),
    [
        ("months since 1850-01-01", "standard", "not days, hours, minutes or seconds"),
        ("days since yesterday", "standard", "cannot be read"),
        ("days since 1850-01-01", "gregorian_proleptic", "unknown calendar"),
        ("days since 0001-01-01", "standard", "1582-10-15"),
    ],
)
def test_time_axes_that_mean_nothing_are_refused(units, calendar, says):
    with pytest.raises(InputDataError, match=says) as caught:
        decode_days([5.0], units, calendar)
    assert caught.value.hint


@pytest.mark.parametrize("values", [[np.nan], [9.96921e36]])
def test_time_values_that_are_no_dates_are_refused(values):
    with pytest.raises(InputDataError, match="no dates"):
        decode_days(values, "days since 1850-01-01", "standard")


@pytest.mark.parametrize(("day", "calendar"), [(20010229, "standard"), (20000229, "noleap"), (20010131, "360_day"), (20011301, "julian")])
def test_days_that_a_calendar_lacks_are_refused(day, calendar):
    with pytest.raises(InputDataError, match="is not a day"):
        encode_days([day], calendar)
