"""A scores folder with every table that a diagnostic may leave: real scores of the fake workspace, the rest made up."""

from __future__ import annotations

import math
from functools import partial
from itertools import product
from unittest.mock import patch

import numpy as np
import xarray as xr
from fake_workspace import make_workspace

from downscale.evaluate import stage
from downscale.evaluate.experiment import Experiment
from downscale.evaluate.scorecard import write_table
from downscale.evaluate.transfer import predictor_pairs

RUN, FEW = "resunet-A", "resunet-A-few"
RUNS = (RUN, FEW, "ridge-A", "bilinear-A")
CASES = ("RCM_A/perfect", "RCM_A/imperfect", "RCM_B/imperfect")
HOME, NEAR, AWAY = CASES
BLIND = "CNRM/imperfect"
VARIABLES = {"tasmax": "K", "pr": "mm day-1"}
CHANNELS = ("zg500", "ta850", "hus850")
NAN = math.nan
ALL = tuple(product(enumerate(CASES), VARIABLES.items()))


def make_world(root):
    """Config of a workspace whose scores folder holds all tables; of the diagnostics only the predictor shift is real."""
    cfg, store = make_workspace(root, size=12, runs=RUNS, lone_gcm=True)
    real = (("predictor shift", predictor_pairs.diagnose),)
    with patch.object(stage, "Experiment", partial(Experiment, diagnoses=real)):
        stage.evaluate_store(cfg, store)
    add_tables(root / "scores")
    add_curve(root / "few_shot" / "resunet-A-RCM_B-imperfect")
    return cfg


def add_tables(folder):
    generator = np.random.default_rng(3)
    for maker in (_trust, _predictors, _outside, _warming, _inputs, _regimes, _ensembles, _extremes):
        maker(partial(table, folder), generator)
    _composites(folder / "regimes.nc")


def table(folder, name, columns, rows):
    write_table(folder / f"{name}.csv", [dict(zip(columns.split(), row, strict=True)) for row in rows], columns.split())


def _trust(table, generator):
    rules = (
        ("predictor_shift", "yellow", 0.6, 0.5, 1.0, "mean |d| of the channels is 0.6: a climate at the edge of what was learned"),
        ("separability", "red", 0.97, 0.7, 0.9, "a classifier tells the days apart nearly always"),
        ("ood_share", "green", 0.01, 0.05, 0.2, "1 % of the days lie outside"),
        ("feature_shift", "unknown", NAN, 1.0, 3.0, "no features were stored with these predictions"),
    )
    checked = "left out GCM_B: predicted yellow, true loss 1.4"
    lights = (
        (
            RUN,
            AWAY,
            "red",
            "its winter 850 hPa temperature is 1.5 sd colder than anything learned from. Not known: the fine scale",
            checked,
        ),
        (RUN, BLIND, "yellow", "most days resemble the training, but the classifier finds a difference in humidity", checked),
        (RUN, NEAR, "green", "its fields are those of the training", ""),
        (FEW, AWAY, "green", "its fields are those of the training", ""),
    )
    rows = [(run, case, *rule, "limits as in the config") for run in (RUN, FEW) for case in (AWAY, BLIND) for rule in rules]
    rows += [(run, case, "verdict", light, NAN, NAN, NAN, reading, note) for run, case, light, reading, note in lights]
    table("light", "run case rule light value yellow red reading calibration", rows)
    states = (
        ("GCM_A", "ssp585", "simulated", ""), ("GCM_B", "ssp585", "trusted", "green"), ("CNRM", "ssp585", "doubtful", "yellow"),
        ("GCM_A", "ssp126", "emulated", ""), ("GCM_B", "ssp126", "missing", ""),
    )  # fmt: skip
    cells = [(gcm, "RCM_A", scenario, "r1i1p1f1", "1995-2000 2090-2095", state, RUN, AWAY, light) for gcm, scenario, state, light in states]
    table("matrix", "gcm rcm scenario member years state run case light", cells)
    table("transfer_missing", "run case command", [(RUN, "RCM_C/imperfect", "downscale apply config.yaml --run resunet-A")])
    columns = "case variable metric season run other difference lower upper p_value test n_years p_adjusted"
    table("paired", columns, [
        (HOME, name, "mse", "ANN", RUN, other, -0.2 + 0.3 * k, -0.4 + 0.3 * k, 0.1, 0.01 + 0.2 * k, "t over years", 4, 0.02 + 0.3 * k)
        for name, (k, other) in product(VARIABLES, enumerate(RUNS[2:]))
    ])  # fmt: skip


