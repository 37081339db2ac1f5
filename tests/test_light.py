"""The traffic light: rules, limits moved by known cases, each GCM judged by the others, and what stands in words."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from transfer_world import make_context, predict, small_store

from downscale.config.light import DEFAULTS, LightConfig
from downscale.evaluate.predictions import Prediction
from downscale.evaluate.scorecard import Score
from downscale.evaluate.transfer import extrapolation, light, predictor_pairs, separability
from downscale.evaluate.transfer.light_evidence import Collector, Evidence, Finding
from downscale.evaluate.transfer.light_limits import Losses, bounds, calibrated, lamp, verdict
from downscale.evaluate.transfer.predictor_words import SUMMARY, words

LIMITS = {"climate": {"yellow": 0.5, "red": 1.0}, "separability": {"yellow": 0.75, "red": 0.95}}
LOSSES = Losses(1.25, 2.0)


def case(gcm, loss, *, run="net", **values):
    findings = {rule: Finding(values.get(rule, math.nan), "ta850", 1.0) for rule in DEFAULTS}
    one = Prediction(Path(), run, gcm, "imperfect", ("tasmax",), "emulator", "resunet", "pretrain", (), (), None, None, "0")
    return Evidence(one, gcm, findings, loss)


def test_a_lamp_and_the_worst_of_several():
    assert [lamp(value, LIMITS["climate"]) for value in (0.5, 0.51, 1.1, math.nan)] == ["green", "yellow", "red", "unknown"]
    assert verdict(["green", "unknown", "yellow"]) == "yellow" and verdict(["unknown"]) == verdict([]) == "unknown"
    assert [LOSSES.light(value) for value in (1.0, 1.3, 2.1, math.nan)] == ["green", "yellow", "red", "unknown"]


def test_limits_rise_over_what_was_harmless_but_not_over_what_was_not():
    raised = calibrated(LIMITS, [case("A", 1.0, climate=0.7)], LOSSES)
    assert raised["climate"]["yellow"] == pytest.approx(0.7) and raised["separability"] == LIMITS["separability"]
    capped = calibrated(LIMITS, [case("A", 1.0, climate=0.9), case("B", 1.5, climate=0.8)], LOSSES)
    assert 0.799 < capped["climate"]["yellow"] < 0.8
    far = calibrated(LIMITS, [case("A", 1.0, climate=9.0)], LOSSES)
    assert far["climate"]["yellow"] == 1.0 and far["climate"]["red"] == 2.0


def test_limits_fall_to_what_did_harm_unnoticed():
    found = calibrated(LIMITS, [case("A", 3.0, climate=0.4, separability=0.6), case("B", 1.0, climate=0.1, separability=0.5)], LOSSES)
    assert 0.39 < found["climate"]["yellow"] < 0.4 and found["separability"]["yellow"] == 0.75
    assert lamp(0.4, found["climate"]) != "green"
    contradicted = calibrated(LIMITS, [case("A", 3.0, climate=0.3), case("B", 1.0, climate=0.3)], LOSSES)
    assert contradicted == LIMITS
    low = calibrated(LIMITS, [case("A", 3.0, climate=0.01)], LOSSES)
    assert low == LIMITS


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0.3, 5.0), st.floats(0.0, 4.0), st.floats(0.5, 1.0)), max_size=8))
def test_limits_stay_in_order_and_within_reach(cases):
    found = calibrated(LIMITS, [case("A", loss, climate=d, separability=auc) for loss, d, auc in cases], LOSSES)
    for rule, own in found.items():
        assert own["yellow"] <= own["red"]
        for level in own:
            low, high = bounds(rule, LIMITS[rule][level])
            assert low - 1e-9 <= own[level] <= max(high, bounds(rule, LIMITS[rule]["yellow"])[1]) + 1e-9


def judge(tmp_path, evidence, **options):
    cfg, store = small_store(tmp_path)
    context = make_context(tmp_path, cfg, store)
    context.options = {"light": LightConfig(**options).model_dump()}
    return light.Judge(context, evidence)


def test_each_gcm_is_judged_by_the_others(tmp_path):
    """B alone would raise the limit for itself; A, which saw no harm below 0.7, raises it to 0.7 for B."""
    evidence = [case("A", 1.0, climate=0.7), case("B", 1.6, climate=0.8)]
    one = judge(tmp_path, evidence)
    assert one.limits("B")["climate"]["yellow"] == pytest.approx(0.7) and one.limits("A")["climate"]["yellow"] == 0.5
    assert 0.7 <= one.limits("new")["climate"]["yellow"] < 0.8
    row = list(one.rows(evidence[1]))[-1]
    assert (row["rule"], row["light"], row["value"]) == ("verdict", "yellow", 1.6)
    assert "left out B: predicted yellow, and its W1 error is 1.60 times that at home (yellow)" in row["calibration"]
    new = case("new", math.nan, climate=0.72)
    said = list(judge(tmp_path, [*evidence, new]).rows(new))[-1]
    assert (
        "left out A: predicted yellow, and its W1 error is 1.00 times that at home (green)" in said["calibration"]
        and "left out B" in said["calibration"]
    )
    assert said["reading"].startswith("Yellow: by 1 of 1 rules: ta850 lies 0.72")
    assert "no RCM run driven by this GCM" in said["reading"] and "sees predictors only" in said["reading"]


def test_one_gcm_is_too_few_and_off_is_off(tmp_path):
    alone = judge(tmp_path, [case("A", 1.0, climate=0.7)])
    said = list(alone.rows(alone.evidence[0]))[-1]["calibration"]
    assert alone.limits("new") == alone.given and "takes two emulated GCMs" in said and "only A is" in said
    none = judge(tmp_path, [case("new", math.nan)])
    assert "there is none" in list(none.rows(none.evidence[0]))[-1]["calibration"]
    off = judge(tmp_path, [case("A", 1.0, climate=0.7), case("B", 1.0, climate=0.7)], calibrate=False)
    assert off.limits("new") == off.given and "is off" in list(off.rows(off.evidence[0]))[-1]["calibration"]


def test_nothing_known_is_an_unknown_light_in_words(tmp_path):
    rows = list(judge(tmp_path, []).rows(case("new", math.nan)))
    assert {row["light"] for row in rows} == {"unknown"} and all(math.isnan(row["value"]) for row in rows)
    assert rows[-1]["reading"].startswith("Unknown: no rule could be applied.") and len(rows) == len(DEFAULTS) + 1


def test_rules_are_those_of_the_config():
    rules = LightConfig.model_validate({"rules": {"climate": None, "spread": {"yellow": 1, "red": 2}}}).rules
    assert rules["climate"] is None and rules["spread"].red == 2 and set(rules) == set(DEFAULTS)
    assert {name: (one.yellow, one.red) for name, one in LightConfig().rules.items()} == DEFAULTS
    with pytest.raises(ValidationError, match="lies below yellow"):
        LightConfig.model_validate({"rules": {"climate": {"yellow": 2, "red": 1}}})
    with pytest.raises(ValidationError, match="lies below loss_yellow"):
        LightConfig(loss_yellow=3, loss_red=2)


# --- on a small world --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def context(tmp_path):
    """RCM_B's GCM is shifted by 1.5 K in ta850 from its RCMu (0.3 of a standard deviation), and the net loses a lot on it."""
    cfg, store = small_store(tmp_path, lone_gcm=True)
    for name in store.groups:
        predict(tmp_path, store, name, "imperfect", lambda truth: truth + 1.0)
    (tmp_path / "predictions" / "net" / "CNRM_imperfect" / "prediction.json").write_text(
        json.dumps(
            json.loads((tmp_path / "predictions" / "net" / "CNRM_imperfect" / "prediction.json").read_text())
            | {"align": {"method": "mean"}}
        )
    )
    made = make_context(tmp_path, cfg, store)
    for diagnosis in (predictor_pairs, separability, extrapolation):
        diagnosis.diagnose(made)
    row = ("tasmax", "w1", "all", "ANN", "all")
    for at, value in (("RCM_A/perfect", 0.3), ("RCM_A/imperfect", 0.33), ("RCM_B/imperfect", 1.2)):
        made.rows.append(Score("net", at, *row, value, math.nan, math.nan, "K", 360, 2, 4, ""))
    for group in ("RCM_A", "RCM_B"):
        made.rows.append(Score("truth", f"{group}/truth", "tasmax", "std", *row[2:], 6.0, math.nan, math.nan, "K", 360, 2, 4, ""))
    return made


