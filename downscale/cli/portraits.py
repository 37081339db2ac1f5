"""What the artefacts of a workspace say about themselves: facts from their JSON, nothing heavy is loaded."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from downscale.errors import InputDataError

Portrait = dict[str, Any]


def store(path: Path) -> Portrait:
    """A pair store."""
    root = read_json(path / "zarr.json")["attributes"]
    groups: list[dict[str, str]] = []
    notes = list(root.get("notes", []))
    files = 0
    for name in root["groups"]:
        facts = read_json(path / name / "zarr.json")["attributes"]
        kinds = [kind for kind, array in (("perfect", "rcmu"), ("imperfect", "gcm")) if (path / name / f"predictors_{array}").is_dir()]
        shape = read_json(path / name / f"predictors_{'rcmu' if 'perfect' in kinds else 'gcm'}" / "zarr.json")["shape"]
        truth = any((path / name / f"target_{target}").is_dir() for target in root["targets"])
        groups.append({
            "group": name, "days": str(shape[0]), "calendar": facts["calendar"], "pairs": " + ".join(kinds) if truth else "to apply to",
            "coarse": f"{shape[2]} x {shape[3]}", "size": f"{facts.get('inventory', {}).get('bytes', 0) / 1e6:.1f} MB",
            "digest": str(facts.get("digest", "unfinished"))[:12],
        })  # fmt: skip
        notes += facts.get("notes", [])
        files += len(facts.get("files", []))
    facts = {
        "predictors": ", ".join(root["channels"]),
        "targets": ", ".join(root["targets"]),
        "scalars": ", ".join(root["scalars"]),
        "fixed fields": ", ".join(root["static"]),
        "made from": f"{files} files of {', '.join(root['config']['sources'])}",
        "upscaled to": _words(root["config"]["upscale"]["to"]),
        "written by": f"downscale {root['downscale_version']}, format {root['schema_version']}",
    }
    return {"kind": "pair store", "path": path, "facts": facts, "groups": groups, "notes": notes}


def run(path: Path) -> Portrait:
    """A run folder, finished or not."""
    if not (path / "model.json").is_file():
        recipe = read_json(path / "state" / "recipe.json")
        facts = {
            "state": "not finished: the same train command goes on",
            "mode": recipe.get("mode", ""),
            "on": ", ".join(recipe.get("on", [])),
        }
        return {"kind": "unfinished run", "path": path, "facts": {**facts, **_epochs(path)}}
    card = read_json(path / "model.json")
    spec, recipe = card["spec"], card["recipe"]
    environment = read_json(path / "environment.json") if (path / "environment.json").is_file() else {}
    best = {key.removeprefix("rmse_"): f"{value:.4g}" for key, value in (card.get("best") or {}).items() if key.startswith("rmse_")}
    judged = "training" if recipe.get("settings", {}).get("refit") else "validation"
    facts = {
        "state": "finished" if (path / "DONE").is_file() else "DONE is missing: copy the folder again",
        "model": f"{spec['model']['name']} ({', '.join(f'{key} {value}' for key, value in spec['model'].items() if key != 'name')})",
        "role": f"{card['role']}, {card['mode']}",
        "trained on": ", ".join(card["trained_on"]),
        "goes on from": card.get("source_run") or "",
        "training years": "; ".join(f"{case}: {', '.join(map(str, years))}" for case, years in recipe.get("years", {}).items())
        or _years(path),
        "seed": str(recipe.get("settings", {}).get("seed", "")),
        "predictors": ", ".join(spec["channels"]),
        "targets": ", ".join(
            f"{name} ({spec['transforms'].get(name, 'standardise')}, {spec['units'].get(name, '')})" for name in spec["targets"]
        ),
        "grids": f"coarse {' x '.join(map(str, spec['coarse_shape']))}, fine {' x '.join(map(str, spec['fine_shape']))}",
        "epoch kept": f"{card['best']['epoch']}, {judged} RMSE {', '.join(f'{name} {value}' for name, value in best.items())}"
        if best
        else "",
        "weights": f"sha256 {card['weights_sha256'][:12]}",
        "config": f"sha256 {card['config_sha256'][:12]}",
        "model card": "MODEL.md" if (path / "MODEL.md").is_file() else "",
        "written by": f"downscale {card['downscale_version']}, format {card['schema_version']}",
        "environment": ", ".join(f"{key} {environment[key]}" for key in ("python", "torch", "numpy", "device") if key in environment),
    }
    return {"kind": "run", "path": path, "facts": {**facts, **_epochs(path)}, "notes": _model_card(path)}


def prediction(path: Path) -> Portrait:
    """A folder that apply wrote."""
    card = read_json(path / "prediction.json")
    facts = {
        "run": f"{card['run']} ({card['model']}, {card['role']}, {card['mode']})",
        "trained on": ", ".join(card["trained_on"]),
        "input": f"{'RCMu' if card['kind'] == 'perfect' else 'own fields'} of {card.get('source', card['group'])}",
        "input digest": str(card.get("input_digest", ""))[:12],
        "variables": ", ".join(card["variables"]),
        "calendar": str(card.get("recipe", {}).get("calendar", "")),
        "model id": str(card.get("recipe", {}).get("model_id", "")),
        "digest": str(card["digest"])[:12],
        "files": ", ".join(f"{file.name} ({file.stat().st_size / 1e6:.1f} MB)" for file in sorted(path.glob("*.nc"))),
        "written by": f"downscale {card['downscale_version']}",
    }
    return {"kind": "prediction", "path": path, "facts": facts, "notes": list(card.get("notes", []))}


def workspace(path: Path) -> Portrait:
    """A workspace: which of the artefacts there are."""
    runs = sorted(one for one in (path / "runs").glob("*") if one.is_dir())
    unfinished = [one.name for one in runs if not (one / "DONE").is_file()]
    predictions: dict[str, list[str]] = {}
    for one in sorted((path / "predictions").glob("*/*/prediction.json")):
        predictions.setdefault(one.parts[-3], []).append(one.parts[-2])
    facts = {
        "pairs": ", ".join(read_json(path / "pairs.zarr" / "zarr.json")["attributes"].get("groups", []))
        if (path / "pairs.zarr").is_dir()
        else "not prepared",
        "half-written": ", ".join(one.name for one in path.glob("*.partial")),
        "runs": ", ".join(one.name for one in runs if one.name not in unfinished) or "none",
        "unfinished runs": ", ".join(unfinished),
        "scores": _rows(path / "scores" / "scores.csv"),
        "report": str(path / "report" / "index.html") if (path / "report" / "index.html").is_file() else "none",
        "locked by": (path / ".lock").read_text() if (path / ".lock").is_file() else "",
    }
    return {
        "kind": "workspace",
        "path": path,
        "facts": facts,
        "predictions": {name: ", ".join(cases) for name, cases in predictions.items()},
    }


def scores(path: Path) -> Portrait:
    """A folder of scores."""
    with (path / "scores.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    keys = ("prediction", "case", "variable", "metric", "region", "season", "period")
    facts = {key: _listed(list(dict.fromkeys(row[key] for row in rows))) for key in keys}
    return {"kind": "scores", "path": path, "facts": {"rows": str(len(rows)), **facts}}


def config(path: Path) -> Portrait:
    """An experiment config, and what of it is done."""
    from downscale.config.load import load_config

    cfg = load_config(path)
    sources = [
        {"source": name, "role": one.role, "drives": one.drives or "", "files": ", ".join(one.files)} for name, one in cfg.sources.items()
    ]
    split = cfg.split
    facts = {
        "predictors": ", ".join(channel.name for channel in cfg.channels()),
        "targets": ", ".join(target.name for target in cfg.targets),
        "upscaled to": _words(cfg.upscale.to if isinstance(cfg.upscale.to, str) else cfg.upscale.to.model_dump()),
        "split": "; ".join(f"{name} {', '.join(map(str, getattr(split, name)))}" for name in ("train", "validation", "test")),
        "model": ", ".join(f"{key} {value}" for key, value in cfg.model.model_dump(exclude_none=True).items()).removeprefix("name "),
        "train on": ", ".join(cfg.train.on),
        "workspace": str(cfg.workspace_path()),
    }
    done = workspace(cfg.workspace_path())["facts"] if cfg.workspace_path().is_dir() else {"workspace": "not there yet"}
    return {"kind": "config", "path": path, "facts": facts, "sources": sources, "done so far": done}


def sample_data(path: Path) -> Portrait:
    """A folder that sample-data wrote."""
    truth = read_json(path / "truth.json")
    facts = {
        "what": "a virtual climate: synthetic files whose truth is known",
        "size": truth["size"],
        "seed": str(truth["seed"]),
        "GCMs": ", ".join(truth["gcms"]),
        "files": str(len(truth["files"])),
        "written by": f"downscale {truth['downscale_version']}",
    }
    return {"kind": "sample data", "path": path, "facts": facts}


def read_json(path: Path) -> Any:
    """The content of a JSON file; InputDataError where it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        text = getattr(error, "strerror", None) or str(error)
        raise InputDataError(f"cannot be read: {text}", where=str(path), hint="copy the folder again, or run the stage again") from None


