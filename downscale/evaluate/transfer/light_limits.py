"""Limits of the traffic light, moved to what is known of other GCMs.

Two steps, once for yellow and once for red, with the runs and GCMs whose loss is known. A limit that flags a harmless case is raised to
that case's value, but never to that of the least harmful one above it. Then, for each bad case that no rule flags, the rule that comes
nearest to its limit is lowered to it, if that flags no harmless case. No limit moves to less than half or more than twice its distance
from what tells nothing (0; for the AUC 0.5). What still contradicts stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from downscale.evaluate.transfer.light_evidence import Evidence

LEVELS = ("yellow", "red")
Limits = dict[str, dict[str, float]]
JUST = 1e-6
FREEDOM = 2.0
NOTHING = {"separability": 0.5}


@dataclass(frozen=True)
class Losses:
    """From where on a loss deserves a colour."""

    yellow: float
    red: float

    def light(self, loss: float) -> str:
        """Colour that a known loss deserves; unknown for NaN."""
        if not math.isfinite(loss):
            return "unknown"
        return "red" if loss > self.red else ("yellow" if loss > self.yellow else "green")

    def at(self, level: str) -> float:
        """The loss of a level."""
        return self.red if level == "red" else self.yellow


def calibrated(limits: Mapping[str, Mapping[str, float]], evidence: Sequence[Evidence], losses: Losses) -> Limits:
    """Limits by rule after both steps; those given where no case has a known loss."""
    known = [one for one in evidence if math.isfinite(one.loss)]
    result: Limits = {rule: dict(given) for rule, given in limits.items()}
    for level in LEVELS:
        bad = [one for one in known if one.loss > losses.at(level)]
        good = [one for one in known if one.loss <= losses.at(level)]
        for rule, own in result.items():
            own[level] = min(_raised(rule, own[level], good, bad), bounds(rule, limits[rule][level])[1])
        for one in sorted(bad, key=lambda case: -case.loss):
            _catch(result, level, one, good, {rule: bounds(rule, given[level])[0] for rule, given in limits.items()})
    for own in result.values():
        own["red"] = max(own["red"], own["yellow"])
    return result


def bounds(rule: str, limit: float) -> tuple[float, float]:
    """Between what a limit may move."""
    zero = NOTHING.get(rule, 0.0)
    return zero + (limit - zero) / FREEDOM, zero + (limit - zero) * FREEDOM


def _raised(rule: str, limit: float, good: Sequence[Evidence], bad: Sequence[Evidence]) -> float:
    harmless = [one.findings[rule].value for one in good if one.findings[rule].value > limit]
    harmful = [one.findings[rule].value for one in bad if one.findings[rule].value > limit]
    if not harmless:
        return limit
    top = max(harmless)
    return max(limit, min([top, *(value * (1 - JUST) for value in harmful)]))


def _catch(limits: Limits, level: str, one: Evidence, good: Sequence[Evidence], lowest: Mapping[str, float]) -> None:
    """Lower one rule so that a bad case is flagged, where that flags no harmless one."""
    values = {rule: one.findings[rule].value for rule in limits}
    if any(value > limits[rule][level] for rule, value in values.items()):
        return
    free = {}
    for rule, value in values.items():
        harmless = [other.findings[rule].value for other in good if math.isfinite(other.findings[rule].value)]
        if math.isfinite(value) and value > lowest[rule] and value > max(harmless, default=0.0):
            free[rule] = value / limits[rule][level] if limits[rule][level] > 0 else math.inf
    if free:
        nearest = max(free, key=lambda rule: free[rule])
        limits[nearest][level] = values[nearest] * (1 - JUST)


def lamp(value: float, limits: Mapping[str, float]) -> str:
    """Colour of one rule."""
    if not math.isfinite(value):
        return "unknown"
    return "red" if value > limits["red"] else ("yellow" if value > limits["yellow"] else "green")


def verdict(lights: Sequence[str]) -> str:
    """The worst of the known lights; unknown without any."""
    return next((colour for colour in ("red", "yellow", "green") if colour in lights), "unknown")
