"""The version of a publication: the folder vYYYYMMDD of its files."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from downscale.errors import InputDataError
from downscale.hpc.notes import read_note
from downscale.hpc.paths import require_inside
from downscale.profiles.rules import Archive
from downscale.profiles.spec import OutputSpec

_DECISIVE = ("downscale_model_id", "downscale_input_manifest_sha256", "downscale_alignment", "downscale_members")
"""Attributes that are others where the data are others."""


def version_of(spec: OutputSpec, archive: Archive) -> str:
    """The version that was asked for, else the one that this prediction has begun with other periods, else today's.

    What another prediction has left in the folder (another emulator, input or facets) is a version of its own.
    """
    if spec.facets.get("version"):
        return spec.facets["version"]
    foreign = set()
    for path in sorted(spec.folder.glob("manifest*.json")):
        facts = read_note(path)
        found = {part for one in listed(facts, path) for part in one.split("/")[len(archive.folders) - 1 : -1]}
        if found and _same(facts, spec):
            return max(found)
        foreign |= found
    pattern = Path(archive.fixed["project_id"], *["*"] * (len(archive.folders) - 2), "v????????")
    begun = {path.name for path in spec.folder.glob(str(pattern))} - foreign
    return max(begun) if begun else datetime.now(UTC).strftime("v%Y%m%d")


def listed(facts: Mapping[str, Any], path: Path) -> set[str]:
    """Files in a manifest, relative to its folder; none where they lead out of it."""
    try:
        paths = {str(entry["path"]) for entry in facts.get("files", ())}
        require_inside([part for one in paths for part in one.split("/")], path)
    except (KeyError, TypeError, InputDataError):
        return set()
    return paths


def _same(facts: Mapping[str, Any], spec: OutputSpec) -> bool:
    """Whether a manifest is of the same prediction; older ones do not say their facets."""
    of = facts.get("provenance", {})
    facets = {name: value for name, value in facts.get("facets", spec.facets).items() if name != "version"}
    own = {name: value for name, value in spec.facets.items() if name != "version"}
    return facets == own and all(of.get(name) == spec.attributes.get(name) for name in _DECISIVE)
