"""What a training is to do, decided before anything is written: days, settings, names, recipe."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from downscale.config.schema import ExperimentConfig, FewShotConfig, FineTuneConfig
from downscale.errors import ConfigError, InputDataError
from downscale.pairs.store import PairStore
from downscale.training.adaptation import require_method
from downscale.training.assemble import model_spec
from downscale.training.days import Feeding
from downscale.training.loss_fields import loss_misfits
from downscale.training.replay import with_replay
from downscale.training.run import Run, same_weights_space
from downscale.training.samples import Holes, Portion, split_portions, whole_portions
from downscale.training.shots import choose_years, shot_index
from downscale.training.state import Settings

log = logging.getLogger(__name__)
_ALWAYS = ("epochs", "batch_size", "learning_rate", "weight_decay", "schedule", "warmup_epochs", "patience", "ema", "clip", "seed",
           "l2_sp", "loss", "balance")  # fmt: skip
"""Settings that stand in every recipe; later ones only where they are used, so that older runs stay complete."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Plan:
    """One network's training.

    Attributes:
        path: the run folder.
        mode: "pretrain", "finetune" or "few-shot".
        spec: of the emulator.
        train, validation: the days.
        settings: of the loop.
        recipe: all that decides the result, as JSON-like data; equal recipes give equal runs.
        source: the run to go on from, or None.
        method: how it is adapted, see adaptation.METHODS.
        feeding: how it gets its days; None while it is not decided.
    """

    path: Path
    mode: str
    spec: dict[str, Any]
    train: list[Portion]
    validation: list[Portion]
    settings: Settings
    recipe: dict[str, Any]
    source: Run | None = None
    method: str = "full"
    feeding: Feeding | None = None

    @property
    def days(self) -> dict[str, int]:
        """Numbers of days for the summary."""
        portions = {"training days": self.train, "validation days": self.validation}
        return {name: sum(len(portion.index) for portion in some) for name, some in portions.items()}

    @property
    def on(self) -> list[str]:
        """Cases learned from, e.g. RCM_A/perfect."""
        return list(self.recipe["on"])

    @property
    def trained_on(self) -> list[str]:
        """All cases in the order of learning, those of the source run first."""
        before = list(self.source.card["trained_on"]) if self.source is not None else []
        return [*before, *(f"{case} ({self.mode})" if before else case for case in self.on)]


def plan_pretrain(cfg: ExperimentConfig, store: PairStore, *, seed: int | None, name: str | None) -> Plan:
    """Learn from the training days of ``train.on``, validate on its validation days."""
    model = cfg.model.model_dump()
    settings = settings_of(cfg, seed)
    recipe = {
        "mode": "pretrain",
        "model": model,
        "normalise": cfg.normalise.model_dump(exclude_none=True),
        "ridge": cfg.ridge.model_dump() if model["backbone"] == "ridge" else None,
        "settings": settings_facts(settings),
        **cfg.loss.recipe(),
        **({"augment": cfg.train.augment.model_dump()} if augments(cfg) else {}),
        **pairs_facts(store, cfg.train.on),
    }
    train, validation = (split_portions(store, cfg.train.on, split) for split in ("train", "validation"))
    path = _path(cfg, name, f"{model['name']}-{tag(cfg.train.on)}{_seed_tag(cfg, seed)}")
    return Plan(path, "pretrain", model_spec(cfg, store, model), train, validation, settings, recipe)


def plan_adaptation(
    cfg: ExperimentConfig, store: PairStore, source: Run, *, mode: str, shots: int | None, seed: int | None, name: str | None, draw: int = 0
) -> Plan:
    """Go on from a run, on all training days of other pairs (finetune) or on a few whole years of them (few-shot; see choose_years)."""
    section = _section(cfg, mode)
    settings = settings_of(cfg, seed, section)
    _check_source(cfg, store, source)
    train = split_portions(store, section.on, "train")
    recipe = {
        "mode": mode,
        "source_run": {"name": source.path.name, "weights_sha256": source.card["weights_sha256"]},
        "settings": settings_facts(settings),
        **cfg.loss.recipe(),
        **({"method": section.method} if section.method != "full" else {}),
        **({"replay": section.replay} if section.replay else {}),
        **pairs_facts(store, section.on),
    }
    require_method(source.emulator, section.method, name=source.path.name)
    suffix = ""
    if isinstance(section, FewShotConfig):
        wanted = shots or section.shots
        recipe["years"], train, validation = few_years(train, wanted, cfg.split.year_starts, draw)
        suffix = f"-{wanted}y"
    else:
        validation = split_portions(store, section.on, "validation")
    holes = Holes.of(source.spec)
    if section.replay:
        train = with_replay(store, source, train, share=section.replay, seed=settings.seed)
        recipe["replayed"] = {one.name: one.group.attributes["digest"] for one in train if one.name not in section.on}
    train, validation = (whole_portions(portions, holes, policy=cfg.missing.nan_days) for portions in (train, validation))
    how = ("" if section.method == "full" else f"-{section.method}") + ("-replay" if section.replay else "")
    path = _path(cfg, name, f"{source.path.name}-{mode}-{tag(section.on)}{suffix}{how}{_seed_tag(cfg, seed)}")
    return Plan(path, mode, source.spec, train, validation, settings, recipe, source, section.method)


