"""An experiment for each domain of the benchmark: its files as sources, its years as a split, one of our networks."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from downscale.config.load import load_config
from downscale.config.schema import ExperimentConfig
from downscale.profiles.mlbench import LETTERS, LEVELS, MEMBERS, TARGETS, Domain, centres_box, file_settings, plane_shape

CONFIG = "config.yaml"
SPLIT: dict[str, dict[str, list[int | str]]] = {
    "1961-1980": {"train": ["1961-1978"], "validation": [1979], "test": [1980]},
    "2080-2099": {"train": ["2080-2096"], "validation": [2097], "test": ["2098-2099"]},
}
"""Training period -> whole years of it. The test years are those on which the benchmark's own DeepESD reports were made."""
MODELS: dict[str, dict[str, Any]] = {
    "resunet": {"model": {"name": "resunet"}},
    "resunet_ensemble": {
        "model": {"name": "resunet"},
        "loss": {"name": "afcrps"},
        "apply": {"members": {"of": "samples", "number": MEMBERS}},
    },
    "unet_doury": {
        "model": {"name": "unet_doury", "width": 64},
        "normalise": {"predictors": "map"},
        "loss": {"targets": {"pr": "asymmetric_gamma"}},
        "train": {"preset": "doury"},
    },
    "deepesd": {
        "model": {"name": "deepesd", "filters": 1},
        "loss": {"targets": {"pr": "asymmetric_gamma"}},
        "train": {"optimiser": "adam", "learning_rate": 1e-4, "weight_decay": 0.0, "batch_size": 64, "epochs": 10_000, "patience": 60},
    },
}
"""Sections of the config by network: resunet with this project's defaults, resunet_ensemble the same as ten draws, the others as
their authors entered them."""


def plan_experiment(
    domain: Domain, folder: Path, *, model: str, orography: bool = False, overrides: Sequence[str] = ()
) -> ExperimentConfig:
    """The config of a domain with all defaults, as it will lie in ``folder``.

    Args:
        domain: its files.
        folder: of its workspace, which lies beside the config.
        model: one of MODELS.
        orography: give the network the fine orography.
        overrides: ``a.b=c`` strings, as --set.

    Raises:
        ConfigError: the overrides do not fit.
        InputDataError: a file cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{CONFIG}.partial"
    stream = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.dump(experiment(domain, model=model, orography=orography), stream)
    try:
        partial.write_text(stream.getvalue())
        return load_config(partial, overrides)
    finally:
        partial.unlink(missing_ok=True)


def experiment(domain: Domain, *, model: str, orography: bool = False) -> dict[str, Any]:
    """The config of a domain as plain data: a truth and its predictors for each training experiment, a source for each test file."""
    sections = MODELS[model]
    first = domain.trainings[0]
    ny, nx = plane_shape(first.target)
    return {
        "workspace": "results",
        "sources": _sources(domain, orography=orography),
        "predictors": [{"name": name, "levels": list(LEVELS)} for name in LETTERS],
        "targets": [{"name": name} for name in TARGETS],
        "static": ["orog"] if orography else [],
        "domain": {"coarse_box": centres_box(first.predictors), "fine_box": [0, nx, 0, ny]},
        "upscale": {"to": first.driver},
        "missing": {"gaps": "skip", "nan_days": "drop"},
        "split": _split([*SPLIT, *(period for training in domain.trainings for period in training.periods)]),
        **{name: section for name, section in sections.items() if name not in ("train", "apply")},
        "train": {"on": [f"{first.name}/imperfect"], "baselines": [], **sections.get("train", {})},
        "apply": {"days": "test", **sections.get("apply", {})},
    }


def _sources(domain: Domain, *, orography: bool) -> dict[str, Any]:
    sources: dict[str, Any] = {}
    for training in domain.trainings:
        files = [training.target, *([training.static] if orography and training.static else [])]
        sources[training.name] = _source("observations", files, TARGETS, training.gcm)
        sources[training.driver] = _source("gcm", [training.predictors], tuple(LETTERS), training.gcm) | {"drives": training.name}
    for test in domain.tests:
        sources[test.source] = _source("gcm", [test.path], tuple(LETTERS), test.gcm)
    return sources


def _source(role: str, files: Sequence[Path], variables: Sequence[str], gcm: str) -> dict[str, Any]:
    settings: Mapping[str, Any] = file_settings(files[0], variables)
    return {
        "role": role,
        "files": [str(path.resolve()) for path in files],
        **{key: value for key, value in settings.items() if value},
        "facets": {"source_id": gcm},
    }


def _split(periods: Sequence[str]) -> dict[str, Any]:
    """Whole years of periods: also those of an experiment that is not chosen, because it may be chosen later.

    A period that is not the benchmark's gives its last year to test and the one before to validation.
    """
    split: dict[str, Any] = {"train": [], "validation": [], "test": []}
    for period in dict.fromkeys(periods):
        first, last = map(int, period.split("-"))
        own = SPLIT.get(period, {"train": [f"{first}-{last - 2}"], "validation": [last - 1], "test": [last]})
        for part, years in own.items():
            split[part] += years
    return split
