"""The benchmark from its files to a zip: pairs, both trainings, all predictions, the submission; every step goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from downscale import __version__
from downscale.apply.stage import apply_run
from downscale.config.load import load_config
from downscale.config.schema import ExperimentConfig
from downscale.errors import ConfigError, DownscaleError, OutputExistsError
from downscale.hpc.locks import folder_lock
from downscale.hpc.paths import refuse_links_inside
from downscale.mlbench.notes import each_once
from downscale.mlbench.pack import Packed, pack_file
from downscale.mlbench.plan import CONFIG, MODELS, write_experiment
from downscale.pairs.build import build_pairs
from downscale.profiles.mlbench import EXPERIMENTS, MEMBERS, Domain, PredictorFile, Training, find_domains
from downscale.profiles.mlbench_output import Template, archive, fault_of
from downscale.training.modes import train_run

log = logging.getLogger(__name__)
ProgressCallback = Callable[[int, int, str], None]
_OROGRAPHY = "-orog"
_SECONDS = "seconds.json"


@dataclass(frozen=True)
class Choices:
    """What is entered.

    Attributes:
        model: one of plan.MODELS.
        orography: whether the network gets the fine orography.
        domains, experiments: names; all when empty.
        overrides: ``a.b=c`` strings for the config of every domain.
        templates: the benchmark's folder of templates; when None, ``templates`` beside the domains, else the targets' own coordinates.
        device: "auto", "cpu" or "cuda".
    """

    model: str = "resunet"
    orography: bool = False
    domains: tuple[str, ...] = ()
    experiments: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    templates: Path | None = None
    device: str = "auto"


@dataclass
class _Entry:
    """One domain on its way into the submission."""

    domain: Domain
    folder: Path
    cfg: ExperimentConfig
    template: Template
    seconds: dict[str, float] = field(default_factory=dict)
    packed: list[Packed] = field(default_factory=list)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Note a step's seconds; a step that was done before keeps those of the time when it was done."""
        log.info("== %s: %s", self.domain.name, step)
        path, started = self.folder / _SECONDS, time.monotonic()
        yield
        known = json.loads(path.read_text()) if path.is_file() else {}
        known[step] = self.seconds[step] = max(round(time.monotonic() - started, 1), known.get(step, 0.0))
        _write_json(path, known)


def run_benchmark(
    root: Path,
    submission: Path,
    choices: Choices,
    *,
    workspace: Path | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    force_unlock: bool = False,
    progress: ProgressCallback | None = None,
) -> dict[str, Any]:
    """Train and predict everything that the benchmark asks for.

    Args:
        root: folder of the benchmark's data.
        submission: folder to be; its name is the name of the entry, and ``SUBMISSION.zip`` and ``SUBMISSION.json`` lie beside it.
        choices: what is entered.
        workspace: of the experiments, one folder a domain; ``SUBMISSION-work`` when None.
        overwrite: replace pairs, runs and predictions of another recipe.
        dry_run: read the layout and say what would be done; write nothing.
        force_unlock: take over a dead job's lock.
        progress: called with (done, total, note) by the stages.

    Returns:
        ``artefact`` (the zip), counts, seconds, and days without a prediction.

    Raises:
        ConfigError, InputDataError: unknown names, or a layout that is not the benchmark's.
        OutputExistsError: the submission's folder holds files that are none of it.
        Stopped: a signal came; the same command goes on.
    """
    if choices.model not in MODELS:
        raise ConfigError(f"there is no model '{choices.model}'", where="--model", hint=f"have {', '.join(MODELS)}")
    domains = find_domains(root, choices.domains, choices.experiments)
    work = workspace or submission.with_name(f"{submission.name}-work")
    wanted = {place(submission, domain, training, test) for domain in domains for training in domain.trainings for test in domain.tests}
    if dry_run:
        return _foreseen(domains, submission, len(wanted))
    submission.parent.mkdir(parents=True, exist_ok=True)
    with folder_lock(work, force=force_unlock):
        _refuse_foreign(submission, wanted)
        entries = [_prepare(domain, root, work, choices) for domain in domains]
        for entry in entries:
            _stages(entry, submission, choices, overwrite=overwrite, force_unlock=force_unlock, progress=progress)
        _verify(entries, submission)
        path = submission.with_name(f"{submission.name}.zip")
        archive(submission, path)
        facts = _facts(entries, choices, path)
        _write_json(submission.with_name(f"{submission.name}.json"), facts)
    return {
        "artefact": path,
        "files": len(wanted),
        "MB": round(path.stat().st_size / 1e6, 1),
        "seconds": facts["seconds"],
        "days without a prediction": _in_words(entries),
        **_advice(entries, submission, choices),
    }


