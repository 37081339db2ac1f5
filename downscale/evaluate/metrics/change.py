"""Climate change signals: the last test period minus the first."""

from __future__ import annotations

import numpy as np

from downscale.variables import Variable

DRY_MM = 0.05


def change_signal(future: np.ndarray, historical: np.ndarray, variable: Variable) -> np.ndarray:
    """Change of a statistic (y, x): the difference in working units, for precipitation in % of the historical value.

    A cell with less than 0.05 mm/day to start from has no relative change: NaN.
    """
    if not is_relative(variable):
        return future - historical
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(historical >= DRY_MM, 100.0 * (future / historical - 1.0), np.nan)


def is_relative(variable: Variable) -> bool:
    """Whether changes of the variable are given in % of the historical value."""
    return variable.standard_name == "precipitation_flux"


def compare_changes(prediction: np.ndarray, reference: np.ndarray, area: np.ndarray) -> dict[str, float]:
    """Two change maps (y, x) against each other, over cells where both and the area weight are there.

    Returns:
        value, reference (area means), bias, rmse (over space), pattern_correlation, captured (area mean over area mean of the
        reference; NaN when that is indistinguishable from zero, |mean| < 5 % of its spatial spread), slope (regression of prediction
        on reference).
    """
    valid = np.isfinite(prediction) & np.isfinite(reference) & (area > 0)
    if not valid.any():
        return dict.fromkeys(("value", "reference", "bias", "rmse", "pattern_correlation", "captured", "slope"), float("nan"))
    p, r, w = prediction[valid].astype(np.float64), reference[valid].astype(np.float64), area[valid] / area[valid].sum()
    mean_p, mean_r = float(w @ p), float(w @ r)
    var_p, var_r, covariance = float(w @ (p - mean_p) ** 2), float(w @ (r - mean_r) ** 2), float(w @ ((p - mean_p) * (r - mean_r)))
    nan = float("nan")
    return {
        "value": mean_p,
        "reference": mean_r,
        "bias": mean_p - mean_r,
        "rmse": float(np.sqrt(w @ (p - r) ** 2)),
        "pattern_correlation": covariance / np.sqrt(var_p * var_r) if var_p * var_r > 0 else nan,
        "captured": mean_p / mean_r if abs(mean_r) > 0.05 * np.sqrt(var_r) and mean_r != 0 else nan,
        "slope": covariance / var_r if var_r > 0 else nan,
    }


def signal_followed(prediction: np.ndarray, gcm: np.ndarray, truth: np.ndarray, area: np.ndarray) -> float:
    """Whose change signal the emulation follows: 1 the RCM's, 0 the GCM's own (Boe et al. 2023, doi 10.1007/s00382-022-06552-2).

    alpha = <(D_xh - D_G)(D_R - D_G)> / <(D_R - D_G)^2>, area means of change maps (y, x); NaN where RCM and GCM change alike everywhere.
    """
    valid = np.isfinite(prediction) & np.isfinite(gcm) & np.isfinite(truth) & (area > 0)
    w, away = area[valid], (truth - gcm)[valid]
    below = float(w @ away**2)
    return float(w @ ((prediction - gcm)[valid] * away)) / below if below > 0 else float("nan")
