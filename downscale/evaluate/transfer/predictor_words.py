"""What the tables of predictor consistency say, sentence by sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from downscale.evaluate.context import Context, Row
from downscale.evaluate.selection import ALL_YEAR
from downscale.evaluate.transfer.light_evidence import apart
from downscale.evaluate.transfer.light_limits import lamp, verdict

COLUMNS = ("case", "against", "topic", "light", "text")
SUMMARY = "summary"
VERDICTS = {
    "green": "consistent: an emulator trained on the one may be fed with the other",
    "yellow": "some inconsistency: check the emulator before it is used on the other",
    "red": "inconsistent: an emulator trained on the one sees something else in the other",
    "unknown": "nothing could be compared",
}
MEANS = ". What differs is the mean, which aligning mends (apply.align)"
MORE = (
    ". Not only the mean differs, and aligning means will not mend it: compare at a scale that both have (upscale.to, upscale.smooth), "
    "fine-tune, or train on both"
)


def words(context: Context) -> list[Row]:
    """Rows of the reading: for each comparison the mean, variability, weather, scale and separability, then a summary."""
    shifts = context.tables.get("predictor_shift", ((), []))[1]
    result: list[Row] = []
    for case, against in dict.fromkeys((row["case"], row["against"]) for row in shifts):
        place = {"case": case, "against": against}
        mine = [row for row in shifts if (row["case"], row["against"]) == (case, against)]
        others = {
            name: [row for row in context.tables.get(name, ((), []))[1] if (row["case"], row["against"]) == (case, against)]
            for name in ("predictor_scale", "separability")
        }
        rules = {name: limits for name, limits in context.options["light"]["rules"].items() if limits}
        same_run = case.partition("/")[0] == against.partition("/")[0]
        found = [
            _mean(mine, rules.get("inconsistency" if same_run else "climate")),
            _spread(mine, rules.get("spread")),
            _weather(mine),
            _scale(others["predictor_scale"]),
            _separable(others["separability"], rules.get("separability")),
        ]
        lights = [light for _, light, text in found if text]
        rows = [{**place, "topic": topic, "light": light, "text": text} for topic, light, text in found if text]
        worst = verdict(lights)
        text = f"{VERDICTS[worst]}{_kind(case, against)}{_cure(case, against, found)}"
        result += [*rows, {**place, "topic": SUMMARY, "light": worst, "text": text}]
    return result


def _cure(case: str, against: str, found: Sequence[tuple[str, str, str]]) -> str:
    """By what is yellow or red: the mean, or something that is left when means agree; none for two climates of one RCM."""
    doubtful = {topic for topic, light, _ in found if light in ("yellow", "red")}
    if not doubtful or (case.endswith("/perfect") and against.endswith("/perfect")):
        return ""
    return MEANS if doubtful == {"mean"} else MORE


def overall(rows: Sequence[Row]) -> list[str]:
    """One line per comparison: the summary and the sentence that decided it."""
    lines = []
    for row in rows:
        if row["topic"] != SUMMARY:
            continue
        mine = [other for other in rows if (other["case"], other["against"]) == (row["case"], row["against"])]
        why = next((other["text"] for other in mine if other["light"] == row["light"] and other["topic"] != SUMMARY), "")
        short = str(row["text"]).partition(":")[0]
        lines.append(f"{row['case']} against {row['against']}: {short}" + (f" ({why})" if why else ""))
    return lines


def _kind(case: str, against: str) -> str:
    """What a difference between the two can mean."""
    (one, kind), (other, base) = (name.split("/") for name in (case, against))
    if one == other:
        return ". Same weather, so all of it is inconsistency of the two models"
    if kind == base == "perfect":
        return ". Both are RCMu, so all of it is the climate of the two GCMs as the RCM hands it on"
    if kind == base:
        return ". Both are GCMs: climates and resolution together"
    return ". Climate and inconsistency together; RCMu of the same GCM, where there is one, tells them apart"


def _seasonal(rows: Sequence[Row]) -> list[Row]:
    seasons = {row["season"] for row in rows}
    return [row for row in rows if row["season"] != ALL_YEAR or len(seasons) == 1]


def _worst(rows: Sequence[Row], column: str) -> tuple[Row, float] | None:
    """The row of the largest value of a column, and the mean over seasons of its channel's."""
    known = [row for row in _seasonal(rows) if math.isfinite(row[column])]
    if not known:
        return None
    means = {
        channel: float(np.mean([abs(row[column]) for row in known if row["channel"] == channel]))
        for channel in dict.fromkeys(row["channel"] for row in known)
    }
    channel = max(means, key=lambda name: means[name])
    return max((row for row in known if row["channel"] == channel), key=lambda row: abs(row[column])), means[channel]


