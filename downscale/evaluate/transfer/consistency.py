"""Whether an emulation, brought back to the coarse grid, agrees with the coarse field of the same name that lies above it.

Per coarse cell over the days of a season: bias, correlation, regression slope on the coarse field, RMSE; then area means. "perfect":
against RCMu's own field, which the RCM itself would match exactly; "imperfect": against the GCM's, which not even the RCM matches: the
rows of run "truth" say how far the RCM is from it, and an emulation should be as far, not nearer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from downscale.evaluate.context import Context, cell_areas
from downscale.evaluate.transfer.large_scale import PairedMoments, large_scale
from downscale.evaluate.transfer.shift import area_mean
from downscale.variables import lookup

TABLE = "consistency"
COLUMNS = ("run", "case", "variable", "season", "bias", "correlation", "slope", "rmse", "unit", "against", "n_days", "n_cells")


def diagnose(context: Context) -> None:
    """Add consistency.csv: every prediction, and the truth against its GCM."""
    context.extend(TABLE, COLUMNS, [])
    area = cell_areas(context.store.coarse)
    for (run, case, variable), seasons in large_scale(context).surface.items():
        for season, moments in seasons.items():
            row = {"run": run, "case": case, "variable": variable, "season": season, "unit": lookup(variable).units}
            context.extend(TABLE, COLUMNS, [{**row, "against": case.partition("/")[2], **compare(moments, area)}])


def compare(moments: PairedMoments, area: np.ndarray) -> dict[str, Any]:
    """Area means of the measures of one season; NaN where a field never varies or no cell has days.

    Args:
        moments: of the upscaled field and the coarse one.
        area: (y, x) weights of the coarse grid.
    """
    if not moments.totals:
        return {**dict.fromkeys(("bias", "correlation", "slope", "rmse"), float("nan")), "n_days": 0, "n_cells": 0}
    maps, n = _maps(moments.totals), moments.totals["n"]
    return {
        **{name: area_mean(values, area) for name, values in maps.items()},
        "n_days": int(n.max(initial=0)),
        "n_cells": int((n > 0).sum()),
    }


def _maps(totals: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    with np.errstate(divide="ignore", invalid="ignore"):
        n = totals["n"]
        p, r = totals["p"] / n, totals["r"] / n
        var_p = np.maximum(totals["pp"] / n - p**2, 0.0)
        var_r = np.maximum(totals["rr"] / n - r**2, 0.0)
        covariance = totals["pr"] / n - p * r
        varies = var_r > 1e-12 * np.maximum(totals["rr"] / n, 1e-12)
        return {
            "bias": p - r,
            "correlation": np.where(varies & (var_p > 0), covariance / np.sqrt(var_p * var_r), np.nan),
            "slope": np.where(varies, covariance / var_r, np.nan),
            "rmse": np.sqrt(np.maximum((totals["pp"] - 2 * totals["pr"] + totals["rr"]) / n, 0.0)),
        }
