"""Which predictions a config asks for, and how those that are there differ from it, from the small files of runs and predictions alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from downscale.apply.marks import read_json
from downscale.config.schema import ApplyConfig
from downscale.profiles.rules import CORDEX_CMIP6

_SEED = re.compile(r"-seed\d+$")
_READS_NO_MAPS = ("bilinear", "climatology")
Card = Mapping[str, Any]


def wanted_predictions(cfg: ApplyConfig, runs: Sequence[Path], groups: Sequence[str]) -> dict[str, Card]:
    """NAME/GROUP_KIND of each prediction, with the model.json of its (first) run.

    Args:
        cfg: with members, runs that make none are left out.
        runs: folders of the complete runs.
        groups: GROUP_KIND of the pairs.
    """
    cards: dict[str, Card] = {path.name: read_json(path / "model.json") or {} for path in runs}
    if cfg.members is not None and cfg.members.of == "seeds":
        cards = _seeds(cards)
    elif cfg.members is not None:
        cards = {f"{name}-{cfg.members.of}": card for name, card in cards.items() if _draws(card, cfg.members.of)}
    return {f"{name}/{group}": card for name, card in cards.items() for group in groups}


def _seeds(cards: Mapping[str, Card]) -> dict[str, Card]:
    named: dict[str, list[str]] = {}
    for name in cards:
        if _SEED.search(name):
            named.setdefault(f"{_SEED.sub('', name)}-seeds", []).append(name)
    return {called: cards[names[0]] for called, names in named.items() if len(names) > 1}


def _draws(card: Card, of: str) -> bool:
    spec = card.get("spec", {})
    if of == "dropout":
        return bool(spec.get("model", {}).get("dropout"))
    return bool(spec.get("noise") or spec.get("heads"))


def unlike(cfg: ApplyConfig, name: str, card: Card, recipe: Mapping[str, Any]) -> list[str]:
    """What a prediction's recipe has otherwise than the config, ``written -> wanted``: layout, members and alignment.

    Args:
        cfg: what is wanted.
        name: GROUP_KIND.
        card: model.json of its run.
        recipe: of prediction.json.
    """
    cordex = cfg.profile == "cordex"
    years = cfg.years_per_file or (CORDEX_CMIP6.years_a_file if cordex else None)
    pairs = {
        "profile": (recipe.get("profile", "cf"), cfg.profile),
        "years_per_file": (recipe.get("years_per_file"), years),
        "significant_bits": (recipe.get("significant_bits"), cfg.significant_bits),
        **_members(cfg, recipe.get("members") or {}),
        **_alignment(cfg, name, card, recipe.get("align") or {}),
    }
    return [f"apply.{key}: {there} -> {wanted}" for key, (there, wanted) in pairs.items() if there != wanted]


def _members(cfg: ApplyConfig, there: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    if cfg.members is None:
        return {}
    wanted = {key: value for key, value in cfg.members.model_dump().items() if value is not None}
    return {f"members.{key}": (there.get(key), value) for key, value in wanted.items()}


def _alignment(cfg: ApplyConfig, name: str, card: Card, there: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Nothing is said of inputs that ``align`` leaves as they are, nor of AdaBN, which needs a network with batch normalisation."""
    group, _, kind = name.rpartition("_")
    as_it_is = kind != "imperfect" or f"{group}/{kind}" in card.get("recipe", {}).get("on", ())
    as_it_is = as_it_is or card.get("spec", {}).get("model", {}).get("name") in _READS_NO_MAPS
    if as_it_is or (cfg.align == "adabn" and not there):
        return {}
    window = None if cfg.align == "none" else list(cfg.align_window or ())
    return {"align": (there.get("method", "none"), cfg.align), "align_window": (there.get("window"), window)}