def _light(value: float, limits: Any) -> str:
    return lamp(value, limits) if limits else "unknown"


def _mean(rows: Sequence[Row], limits: Any) -> tuple[str, str, str]:
    found = _worst(rows, "abs_shift")
    if found is None:
        return "mean", "unknown", ""
    row, value = found
    side = "above" if row["shift"] > 0 else "below"
    most = f"{row['abs_shift']:.2f} in {row['season']}"
    text = f"mean: {row['channel']} is farthest, {value:.2f} daily standard deviations {side} on average over the seasons, {most}"
    return "mean", _light(value, limits), text


def _spread(rows: Sequence[Row], limits: Any) -> tuple[str, str, str]:
    found = _worst(rows, "abs_log_std_ratio")
    if found is None:
        return "variability", "unknown", ""
    row, value = found
    size, most = "larger" if row["log_std_ratio"] > 0 else "smaller", row["abs_log_std_ratio"]
    if abs(row["log_std_ratio"]) < most / 2:
        size = "larger here and smaller there"
    text = f"variability: {row['channel']} differs most, {math.exp(value):.2f} times {size}, {math.exp(most):.2f} in "
    return "variability", _light(value, limits), f"{text}{row['season']}"


def _weather(rows: Sequence[Row]) -> tuple[str, str, str]:
    """Daily correlation, for the same days only; no light: weather that drifts apart inside the domain is nobody's fault."""
    known = [row for row in _seasonal(rows) if math.isfinite(row["correlation"])]
    if not known:
        return "weather", "unknown", ""
    low = min(known, key=lambda row: row["correlation"])
    mean = float(np.mean([row["correlation"] for row in known]))
    return (
        "weather",
        "unknown",
        f"weather: daily correlation {mean:.2f} on average, least for {low['channel']} in {low['season']}, "
        + (f"{low['correlation']:.2f}"),
    )


def _scale(rows: Sequence[Row]) -> tuple[str, str, str]:
    """Power of the longest and the shortest wavelengths, mean over channels, in the main season."""
    if not rows:
        return "scale", "unknown", ""
    rows = [row for row in rows if row["season"] == rows[0]["season"] and math.isfinite(row["log_power_ratio"])]
    bands = sorted({row["wavelength_km"] for row in rows}, reverse=True)
    if not bands:
        return "scale", "unknown", ""
    power = {band: math.exp(float(np.mean([row["log_power_ratio"] for row in rows if row["wavelength_km"] == band]))) for band in bands}
    short = f", {100 * power[bands[-1]]:.0f} % at {bands[-1]:.0f} km" if len(bands) > 1 else ""
    return "scale", "unknown", f"scale: {100 * power[bands[0]]:.0f} % of the variance at wavelengths near {bands[0]:.0f} km{short}"


def _separable(rows: Sequence[Row], limits: Any) -> tuple[str, str, str]:
    known = [row for row in rows if math.isfinite(row["auc"]) and row["season"] == rows[0]["season"]]
    if not known:
        return "separability", "unknown", ""
    best = max(known, key=apart)
    start, rest = "", ""
    if math.isfinite(best["auc_anomalies"]):
        start, rest = "monthly means apart, ", f"; {100 * max(row['auc'] for row in known):.0f} % with their means left in"
    text = (
        f"separability: {start}a classifier ranks {100 * apart(best):.0f} % of pairs of days right ({best['classifier']}{rest}), "
        "50 % is guessing"
    )
    return "separability", _light(apart(best), limits), text
