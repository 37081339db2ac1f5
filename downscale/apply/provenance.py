"""What the files of a prediction say of their making, and predictions that may not be named as asked."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from downscale import __version__
from downscale.apply.tasks import Job
from downscale.profiles.facets import merge_facets
from downscale.profiles.output import Named, check_output, check_outputs_apart
from downscale.training.run import Run

_KINDS = {"perfect": "upscaled RCM fields (RCMu)", "imperfect": "GCM fields", "files": "given files"}
_WORDS = ("source_id", "experiment_id", "sub_experiment_id", "variant_label")


@dataclass(frozen=True)
class Predictors:
    """What an emulator reads.

    Attributes:
        name: in the config, or of the files.
        kind: perfect, imperfect or files.
        facets: what the config or the files say of their source.
        regional: the facets are those of an RCM, whose fields are upscaled.
        member: of an ensemble dimension, where there are several.
    """

    name: str
    kind: str
    facets: Mapping[str, str]
    regional: bool
    member: str | None = None

    def merged(self, own: Mapping[str, str]) -> dict[str, str]:
        """Facets of the output, see merge_facets."""
        return merge_facets(self.facets, own, regional=self.regional)

    def words(self, own: Mapping[str, str]) -> tuple[str, str]:
        """Which run that is, by its facets where they name it, and of which kind its fields are."""
        merged = self.merged(own)
        run = " ".join(text for name in _WORDS if (text := merged.get(f"driving_{name}", ""))) if merged.get("driving_source_id") else ""
        run += f" (member {self.member})" if run and self.member is not None else ""
        if not self.regional:
            return run or self.name, _KINDS[self.kind]
        rcm = self.facets.get("source_id") or self.name
        return (f"{rcm} driven by {run}" if run else rcm), _KINDS["perfect"]


def attributes_of(run: Run, predictors: Predictors, own: Mapping[str, str]) -> dict[str, str]:
    """Global attributes: which run, trained on what, has read what.

    Args:
        run: the emulator; with members the first of them.
        predictors: what it reads.
        own: apply.facets.
    """
    source, kind = predictors.words(own)
    trained = ", ".join(run.facts["trained_on"])
    seed = run.card["recipe"].get("settings", {}).get("seed")
    found: dict[str, Any] = {
        "title": f"Emulated fields: {run.path.name} applied to {source}",
        "source": f"statistical emulator of a regional climate model ({run.facts['model']}), trained on {trained}",
        "history": f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} downscale {__version__} apply: {run.path.name} to {source}",
        "comment": f"predictors: {kind} of {source}",
        "downscale_predictors": kind,
        "downscale_version": __version__,
        "downscale_model_id": run.model_id,
        "downscale_config_sha256": run.config_digest,
        "downscale_model_training": trained,
        **({} if seed is None else {"downscale_seed": str(seed)}),
    }
    return found


def check_jobs(jobs: Sequence[Job], taken: Collection[str] = ()) -> None:
    """Refuse, before anything is computed, what a layout cannot hold, and predictions that it could not tell apart.

    Args:
        jobs: all that are to be made.
        taken: names of models that no emulator may take, besides those that the runs know to have learned from.

    Raises:
        ConfigError: see check_output and check_outputs_apart.
    """
    for job in jobs:
        check_output(
            job.layout.profile,
            job.facets,
            tuple(job.run.targets),
            statistics=job.members is not None and job.members.config.write != "members",
            taken={*taken, *job.run.card.get("emulates", ())},
            days=job.feed.days,
            grid=job.run.fine,
        )
    if jobs:
        outputs = (Named(f"{job.facts['run']}/{job.folder.name}", job.facets, job.run.targets, job.feed.days) for job in jobs)
        check_outputs_apart(jobs[0].layout.profile, outputs)