def test_evidence_is_that_of_the_tables(context):
    found = {one.run.case: one for one in Collector(context).collect()}
    assert found["RCM_A/imperfect"].loss == pytest.approx(1.1) and found["RCM_B/imperfect"].loss == pytest.approx(4.0)
    assert math.isnan(found["CNRM/imperfect"].loss)
    shifts = [row for row in context.tables["predictor_shift"][1] if (row["case"], row["against"]) == ("RCM_B/imperfect", "RCM_B/perfect")]
    worst = max(row["abs_shift"] for row in shifts if row["season"] != "ANN")
    assert 0.2 < found["RCM_B/imperfect"].findings["inconsistency"].value <= worst
    assert math.isnan(found["CNRM/imperfect"].findings["inconsistency"].value)
    assert math.isfinite(found["CNRM/imperfect"].findings["climate"].value)
    assert math.isnan(found["RCM_A/imperfect"].findings["outside"].value)


def test_spreads_that_differ_both_ways_do_not_cancel(context):
    for row in context.tables["predictor_shift"][1]:
        row["log_std_ratio"], row["abs_log_std_ratio"] = 0.0, 0.6
    found = {one.run.case: one.findings["spread"].value for one in Collector(context).collect()}
    assert found["RCM_B/imperfect"] == pytest.approx(0.6)


