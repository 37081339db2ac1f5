"""What an archive asks of its files, as data: CORDEX-CMIP6.

Source: CORDEX-CMIP6 archiving specifications for dynamical downscaling v3 (doi:10.5281/zenodo.20274448), sections 3 to 8, and the
controlled vocabulary of github.com/WCRP-CORDEX/cordex-cmip6-cv.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Archive:
    """The rules of one archive.

    Attributes:
        fixed: global attributes with one allowed value.
        required: global attributes that every file needs.
        given: facets of the output that only the user knows -> what they are.
        driving: facets of the driving run -> what they are.
        assumed: facets with a value that holds where nothing else is given.
        optional: further facets that are understood.
        tokens: facets that are parts of names: letters, digits and dashes only.
        file_name: facets of a file's name, joined by underscores; the first and the last day follow.
        folders: facets of its path.
        experiments: driving experiments -> what they are.
        historical_ends: last day (yyyymmdd) of the historical experiment; later days belong to a scenario.
        free_experiments: driving experiments that may hold any day.
        regions: first part of a domain's name -> its region.
        resolutions: first part of a domain's name -> the second parts that there are.
        years_a_file: years of daily fields in a file; periods begin in years 1, 1 + n, 1 + 2n ...
        variables: daily surface variables that it takes, of those whose names, units and cell methods the variable table may hold.
        dynamical: facet -> values that only models of the dynamics have.
    """

    fixed: Mapping[str, str]
    required: tuple[str, ...]
    given: Mapping[str, str]
    driving: Mapping[str, str]
    assumed: Mapping[str, str]
    optional: tuple[str, ...]
    tokens: tuple[str, ...]
    file_name: tuple[str, ...]
    folders: tuple[str, ...]
    experiments: Mapping[str, str]
    historical_ends: int
    free_experiments: tuple[str, ...]
    regions: Mapping[str, str]
    resolutions: Mapping[str, tuple[str, ...]]
    years_a_file: int
    variables: tuple[str, ...]
    dynamical: Mapping[str, tuple[str, ...]]
    forms: Mapping[str, str] = field(default_factory=dict)
    """Facet -> regular expression that its value must match."""

    @property
    def domains(self) -> list[str]:
        """All names of domains, e.g. EUR-12."""
        return [f"{region}-{one}" for region, some in self.resolutions.items() for one in some]


CORDEX_CMIP6 = Archive(
    fixed={
        "Conventions": "CF-1.11",
        "mip_era": "CMIP6",
        "product": "model-output",
        "project_id": "CORDEX-CMIP6",
        "license": "https://cordex.org/data-access/cordex-cmip6-data/cordex-cmip6-terms-of-use",
        "frequency": "day",
    },
    required=(
        *("activity_id", "contact", "Conventions", "creation_date", "domain", "domain_id", "driving_experiment", "driving_experiment_id"),
        *("driving_institution_id", "driving_source_id", "driving_variant_label", "frequency", "grid", "institution", "institution_id"),
        *("license", "mip_era", "product", "project_id", "source", "source_id", "source_type", "tracking_id", "variable_id"),
        "version_realization",
    ),
    given={
        "domain_id": "the domain, e.g. EUR-12",
        "institution_id": "who makes the data, as registered",
        "institution": "the same in full",
        "source_id": "a name of its own for the emulator, never that of the RCM",
        "contact": "whom to ask; no personal address",
    },
    driving={
        "driving_institution_id": "e.g. CNRM-CERFACS",
        "driving_source_id": "e.g. CNRM-ESM2-1",
        "driving_experiment_id": "e.g. ssp370, or historical,ssp370",
        "driving_variant_label": "e.g. r1i1p1f2",
    },
    assumed={"activity_id": "ESD", "source_type": "RCM-emulator", "version_realization": "v1-r1"},
    optional=("source", "references", "comment", "driving_source", "version", "version_realization_info", "earth_radius", "mip_era"),
    tokens=(
        *("activity_id", "domain_id", "institution_id", "source_id", "driving_institution_id", "driving_source_id"),
        *("driving_experiment_id", "driving_variant_label", "version_realization"),
    ),
    file_name=(
        *("variable_id", "domain_id", "driving_source_id", "driving_experiment_id", "driving_variant_label", "institution_id"),
        *("source_id", "version_realization", "frequency"),
    ),
    folders=(
        *("project_id", "activity_id", "domain_id", "institution_id", "driving_source_id", "driving_experiment_id"),
        *("driving_variant_label", "source_id", "version_realization", "frequency", "variable_id", "version"),
    ),
    experiments={
        "evaluation": "reanalysis simulation of the recent past",
        "historical": "all-forcing simulation of the recent past",
        "ssp119": "low-end scenario reaching 1.9 W m-2, based on SSP1",
        "ssp126": "update of RCP2.6 based on SSP1",
        "ssp245": "update of RCP4.5 based on SSP2",
        "ssp370": "gap-filling scenario reaching 7.0 based on SSP3",
        "ssp585": "update of RCP8.5 based on SSP5",
    },
    historical_ends=20141231,
    free_experiments=("evaluation",),
    regions={
        "AFR": "Africa",
        "ANT": "Antarctica",
        "ARC": "Arctic",
        "AUS": "Australasia",
        "CAM": "Central America",
        "CAS": "Central Asia",
        "EAS": "East Asia",
        "EUR": "Europe",
        "MED": "Mediterranean",
        "MNA": "Middle East and North Africa",
        "NAM": "North America",
        "SAM": "South America",
        "SEA": "South East Asia",
        "WAS": "South Asia",
    },
    resolutions={
        "AFR": ("12", "25", "50", "50i"),
        "ANT": ("12", "50i"),
        "ARC": ("12", "50i"),
        "AUS": ("12", "25", "50", "50i"),
        "CAM": ("12", "25", "50", "50i"),
        "CAS": ("12", "25", "50", "50i"),
        "EAS": ("12", "25", "50", "50i"),
        "EUR": ("12", "12i", "25", "50", "50i"),
        "MED": ("12", "50", "50i"),
        "MNA": ("12", "25", "25i", "50", "50i"),
        "NAM": ("12", "25", "50", "50i"),
        "SAM": ("12", "25", "50", "50i"),
        "SEA": ("12", "25", "25i"),
        "WAS": ("12", "25", "50", "50i"),
    },
    years_a_file=5,
    variables=(
        *("tas", "tasmax", "tasmin", "pr", "psl", "uas", "vas", "hurs", "huss", "sfcWind", "sfcWindmax", "ps", "rsds", "rlds", "clt"),
        *("prc", "prsn", "evspsbl", "snw"),
    ),
    dynamical={"source_type": ("ARCM", "AORCM", "AGCM", "AOGCM"), "activity_id": ("DD", "CPRCM")},
    forms={
        "driving_variant_label": r"r\d+i\d+p\d+f\d+",
        "version_realization": r"v[1-9]\d*-r[1-9]\d*",
        "version": r"v\d{8}",
        "earth_radius": r"\d+(\.\d+)?",
        "mip_era": r"CMIP6",
    },
)
