"""The diagnostics beside the scores, in the order in which they are made; each adds its tables to the context."""

from __future__ import annotations

from collections.abc import Callable

from downscale.evaluate import daily
from downscale.evaluate.context import Context
from downscale.evaluate.members import ensemble_scores, return_levels
from downscale.evaluate.metrics import joint
from downscale.evaluate.transfer import (
    consistency,
    ensemble,
    extrapolation,
    kinship,
    light,
    matrix,
    predictor_pairs,
    predictor_scale,
    scaling,
    separability,
)
from downscale.evaluate.weather import features, ood, regime_tables, sensitivity

Diagnosis = Callable[[Context], None]
DIAGNOSES: tuple[tuple[str, Diagnosis], ...] = (
    ("joint", joint.diagnose),
    ("scaling", scaling.diagnose),
    ("neighbourhoods and paired tests", daily.diagnose),
    ("ensembles", ensemble_scores.diagnose),
    ("return levels", return_levels.diagnose),
    ("predictor shift", predictor_pairs.diagnose),
    ("predictor scale", predictor_scale.diagnose),
    ("distances", ood.diagnose),
    ("network features", features.diagnose),
    ("sensitivity", sensitivity.diagnose),
    ("weather regimes", regime_tables.diagnose),
    ("separability", separability.diagnose),
    ("large-scale consistency", consistency.diagnose),
    ("extrapolation", extrapolation.diagnose),
    ("cells of the transfer matrix", kinship.diagnose),
    ("ensemble of GCMs", ensemble.diagnose),
    ("traffic light", light.diagnose),
    ("matrix of GCMs and RCMs", matrix.diagnose),
)
"""Name shown while it runs, and the function. Later ones may read what earlier ones left in the context."""