def place(submission: Path, domain: Domain, training: Training, test: PredictorFile) -> Path:
    """Path of a prediction in a submission."""
    return submission / f"{domain.name}_Domain" / test.prediction(training.name)


def run_names(cfg: ExperimentConfig, experiment: str) -> list[str]:
    """Names of the runs of a training experiment, one for each seed."""
    seeds = cfg.train.seeds
    return [experiment] if len(seeds) < 2 else [f"{experiment}-seed{seed}" for seed in seeds]


def run_experiments(cfg: ExperimentConfig) -> list[str]:
    """Training experiments of a domain's config."""
    return [name for name in EXPERIMENTS if name in cfg.sources]


def prediction_folder(cfg: ExperimentConfig, experiment: str, group: str) -> Path:
    """Folder of the prediction of a training experiment's emulator for a group of pairs.

    Raises:
        ConfigError: several seeds are trained, and apply.members does not make one entry of them.
    """
    members, runs = cfg.apply.members, run_names(cfg, experiment)
    if len(runs) > 1 and (members is None or members.of != "seeds"):
        raise ConfigError("several seeds make several emulators", where="train.seeds", hint="one seed, or apply.members={of: seeds}")
    name = experiment if members is None else f"{experiment}-{members.of}"
    return cfg.workspace_path() / "predictions" / name / f"{group}_imperfect"


def _prepare(domain: Domain, root: Path, work: Path, choices: Choices) -> _Entry:
    folder = work / domain.name
    cfg = write_experiment(domain, folder, model=choices.model, orography=choices.orography, overrides=choices.overrides)
    if cfg.apply.profile != "cf":
        raise ConfigError("the entry is made from plain CF files", where=f"apply.profile: {cfg.apply.profile}", hint="leave it out")
    for training in domain.trainings:
        prediction_folder(cfg, training.name, training.name)
    return _Entry(domain, folder, cfg, Template.of(domain.trainings[0].target, domain.name, _templates(root, choices, domain)))


def _templates(root: Path, choices: Choices, domain: Domain) -> Path | None:
    beside = root / "templates"
    return choices.templates or (beside if (beside / f"pr_{domain.name}.nc").is_file() else None)


def _stages(
    entry: _Entry, submission: Path, choices: Choices, *, overwrite: bool, force_unlock: bool, progress: ProgressCallback | None
) -> None:
    """Pairs, trainings, predictions and files of one domain."""
    domain, device = entry.domain, choices.device
    options: dict[str, Any] = {"overwrite": overwrite, "force_unlock": force_unlock, "progress": progress}
    with entry.timed("prepare"), each_once():
        build_pairs(entry.cfg, **options)
    for training in domain.trainings:
        own = load_config(entry.folder / CONFIG, [f"train.on=[{training.name}/imperfect]"])
        sources = [training.driver, *(test.source for test in domain.tests)]
        with entry.timed(f"train {training.name}"):
            train_run(own, name=training.name, device=device, **options)
        with entry.timed(f"apply {training.name}"):
            apply_run(entry.cfg, runs=run_names(own, training.name), sources=sources, device=device, **options)
        with entry.timed(f"pack {training.name}"):
            _pack(entry, submission, training)