def settings_facts(settings: Settings) -> dict[str, Any]:
    """Settings as a recipe says them: those that every run has, and others where they differ from their default."""
    defaults, facts = asdict(Settings()), asdict(settings)
    return {key: value for key, value in facts.items() if key in _ALWAYS or value != defaults[key]}


def augments(cfg: ExperimentConfig) -> bool:
    """Whether pretraining changes its predictors."""
    return any(cfg.train.augment.model_dump().values())


def pairs_facts(store: PairStore, on: Sequence[str]) -> dict[str, Any]:
    """The part of a recipe that says which pairs: cases, their digests, the split, the grids."""
    return {
        "on": list(on),
        "pairs": {case: store.group(case.partition("/")[0]).attributes["digest"] for case in on},
        "split": store.split_digest,
        "grids": {"coarse": store.coarse.digest, "fine": store.fine.digest},
    }


def models_behind(cfg: ExperimentConfig, store: PairStore, on: Sequence[str], source: Run | None = None) -> list[str]:
    """Names of the models whose fields are emulated: of the pairs, by their files and facets, and of the run that is gone on from."""
    names = {case.partition("/")[0] for case in on}
    found = {str(model) for name in names for model in store.group(name).attributes.get("models", ())}
    found |= {cfg.sources[name].facets.get("source_id", "") for name in names if name in cfg.sources}
    return sorted((found | set(source.card.get("emulates", ()) if source else ())) - {""})


def tag(on: Sequence[str]) -> str:
    """Cases as a part of a run's name: ``RCM_A-perfect``, joined with underscores."""
    return "_".join(case.replace("/", "-") for case in on)


def few_years(
    portions: list[Portion], shots: int, year_starts: int, draw: int = 0
) -> tuple[dict[str, list[int]], list[Portion], list[Portion]]:
    """Years of each pair, and their days: to learn from and held back."""
    chosen: dict[str, list[int]] = {}
    train, validation = [], []
    for portion in portions:
        chosen[portion.name] = choose_years(portion.days, shots, year_starts, draw=draw)
        _say_years(portion.name, tuple(chosen[portion.name]))
        learn, held_back = shot_index(portion.group.days, portion.index, chosen[portion.name], year_starts)
        train.append(Portion(portion.group, portion.kind, learn))
        validation.append(Portion(portion.group, portion.kind, held_back))
    return chosen, train, validation


@functools.cache
def _say_years(case: str, years: tuple[int, ...]) -> None:
    """Once a process: a grid plans the same years many times."""
    log.info("few-shot: %s of %s", ", ".join(map(str, years)), case)


def _section(cfg: ExperimentConfig, mode: str) -> FineTuneConfig:
    key = {"finetune": "finetune", "few-shot": "few_shot"}[mode]
    section: FineTuneConfig | None = getattr(cfg, key)
    if section is None:
        raise ConfigError(f"--mode {mode} needs the section '{key}' in the config", hint=f"add {key}: {{on: [NAME/imperfect]}}")
    return section


def settings_of(cfg: ExperimentConfig, seed: int | None, section: FineTuneConfig | None = None) -> Settings:
    """Numbers of train, replaced by those of the section. L2-SP takes the place of weight decay: one pulls to the start, the other to 0."""
    known = {field.name for field in fields(Settings)}
    values: Mapping[str, Any] = cfg.train.model_dump(include=known) | {
        "loss": cfg.loss.name,
        "balance": cfg.loss.balance,
        "refit": cfg.split.refit and not isinstance(section, FewShotConfig),
    }
    if section is not None:
        values = {**values, "epochs": section.epochs, "learning_rate": section.learning_rate, "l2_sp": section.l2_sp}
        if section.method == "calibration":
            values = {**values, "epochs": 0, "l2_sp": 0.0}
        if section.l2_sp:
            values["weight_decay"] = 0.0
    return Settings(**{**values, **({} if seed is None else {"seed": seed})})


def _check_source(cfg: ExperimentConfig, store: PairStore, source: Run) -> None:
    if source.card["role"] != "emulator":
        raise ConfigError(f"'{source.path.name}' is a baseline: it cannot be trained on", hint="give a network's run with --from")
    source.check_inputs(store.channels, store.coarse, store.scalars)
    findings = same_weights_space(source.spec, model_spec(cfg, store, source.spec["model"]))
    findings += loss_misfits(cfg.loss, source.spec)
    if source.fine.digest != store.fine.digest:
        findings.append(f"fine grid: {source.fine.summary} -> {store.fine.summary}")
    if findings:
        raise InputDataError(
            "the run was trained for other pairs than these",
            where=str(source.path),
            hint="pretrain on pairs of the same grids, channels and targets; run -> pairs:",
            findings=findings,
        )


def _path(cfg: ExperimentConfig, name: str | None, default: str) -> Path:
    if name is not None and not _NAME.fullmatch(name):
        raise ConfigError(f"'{name}' cannot be a run's name", hint="use letters, digits, dot, dash and underscore")
    return cfg.workspace_path() / "runs" / (name or default)


def _seed_tag(cfg: ExperimentConfig, seed: int | None) -> str:
    return "" if seed in (None, cfg.train.seed) else f"-seed{seed}"
