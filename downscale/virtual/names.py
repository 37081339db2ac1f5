"""File names and global attributes: CMIP6's for the GCM, CORDEX's for the RCM."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from downscale import __version__
from downscale.virtual import clock
from downscale.virtual.simulation import Chain

INSTITUTION = "DWS"
RCM_ID = "VRCM1"
MEMBER = "r1i1p1f1"


def gcm_path(chain: Chain, variable: str) -> str:
    """Path of a GCM file below the data directory: one variable, the whole period."""
    name, period = chain.gcm.name, chain.period
    first, last = clock.dates(period.first, period.last, chain.gcm.calendar)
    return f"gcm/{name}/{variable}_day_{name}_{period.experiment}_{MEMBER}_gn_{first}-{last}.nc"


def rcm_path(chain: Chain, channel: str, first: int, last: int) -> str:
    """Path of an RCM file of the years first to last."""
    start, stop = clock.dates(first, last, chain.gcm.calendar)
    return f"rcm/{chain.gcm.name}/{channel}_{_rcm_facets(chain)}_day_{start}-{stop}.nc"


def fx_path(chain: Chain, variable: str) -> str:
    """Path of a fixed field of the RCM."""
    return f"rcm/{chain.gcm.name}/{variable}_{_rcm_facets(chain)}_fx.nc"


def _rcm_facets(chain: Chain) -> str:
    return f"{chain.size.domain_id}_{chain.gcm.name}_{chain.period.experiment}_{MEMBER}_{INSTITUTION}_{RCM_ID}_v1-r1"


def _common(chain: Chain, key: str) -> dict[str, str]:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    name = uuid.uuid5(uuid.NAMESPACE_OID, f"{chain.world.seed} {chain.size} {key}")
    return {
        "Conventions": "CF-1.11",
        "creation_date": now,
        "institution": "A virtual centre in downscale's sample data",
        "institution_id": INSTITUTION,
        "history": f"{now} downscale {__version__} sample-data, seed {chain.world.seed}",
        "references": "docs/explanation/virtual-climate.md",
        "comment": "Synthetic data with a known truth: no climate model made this.",
        "tracking_id": f"hdl:21.14103/{name}",
        "contact": "see the project page",
    }


def gcm_attributes(chain: Chain, variable: str) -> dict[str, str]:
    """Global attributes of a GCM file, as CMIP6 has them."""
    name, experiment = chain.gcm.name, chain.period.experiment
    return {
        **_common(chain, gcm_path(chain, variable)),
        "title": f"Virtual GCM {name}, {experiment}, daily {variable}",
        "mip_era": "CMIP6",
        "activity_id": "CMIP",
        "source": f"{name} (virtual)",
        "source_id": name,
        "source_type": "AOGCM",
        "experiment_id": experiment,
        "variant_label": MEMBER,
        "grid_label": "gn",
        "grid": f"regional cut of a {chain.gcm.spacing} degree grid",
        "frequency": "day",
        "table_id": "day",
        "variable_id": variable,
        "product": "model-output",
    }


def rcm_attributes(chain: Chain, path: str, variable: str, frequency: str) -> dict[str, str]:
    """Global attributes of an RCM file, as CORDEX-CMIP6 has them; path makes its tracking_id unique."""
    name, experiment, domain = chain.gcm.name, chain.period.experiment, chain.size.domain_id
    return {
        **_common(chain, path),
        "title": f"Virtual RCM {RCM_ID} driven by {name}, {experiment}, {variable}",
        "project_id": "CORDEX-CMIP6",
        "mip_era": "CMIP6",
        "activity_id": "DD",
        "product": "model-output",
        "domain": "Virtual",
        "domain_id": domain,
        "driving_experiment": experiment,
        "driving_experiment_id": experiment,
        "driving_institution_id": INSTITUTION,
        "driving_source_id": name,
        "driving_variant_label": MEMBER,
        "source": f"{RCM_ID} (virtual)",
        "source_id": RCM_ID,
        "source_type": "ARCM",
        "frequency": frequency,
        "grid": f"rotated pole, {chain.size.resolution} degree, winds along true east and north",
        "variable_id": variable,
        "version_realization": "v1-r1",
        "license": "CC0-1.0",
    }