def test_flagged_days_are_those_of_all_days_in_the_worse_space(context):
    row = {"run": "net", "case": "RCM_A/imperfect", "n_days": 100, "flagged": 1, "median_score": 1.0, "threshold": 5.0}
    rows = [("all", "pca", 0.01), ("all", "features", 0.3), ("2090-2099", "pca", 0.9), ("test", "features", math.nan)]
    context.extend("ood", tuple(row), [{**row, "period": period, "space": space, "share": share} for period, space, share in rows])
    found = {one.run.case: one.findings["outside"] for one in Collector(context).collect()}
    assert found["RCM_A/imperfect"] == Finding(0.3, "features") and math.isnan(found["RCM_B/imperfect"].value)
    light.diagnose(context)
    lights = {(one["case"], one["rule"]): one["light"] for one in context.tables["light"][1]}
    assert lights["RCM_A/imperfect", "outside"] == "red" and lights["RCM_A/imperfect", "verdict"] == "red"


def test_the_table_has_a_row_per_rule_and_a_verdict(context):
    light.diagnose(context)
    rows = context.tables["light"][1]
    assert len(rows) == 3 * (len(DEFAULTS) + 1) and all(set(row) == set(light.COLUMNS) for row in rows)
    verdicts = {row["case"]: row for row in rows if row["rule"] == "verdict"}
    assert "predicted" in verdicts["RCM_B/imperfect"]["calibration"] and "aligned" in verdicts["CNRM/imperfect"]["reading"]
    assert "aligned" not in verdicts["RCM_A/imperfect"]["reading"]


def test_a_gcm_that_was_learned_from_is_home():
    assert light.reading("climate", Finding(0.0, "it has learned from this GCM")) == "climate: it has learned from this GCM"
    assert "1.49 times smaller" in light.reading("spread", Finding(0.4, "ua850", -1.0))
    assert "above" in light.reading("inconsistency", Finding(0.4, "ua850", 1.0))


def test_a_move_below_the_shown_digits_is_no_move(tmp_path):
    """A's harm at the limit itself lowers it by a millionth."""
    made = judge(tmp_path, [case("A", 3.0, warming=0.5), case("A", 1.0, warming=0.05), case("B", 1.0)])
    own = made.limits("B")["warming"]
    assert own["red"] != 0.5 and abs(own["red"] - 0.5) < 1e-6
    (said,) = [row["calibration"] for row in made.rows(made.evidence[2]) if row["rule"] == "warming"]
    assert said == "limits as in the config"


def test_years_outside_are_those_beyond_the_widened_range():
    assert "by more than the standard deviation of a year" in light.reading("warming", Finding(0.25))


def test_reading_and_light_give_one_rule_one_colour(context):
    """Where only the means differ, neither objects to what a classifier sees; the shift has a rule of its own."""
    rows = context.tables["separability"][1]
    for plain, left, colour in ((0.99, 0.5, "green"), (0.99, 0.8, "yellow"), (0.97, 0.96, "red"), (0.96, math.nan, "red")):
        for row in rows:
            row["auc"], row["auc_anomalies"] = plain, left
        read = {(row["case"], row["against"]): row for row in words(context) if row["topic"] == "separability"}
        rules = context.options["light"]["rules"]["separability"]
        for one in Collector(context).collect():
            told = next(row for key, row in read.items() if set(key) == {one.run.case, "RCM_A/perfect"})
            assert told["light"] == lamp(one.findings["separability"].value, rules) == colour
            assert ("monthly means apart" in told["text"]) == math.isfinite(left) and f"{100 * plain:.0f} %" in told["text"]


def test_the_advice_is_for_what_differs(context):
    def advice(**limits):
        context.options["light"]["rules"] = {name: limits.get(name) for name in DEFAULTS}
        return {(row["case"], row["against"]): row["text"] for row in words(context) if row["topic"] == SUMMARY}

    never, always = {"yellow": 90.0, "red": 99.0}, {"yellow": -1.0, "red": 99.0}
    key = ("RCM_B/imperfect", "RCM_B/perfect")
    assert "aligning mends" in advice(inconsistency=always, spread=never, separability=never)[key]
    assert "aligning means will not mend it" in advice(inconsistency=always, spread=always, separability=never)[key]
    assert "align" not in advice(inconsistency=never, spread=never, separability=never)[key]
    assert not any(
        "align" in text
        for (case, other), text in advice(climate=always, spread=always).items()
        if case.endswith(other[-8:]) and other.endswith("/perfect")
    )
