"""The page: self-contained, readable without eyes, its data beside it, and a verdict that says only what the scores say."""

from __future__ import annotations

import dataclasses
import math
from html.parser import HTMLParser
from pathlib import Path

import pytest
import xarray as xr
from fake_workspace import make_config
from test_evaluate_stage import winters

from downscale.errors import InputDataError
from downscale.evaluate.scorecard import Score, Scorecard
from downscale.evaluate.stage import evaluate_store
from downscale.report import words
from downscale.report.findings import CaseFacts, Findings, RunFacts
from downscale.report.html import make_report, report_there
from downscale.report.sections import predictor_words
from downscale.report.verdict import verdict


class Page(HTMLParser):
    """What the tests look at: tags with their attributes, and the text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def page(report_page):
    return report_page, Page(report_page.read_text())


def test_the_page_needs_nothing_from_outside(page):
    path, parsed = page
    assert not parsed.open
    assert [attributes for attributes in parsed.all("script")] == [{}]
    for _, attributes in parsed.tags:
        for name in ("src", "href"):
            value = attributes.get(name, "")
            assert value.startswith(("data:", "#")) or not value or (path.parent / value).exists(), value
    assert "http" not in path.read_text().replace("data:image", "") and "@import" not in path.read_text()
    assert path.stat().st_size < 5_000_000


def test_every_figure_has_words_data_a_command_and_files_for_papers(page):
    path, parsed = page
    images = parsed.all("img")
    assert len(images) >= 30 and len(parsed.all("figcaption")) == len(images)
    assert all(len(image["alt"]) > 40 and image["src"].startswith("data:image/png;base64,") for image in images)
    assert all(int(image["width"]) > 200 and int(image["height"]) > 100 for image in images)
    data = [path.parent / link["href"] for link in parsed.all("a") if link["href"].startswith("data/")]
    assert len(data) == len(images) == len(set(data))
    assert set(data) == set((path.parent / "data").iterdir())
    figures = [path.parent / link["href"] for link in parsed.all("a") if link["href"].startswith("figures/")]
    assert set(figures) == set((path.parent / "figures").iterdir()) and len(figures) == 2 * len(images)
    assert all(file.read_bytes().startswith((b"%PDF", b"\x89PNG")) for file in figures)
    assert parsed.text.count("downscale evaluate experiment.yaml") >= len(images)
    with xr.open_dataset(path.parent / "data" / "mean_tasmax_RCM_A_perfect.nc") as dataset:
        assert {"truth", "resunet-A", "lat", "lon"} <= set(dataset.variables)


def test_tables_have_headers_with_scope_and_own_names(page):
    _, parsed = page
    assert {header["scope"] for header in parsed.all("th")} == {"col", "row"}
    assert len(parsed.all("caption")) == len(parsed.all("table")) >= 15
    names = [table["id"] for table in parsed.all("table")]
    assert len(set(names)) == len(names)
    assert [attributes["lang"] for attributes in parsed.all("html")] == ["en"]
    anchors = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(set(anchors)) == len(anchors)


def test_a_reader_without_eyes_can_skip_and_is_told_the_colours(page):
    _, parsed = page
    assert parsed.all("a")[0] == {"class": "skip", "href": "#content"} and {"id": "content"} in parsed.all("main")
    for phrase in ("red: do not trust", "yellow: with care", "green: no objection"):
        assert phrase in parsed.text, phrase


def test_sections_can_be_reached_and_the_story_is_told(page):
    _, parsed = page
    anchors = {attributes.get("id") for _, attributes in parsed.tags}
    assert {link["href"][1:] for link in parsed.all("a") if link["href"].startswith("#")} <= anchors
    for phrase in (
        "What was trained on what",
        "resunet-A reproduces tasmax within",
        "On GCM_B, whose own fields it was not trained on",
        "fine-tuning on 2 years",
        "Transfer matrix for pr",
        "Predictor shift",
        "GCMs without truth",
        "The test has 2 years",
        "its winter 850 hPa temperature is 1.5 sd colder",
        "Checked: left out GCM_B: predicted yellow, true loss 1.4",
        "GCM × RCM × scenario",
        "Days outside the training of resunet-A, through time",
        "Can GCM and RCMu days be told apart?",
        "Predictor shift by scale",
        "Error of tasmax against warming",
        "The regimes: mean anomaly of zg500",
        "How often the regimes come",
        "Response of resunet-A to a changed input",
        "Which inputs resunet-A reads for pr",
        "Do the members spread as the truth does?",
        "Return levels of pr",
        "Few-shot curve: resunet-A-RCM_B-imperfect",
        "What the spread of the ensemble is made of",
        "with a jackknife for fewer years and, at any number, for percentiles",
    ):
        assert phrase in parsed.text, phrase


def test_no_scores_no_report(tmp_path):
    with pytest.raises(InputDataError, match="no scores"):
        make_report(make_config(tmp_path))
    assert not (tmp_path / "report").exists() and not (tmp_path / "report.partial").exists()


def test_winters_only_without_truth_for_the_gcm_makes_a_sensible_page(tmp_path):
    cfg, store = winters(tmp_path)
    evaluate_store(cfg, store)
    path = make_report(cfg)
    parsed = Page(path.read_text())
    for phrase in (
        "winter (DJF)",
        "there is no RCM truth, so the emulation can be described but not judged",
        "GCMs without truth",
        "All test years lie in one period",
        "The test has 5 years: intervals are Student",
    ):
        assert phrase in parsed.text, phrase
    assert "Change signal" not in parsed.text and "Where the error" not in parsed.text
    assert all(image["alt"] for image in parsed.all("img"))
    (path.parent / "stale.txt").write_text("old")
    assert make_report(cfg) == path
    assert report_there(cfg) == path
    recipe = tmp_path / "scores" / "recipe.json"
    recipe.write_text(recipe.read_text() + " ")
    assert report_there(cfg) is None  # other scores than those that were drawn
    assert not (path.parent / "stale.txt").exists() and not (tmp_path / "report.partial").exists()


# --- the verdict on synthetic scores -----------------------------------------------------------------------------------------------

NET = RunFacts("net", "emulator", "resunet", "pretrain", ("A/perfect",), (), "", "")
RIDGE = RunFacts("ridge", "baseline", "ridge", "baseline", ("A/perfect",), (), "", "")
FEW = RunFacts("few", "emulator", "resunet", "few-shot", ("A/perfect", "B/imperfect"), ("B/imperfect",), "net", "2")
HOME = CaseFacts("A/perfect", "A", "perfect", True, "standard", "20000101", "20001231", 366, ("2000",), ("ANN", "DJF"))
AWAY = CaseFacts("B/imperfect", "B", "imperfect", True, "standard", "20000101", "20001231", 366, ("2000",), ("ANN", "DJF"))
BLIND = CaseFacts("C/imperfect", "C", "imperfect", False, "standard", "20000101", "20001231", 366, ("2000",), ("ANN", "DJF"))


def _score(run, case, metric, value, lower=math.nan, upper=math.nan, n_years=12):
    return Score(
        run,
        case,
        "tasmax",
        metric,
        "all",
        "ANN",
        "all",
        value,
        lower,
        upper,
        "1" if "skill" in metric else "K",
        366,
        n_years,
        9,
        "bootstrap",
    )


def _findings(scores, runs=(NET, RIDGE), cases=(HOME,), **tables):
    empty = {name: [] for name in ("runs", "cases", "quantiles", "error_split", "signal", "predictor_shift", "transfer", "recovery")}
    card = Scorecard(scores, {"targets": ["tasmax"], "train_on": ["A/perfect"], "main_season": "ANN", "drivers": {"B": "GCM_B"}})
    return Findings(
        Path(), card, {run.name: run for run in runs}, {case.name: case for case in cases}, empty | tables, xr.Dataset(), xr.Dataset()
    )


def _home(skill=0.4, lower=0.3, upper=0.5):
    return [
        _score("net", "A/perfect", "rmse", 0.5),
        _score("ridge", "A/perfect", "rmse", 0.7),
        _score("net", "A/perfect", "abs_bias", 0.1),
        _score("net", "A/perfect", "skill_vs_ridge", skill, lower, upper),
    ]


def test_a_better_emulator_is_called_better_by_how_much():
    text = verdict(_findings(_home())).sentences[0]
    assert "net reproduces tasmax within 0.50 K (RMSE; ridge 0.70 K): 40 % less squared error than ridge" in text


@pytest.mark.parametrize(
    ("skill", "lower", "upper", "phrase"),
    [
        (0.05, -0.1, 0.2, "not distinguishable from ridge"),
        (-0.3, -0.4, -0.2, "30 % more squared error than ridge"),
        (0.2, math.nan, math.nan, "20 % less squared error than ridge"),
        (0.004, math.nan, math.nan, "not distinguishable from ridge"),
    ],
)
def test_the_comparison_is_worded_by_its_interval(skill, lower, upper, phrase):
    assert phrase in verdict(_findings(_home(skill, lower, upper))).sentences[0]


def test_an_emulator_worse_than_interpolation_is_called_so():
    scores = [*_home(), _score("net", "A/perfect", "skill_vs_bilinear", -0.3, -0.5, -0.1)]
    assert "worse than bilinear interpolation" in verdict(_findings(scores)).sentences[0]
    undecided = [*_home(), _score("net", "A/perfect", "skill_vs_bilinear", -0.3, -0.7, 0.1)]
    assert "bilinear" not in verdict(_findings(undecided)).sentences[0]


def test_transfer_says_how_bias_grows_who_made_it_and_what_tuning_removes():
    split = [{"run": "net", "group": "B", "variable": "tasmax", "statistic": "climatology", "season": "ANN", "share_input": "0.83"}]
    scores = [*_home(), _score("net", "B/imperfect", "abs_bias", 1.2), _score("few", "B/imperfect", "abs_bias", 0.3)]
    text = verdict(_findings(scores, (NET, RIDGE, FEW), (HOME, AWAY), error_split=split)).sentences[1]
    assert "On GCM_B, whose own fields it was not trained on" in text
    assert "for tasmax 1.2 K (at home 0.10 K)" in text and "83 % for tasmax" in text
    assert "fine-tuning on 2 years of its pairs removes 75 % of this bias for tasmax" in text


def test_tuning_that_makes_it_worse_removes_nothing():
    scores = [*_home(), _score("net", "B/imperfect", "abs_bias", 0.3), _score("few", "B/imperfect", "abs_bias", 0.5)]
    assert "removes none of it for tasmax" in verdict(_findings(scores, (NET, FEW), (HOME, AWAY))).sentences[1]


@pytest.mark.parametrize(("size", "phrase"), [("0.9", "far from"), ("0.2", "near")])
def test_without_truth_nothing_is_judged(size, phrase):
    shift = [{"case": "C/imperfect", "channel": "zg500", "season": "JJA", "abs_shift": size, "paired": "0", "correlation": "nan"}]
    scores = [*_home(), _score("net", "C/imperfect", "mean", 285.0)]
    text = verdict(_findings(scores, cases=(HOME, BLIND), predictor_shift=shift)).sentences[1]
    assert "described but not judged" in text and phrase in text and "zg500 in summer" in text


@pytest.mark.parametrize(("roles", "heading"), [({"A": "observations"}, "those of the training"), ({"A": "rcm"}, "GCM and RCMu")])
def test_where_only_observations_are_there_nobody_speaks_of_rcmu_fields(roles, heading):
    findings = _findings(_home())
    findings.card.recipe["roles"] = roles
    assert heading in predictor_words(findings)[0]


def test_degenerate_workspaces_get_honest_words():
    assert "nothing is said about its transfer" in verdict(_findings(_home())).sentences[1]
    assert "baselines only" in verdict(_findings([_score("ridge", "A/perfect", "rmse", 0.7)], (RIDGE,))).sentences[0]
    assert "its skill is unknown" in verdict(_findings([_score("net", "C/imperfect", "mean", 285.0)], (NET,), (BLIND,))).sentences[0]
    assert "no finite scores" in verdict(_findings([_score("net", "A/perfect", "rmse", math.nan)], (NET,))).sentences[0]
    assert verdict(_findings([], (), ())).sentences


def test_few_years_are_a_caveat_and_many_are_not():
    few = [dataclasses.replace(score, n_years=2) for score in _home()]
    assert any("2 years: no interval" in caveat for caveat in verdict(_findings(few)).caveats)
    assert not any("years" in caveat and "interval" in caveat for caveat in verdict(_findings(_home())).caveats)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1234, "0.123"), (-12.345, "−12.3"), (1234.5, "1234"), (0.0, "0"), (math.nan, "–"), (3e-9, "≈ 0"), (2.5e7, "2.50e+07")],
)
def test_numbers_read_well(value, text):
    assert words.number(value) == text


def test_quantities_dates_and_lists_read_well():
    assert words.quantity(1.23, "mm day-1") == "1.2 mm/day" and words.quantity(0.5, "1") == "0.50"
    assert words.date(20000131) == "2000-01-31"
    assert words.listed(["a", "b", "c"]) == "a, b and c" and words.listed(["a"]) == "a" and words.listed([]) == ""
