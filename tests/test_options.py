"""Every option of the config changes an outcome: none is accepted and ignored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

import pytest
from option_world import Bench, make_world
from pydantic import BaseModel

from downscale.config.schema import ExperimentConfig

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Case:
    """Two configs that differ in one option, and the stage whose outcome must differ."""

    stage: str
    before: tuple[str, ...]
    after: tuple[str, ...]


def change(stage: str, after: str, before: str = "", *, both: tuple[str, ...] = ()) -> Case:
    return Case(stage, (*both, *([before] if before else [])), (*both, after))


def files(name: str, role: str = "gcm") -> str:
    return f"sources.{'G' if role == 'gcm' else 'R'}.files=[{role}/{name}/*.nc]"


IMPERFECT = "train.on=[R/imperfect]"
ALL_MONTHS = (
    "split.train=[2001-01-01/2001-05-20, 2001-06-10/2001-06-30]",
    "split.validation=[2001-05-24/2001-05-28]",
    "split.test=[2001-06-01/2001-06-05]",
)
"""Training days in every month of the files."""
_DRIVER = "driving_source_id: G, driving_institution_id: I, driving_experiment_id: historical, driving_variant_label: r1i1p1f1"
DRIVEN = (f"sources.G.facets={{{_DRIVER}}}", f"sources.R.facets={{{_DRIVER.replace('r1i', 'r2i')}}}", "apply.days=test")
NAMED = "apply.facets={domain_id: EUR-12, institution_id: J, institution: J, contact: c"
"""Facets that profile cordex asks for, but source_id."""
DROPOUT = ("apply.members={of: dropout, number: 2}", "model.dropout=0.3", "apply.days=test")
BOX = "evaluate.regions={{part: {{lon: [{}], lat: [40, 46]}}}}"
MASK = "evaluate.regions={{part: {{mask: {}, variable: {}}}}}"
WINTER = (
    "split.test=[2001-01-01/2001-02-10, 2001-06-01/2001-06-30]",
    "split.train=[2001-03-01/2001-04-30]",
    "split.validation=[2001-05-10/2001-05-20]",
    "apply.days=test",
)
REGIMES = ("evaluate.regimes.channel=ta850", "apply.days=test")
CASES = {
    "workspace": change("where", "workspace=elsewhere", "workspace=somewhere"),
    "sources.role": change("pairs", "sources.R.role=observations", both=(IMPERFECT, "static=[]")),
    "sources.files": change("pairs", files("two"), "sources.G.files=[gcm/base/tas.nc]"),
    "sources.select": change(
        "pairs",
        "sources.G.select={experiment_id: ssp585}",
        both=(files("scenario"), "sources.G.drives=null", "finetune=null", "few_shot=null"),
    ),
    "sources.drives": change("pairs", "sources.G.drives=null", both=("finetune=null", "few_shot=null")),
    "sources.variables": change("pairs", "sources.G.variables={tas: tas_corrected}", both=(files("two"),)),
    "sources.assume_units": change("pairs", "sources.R.assume_units={pr: cm/day}"),
    "sources.fill_values": change("pairs", "sources.G.fill_values=[222.0]", both=(files("sentinel"), "missing.nan_days=drop")),
    "sources.member": change("pairs", "sources.G.member=1", "sources.G.member=0", both=(files("members"),)),
    "sources.aggregate": change("pairs", "sources.G.aggregate=mean", both=(files("hourly"),)),
    "sources.winds": change(
        "pairs",
        "sources.R.winds=grid",
        both=(files("winds"), files("winds", "rcm"), "predictors=[{name: uas}, {name: vas}]", "static=[]"),
    ),
    "sources.facets": change("apply", "sources.G.facets={source_id: G2}", both=("apply.days=test",)),
    "predictors.name": change("pairs", "predictors.0.name=tasmax"),
    "predictors.levels": change("pairs", "predictors.1.levels=[700]"),
    "targets.name": change("pairs", "targets.0.name=tas"),
    "static": change("pairs", "static=[orog, sftlf]"),
    "forcings.file": change("pairs", "forcings.file=other.csv"),
    "forcings.columns": change("pairs", "forcings.columns=[CO2, sun]"),
    "domain.relaxation_cells": change("pairs", "domain.relaxation_cells=3"),
    "domain.coarse_box": change("pairs", "domain.coarse_box=[0, 6, 40, 44]"),
    "domain.fine_box": change("pairs", "domain.fine_box=[4, 12, 4, 12]"),
    "upscale.to": change("pairs", "upscale.to={coarsen: 2}"),
    "upscale.to.grid_file": change("pairs", "upscale.to={grid_file: rcm/base/tas.nc}", "upscale.to={grid_file: gcm/base/tas.nc}"),
    "upscale.to.coarsen": change(
        "pairs", "upscale.to={coarsen: 5}", "upscale.to={coarsen: 4}", both=("sources.G.drives=null", "finetune=null", "few_shot=null")
    ),
    "upscale.to.resolution": change("pairs", "upscale.to={resolution: 2.0}", "upscale.to={resolution: 1.0}"),
    "upscale.to.domain": change(
        "pairs",
        "upscale.to={domain: EUR-50i}",
        "upscale.to={domain: EUR-25}",
        both=("sources.G.drives=null", "finetune=null", "few_shot=null"),
    ),
    "upscale.engine": Case("pairs", (), ("upscale.engine=file", "upscale.weights_file=weights.nc")),
    "upscale.edges": change("pairs", "upscale.edges=parallels", both=("upscale.engine=builtin",)),
    "upscale.weights_file": Case(
        "pairs",
        ("upscale.engine=file", "upscale.weights_file=weights.nc"),
        ("upscale.engine=file", "upscale.weights_file=other_weights.nc"),
    ),
    "upscale.smooth": change("pairs", "upscale.smooth=3"),
    "upscale.min_valid_fraction": change("pairs", "upscale.min_valid_fraction=0.1", both=(files("holes", "rcm"),)),
    "hpc.scratch": change("near", "hpc.scratch=near", both=("train.stream=always", IMPERFECT)),
    "missing.gaps": change("pairs", "missing.gaps=skip", both=(files("gap"),)),
    "missing.nan_days": change("pairs", "missing.nan_days=drop", both=(files("nan"),)),
    "missing.below_ground": change("pairs", "missing.below_ground=mask", both=(files("ground"),)),
    "missing.constant_channels": change("train", "missing.constant_channels=drop", both=(files("constant"), IMPERFECT)),
    "missing.day_shift_hours": change("pairs", "missing.day_shift_hours=3", both=(files("shifted"),)),
    "split.train": change("pairs", "split.train=[2001-01-01/2001-02-28]"),
    "split.validation": change("pairs", "split.validation=[2001-04-01/2001-04-20]"),
    "split.test": change("pairs", "split.test=[2001-06-01/2001-06-30]"),
    "split.year_starts": change("pairs", "split.year_starts=5", both=("split.test=[2002]",)),
    "split.gap_days": change("pairs", "split.gap_days=20"),
    "split.refit": change("train", "split.refit=true", both=("model.backbone=ridge",)),
    "model.name": change("train", "model.name=unet_doury"),
    "model.width": change("train", "model.width=4"),
    "model.backbone": change("train", "model.backbone=ridge"),
    "model.static": change("train", "model.static=false"),
    "model.days_before": change("train", "model.days_before=1"),
    "model.days_after": change("train", "model.days_after=1"),
    "model.dropout": change("train", "model.dropout=0.5"),
    "model.size": change("train", "model={name: resunet, size: small}", both=("train.epochs=1",)),
    "model.attention": change(
        "train", "model={name: resunet, size: small, attention: true}", "model={name: resunet, size: small}", both=("train.epochs=1",)
    ),
    "model.filters": Case("train", ("model={name: deepesd}",), ("model={name: deepesd, filters: 2}",)),
    "model.numbers": Case("train", ("model={name: deepesd}",), ("model={name: deepesd, numbers: true}",)),
    "model.land_only": Case(
        "train", ("model={name: deepesd}", "static=[sftlf]"), ("model={name: deepesd, land_only: true}", "static=[sftlf]")
    ),
    "model.activation_1d": change("train", "model.activation_1d=relu", both=("model.name=unet_doury",)),
    "model.final_relu": change("train", "model.final_relu=true", both=("model.name=unet_doury", "normalise.targets={pr: none}")),
    "model.padding": change("train", "model.padding=replicate", both=("model.name=unet_doury",)),
    "kernel_ridge.components": change("train", "kernel_ridge.components=[3]", both=("train.baselines=[kernel_ridge]",)),
    "kernel_ridge.alphas": change("train", "kernel_ridge.alphas=[7.0]", both=("train.baselines=[kernel_ridge]",)),
    "kernel_ridge.gammas": change("train", "kernel_ridge.gammas=[0.7]", both=("train.baselines=[kernel_ridge]",)),
    "ridge.alphas": change("train", "ridge.alphas=[1000.0]", both=("train.baselines=[ridge]",)),
    "normalise.predictors": change("train", "normalise.predictors=channel"),
    "normalise.detrend": change("train", "normalise.detrend=CO2"),
    "normalise.targets": change("train", "normalise.targets={pr: sqrt}"),
    "loss.name": change("train", "loss.name=mae"),
    "loss.balance": change("train", "loss.balance=none"),
    "loss.targets": change("train", "loss.targets={pr: bernoulli_gamma}"),
    "loss.land_only": change("train", "loss.land_only=true", both=("static=[orog, sftlf]",)),
    "loss.coarse": change("train", "loss.coarse=0.5"),
    "loss.huber_delta": change("train", "loss.huber_delta=0.1", both=("loss.name=huber",)),
    "loss.asymmetry": change("train", "loss.asymmetry=5.0", both=("loss.targets={pr: asymmetric_gamma}",)),
    "loss.asymmetry_power": change("train", "loss.asymmetry_power=0.5", both=("loss.targets={pr: asymmetric_gamma}",)),
    "loss.wet_threshold": change("train", "loss.wet_threshold=3.0", both=("loss.targets={pr: bernoulli_gamma}",)),
    "loss.members": change("train", "loss.members=3", both=("loss.name=afcrps",)),
    "loss.noise": change("train", "loss.noise=4", both=("loss.name=afcrps",)),
    "train.on": change("train", IMPERFECT),
    "train.epochs": change("train", "train.epochs=2"),
    "train.batch_size": change("train", "train.batch_size=32"),
    "train.preset": change("train", "train.preset=doury", both=("train.epochs=1", "train.learning_rate=1e-3")),
    "train.optimiser": change("train", "train.optimiser=adam", both=("train.weight_decay=0.5",)),
    "train.accumulate": change("train", "train.accumulate=4"),
    "train.precision": change("train", "train.precision=bf16", "train.precision=float32"),
    "train.compile": change("compiled", "train.compile=true", "train.compile=false"),
    "train.learning_rate": change("train", "train.learning_rate=1e-2"),
    "train.weight_decay": change("train", "train.weight_decay=0.5"),
    "train.schedule": change("train", "train.schedule=plateau"),
    "train.warmup_epochs": change("train", "train.warmup_epochs=0.0"),
    "train.patience": change("train", "train.patience=1", both=("train.epochs=4", "train.learning_rate=0.1", "train.warmup_epochs=0.0")),
    "train.ema": change("train", "train.ema=0.9"),
    "train.clip": change("train", "train.clip=0.001"),
    "train.seed": change("train", "train.seed=1"),
    "train.seeds": change("seeds", "train.seeds=[0, 1]", "train.seeds=[]"),
    "train.margin_seconds": change("hurried", "train.margin_seconds=600", "train.margin_seconds=0"),
    "train.weights": change("train", "train.weights={R/imperfect: 2.0}", both=("train.on=[R/perfect, R/imperfect]",)),
    "train.stream": change("reading", "train.stream=always"),
    "train.buffer_days": change("train", "train.buffer_days=20"),
    "train.baselines": change("train", "train.baselines=[climatology]"),
    **{f"train.augment.{name}": change("train", f"train.augment.{name}=0.5") for name in ("smoothing", "bias", "noise", "dropout")},
    **{f"{name}.method": change(name, f"{name}.method=head") for name in ("finetune", "few_shot")},
    **{f"{name}.replay": change(name, f"{name}.replay=0.5") for name in ("finetune", "few_shot")},
    "finetune.on": change("finetune", "finetune.on=[R/perfect]"),
    "finetune.epochs": change("finetune", "finetune.epochs=2"),
    "finetune.learning_rate": change("finetune", "finetune.learning_rate=1e-2"),
    "finetune.l2_sp": change("finetune", "finetune.l2_sp=10.0", both=("finetune.epochs=2",)),
    "few_shot.on": change("few_shot", "few_shot.on=[R/perfect]"),
    "few_shot.epochs": change("few_shot", "few_shot.epochs=2"),
    "few_shot.learning_rate": change("few_shot", "few_shot.learning_rate=1e-2"),
    "few_shot.l2_sp": change("few_shot", "few_shot.l2_sp=10.0", both=("few_shot.epochs=2",)),
    "few_shot.shots": change("few_shot", "few_shot.shots=2"),
    "apply.days": change("apply", "apply.days=test"),
    "apply.block_days": change("apply", "apply.block_days=20"),
    "apply.compression": change("apply", "apply.compression=0"),
    "apply.years_per_file": change("apply", "apply.years_per_file=1", both=("apply.days=test",)),
    "apply.profile": change("apply", "apply.profile=zarr", both=("apply.days=test",)),
    "apply.facets": change("apply", NAMED + ", source_id: A}", NAMED + ", source_id: B}", both=("apply.profile=cordex", *DRIVEN)),
    "apply.significant_bits": change("apply", "apply.significant_bits=6", both=("apply.days=test",)),
    "apply.hash_inputs": change("listed", "apply.hash_inputs=true", both=("apply.profile=cordex", NAMED + ", source_id: A}", *DRIVEN)),
    "apply.align": change("apply", "apply.align=gcm_align", "apply.align=mean", both=("apply.align_window=[2001, 2001]", *ALL_MONTHS)),
    "apply.align_to": change(
        "apply",
        "apply.align_to=own",
        both=(
            "apply.align=mean",
            "apply.align_window=[2001, 2001]",
            *ALL_MONTHS,
            "sources.G.drives=null",
            "finetune=null",
            "few_shot=null",
        ),
    ),
    "apply.align_window": change(
        "apply", "apply.align_window=[2001, 2001]", "apply.align_window=[2000, 2000]", both=("apply.align=mean", *ALL_MONTHS)
    ),
    "apply.ood.threshold_share": change(
        "apply", "apply.ood.threshold_share=0.0", "apply.ood.threshold_share=1.0", both=("apply.ood.on_exceed=fail",)
    ),
    "apply.ood.on_exceed": change("apply", "apply.ood.on_exceed=fail", both=("apply.ood.threshold_share=0.0",)),
    "apply.members.of": change(
        "apply",
        "apply.members={of: dropout}",
        "apply.members={of: seeds}",
        both=("train.seeds=[0, 1]", "model.dropout=0.3", "apply.days=test"),
    ),
    "apply.members.number": change(
        "apply",
        "apply.members={of: dropout, number: 3}",
        "apply.members={of: dropout, number: 2}",
        both=("model.dropout=0.3", "apply.days=test"),
    ),
    "apply.members.write": change(
        "apply",
        "apply.members={of: dropout, number: 2, write: mean_and_spread}",
        "apply.members={of: dropout, number: 2}",
        both=("model.dropout=0.3", "apply.days=test"),
    ),
    "evaluate.region": change("evaluate", "evaluate.region=land", both=("static=[orog, sftlf]", "apply.days=test")),
    "evaluate.regions.lon": change("evaluate", BOX.format("0, 6"), BOX.format("0, 5"), both=("apply.days=test",)),
    "evaluate.regions.lat": change("evaluate", BOX.format("0, 5").replace("46", "44"), BOX.format("0, 5"), both=("apply.days=test",)),
    "evaluate.regions.mask": change(
        "evaluate", MASK.format("rcm/base/sftlf.nc", "sftlf"), MASK.format("rcm/base/orog.nc", "orog"), both=("apply.days=test",)
    ),
    "evaluate.regions.variable": change(
        "evaluate", MASK.format("rcm/base/sftlf.nc", "lat"), MASK.format("rcm/base/sftlf.nc", "sftlf"), both=("apply.days=test",)
    ),
    "evaluate.december": change("evaluate", "evaluate.december=next", both=WINTER),
    "evaluate.regimes.channel": change("evaluate", "evaluate.regimes.channel=ta850", both=("apply.days=test",)),
    "evaluate.regimes.number": change("evaluate", "evaluate.regimes.number=3", "evaluate.regimes.number=4", both=REGIMES),
    "evaluate.regimes.anomalies": change("evaluate", "evaluate.regimes.anomalies=training", both=REGIMES),
    "evaluate.wet_day_mm": change("evaluate", "evaluate.wet_day_mm=3.0", both=("apply.days=test",)),
    "evaluate.fss.thresholds": change("evaluate", "evaluate.fss.thresholds=[2.0]", both=("apply.days=test",)),
    "evaluate.fss.cells": change("evaluate", "evaluate.fss.cells=[1, 7]", both=("apply.days=test",)),
    "evaluate.probabilistic.thresholds": change("evaluate", "evaluate.probabilistic.thresholds=[2.0]", both=DROPOUT),
    "evaluate.probabilistic.quantiles": change("evaluate", "evaluate.probabilistic.quantiles=[0.5]", both=DROPOUT),
    "hpc.site": change("submit", "hpc.site=jean-zay-h100", both=("hpc.account=abc",)),
    "hpc.account": change("submit", "hpc.account=abc"),
    "hpc.environment.lines": change("submit", "hpc.environment.lines=[module load python]"),
    "hpc.environment.venv": change("submit", "hpc.environment.venv=venv"),
    "hpc.environment.container": change("submit", "hpc.environment.container=image.sif"),
    "hpc.environment.bind": change("submit", "hpc.environment.bind=[/data]", both=("hpc.environment.container=image.sif",)),
    **{
        f"hpc.jobs.{name}": change(
            "submit", f"hpc.jobs.train.{name}={value}", both=("hpc.jobs.train={tasks: 2}",) if name == "nodes" else ()
        )
        for name, value in {
            "time": "'10:00:00'",
            "memory": "64GB",
            "cpus": "7",
            "gpus": "1",
            "tasks": "2",
            "nodes": "2",
            "partition": "long",
            "qos": "night",
            "options": "[--exclusive]",
        }.items()
    },
    "hpc.jobs.array": change("submit", "hpc.jobs.apply.array=3"),
    "hpc.requeue": change("submit", "hpc.requeue=false"),
    "hpc.continuations": change("submit", "hpc.continuations=3"),
    "hpc.warning_seconds": change("submit", "hpc.warning_seconds=300"),
    "evaluate.return_years": change("evaluate", "evaluate.return_years=[5.0]", both=("apply.days=test",)),
    "evaluate.separability.components": change("evaluate", "evaluate.separability.components=3", both=("apply.days=test",)),
    "evaluate.separability.max_days": change("evaluate", "evaluate.separability.max_days=40", both=("apply.days=test",)),
    "evaluate.warming_bin": change("evaluate", "evaluate.warming_bin=0.25", both=("apply.days=test",)),
    "evaluate.light.rules.yellow": change(
        "evaluate",
        "evaluate.light.rules={climate: {yellow: 0.001, red: 1.0}}",
        "evaluate.light.rules={climate: null}",
        both=("apply.days=test",),
    ),
    "evaluate.light.rules.red": change(
        "evaluate",
        "evaluate.light.rules={climate: {yellow: 0.001, red: 0.002}}",
        "evaluate.light.rules={climate: {yellow: 0.001, red: 1.0}}",
        both=("apply.days=test",),
    ),
    "evaluate.light.metric": change("evaluate", "evaluate.light.metric=rmse", both=("apply.days=test",)),
    "evaluate.light.loss_yellow": change("evaluate", "evaluate.light.loss_yellow=1.1", both=("apply.days=test",)),
    "evaluate.light.loss_red": change("evaluate", "evaluate.light.loss_red=3.0", both=("apply.days=test",)),
    "evaluate.light.calibrate": change("evaluate", "evaluate.light.calibrate=false", both=("apply.days=test",)),
}


def leaves(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = models(field.annotation)
        for one in inner:
            yield from leaves(one, f"{prefix}{name}.")
        if not inner or name == "to":
            yield prefix + name


def models(annotation) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [one for argument in get_args(annotation) for one in models(argument)]


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Bench:
    folder = tmp_path_factory.mktemp("options")
    return Bench(make_world(folder / "world"), folder / "out")


def test_every_option_is_here():
    assert set(CASES) == set(leaves(ExperimentConfig))


MORE = {
    "sources.aggregate: cell_methods": change(
        "pairs", "sources.R.aggregate=cell_methods", "sources.R.aggregate=mean", both=(files("hourly", "rcm"),)
    ),
    "apply.align: quantile": change(
        "apply", "apply.align=quantile", "apply.align=mean", both=("apply.align_window=[2001, 2001]", *ALL_MONTHS)
    ),
    "apply.align: adabn": change(
        "apply",
        "apply.align=adabn",
        "apply.align=mean",
        both=("model={name: unet_doury, width: 4}", "apply.align_window=[2001, 2001]", *ALL_MONTHS),
    ),
    "apply.members: samples": change(
        "apply",
        "apply.members={of: samples, number: 2}",
        "apply.members={of: dropout, number: 2}",
        both=("loss={name: gaussian}", "model.dropout=0.3", "apply.days=test"),
    ),
    "normalise.predictors: monthly": change("apply", "normalise.predictors=monthly", both=("apply.days=test",)),
    "upscale.smooth: 5": change("pairs", "upscale.smooth=5", "upscale.smooth=3"),
}
"""Further values of options."""


@pytest.mark.parametrize("option", CASES | MORE)
def test_changing_it_changes_the_outcome(bench, option):
    case = (CASES | MORE)[option]
    before, after = (bench.outcome(case.stage, overrides) for overrides in (case.before, case.after))
    assert before != after, before[:300]
    assert "internal" not in before + after
    assert not (before.startswith("refused") and after.startswith("refused")), (before, after)


@pytest.mark.parametrize("stage", ["pairs", "train", "finetune", "few_shot", "apply", "evaluate"])
def test_the_same_config_gives_the_same_outcome(bench, stage):
    """Else the test above could not fail."""
    overrides = ("apply.days=test",)
    assert bench.outcome(stage, overrides) == bench.outcome(stage, overrides)
