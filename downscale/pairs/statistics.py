"""What training needs to know of its days beforehand, kept beside the pair store so that the next run need not read them all again.

A file of the cache holds plain numbers (safetensors) and says in words what they are of: the store's recipe, the training days as
the split lays them on the store, the pairs, the transforms, the version. A file that says anything else, or whose numbers do not
have the checksum it states, is not used and written anew. Where the workspace cannot be written, nothing is kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from downscale import __version__
from downscale.pairs.gamma import Gamma, fit_gamma
from downscale.pairs.normalise import Monthly, Statistics, compute_monthly, compute_statistics
from downscale.pairs.store import PairStore
from downscale.pairs.trend import Trend, compute_trend

log = logging.getLogger(__name__)
FOLDER = "pairs.statistics"
_KEPT = 16
_DAMAGE = (SafetensorError, OSError, KeyError, TypeError, ValueError)
Case = tuple[str, str]
Arrays = dict[str, np.ndarray]


def training_statistics(
    store: PairStore, cases: Sequence[Case], transforms: Mapping[str, str], *, predictors: str = "gridpoint", detrend: str | None = None
) -> Statistics:
    """What the normalisations of inputs and targets need; see compute_statistics.

    Args:
        store: opened with the split.
        cases: (group, "perfect" or "imperfect") of the pairs to learn from.
        transforms: target -> transform name.
        predictors: the normalisation of the predictors; "monthly" adds the numbers by calendar month.
        detrend: a forcing whose linear part is taken out first; None: nothing is.

    Returns:
        Statistics, the same to the bit whether read or computed.

    Raises:
        InputDataError: the forcing is not in the pairs, or never changes on the training days.
    """
    chosen = {name: transforms.get(name, "standardise") for name in store.targets}
    pairs = [(store.group(name), kind) for name, kind in cases]
    key = {**_days_of(store, [name for name, _ in cases]), "cases": list(cases), "transforms": chosen}
    trend = _trend(store, cases, detrend, chosen) if detrend else None
    key |= {"detrend": detrend} if detrend else {}

    def make() -> Arrays:
        return _arrays(compute_statistics(pairs, transforms, store.targets, store.scalars, trend))

    values = _cached(store, "statistics", key, make)
    monthly = monthly_statistics(store, cases, trend) if predictors == "monthly" else None
    return replace(Statistics(**{**values, "n_days": int(values["n_days"])}), monthly=monthly, trend=trend)  # type: ignore[arg-type]


def monthly_statistics(store: PairStore, cases: Sequence[Case], trend: Trend | None = None) -> Monthly:
    """What the normalisation by calendar month needs; arguments as training_statistics, numbers as compute_monthly."""
    pairs = [(store.group(name), kind) for name, kind in cases]
    key = {**_days_of(store, [name for name, _ in cases]), "cases": list(cases)}
    key |= {"detrend": store.scalars[trend.column]} if trend is not None else {}
    return Monthly(**_cached(store, "monthly", key, lambda: _arrays(compute_monthly(pairs, trend))))


def _trend(store: PairStore, cases: Sequence[Case], column: str, transforms: Mapping[str, str]) -> Trend:
    """Slopes on a forcing, numbers as compute_trend."""
    pairs = [(store.group(name), kind) for name, kind in cases]
    key = {**_days_of(store, [name for name, _ in cases]), "cases": list(cases), "transforms": transforms, "detrend": column}
    values = _cached(store, "trend", key, lambda: _arrays(compute_trend(pairs, column, transforms, store.targets, store.scalars)))
    return Trend(int(values["column"]), float(values["origin"]), values["predictor"], values["target"])


def rain_gamma(store: PairStore, groups: Sequence[str], target: str = "pr") -> Gamma:
    """The gamma distributions of a target over the training days of pair groups; see fit_gamma. A group counts once."""
    names = list(dict.fromkeys(groups))
    place = store.targets.index(target)
    key = {**_days_of(store, names), "target": target}
    return Gamma(**_cached(store, "gamma", key, lambda: _arrays(fit_gamma([store.group(name) for name in names], place))))


def _days_of(store: PairStore, names: Sequence[str]) -> dict[str, Any]:
    """What decides the numbers of some groups: the store, and its training days as the split has them."""
    state = hashlib.sha256()
    for name in names:
        group = store.group(name)
        state.update(np.ascontiguousarray(group.days[group.split("train")], dtype="<i8").tobytes() + b"|")
    groups = {name: [store.group(name).attributes.get(one) for one in ("digest", "inventory")] for name in names}
    recipe = hashlib.sha256(json.dumps(store.recipe, sort_keys=True).encode()).hexdigest()
    return {"version": __version__, "recipe": recipe, "groups": groups, "training_days": state.hexdigest()}


def _arrays(numbers: Statistics | Monthly | Gamma | Trend) -> Arrays:
    return {one.name: np.asarray(getattr(numbers, one.name)) for one in fields(numbers) if one.name not in ("monthly", "trend")}


def _cached(store: PairStore, kind: str, key: Mapping[str, Any], make: Callable[[], Arrays]) -> Arrays:
    """Numbers from the cache, else made and kept."""
    said = json.dumps({"kind": kind, **key}, sort_keys=True)
    file = store.path.parent / FOLDER / f"{kind}-{hashlib.sha256(said.encode()).hexdigest()[:32]}.safetensors"
    values = _load(file, said)
    if values is None:
        values = make()
        _keep(file, said, values)
    return values


def _load(file: Path, said: str) -> Arrays | None:
    """The numbers of a file that says the same and is whole, or None."""
    if not file.is_file():
        return None
    try:
        with safe_open(file, framework="np") as content:
            stated = content.metadata() or {}
            if stated.get("of") == said:
                values = {name: np.asarray(content.get_tensor(name)) for name in content.keys()}  # noqa: SIM118 - no mapping
                if stated.get("sha256") == _checksum(values):
                    log.info("statistics of an earlier run are used: %s", file)
                    return values
    except _DAMAGE:
        pass
    log.info("damaged or foreign statistics are made anew: %s", file)
    return None


def _keep(file: Path, said: str, values: Arrays) -> None:
    """Write beside its place and rename, so that no reader sees half of it; where that cannot be, only the log hears of it."""
    partial = file.with_name(f"{file.name}.{secrets.token_hex(8)}.partial")
    try:
        if file.parent.is_symlink() or file.is_symlink():
            raise OSError("a symbolic link stands in its place")
        file.parent.mkdir(exist_ok=True)
        data = save({name: np.asarray(one, order="C") for name, one in values.items()}, {"of": said, "sha256": _checksum(values)})
        with partial.open("xb") as stream:
            stream.write(data)
        partial.replace(file)
    except OSError as error:
        log.info("statistics are not kept for the next run: %s", error)
    with contextlib.suppress(OSError):
        partial.unlink(missing_ok=True)
        for old in sorted(file.parent.glob("*.safetensors"), key=lambda one: one.stat().st_mtime_ns)[:-_KEPT]:
            old.unlink(missing_ok=True)


def _checksum(values: Arrays) -> str:
    state = hashlib.sha256()
    for name in sorted(values):
        one = np.asarray(values[name])
        state.update(f"{name} {one.dtype.str} {one.shape}".encode() + one.tobytes())
    return state.hexdigest()
