"""MODEL.md: what a run was trained on, by which config, with which scores, and what it should not be used for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

MODEL_CARD = "MODEL.md"
Card = Mapping[str, Any]


def model_card(name: str, card: Card, normaliser: Card, *, missing_cells: int) -> str:
    """The text of MODEL.md, from what the run folder holds anyway.

    Args:
        name: of the run.
        card: model.json.
        normaliser: normaliser.json.
        missing_cells: fine cells that are always missing in the output.
    """
    spec = card["spec"]
    chosen = {key: value for key, value in spec["model"].items() if key != "name" and value not in (None, False, 0.0, "none")}
    options = ", ".join(f"{key} {value}" for key, value in chosen.items())
    targets = ", ".join(f"{target} ({spec['units'].get(target, '')})" for target in spec["targets"])
    parts = [
        f"# {name}\n",
        f"`{spec['model']['name']}`{f' ({options})' if options else ''}, {card['role']}. It estimates daily fine fields of {targets} from "
        f"coarse daily maps. Written by downscale {card['downscale_version']}.\n",
        "## Reads and gives\n",
        _table(_interface(spec, missing_cells)),
        "## Trained on\n",
        _table(_training(card, normaliser)),
        "## Scores\n",
        _scores(card),
        "## Not to be used for\n",
        "\n".join(f"- {limit}" for limit in limits(card)) + "\n",
    ]
    return "\n".join(parts)


def limits(card: Card) -> list[str]:
    """What a run should not be used for, one line each."""
    spec, cases = card["spec"], [case.split(" ")[0] for case in card["trained_on"]]
    found = [
        "Other predictors, levels, units or coarse grids than those above: `apply` refuses them.",
        "Anything shorter than a day, or a place outside the fine grid.",
    ]
    if any(case.endswith("/perfect") for case in cases):
        found.append(
            "A GCM's own fields without a look at `evaluate`: it learned from upscaled RCM fields (perfect pairs), and a GCM's are others."
        )
    if any(case.endswith("/imperfect") for case in cases):
        found.append(
            f"Another GCM or reanalysis than that of {', '.join(case for case in cases if case.endswith('/imperfect'))}: what it learned "
            "from imperfect pairs holds the differences between these two models."
        )
    if not _follows_warming(spec):
        found.append("A climate much warmer than that of its training days: nothing in it goes on linearly beyond them.")
    if not spec.get("heads") and not spec.get("noise"):
        found.append("Extremes and variability of single cells without a correction: one value a day is a mean, and means vary too little.")
    elif spec.get("heads"):
        found.append("Patterns of single drawn members: each cell is drawn by itself, so fields of members are rougher than weather.")
    found.append("More than the regional model, or the observations, that it imitates: their errors are its own.")
    return found


def _follows_warming(spec: Card) -> bool:
    linear = spec["model"]["name"] in ("ridge", "kernel_ridge", "bilinear") or spec["model"].get("backbone") == "ridge"
    return linear or bool(spec.get("detrend"))


def _interface(spec: Card, missing_cells: int) -> Iterable[tuple[str, str]]:
    coarse, fine = (" x ".join(map(str, spec[f"{grid}_shape"])) for grid in ("coarse", "fine"))
    cells = spec["fine_shape"][0] * spec["fine_shape"][1]
    yield "predictors", ", ".join(f"{name} ({spec['units'].get(name, '')})" for name in spec["channels"])
    if "days" in spec:
        yield "input days", ", ".join(f"{day:+d}" if day else "0" for day in spec["days"])
    yield "numbers", ", ".join(spec["scalars"])
    if spec["model"]["name"] not in ("bilinear", "climatology"):
        scaling = "gridpoint" if spec["model"]["name"] in ("ridge", "kernel_ridge") else str(spec["normalise"])
        yield "scaling of predictors", scaling + (f", without its trend in {spec['detrend']}" if spec.get("detrend") else "")
    yield "transforms of targets", ", ".join(f"{name}: {kind}" for name, kind in spec["transforms"].items())
    yield "coarse grid", f"{coarse} cells"
    yield "fine grid", f"{fine} cells" + (f", {missing_cells} of {cells} always missing" if missing_cells else "")


def _training(card: Card, normaliser: Card) -> Iterable[tuple[str, str]]:
    recipe = card["recipe"]
    settings = recipe.get("settings", {})
    yield "pairs", ", ".join(card["trained_on"])
    yield "calendar", ", ".join(card.get("calendars", ()))
    yield "mode", str(card["mode"]) + (f", going on from {card['source_run']}" if card.get("source_run") else "")
    for split, periods in card.get("split", {}).items():
        yield f"{split} periods", ", ".join(map(str, periods))
    if settings.get("refit") or recipe.get("refit"):
        yield "fitted to", "training and validation days together (split.refit)"
    for case, years in recipe.get("years", {}).items():
        yield f"years of {case}", ", ".join(map(str, years))
    if "training_days" in normaliser:
        yield "days behind the scaling", str(normaliser["training_days"])
    yield "loss", str(settings.get("loss", ""))
    yield "seed", str(settings.get("seed", ""))
    yield "config", f"`config.yaml`, sha256 {card['config_sha256'][:12]}"
    yield "weights", f"sha256 {card['weights_sha256'][:12]}"


def _scores(card: Card) -> str:
    best = card.get("best") or {}
    rows = [(key.removeprefix("rmse_"), f"{value:.4g}") for key, value in best.items() if key.startswith("rmse_")]
    if rows:
        units = card["spec"]["units"]
        if card["recipe"].get("settings", {}).get("refit"):
            told = _table([(f"{name}, {units.get(name, '')}", value) for name, value in rows], head=("RMSE of days learned from", ""))
            return f"{told}\nEpoch {best['epoch']}, the last; no day chose it. `downscale evaluate` scores test days.\n"
        told = _table([(f"{name}, {units.get(name, '')}", value) for name, value in rows], head=("validation RMSE", ""))
        chose = f"Best epoch {best['epoch']}. The validation days chose it, so these numbers flatter"
        return f"{told}\n{chose}; `downscale evaluate` scores test days.\n"
    chosen = card.get("ridge") or card.get("kernel_ridge") or {}
    facts = [(name, ", ".join(f"{key} {value}" for key, value in one.items())) for name, one in chosen.items()]
    told = f"{_table(facts, head=('chosen on validation days', ''))}\n" if facts else ""
    return f"{told}`downscale evaluate` scores test days.\n"


def _table(rows: Iterable[tuple[str, str]], head: tuple[str, str] = ("", "")) -> str:
    kept = [(name, value) for name, value in rows if value]
    lines = [f"| {name} | {value} |" for name, value in (head, ("---", "---"), *kept)]
    return "\n".join(lines) + "\n"
