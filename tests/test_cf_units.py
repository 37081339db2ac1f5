from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from downscale.cf.units import linear, pressure_hpa, same, to_file, to_working
from downscale.errors import InputDataError
from downscale.variables import TABLE


@pytest.mark.parametrize(
    ("name", "units", "value", "wanted"),
    [
        ("tas", "Celsius", 0.0, 273.15),
        ("tas", "C", 10.0, 283.15),
        ("tas", "deg C", 10.0, 283.15),
        ("tas", "degF", 32.0, 273.15),
        ("pr", "kg m-2 s-1", 1.0 / 86400.0, 1.0),
        ("pr", "Kg/m^2/s", 1.0 / 86400.0, 1.0),
        ("pr", "mm/day", 3.0, 3.0),
        ("pr", "mm s-1", 1.0 / 86400.0, 1.0),
        ("pr", "m s-1", 1e-3 / 86400.0, 1.0),
        ("pr", "kg m-2 d-1", 2.0, 2.0),
        ("zg", "m**2 s**-2", 9.80665, 1.0),
        ("zg", "gpm", 5.0, 5.0),
        ("hus", "kg kg**-1", 0.01, 0.01),
        ("hus", "kg.kg-1", 0.01, 0.01),
        ("hus", "g/kg", 10.0, 0.01),
        ("psl", "hPa", 1000.0, 1e5),
        ("psl", "millibar", 1000.0, 1e5),
        ("psl", "mb", 1000.0, 1e5),
        ("uas", "m s**-1", 4.0, 4.0),
        ("sftlf", "1", 0.5, 50.0),
        ("sftlf", "%", 50.0, 50.0),
    ],
)
def test_known_units_reach_working_units(name, units, value, wanted):
    converted = to_working(TABLE[name], units).apply(np.array([value]))
    np.testing.assert_allclose(converted, wanted, rtol=1e-9)


@pytest.mark.parametrize(
    ("name", "units"),
    [("pr", "mm"), ("pr", "kg m-2"), ("pr", "mm/6h"), ("pr", ""), ("tas", "m"), ("hus", "furlongs"), ("zg", "Pa")],
)
def test_units_without_a_conversion_name_assume_units(name, units):
    with pytest.raises(InputDataError) as caught:
        to_working(TABLE[name], units)
    assert f"assume_units: {{{name}:" in caught.value.hint
    assert f"'{units}'" in caught.value.message


def test_a_sum_over_an_unknown_time_is_called_that():
    with pytest.raises(InputDataError, match="sum over an unknown time"):
        to_working(TABLE["pr"], "mm")


@given(st.sampled_from(sorted(TABLE)), st.floats(-1e4, 1e4))
def test_writing_and_reading_units_undo_each_other(name, value):
    row = TABLE[name]
    there = to_file(row).apply(np.array([value]))
    back = to_working(row, row.file_units).apply(there)
    np.testing.assert_allclose(back, value, rtol=1e-12, atol=1e-9)


def test_float32_stays_float32_in_place():
    values = np.array([0.0, 1.0], np.float32)
    assert to_working(TABLE["tas"], "degC").apply(values) is values
    assert values.dtype == np.float32


def test_spellings_of_one_unit_are_the_same():
    assert same("K", "kelvin") and same("kg m-2 s-1", "Kg/m^2/s") and same("nonsense", "nonsense")
    assert not same("K", "degC") and not same("K", "nonsense")
    assert linear("K", "m") is None


def test_pressure_levels_come_in_hpa():
    assert pressure_hpa(np.array([85000.0, 50000.0]), "Pa").tolist() == [850.0, 500.0]
    assert pressure_hpa(np.array([850.0]), "millibar").tolist() == [850.0]
    assert pressure_hpa(np.array([85000.0]), "").tolist() == [850.0]
    assert pressure_hpa(np.array([1.0]), "m") is None
