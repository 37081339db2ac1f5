"""The benchmark from its files to a zip: pairs, both trainings, all predictions, the submission; every step goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from downscale import __version__
from downscale.apply.stage import apply_run
from downscale.config.load import load_config
from downscale.config.schema import ExperimentConfig
from downscale.errors import ConfigError, DownscaleError, OutputExistsError
from downscale.hpc.locks import folder_lock
from downscale.hpc.paths import refuse_links_inside
from downscale.mlbench.entry import Choices, Entry, advice, days_without, registration, write_json
from downscale.mlbench.notes import each_once
from downscale.mlbench.pack import pack_file
from downscale.mlbench.plan import CONFIG, MODELS, plan_experiment
from downscale.pairs.build import build_pairs
from downscale.profiles.mlbench import EXPERIMENTS, Domain, PredictorFile, Training, find_domains
from downscale.profiles.mlbench_output import Template, archive, fault_of
from downscale.training.modes import train_run

ProgressCallback = Callable[[int, int, str], None]


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
            with entry.with_config():
                _stages(entry, submission, choices, overwrite=overwrite, force_unlock=force_unlock, progress=progress)
        _verify(entries, submission)
        path = submission.with_name(f"{submission.name}.zip")
        archive(submission, path)
        facts = registration(entries, choices, path)
        write_json(submission.with_name(f"{submission.name}.json"), facts)
    return {
        "artefact": path,
        "files": len(wanted),
        "MB": round(path.stat().st_size / 1e6, 1),
        "seconds": facts["seconds"],
        "days without a prediction": days_without(entries),
        **advice(entries, submission, choices),
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


def _prepare(domain: Domain, root: Path, work: Path, choices: Choices) -> Entry:
    folder = work / domain.name
    cfg = plan_experiment(domain, folder, model=choices.model, orography=choices.orography, overrides=choices.overrides)
    if cfg.apply.profile != "cf":
        raise ConfigError("the entry is made from plain CF files", where=f"apply.profile: {cfg.apply.profile}", hint="leave it out")
    for training in domain.trainings:
        prediction_folder(cfg, training.name, training.name)
    template = Template.of(domain.trainings[0].target, domain.name, _templates(root, choices, domain))
    return Entry(domain, folder, cfg, template)


def _templates(root: Path, choices: Choices, domain: Domain) -> Path | None:
    beside = root / "templates"
    return choices.templates or (beside if (beside / f"pr_{domain.name}.nc").is_file() else None)


def _stages(
    entry: Entry, submission: Path, choices: Choices, *, overwrite: bool, force_unlock: bool, progress: ProgressCallback | None
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


def _pack(entry: Entry, submission: Path, training: Training) -> None:
    for test in entry.domain.tests:
        folder = prediction_folder(entry.cfg, training.name, test.source)
        attributes = {
            "title": f"{submission.name}: {entry.domain.name}, {training.name}, {test.window}, {test.condition} predictors of {test.gcm}",
            "source": f"downscale {__version__}, {entry.cfg.model.name} trained on {training.target.name}",
            "comment": "Emulated fields on the time axis of the predictors; days with missing predictors are NaN.",
        }
        entry.packed.append(pack_file(place(submission, entry.domain, training, test), test, folder, entry.template, attributes))


def _verify(entries: Sequence[Entry], submission: Path) -> None:
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
