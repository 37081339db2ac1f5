"""Who made a file: model, driver, member, experiment, from its attributes, else from a CORDEX or CMIP file name, else from its folder."""

from __future__ import annotations

import re
from dataclasses import dataclass

from downscale.cf.header import FileHeader

_ATTRIBUTES = {
    "model": ("source_id", "model_id"),
    "driver": ("driving_source_id", "driving_model_id"),
    "driver_member": ("driving_variant_label", "driving_model_ensemble_member"),
    "domain": ("domain_id", "CORDEX_domain"),
    "member": ("variant_label",),
    "experiment": ("driving_experiment_id", "driving_experiment_name", "experiment_id"),
    "institution": ("institution_id", "institute_id"),
}
_CORDEX = re.compile(
    r"^[A-Za-z0-9]+_(?P<domain>[A-Z]{3,5}-\d{1,3}i?)_(?P<driver>[^_]+)_(?P<experiment>[^_]+)_(?P<driver_member>r\d+i\d+p\d+(?:f\d+)?)"
    r"_(?:(?P<institution>[A-Za-z0-9-]+)_)??(?P<model>[^_]+)_(?P<version>v[\w-]*?)_(?P<frequency>day|fx|mon|[136]hr)(?:_|$)"
)
_CMIP = re.compile(
    r"^[A-Za-z0-9]+_(?P<frequency>[A-Za-z0-9]*(?:day|fx|mon|hr|Pt))_(?P<model>[^_]+)_(?P<experiment>[^_]+)_(?:s\d+-)?"
    r"(?P<member>r\d+i\d+p\d+(?:f\d+)?)(?:_|$)"
)
_OBSERVATIONS = (
    "E-?OBS",
    "CRU",
    "SAFRAN",
    "IBERIA0?1",
    "CHIRPS",
    "HadUK",
    "PRISM",
    "Daymet",
    "GPCC",
    "CPC",
    "SPAIN02",
    "APGD",
    "CARPATCLIM",
    "RADKLIM",
)
_REANALYSES = (
    "ERA-?5(?:-?Land)?",
    "ERA-?INT(?:ERIM)?",
    "ERA-?40",
    "ERA-?20C",
    "NCEP",
    "CFSR",
    "JRA-?(?:25|55|3Q)",
    "MERRA-?2?",
    "20CR",
    "CERRA",
    "COSMO-REA6",
    "UERRA",
)
_SPEAKING = ("source_id", "dataset_id", "source", "title", "product", "project_id", "source_dataset", "institution", "id", "references")
_FACETS = (
    "institution_id", "source_id", "experiment_id", "variant_label", "domain_id", "driving_source_id", "driving_experiment_id",
    "driving_institution_id", "driving_variant_label", "version_realization", "grid_label",
)  # fmt: skip
_AS_FACET = {"model": "source_id", "driver": "driving_source_id", "driver_member": "driving_variant_label", "domain": "domain_id",
             "institution": "institution_id"}  # fmt: skip


@dataclass(frozen=True)
class Identity:
    """Who made a file.

    Attributes:
        model, driver, member, experiment, domain, institution: empty where nothing says so; for an RCM the member is its driver's.
        kind: "rcm", "gcm", "reanalysis", "observations", or empty where nothing tells.
        source: on what this rests: "attributes", "file name", "title" or "folder".
        folder: of the file, where that is part of the identity.
        facets: of the CORDEX and CMIP vocabularies.
    """

    model: str
    driver: str = ""
    member: str = ""
    experiment: str = ""
    domain: str = ""
    institution: str = ""
    kind: str = ""
    source: str = ""
    folder: str = ""
    facets: tuple[tuple[str, str], ...] = ()

    @property
    def run(self) -> tuple[str, ...]:
        """Equal for files of one run, whatever the experiment."""
        return (self.kind, self.institution, self.model, self.driver, self.member, self.domain, self.folder)


def identify(header: FileHeader) -> Identity:
    """Who made a file, by the first of: its attributes, its name, a known data set named in its title, its folder."""
    stated = {key: _first(header, names) for key, names in _ATTRIBUTES.items()}
    if stated["model"] and not _dataset(stated["model"]):
        return _model(stated, "attributes", header)
    stem = header.path.name.removesuffix(".nc")
    named = _CORDEX.match(stem) or _CMIP.match(stem)
    if named:
        return _model(
            {**dict.fromkeys(_ATTRIBUTES, ""), **{key: value or "" for key, value in named.groupdict().items()}}, "file name", header
        )
    for text in (stem, *(str(header.attrs.get(key, "")) for key in _SPEAKING)):
        known = _dataset(text)
        if known:
            return Identity(known[1], kind=known[0], source="title", folder=str(header.path.parent), facets=_facets(header, {}))
    return Identity("", source="folder", folder=str(header.path.parent), facets=_facets(header, {}))


def model_names(header: FileHeader) -> set[str]:
    """All names that a file has for the model that made it."""
    stated = (" ".join(str(header.attrs.get(name, "")).split()) for name in _ATTRIBUTES["model"])
    return {name for name in (*stated, identify(header).model) if name}


def _model(stated: dict[str, str], source: str, header: FileHeader) -> Identity:
    regional = bool(stated["driver"] or stated["domain"])
    member = stated["driver_member"] if regional else stated["member"] or _rip(header)
    return Identity(
        stated["model"], stated["driver"], member, stated["experiment"], stated["domain"], stated["institution"],
        "rcm" if regional else "gcm", source, facets=_facets(header, {**stated, "driver_member": member} if regional else stated),
    )  # fmt: skip


def _facets(header: FileHeader, stated: dict[str, str]) -> tuple[tuple[str, str], ...]:
    facets = {name: " ".join(str(header.attrs[name]).split()) for name in _FACETS if str(header.attrs.get(name, "")).strip()}
    facets |= {name: stated[key] for key, name in _AS_FACET.items() if stated.get(key) and name not in facets}
    experiments = ("experiment_id", "driving_experiment_id")
    return tuple(sorted((key, value) for key, value in facets.items() if key not in experiments))


def _rip(header: FileHeader) -> str:
    """rNiNpN of CMIP5 attributes."""
    parts = [header.attrs.get(name) for name in ("realization", "initialization_method", "physics_version")]
    return "" if None in parts else "r{}i{}p{}".format(*parts)


def _first(header: FileHeader, names: tuple[str, ...]) -> str:
    return next((text for text in (" ".join(str(header.attrs.get(name, "")).split()) for name in names) if text), "")


def _dataset(text: str) -> tuple[str, str] | None:
    """Kind and name of a known set of observations or reanalysis that a text names."""
    for kind, names in (("observations", _OBSERVATIONS), ("reanalysis", _REANALYSES)):
        found = re.search(rf"(?<![A-Za-z0-9])({'|'.join(names)})(?![A-Za-z])", text, re.IGNORECASE)
        if found:
            return kind, found[1]
    return None
