"""Numbers and names as people read them."""

from __future__ import annotations

import math
from collections.abc import Sequence

UNITS = {
    "mm day-1": "mm/day",
    "1": "",
    "%": "%",
    "(K)2": "K²",
    "(mm day-1)2": "(mm/day)²",
    "m s-1": "m/s",
    "K K-1": "K per K",
    "dB2": "dB²",
}
METRICS = {
    "rmse": "RMSE",
    "mae": "mean absolute error",
    "bias": "mean bias",
    "abs_bias": "mean |bias| of a grid point",
    "correlation": "correlation in time",
    "correlation_deseasonalised": "correlation, seasonal cycle removed",
    "std_ratio": "ratio of standard deviations",
    "w1": "Wasserstein distance",
    "p98_bias": "bias of P98",
    "p99_bias": "bias of P99",
    "abs_p98_bias": "mean |bias of P98|",
    "abs_p99_bias": "mean |bias of P99|",
    "wet_day_frequency_bias": "bias of wet-day frequency",
    "abs_wet_day_frequency_bias": "mean |bias of wet-day frequency|",
    "sdii_bias": "bias of SDII",
    "rx1day_bias": "bias of Rx1day",
    "txx_bias": "bias of TXx",
    "log_spectral_distance": "log spectral distance",
    "effective_resolution": "effective resolution",
    "skill_vs_ridge": "skill against ridge",
    "skill_vs_bilinear": "skill against bilinear",
    "skill_vs_climatology": "skill against climatology",
    "change_mean": "change of the mean",
    "change_mean_reference": "change of the mean in the truth",
    "change_mean_rmse": "RMSE of the change map",
    "change_mean_captured": "captured fraction of the change",
    "change_mean_pattern_correlation": "pattern correlation of the change",
    "change_p99": "change of P99",
    "change_p99_reference": "change of P99 in the truth",
    "change_mean_scaling": "change of the mean per degree of regional warming",
    "relative_bias": "relative bias",
    "spatial_correlation": "correlation over space, mean of days",
    "p02_bias": "bias of P2",
    "p50_bias": "bias of the median",
    "p99_5_bias": "bias of P99.5",
    "txn_bias": "bias of TXn",
    "su_bias": "bias of summer days",
    "cdd_bias": "bias of the longest dry spell (CDD)",
    "cwd_bias": "bias of the longest wet spell (CWD)",
    "lag1_bias": "bias of the lag-1 correlation",
    "interannual_std_ratio": "ratio of year-to-year spread",
    "temperature_correlation_bias": "bias of the correlation of temperature and rain",
    "hot_wet_days_bias": "bias of the share of hot and wet days",
    "crps": "fair CRPS of the members",
    "crpss_vs_ridge": "CRPS skill",
    "spread_skill": "spread over error of the members",
    "envelope_coverage": "yearly maxima inside the members' range",
    **{f"fss_{threshold}mm_3": f"FSS ({threshold} mm, 3 cells)" for threshold in (1, 5, 10, 20)},
    "dry_days_bias": "bias of dry days",
    "hot_dry_days_bias": "bias of the share of hot and dry days",
    "change_bias": "bias of the change",
    "error_share": "share of the squared error",
    "skill": "skill",
    "flagged_share": "share of days flagged",
    "ood_share": "share of days flagged",
    "skill_vs_kernel_ridge": "skill against kernel ridge",
    "mean": "mean",
    "std": "standard deviation",
    "p02": "P2",
    "p50": "median",
    "p98": "P98",
    "cdd": "longest dry spell (CDD)",
    "cwd": "longest wet spell (CWD)",
    "su": "summer days",
    "p99": "P99",
    "wet_day_frequency": "wet-day frequency",
    "sdii": "SDII",
    "rx1day": "Rx1day",
    "txx": "TXx",
}
SEASONS = {"ANN": "all seasons", "DJF": "winter (DJF)", "MAM": "spring (MAM)", "JJA": "summer (JJA)", "SON": "autumn (SON)"}


def number(value: float, digits: int = 3) -> str:
    """A number with significant digits, no exponent below 100,000; what is below 0.0001 is about zero; a dash for NaN."""
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if size < -4:
        return "≈ 0"
    if size > 5:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{max(digits - 1 - size, 0)}f}".replace("-", "−")


def unit(name: str) -> str:
    """A unit as written in text."""
    if name not in UNITS and name.endswith(" K-1"):
        return f"{unit(name.removesuffix(' K-1')) or '1'} per K"
    return UNITS.get(name, name)


def quantity(value: float, unit_name: str, digits: int = 2) -> str:
    """Number and unit."""
    text = unit(unit_name)
    gap = "" if text in ("", "%") else " "
    return f"{number(value, digits)}{gap}{text}"


def percent(fraction: float, decimals: int = 0) -> str:
    """A fraction in per cent."""
    return f"{100 * fraction:.{decimals}f} %".replace("-", "−") if math.isfinite(fraction) else "–"


def listed(items: list[str]) -> str:
    """a, b and c."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else ""


def left_out(every: Sequence[object], shown: Sequence[object], what: str) -> str:
    """A sentence (after a blank) when a figure has no room for all; empty otherwise."""
    rest = len(every) - len(shown)
    return f" Of {len(every)} {what} the first {len(shown)} are drawn; the others stand in the data file." if rest > 0 else ""


def metric(name: str) -> str:
    """A metric in words."""
    return METRICS.get(name, name.replace("_", " "))


def date(day: str | int) -> str:
    """yyyymmdd as yyyy-mm-dd."""
    text = str(day)
    return f"{text[:-4]}-{text[-4:-2]}-{text[-2:]}"
