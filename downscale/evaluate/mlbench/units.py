"""Units of the diagnostics of the CORDEX ML-Bench, in the working units of the variables."""

from __future__ import annotations

import re

from downscale.variables import lookup

_PLAIN = ("lag1_corr",)
_IN_DAYS = ("su", "su300", "cdd", "cwd")


def unit_of(name: str, variable: str) -> str:
    """Unit of a diagnostic (rmse_time, bias_txx, psd_pred, ...) of a variable."""
    if name.startswith(("correlation_", "relbias_", "ratio_")):
        return "1"
    if name == "ralsd":
        return "dB2"
    units = lookup(variable).units
    if name.startswith("psd_"):
        return f"({units})2"
    index = re.fullmatch(r"bias_(\w+)|index_(\w+)_(?:truth|pred)", name)
    of = (index[1] or index[2]) if index else ""
    return "1" if of in _PLAIN else "days" if of in _IN_DAYS else units
