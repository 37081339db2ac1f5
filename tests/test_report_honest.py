"""What figures and tables say of themselves: ranges, yardsticks, what is left out, and colours that mean one thing."""

from __future__ import annotations

import numpy as np
import pytest
from test_report import AWAY, HOME, _findings, _home

from downscale.report import agreement, extremes, outside, panels, plane, regimes, sections, warming
from downscale.report.figure import new_figure, styled
from downscale.report.verdict import verdict
from downscale.report.words import left_out


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """A data folder, and the last figure that was drawn."""
    (tmp_path / "data").mkdir()
    made = []
    for module in (warming, outside, panels, agreement, regimes, extremes):
        monkeypatch.setattr(module, "new_figure", lambda *size: made.append(new_figure(*size)) or made[-1])
    with styled():
        yield tmp_path / "data", made


@pytest.mark.parametrize(
    ("skill", "lower", "upper", "phrase"),
    [
        (0.0079, 0.0038, 0.012, "hardly better than ridge (0.8 % less squared error)"),
        (-0.01, -0.015, -0.005, "hardly worse than ridge (1.0 % more"),
        (0.0079, -0.001, 0.02, "not distinguishable from ridge"),
    ],
)
def test_a_small_gain_that_is_no_chance_is_not_called_none(skill, lower, upper, phrase):
    assert phrase in verdict(_findings(_home(skill, lower, upper))).sentences[0]


def warm(case, warming_at, inside, **seen):
    keys = {"run": "net", "case": case, "variable": "tasmax", "bias": "0.1", "rmse": "1", "unit": "K"}
    return {**keys, "warming": str(warming_at), "inside_training": str(inside), **seen}


def test_the_shade_is_the_range_of_the_training_and_not_of_the_classes(drawn):
    data, made = drawn
    seen = {"training_low": "-0.9", "training_high": "1.07"}
    rows = [warm("A/perfect", -0.09, 1, **seen), warm("A/perfect", 1.06, 1, **seen), warm("A/perfect", 3.0, 0, **seen)]
    picture = warming.extrapolation(_findings(_home(), extrapolation=rows), "tasmax", data)
    (shade,) = made[-1].axes[0].patches
    assert shade.get_x() == pytest.approx(-0.9) and shade.get_x() + shade.get_width() == pytest.approx(1.07)
    assert "what training saw (−0.90 to 1.1 K)" in picture.caption
    old = warming.extrapolation(_findings(_home(), extrapolation=[warm("A/perfect", 0.5, 1)]), "tasmax", data)
    assert not made[-1].axes[0].patches and "shade" not in old.caption


def test_a_case_has_its_colour_in_every_figure(drawn):
    data, made = drawn
    findings = _findings(_home(), cases=(HOME, AWAY), extrapolation=[warm("B/imperfect", 0.5, 1)])
    warming.extrapolation(findings, "tasmax", data)
    assert made[-1].axes[0].lines[0].get_color() == findings.colour_of("B/imperfect") != findings.colour_of("A/perfect")
    days = {"run": "net", "case": "B/imperfect", "share": "0.03", "median": "3", "p95": "9"}
    picture = outside.through_time(_findings(_home(), cases=(HOME, AWAY), ood_days=[{**days, "year": "2000"}]), data)
    assert made[-1].axes[0].lines[0].get_color() == findings.colour_of("B/imperfect")
    assert "3.0 %" in picture.caption and "the 0.5 % expected" in picture.caption
    both = [{**days, "year": "2000", "share_features": "0.01"}]
    picture = outside.through_time(_findings(_home(), ood_days=both), data)
    assert "0.5 to 1 %" in picture.caption
    assert [line.get_ydata()[0] for line in made[-1].axes[0].lines if line.get_linestyle() == ":"] == [0.5, 1.0]


def test_the_largest_shift_is_the_one_that_the_light_reads(drawn):
    data, _ = drawn
    row = {"case": "B/imperfect", "against": "A/perfect", "channel": "tas", "season": "DJF", "shift": "0.28", "abs_shift": "0.33"}
    other = {**row, "channel": "hus", "shift": "-0.30", "abs_shift": "0.31"}
    picture = panels.predictor_shift(_findings(_home(), predictor_shift=[row, other]), data)
    assert "tas in DJF" in picture.caption and "0.33 (0.28 as area mean)" in picture.caption


