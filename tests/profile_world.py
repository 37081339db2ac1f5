"""Outputs of the profiles on small grids of a CORDEX domain."""

from __future__ import annotations

import numpy as np

from downscale.cf.calendar import expected_days
from downscale.grid.domains import domain_grid
from downscale.profiles.output import OutputSpec, open_output

FACETS = {
    "domain_id": "EUR-12",
    "institution_id": "CNRM-MF",
    "institution": "CNRM [Centre National de Recherches Meteorologiques, Toulouse, France]; MF [Meteo France, Toulouse, France]",
    "source_id": "ALADIN-EMUL-1",
    "contact": "contact.aladin-cordex@meteo.fr",
    "driving_institution_id": "CNRM-CERFACS",
    "driving_source_id": "CNRM-ESM2-1",
    "driving_experiment_id": "ssp370",
    "driving_variant_label": "r1i1p1f2",
}
ATTRIBUTES = {
    "title": "Emulated fields: unet applied to CNRM-ESM2-1",
    "source": "statistical emulator of a regional climate model (unet)",
    "history": "2026-11-21T12:00:00Z downscale 0.1.0 apply",
    "comment": "predictors: GCM fields",
    "downscale_model_id": "0123456789abcdef",
}


def small_grid(rows=slice(100, 106), columns=slice(200, 207)):
    return domain_grid("EUR-12").crop(rows, columns)


def spec_of(folder, *, first=20190101, last=20210110, grid=None, calendar="standard", **more):
    given = {"variables": ("tas", "pr"), "attributes": ATTRIBUTES, "facets": FACETS, **more}
    return OutputSpec(
        folder, grid=small_grid() if grid is None else grid, calendar=calendar, days=expected_days(first, last, calendar), **given
    )


def fields_of(spec, seed=0):
    """(n, V, Y, X) or (n, M, V, Y, X), plausible in working units."""
    members = (len(spec.members),) if spec.members else ()
    shape = (len(spec.days), *members, len(spec.variables), *spec.grid.shape)
    values = np.random.default_rng(seed).random(shape, dtype=np.float32)
    for place, name in enumerate(spec.variables):
        values[..., place, :, :] = values[..., place, :, :] * 20 + (0 if name == "pr" else 270)
    return values


def write(profile, spec, *, fields=None, series=None, step=97):
    """Write an output in blocks; the output, closed."""
    values = fields_of(spec) if fields is None else fields
    numbers = series or {}
    with open_output(profile, spec) as output:
        for start in range(0, len(spec.days), step):
            part = slice(start, start + step)
            output.append(spec.days[part], values[part], {name: one[part] for name, one in numbers.items()})
    return output
