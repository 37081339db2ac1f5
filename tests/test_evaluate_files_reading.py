"""evaluate of files: whose units are assumed, how years are counted, and errors without a word of a config."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from conftest import run_cli
from judged_files import make_fields, make_pair, write_fields

import downscale.cf
from downscale.cf.calendar import expected_days
from downscale.errors import ConfigError, InputDataError
from downscale.evaluate.files.judge import Work, evaluate_files
from downscale.evaluate.files.options import FileOptions
from downscale.evaluate.files.remedies import in_our_words
from downscale.evaluate.scorecard import read_scores

THREADS = Work(workers=1)
OF_A_CONFIG = re.compile(r"sources\.|config|train|assume_units|missing\.|missing: |evaluate\.|split\.|SIDE:")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return make_pair(tmp_path_factory.mktemp("pair"), 20000101, 20001231)


def _precipitation(folder, fields, days, units, factor=1.0):
    return write_fields(folder, {"pr": fields["pr"] * np.float32(factor)}, days, units={"pr": units})


def _bias(pred, truth, folder, **options):
    evaluate_files([pred], [truth], folder, options=FileOptions(**options), work=THREADS)
    return read_scores(folder).value("prediction", "files/prediction", "pr", "bias")


def test_assumed_units_are_for_the_side_that_states_none(pair, tmp_path):
    *_, prediction, reference, days = pair
    pred = _precipitation(tmp_path / "pred.nc", prediction, days, "")
    truth = _precipitation(tmp_path / "truth.nc", reference, days, "kg m-2 s-1", 1 / 86400)
    right = float((prediction["pr"].astype(float) - reference["pr"]).mean())
    assert _bias(pred, truth, tmp_path / "one", assume_units={"pr": "mm/day"}) == pytest.approx(right, abs=0.02)
    assert _bias(truth, pred, tmp_path / "other", assume_units={"pr": "mm/day"}) == pytest.approx(-right, abs=0.02)
    recipe = json.loads((tmp_path / "one" / "recipe.json").read_text())
    options, notes = recipe["inputs"]["options"], recipe["notes"]
    assert options["assume_units"] == {"pr": "mm/day"} and options["units_of"] == {"prediction": {"pr": "mm/day"}}
    assert any(line.startswith("prediction: pr: units taken as 'mm/day'") for line in notes)
    assert any(line == "reference: pr: converted from 'kg m-2 s-1' to mm day-1" for line in notes)


def test_without_options_of_this_kind_the_recipe_is_as_it_was(pair, tmp_path):
    *_, prediction, reference, days = pair
    pred, truth = (_precipitation(tmp_path / f"{n}.nc", f, days, "") for n, f in (("pred", prediction), ("truth", reference)))
    evaluate_files([pred], [truth], tmp_path / "out", options=FileOptions(assume_units={"pr": "mm/day"}), work=THREADS)
    options = json.loads((tmp_path / "out" / "recipe.json").read_text())["inputs"]["options"]
    assert options == {"variables": [], "common_days": False, "assume_units": {"pr": "mm/day"}, "fill_values": [], "member": None}


def test_units_that_nobody_lacks_are_refused_unless_a_side_is_named(pair, tmp_path):
    *_, prediction, reference, days = pair
    wrong = _precipitation(tmp_path / "wrong.nc", prediction, days, "mm day-1", 1 / 24)  # mm/h that say mm/day
    truth = _precipitation(tmp_path / "truth.nc", reference, days, "mm day-1")
    with pytest.raises(ConfigError, match="both sides state units") as caught:
        _bias(wrong, truth, tmp_path / "out", assume_units={"pr": "mm/h"})
    assert "prediction:pr=" in caught.value.hint and not (tmp_path / "out").exists()
    right = float((prediction["pr"].astype(float) - reference["pr"]).mean())
    own = {"prediction": {"pr": "mm/h"}}
    assert _bias(wrong, truth, tmp_path / "out", own_units=own) == pytest.approx(right, abs=0.02)
    with pytest.raises(ConfigError, match="'prr' is not judged"):
        _bias(wrong, truth, tmp_path / "none", assume_units={"prr": "mm/h"})


def test_some_files_of_a_side_without_units_do_not_change_the_others(pair, tmp_path):
    *_, prediction, reference, days = pair
    half = len(days) // 2
    first = _precipitation(tmp_path / "first.nc", {"pr": prediction["pr"][:half]}, days[:half], "")
    second = _precipitation(tmp_path / "second.nc", {"pr": prediction["pr"][half:]}, days[half:], "kg m-2 s-1", 1 / 86400)
    truth = _precipitation(tmp_path / "truth.nc", reference, days, "mm day-1")
    with pytest.raises(InputDataError, match="unequal units"):
        evaluate_files([first, second], [truth], tmp_path / "out", options=FileOptions(assume_units={"pr": "mm/day"}), work=THREADS)


def test_a_fill_value_of_one_side_stays_there(pair, tmp_path):
    *_, prediction, reference, days = pair
    pred, truth = (_precipitation(tmp_path / f"{n}.nc", f, days, "mm day-1") for n, f in (("pred", prediction), ("truth", reference)))
    result = run_cli("evaluate", "--prediction", pred, "--reference", truth, "-o", tmp_path / "one", "--fill-value", "prediction:0")
    assert result.exit_code == 0, result.output
    recipe = json.loads((tmp_path / "one" / "recipe.json").read_text())
    assert recipe["command"].startswith(f"downscale evaluate --prediction {pred} ") and "--fill-value prediction:0" in recipe["command"]
    notes = " ".join(recipe["notes"])
    assert "prediction: pr: " in notes and "values equal to those of --fill-value" in notes and "reference: pr: 1" not in notes
    result = run_cli("evaluate", "--prediction", pred, "--reference", truth, "-o", tmp_path / "x", "--fill-value", "truth:0")
    assert result.exit_code == 2 and "[SIDE:]NUMBER" in result.output


def _winters(folder):
    """Five winters; the largest value of each lies in its December."""
    days = np.asarray(expected_days(20001201, 20050228, "standard"))
    days = days[np.isin(days // 100 % 100, (12, 1, 2))]
    fields = make_fields(days)
    fields["pr"] = np.minimum(fields["pr"], 20.0)
    fields["pr"][days % 10000 == 1215] = 50.0
    return [_precipitation(folder / f"{name}.nc", fields, days, "mm day-1", factor) for name, factor in (("pred", 1.1), ("truth", 1.0))]


def test_files_of_winters_are_counted_by_winters(tmp_path):
    pred, truth = _winters(tmp_path)
    evaluate_files([pred], [truth], tmp_path / "winters", work=THREADS)
    card = read_scores(tmp_path / "winters")
    row = card.get("truth", "files/truth", "pr", "rx1day")
    assert row is not None and row.n_years == 5 and row.value == pytest.approx(50.0, abs=0.1)
    assert any("begins in December" in line for line in card.recipe["notes"])
    evaluate_files([pred], [truth], tmp_path / "years", options=FileOptions(year_starts=1), work=THREADS)
    row = read_scores(tmp_path / "years").get("truth", "files/truth", "pr", "rx1day")
    assert row is not None and row.n_years == 6 and row.value < 46.0
    assert "year_starts" not in read_scores(tmp_path / "years").recipe["inputs"]["options"]


def test_december_of_whole_years_joins_the_winter_after_it(tmp_path):
    pred, truth, *_ = make_pair(tmp_path, 20000101, 20021231)
    winters = {}
    for name in ("calendar", "next"):
        out = tmp_path / name
        result = run_cli("evaluate", "--prediction", pred, "--reference", truth, "-o", out, "--december", name, "--year-starts", 1)
        assert result.exit_code == 0, result.output
        winters[name] = read_scores(out).get("prediction", "files/prediction", "pr", "rx1day_bias", season="DJF").n_years
    assert winters == {"calendar": 3, "next": 2}
    result = run_cli("evaluate", "--prediction", pred, "--reference", truth, "-o", out, "--profile", "mlbench", "--december", "next")
    assert result.exit_code == 2 and "--december" in result.output


def _hints(path):
    """The text of every ``hint=`` in a module, names in it as a word."""
    words = {"remedy": "tas: NAME_IN_FILE", "have": "0 to 2"}
    for node in ast.walk(ast.parse(path.read_text())):
        for keyword in node.keywords if isinstance(node, ast.Call) else ():
            if keyword.arg == "hint":
                parts = [keyword.value] if isinstance(keyword.value, ast.JoinedStr) else list(ast.walk(keyword.value))
                for part in parts:
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        yield part.value
                    elif isinstance(part, ast.JoinedStr):
                        pieces = (p.value if isinstance(p, ast.Constant) else words.get(ast.unparse(p.value), "name") for p in part.values)
                        yield "".join(pieces)


def test_no_remedy_of_reading_files_names_a_config():
    never = ("missing: {gaps: skip}", "aggregate: cell_methods takes", "sources.NAME.select; the files hold")
    folder = Path(downscale.cf.__file__).parent
    hints = {hint for path in folder.glob("*.py") for hint in _hints(path) if not any(one in hint for one in never)}
    assert sum("sources.NAME" in hint for hint in hints) > 10, "this test reads the hints no more"
    for hint in sorted(hints):
        for side in ("", "prediction", "land"):
            assert not OF_A_CONFIG.search(in_our_words(hint, side)), hint


def test_errors_of_files_name_what_can_be_done_here(pair, tmp_path):
    pred, truth, prediction, _, days = pair
    one = {name: np.full_like(values, 290.0 if name == "tasmax" else 1.0) for name, values in prediction.items()}
    celsius = {"tasmax": prediction["tasmax"] - np.float32(273.15)}
    hourly = np.repeat(days[:3], 4)
    cases = {
        "nounits": ({"tasmax": prediction["tasmax"]}, days, {"units": {"tasmax": ""}}, "--assume-units tasmax=K"),
        "wrong": (celsius, days, {}, "--assume-units prediction:tasmax=UNITS"),
        "constant": (one, days, {}, "--profile mlbench"),
        "subdaily": ({"tasmax": prediction["tasmax"][:12]}, hourly, {}, "daymean"),
        "members": (prediction, days, {"members": 2}, "--member: 0 to 1"),
        "other": ({"pr": prediction["pr"]}, days, {"units": {"pr": "mm"}}, "--assume-units pr=mm/day"),
    }
    for name, (fields, on, more, remedy) in cases.items():
        file = write_fields(tmp_path / f"{name}.nc", fields, on, **more)
        if name == "subdaily":
            with netCDF4.Dataset(file, "a") as dataset:
                dataset["time"][:] = dataset["time"][0] + 0.25 * np.arange(12)
        with pytest.raises(InputDataError) as caught:
            evaluate_files([file], [truth], tmp_path / "out", work=THREADS)
        text = str(caught.value)
        assert remedy in text and not OF_A_CONFIG.search(text) and len(caught.value.lines()) <= 3, (name, text)
        assert not (tmp_path / "out").exists()
    with pytest.raises(InputDataError) as caught:
        evaluate_files([pred], [truth], tmp_path / "out", options=FileOptions(member="7"), work=THREADS)
    assert "leave --member out" in str(caught.value)


def test_predictors_take_no_workers():
    for flag in (("--workers", "4"), ("--scheduler", "tcp://nowhere:1")):
        result = run_cli("evaluate", "config.yaml", "--predictors", *flag)
        assert result.exit_code == 2 and flag[0] in result.output and "--predictors" in result.output


def test_help_names_the_page_that_is_written():
    assert "consistency/report/index.html" in run_cli("evaluate", "--help").output.replace("\n", "")