def _predictors(table, generator):
    pairs = ((NEAR, HOME, 0.52), (AWAY, "RCM_B/perfect", 0.7), (AWAY, "RCM_A/training", 0.93))
    table("predictor_scale", "case against channel season wavelength_km log_power_ratio n_days", [
        (case, against, channel, "ANN", wave, generator.normal(0, 0.5), 731)
        for (case, against, _), channel, wave in product(pairs, CHANNELS, (1200.0, 600.0, 400.0, 300.0))
    ])  # fmt: skip
    table("separability", "case against season classifier auc lower upper error d_a n_components n_days n_years note", [
        (case, against, season, name, auc + step, auc - 0.04, min(auc + 0.08, 1), 1 - auc, 4 * auc - 2, 20, 731, 2, "")
        for (case, against, auc), season, (name, step) in product(pairs, ("ANN", "DJF"), (("logistic", 0.0), ("boosting", 0.05)))
    ])  # fmt: skip
    table("feature_shift", "run case against distance mean_part spread_part n_days note", [
        (RUN, case, "training", 1.5 * k, k, 0.5 * k, 731, "") for k, case in enumerate(CASES)
    ])  # fmt: skip
    table("consistency", "run case variable season bias correlation slope rmse unit against n_days", [
        (RUN, case, name, "ANN", generator.normal(0, 0.3), 0.97, 0.95, 0.8, unit, case.partition("/")[2], 731)
        for (_, case), (name, unit) in ALL
    ])  # fmt: skip


def _outside(table, generator):
    table("ood", "run case period n_days flagged share median_score threshold space", [
        (RUN, case, period, 1096, int(1096 * (share + 0.05 * k)), share + 0.05 * k, 12.0, 30.0, "pca")
        for (k, case), (period, share) in product(enumerate(CASES), (("2000-2009", 0.006), ("2090-2099", 0.02)))
    ])  # fmt: skip
    table("ood_days", "run case year share median p95", [
        (RUN, case, year, 0.005 + k * (0.03 + 0.05 * (year > 2050)), 12 + 3 * k, 25 + 6 * k + generator.normal())
        for (k, case), year in product(enumerate(CASES), (2000, 2001, 2002, 2093, 2094, 2095))
    ])  # fmt: skip
    edges = (0, 8, 12, 18, 30, math.inf)
    table("ood_error", "run case variable bin score_low score_high n_days rmse bias unit", [
        (RUN, case, name, place, edges[place], edges[place + 1], 100, 1 + 0.1 * k * place, 0.1 * place, unit)
        for ((k, case), (name, unit)), place in product(ALL, range(5))
    ])  # fmt: skip


def _warming(table, generator):
    bins = ((0, 0.5, 1), (0.5, 1.5, 1), (1.5, 3, 1), (3, 5, 0))
    columns = "run case variable bin warming_low warming_high warming inside_training n_days n_years bias rmse unit"
    table("extrapolation", columns, [
        (RUN, case, name, place, low, high, (low + high) / 2, inside, 100, 3, -0.2 * place * (1 + k), 1 + 0.1 * place, unit)
        for ((k, case), (name, unit)), (place, (low, high, inside)) in product(ALL, enumerate(bins))
    ])  # fmt: skip
    table("extrapolation_slope", "run case variable slope lower upper unit n_years", [
        (RUN, case, name, -0.1, -0.2, 0.0, f"{unit} K-1", 6) for (_, case), (name, unit) in ALL
    ])  # fmt: skip


def _inputs(table, generator):
    steps = ("ta_plus_1K", "hus_plus_10pct", "wind_plus_1ms", "wind_shifted")
    responses = [(key, step, generator.normal(0.3, 0.5)) for key, step in product(ALL, steps)]
    table("sensitivity", "run case perturbation variable season response lower upper unit n_days", [
        (RUN, case, step, name, "ANN", value, value - 0.1, value + 0.1, unit, 731) for ((_, case), (name, unit)), step, value in responses
    ])  # fmt: skip
    table("attribution", "run case variable channel importance rank n_days", [
        (RUN, case, name, channel, 1 / (place + 2 + 0.2 * k), place + 1, 731)
        for ((k, case), (name, _)), (place, channel) in product(ALL, enumerate(CHANNELS))
    ])  # fmt: skip
    table("attribution_rank", "run variable case other spearman n_channels", [(RUN, name, AWAY, HOME, 0.8, 3) for name in VARIABLES])


