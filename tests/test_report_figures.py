"""Colours, maps, axes and the parts of the page that have a known answer."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from test_report import HOME, NET, _findings, _home

from downscale.evaluate.scorecard import Score
from downscale.report import colours, compared, extremes, few_shot, outside, plane, regimes, tables, trust, warming
from downscale.report.figure import Picture, new_figure, save_figure, styled
from downscale.report.sections import Section, within


def oklab(rgb):
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ np.linalg.inv(colours._TO_RGB).T) @ np.linalg.inv(colours._TO_CONES).T


@pytest.mark.parametrize("variable", ["tasmax", "pr", "psl"])
def test_difference_colours_have_equal_steps_and_equal_arms(variable):
    points = oklab(np.asarray(colours.diverging(variable).colors))
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    half = len(steps) // 2
    for arm in (steps[: half - 1], steps[half + 1 :]):
        assert arm.max() / arm.min() < 1.1
    np.testing.assert_allclose(points[:, 0], points[::-1, 0], atol=0.01)
    assert points[:, 0].max() > 0.95 and abs(points[0, 0] - 0.42) < 0.01


def test_white_and_grey_of_oklab_are_known():
    np.testing.assert_allclose(colours.rgb_of_oklab(np.array([[1.0, 0, 0], [0.0, 0, 0]])), [[1, 1, 1], [0, 0, 0]], atol=1e-6)


def test_scales_are_symmetric_for_differences_only():
    field = np.array([[1.0, 5.0], [np.nan, -2.0]])
    difference, change = (plane.make_scale([field], name, "pr") for name in ("difference", "change"))
    assert difference.low == -difference.high and difference.diverging and change.diverging
    assert not plane.make_scale([field], "field", "pr").diverging and not plane.make_scale([np.abs(field)], "change", "pr").diverging
    empty = plane.make_scale([np.full((2, 2), np.nan)], "field", "pr")
    assert (empty.low, empty.high) == (0.0, 1.0)
    flat = plane.make_scale([np.full((2, 2), 3.0)], "field", "pr")
    assert flat.high > flat.low


def test_longitudes_do_not_jump_inside_the_domain():
    np.testing.assert_allclose(plane.unbroken(np.array([[358.0, 359.0, 0.0, 1.0]]))[0], np.arange(4) - 2.0, atol=1e-9)
    lon = plane.unbroken(np.array([[178.0, 180.0, -178.0]]))[0]
    np.testing.assert_allclose(np.diff(lon), [2.0, 2.0])
    assert plane._degrees(181.0, ("E", "W")) == "179°W" and plane._degrees(-10.0, ("N", "S")) == "10°S"


def world_grid(ny=8, nx=6):
    lat, lon = np.meshgrid(np.linspace(40, 44, ny), np.linspace(-3, 2, nx), indexing="ij")
    land = np.where(lon > 0, 100.0, 0.0)
    return xr.Dataset({"lat": (("y", "x"), lat), "lon": (("y", "x"), lon), "sftlf": (("y", "x"), land)})


def test_maps_carry_coast_graticule_and_stipples():
    significant = np.zeros((8, 6))
    significant[2:4, 1] = 1.0
    significant[0, 0] = np.nan
    panel = plane.Panel("a", np.arange(48.0).reshape(8, 6) - 20, "difference", significant)
    with styled():
        figure = plane.draw_panels(world_grid(), [[panel, None]], "tasmax", {"difference": "K"})
        axis = figure.axes[0]
    dots = axis.collections[-1].get_offsets()
    np.testing.assert_array_equal(np.asarray(dots), [[1, 2], [1, 3]])
    names = [label.get_text() for label in (*axis.get_yticklabels(), *axis.get_xticklabels())]
    assert {"42°N", "0°"} <= set(names)
    assert len(axis.collections) >= 4, "parallels, meridians, coast, dots"


def test_stipples_of_fine_grids_are_thinned():
    with styled():
        axis = new_figure(3, 3).subplots()
        plane.draw_stipples(axis, np.ones((400, 200)))
    assert 0 < len(axis.collections[0].get_offsets()) <= plane.MAX_STIPPLES**2


def test_a_map_without_a_grid_is_drawn_bare():
    with styled():
        figure = plane.draw_panels(xr.Dataset(), [[plane.Panel("a", np.ones((3, 3)), "field")]], "pr", {"field": "mm"})
    assert not figure.axes[0].collections


def test_figures_are_written_for_papers_twice_as_fine_as_for_the_page(tmp_path):
    (tmp_path / "data").mkdir()
    with styled():
        figure = new_figure(3, 2)
        figure.subplots().plot([0, 1], [0, 1])
        page = save_figure(figure, tmp_path / "data", "line")
    fine = (tmp_path / "figures" / "line.png").read_bytes()
    picture, paper = (Picture("n", "t", "c", "a", png, "d") for png in (page, fine))
    assert (paper.width, paper.height) == (2 * picture.width, 2 * picture.height) == (660, 440)
    assert (tmp_path / "figures" / "line.pdf").read_bytes().startswith(b"%PDF")


def test_images_beyond_the_limit_are_left_to_links():
    def picture(name, size):
        return Picture(name, "", "", "", b"x" * size, "")

    sections = [Section("a", "", "", (), (picture("1", 60), picture("2", 60))), Section("b", "", "", (), (picture("3", 30),))]
    kept = [one for section in within(sections, 100) for one in section.pictures]
    assert [(one.name, bool(one.source)) for one in kept] == [("1", True), ("2", False), ("3", True)]


@given(st.sets(st.integers(1900, 2100), min_size=1, max_size=40).map(sorted))
def test_the_axis_of_years_keeps_order_and_shows_gaps(years):
    places = outside.compressed(years)
    values = [places[year] for year in years]
    assert values[0] == 0 and all(late - early in (1.0, 2.0) for early, late in pairwise(values))
    for early, late in pairwise(years):
        assert (places[late] - places[early] == 1.0) == (late - early == 1)
    assert set(outside._named_years(places)) <= set(years)


@pytest.mark.parametrize(
    ("value", "reach", "text"), [(0.0045, 1.4, "0.0"), (-0.04, 1.4, "0.0"), (1.44, 1.4, "1.4"), (0.27, 0.27, "0.27"), (52.3, 80.0, "52")]
)
def test_numbers_of_a_panel_share_their_decimals(value, reach, text):
    assert regimes._decimals(value, reach) == text
    assert regimes._decimals(math.nan, reach) == "–"


def test_a_light_says_why_and_apart_what_it_does_not_know():
    rows = [
        {
            "run": "net",
            "case": "A/perfect",
            "rule": "verdict",
            "light": "red",
            "reading": "Red: too cold. Not known: tides.",
            "calibration": "B: red",
        }
    ]
    found = trust.lights(_findings(_home(), light=rows))
    assert found == (trust.Light("red", "red: do not trust", "A's RCMu (A/perfect): too cold.", "B: red", "Not known: tides."),)
    assert trust.doubts(_findings(_home(), light=rows)) == ["Not known: tides."]
    assert trust.lights(_findings(_home())) == () and trust.rules_table(_findings(_home())) is None


def test_the_matrix_has_a_row_for_each_member_and_says_what_others_there_are(tmp_path):
    keys = {"gcm": "G", "rcm": "R", "scenario": "s", "years": "2000", "run": "net", "case": "", "light": ""}
    rows = [
        {**keys, "member": f"r{n}", "state": state, "others": "2 trusted" if n == 1 else ""}
        for n, state in ((1, "doubtful"), (2, "trusted"))
    ]
    assert trust._cell(rows, "G r1", "R", "s")["state"] == "doubtful" and trust._cell(rows, "G r1", "R", "other")["state"] == "missing"
    (tmp_path / "data").mkdir()
    many = [{**rows[0], "member": f"r{n:02}"} for n in range(40)]
    with styled():
        drawn = [trust.matrix_picture(_findings(_home(), matrix=some), tmp_path / "data") for some in (rows, many)]
    assert "1 trusted, 1 doubtful" in drawn[0].caption and "counted below" in drawn[0].caption and drawn[1].height < 1400
    assert [cell.text for cell in trust.matrix_table(_findings(_home(), matrix=rows)).rows[0][1]][-1] == "2 trusted"


def test_the_best_of_a_row_is_marked_unless_most_share_it():
    def score(value, name="rmse"):
        return Score("r", "c", "tasmax", name, "all", "ANN", "all", value, math.nan, math.nan, "K", 1, 1, 1, "none")

    assert [cell.best for cell in tables._cells("rmse", [score(1.0), score(2.0), None])] == [True, False, False]
    assert not any(cell.best for cell in tables._cells("rmse", [score(1.0), score(1.0), score(1.0)]))
    assert [cell.best for cell in tables._cells("std_ratio", [score(0.7), score(1.1)])] == [False, True]
    assert [cell.sort for cell in tables._cells("rmse", [score(1.5), score(math.nan)])] == ["1.5", ""]


def test_regions_are_a_table_of_the_main_run():
    findings = _findings(_home())
    assert compared.regions_table(findings, HOME) is None
    findings.card.regional = [dataclasses.replace(_home()[0], region="alps", value=0.9)]
    table = compared.regions_table(findings, HOME)
    assert [row[0] for row in table.rows] == ["all (the main region): tasmax", "alps: tasmax"]
    assert table.rows[1][1][0].text == "0.900 K"


def test_no_return_level_is_said_with_its_reason():
    row = {"variable": "pr", "scope": "A", "run": "net", "value": "nan", "method": "none: fewer than 10 years"}
    assert extremes.why_none(_findings(_home(), return_levels=[row])) == "fewer than 10 years"
    assert extremes.why_none(_findings(_home())) == ""
    assert extremes.why_none(_findings(_home(), return_levels=[{**row, "value": "3.0"}])) == ""


def test_rankings_without_a_tau_are_not_shown_and_shares_add_up():
    anova = [
        {"variable": "tasmax", "statistic": "change_mean", "season": "ANN", "factor": factor, "share": str(share), "n": "4"}
        for factor, share in (("gcm", 0.7), ("emulator", 0.2), ("residual", 0.1))
    ]
    blind = {
        "run": "net",
        "variable": "tasmax",
        "statistic": "change_mean",
        "season": "ANN",
        "kendall_tau": "nan",
        "p_value": "nan",
        "n_gcm": "2",
    }
    ranks, shares = warming.ensemble_tables(_findings(_home(), ensemble=[blind], anova=anova))
    assert ranks is None
    assert [cell.text for cell in shares.rows[0][1]] == ["70 %", "20 %", "10 %"]


def test_a_few_shot_curve_starts_where_the_run_was():
    rows = [{"method": "full", "shots": "2", "error": "0.5", "error_low": "0.4", "error_high": "0.6"}]
    assert few_shot._points("full", rows) == [(0, 1.0, 1.0, 1.0), (2, 0.5, 0.4, 0.6)]
    assert few_shot._points("scratch", [{**rows[0], "method": "scratch"}]) == [(2, 0.5, 0.4, 0.6)]


def test_every_figure_is_left_out_where_its_table_is_not_there(tmp_path):
    findings = _findings(_home(), runs=(NET,))
    assert outside.through_time(findings, tmp_path) is None and regimes.composites(findings, tmp_path) is None
    assert warming.extrapolation(findings, "tasmax", tmp_path) is None and trust.matrix_picture(findings, tmp_path) is None
    assert not list(tmp_path.iterdir())