def test_what_a_figure_has_no_room_for_is_said(drawn):
    data, made = drawn
    row = {"channel": "tas", "season": "ANN", "shift": "0.1", "abs_shift": "0.1", "wavelength_km": "500", "log_power_ratio": "0"}
    many = [{**row, "case": f"G{number}/imperfect", "against": "A/perfect"} for number in range(14)]
    shift = panels.predictor_shift(_findings(_home(), predictor_shift=many), data)
    scale = agreement.scales(_findings(_home(), predictor_scale=many[:5]), data)
    assert "Of 14 comparisons the first 12 are drawn" in shift.caption and "comparisons" not in scale.caption
    assert sum(bool(axis.images) for axis in made[-1].axes) == 5
    assert left_out([1, 2], [1, 2], "cases") == ""


def test_the_yardstick_of_an_upscaled_emulation_stands_beside_it():
    row = {"case": "B/imperfect", "variable": "pr", "season": "ANN", "unit": "mm day-1", "correlation": "0.7", "slope": "0.6"}
    rows = [
        {**row, "run": "net", "bias": "0.92", "rmse": "4.5", "against": "imperfect"},
        {**row, "run": "truth", "bias": "0.68", "rmse": "5.2", "against": "imperfect"},
    ]
    table = agreement.consistency_table(_findings(_home(), cases=(HOME, AWAY), consistency=rows))
    texts = [cell.text for cell in table.rows[0][1]]
    assert texts == ["GCM_B", "0.92 mm/day", "0.68 mm/day", "0.70", "0.60", "4.5 mm/day", "5.2 mm/day"]
    assert len(table.columns) == len(texts)


def test_regimes_that_noise_has_too_are_called_so():
    def table(stability, noise):
        rows = [{"k": "4", "stability": "0.6", "noise": "0.62", "chosen": "0"}]
        rows.append({"k": "5", "stability": stability, "noise": noise, "chosen": "1"})
        return [[cell.text for cell in row[1]] for row in regimes.stability_table(_findings(_home(), regime_stability=rows)).rows]

    assert table("0.59", "0.53") == [["0.60", "0.62", ""], ["0.59", "0.53", "chosen"]]
    assert "not above noise" in table("0.5", "0.53")[1][2]


def test_dark_is_bad_in_every_panel_of_the_regimes():
    def colours(name, values):
        with styled():
            axis = new_figure(3, 2).subplots()
            regimes._heat(axis, np.array([values]), name, "tasmax")
        (image,) = axis.images
        return image.to_rgba(image.get_array())[0, :, :3].sum(axis=1)

    good, bad = colours("skill_vs_ridge", [0.8, -0.2])
    assert good > bad
    small, large = colours("rmse", [0.5, 2.0])
    assert small > large
    middle, below = colours("bias", [0.1, -2.0])
    assert middle > below


def test_pooled_truth_is_the_rcm_runs_and_the_caption_is_of_the_emulation(drawn):
    data, made = drawn
    assert extremes._name(("pooled ssp585", "truth")) == "RCM runs, pooled ssp585" and extremes._name(("A/truth", "truth")) == "truth of A"
    row = {"variable": "pr", "period": "2091-2100", "lower": "nan", "upper": "nan", "unit": "mm day-1", "return_years": "20"}
    scopes = (
        ("A/truth", "truth"),
        ("B/imperfect", "net"),
        ("pooled ssp585", "truth"),
        ("pooled perfect ssp585", "net"),
        ("pooled ssp585", "net"),
    )
    rows = [{**row, "scope": scope, "run": run, "value": str(40 + place)} for place, (scope, run) in enumerate(scopes)]
    picture = extremes.return_levels(_findings(_home(), cases=(HOME, AWAY), return_levels=rows), "pr", data)
    assert "20-year level (pooled ssp585, 2091-2100): 44.0 mm/day" in picture.caption
    lines = {line.get_label(): line.get_color() for line in made[-1].axes[0].lines if not line.get_label().startswith("_")}
    assert len(lines) == 5 and len({colour for label, colour in lines.items() if "RCM" not in label and "truth" not in label}) == 3


@pytest.mark.parametrize(("extra", "ends"), [([], "neither"), ([99.0], "max"), ([-99.0], "min"), ([-99.0, 99.0], "both")])
def test_a_colour_bar_has_arrows_where_it_is_cut(extra, ends):
    field = np.r_[np.zeros(500), np.ones(500), extra]
    scale = plane.make_scale([field], "field", "pr")
    assert scale.extend == ends


def test_home_alone_is_not_announced_as_transfer(tmp_path):
    assert "says nothing of a new GCM" in sections._transfer(_findings(_home()), tmp_path).text