def _words(value: str | Mapping[str, Any]) -> str:
    return value if isinstance(value, str) else ", ".join(f"{key} {one}" for key, one in value.items())


def _years(path: Path) -> str:
    """The training periods of the run's config."""
    from downscale.config.load import load_config

    return ", ".join(map(str, load_config(path / "config.yaml").split.train)) if (path / "config.yaml").is_file() else ""


def _model_card(path: Path) -> list[str]:
    """What MODEL.md says the run should not be used for."""
    if not (path / "MODEL.md").is_file():
        return []
    lines = (path / "MODEL.md").read_text(encoding="utf-8").partition("## Not to be used for")[2].splitlines()
    return [f"not for: {line.removeprefix('- ')}" for line in lines if line.startswith("- ")]


def _epochs(path: Path) -> dict[str, str]:
    """How far metrics.csv goes."""
    if not (path / "metrics.csv").is_file():
        return {}
    lines = (path / "metrics.csv").read_text().splitlines()
    return {"epochs": lines[-1].split(",")[0]} if len(lines) > 1 else {}


def _listed(names: list[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f" ... {len(names) - most} more" if len(names) > most else "")


def _rows(path: Path) -> str:
    return f"{len(path.read_text().splitlines()) - 1} rows" if path.is_file() else "none"