def _pack(entry: _Entry, submission: Path, training: Training) -> None:
    for test in entry.domain.tests:
        folder = prediction_folder(entry.cfg, training.name, test.source)
        attributes = {
            "title": f"{submission.name}: {entry.domain.name}, {training.name}, {test.window}, {test.condition} predictors of {test.gcm}",
            "source": f"downscale {__version__}, {entry.cfg.model.name} trained on {training.target.name}",
            "comment": "Emulated fields on the time axis of the predictors; days with missing predictors are NaN.",
        }
        entry.packed.append(pack_file(place(submission, entry.domain, training, test), test, folder, entry.template, attributes))


def _verify(entries: Sequence[_Entry], submission: Path) -> None:
    """Open every file again before the zip is made; DownscaleError with all faults."""
    faults = []
    for entry in entries:
        members = {packed.path: packed.members for packed in entry.packed}
        for training in entry.domain.trainings:
            for test in entry.domain.tests:
                path = place(submission, entry.domain, training, test)
                if fault := fault_of(path, entry.template, test.path, members[path]):
                    faults.append(f"{path.relative_to(submission)}: {fault}")
    if faults:
        raise DownscaleError(f"{len(faults)} prediction files are not as they should be", where=str(submission),
                             hint="delete them and run the same command again", findings=faults)  # fmt: skip


def _write_json(path: Path, facts: dict[str, Any]) -> None:
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(facts, indent=2) + "\n")
    partial.replace(path)


def _refuse_foreign(submission: Path, wanted: set[Path]) -> None:
    """OutputExistsError where the folder holds links, or files that this submission will not have: they would go into the zip."""
    refuse_links_inside(submission)
    foreign = sorted(path for path in submission.rglob("*.nc") if path not in wanted)
    if foreign:
        raise OutputExistsError(
            f"the submission's folder holds {len(foreign)} files of another choice of domains or experiments", where=str(foreign[0]),
            hint="give the same choice, or another --out",
        )  # fmt: skip


def _foreseen(domains: Sequence[Domain], submission: Path, files: int) -> dict[str, Any]:
    lines = [
        f"{domain.name}: {', '.join(training.name for training in domain.trainings)}; {len(domain.tests)} test files" for domain in domains
    ]
    return {"artefact": None, "would write": f"{files} prediction files to {submission}", "domains": lines}


def _facts(entries: Sequence[_Entry], choices: Choices, path: Path) -> dict[str, Any]:
    """What the registration of an entry asks for."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while part := stream.read(1 << 20):
            digest.update(part)
    seconds: dict[str, float] = {}
    for entry in entries:
        for step, value in entry.seconds.items():
            seconds[step.split()[0]] = round(seconds.get(step.split()[0], 0.0) + value, 1)
    return {
        "model": choices.model,
        "orography": choices.orography,
        "set": list(choices.overrides),
        "downscale_version": __version__,
        "machine": f"{platform.machine()}, {platform.system()}, device {choices.device}",
        "seconds": seconds,
        "zip": path.name,
        "sha256": digest.hexdigest(),
        "domains": {
            entry.domain.name: {
                "seconds": entry.seconds,
                "files": {
                    str(packed.path.relative_to(path.with_suffix(""))): {"days": packed.days, "days_without_prediction": packed.missing}
                    for packed in entry.packed
                },
            }
            for entry in entries
        },
    }


def _in_words(entries: Sequence[_Entry]) -> str:
    total = sum(len(packed.missing) for entry in entries for packed in entry.packed)
    files = sum(bool(packed.missing) for entry in entries for packed in entry.packed)
    return f"{total} in {files} files, listed in the JSON file" if total else "none"


def _advice(entries: Sequence[_Entry], submission: Path, choices: Choices) -> dict[str, str]:
    """What the benchmark would ask for and this entry has not."""
    said = []
    if choices.orography and not submission.name.endswith(_OROGRAPHY):
        said.append(f"an entry with orography is named NAME{_OROGRAPHY}")
    members = {packed.members for entry in entries for packed in entry.packed} - {0, MEMBERS}
    if members:
        said.append(f"a generative entry has {MEMBERS} members, this one {max(members)}")
    return {"note": "; ".join(said)} if said else {}