def _regimes(table, generator):
    table("regime_frequency", "case period season regime frequency lower upper reference_frequency n_days", [
        (case, period, "ANN", k, 0.25 + 0.03 * k * place - 0.05 * place, 0.15, 0.35, 0.25, 366)
        for (place, case), period, k in product(enumerate(CASES[1:]), ("training", "all", "2000", "2095"), range(1, 5))
    ])  # fmt: skip
    table("regime_scores", "run case variable regime metric value unit n_days", [
        (RUN, case, name, k, metric, generator.normal() if metric == "bias" else 1.0 + k / 5, unit, 90)
        for ((_, case), (name, unit)), k, metric in product(ALL, range(5), ("bias", "rmse", "skill_vs_ridge", "error_share"))
    ])  # fmt: skip
    table("regime_stability", "k stability chosen", [(k, 0.95 - 0.1 * abs(k - 4), int(k == 4)) for k in range(4, 8)])


def _composites(path):
    y, x = np.mgrid[0:6, 0:6]
    fields = np.stack([60 * np.sin((x + k) / 2.0) * np.cos((y - k) / 2.5) for k in range(4)])
    lat, lon = np.meshgrid(np.linspace(38, 44, 6), np.linspace(-6, 0, 6), indexing="ij")
    coordinates = {"lat": (("y", "x"), lat), "lon": (("y", "x"), lon), "regime": [1, 2, 3, 4]}
    dataset = xr.Dataset({"composites": (("regime", "y", "x"), fields, {"units": "m"})}, coordinates, {"channel": "zg500"})
    dataset.to_netcdf(path)


def _ensembles(table, generator):
    table("rank_histogram", "run case variable season rank count expected", [
        (RUN, HOME, name, "ANN", rank, 70 + 15 * abs(rank - 4), 81.2) for name, rank in product(VARIABLES, range(1, 10))
    ])  # fmt: skip
    table("reliability", "run case variable threshold bin forecast observed n", [
        (RUN, HOME, "pr", threshold, k, (k + 0.5) / 10, (k + 0.5) / (11 + threshold / 5), 50)
        for threshold, k in product((1.0, 10.0), range(10))
    ])  # fmt: skip
    table("ensemble", "run variable statistic season kendall_tau p_value n_gcm note", [
        (RUN, name, "change_mean", "ANN", 1.0, 0.33, 3, "") for name in VARIABLES
    ])  # fmt: skip
    table("anova", "variable statistic season factor share n", [
        (name, "change_mean", "ANN", factor, share, 6)
        for name, (factor, share) in product(VARIABLES, (("gcm", 0.7), ("emulator", 0.2), ("residual", 0.1)))
    ])  # fmt: skip


def _extremes(table, generator):
    series = (("pooled", RUN), (HOME, RUN), ("RCM_A/truth", "truth"))
    columns = "variable scope run season period return_years value lower upper unit n_years n_series method"
    table("return_levels", columns, [
        (name, scope, run, "ANN", period, years, 300 + 3 * math.log(years) + k, 299 + 2 * math.log(years) + k,
         301 + 4 * math.log(years) + k, unit, 30, 1, "GEV by L-moments")
        for (name, unit), (k, (scope, run)), period, years in product(
            VARIABLES.items(), enumerate(series), ("1995-2000", "2090-2095"), (10, 20, 50))
    ])  # fmt: skip


def add_curve(folder):
    folder.mkdir(parents=True, exist_ok=True)
    rows = [("zero_shot", 0, 1.0), ("gcm_align", 0, 0.84)]
    rows += [
        (method, shots, level / shots**0.3)
        for (method, level), shots in product((("full", 0.8), ("calibration", 0.6), ("scratch", 1.4)), (1, 2, 5))
    ]
    rows = [(method, shots, error, error - 0.05, error + 0.05, 2.5) for method, shots, error in rows]
    table(folder, "table", "method shots error error_low error_high n90", rows)
