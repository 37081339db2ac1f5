"""Config sections of the training loop and of going on from a run: train, finetune, few_shot."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from downscale.config.inputs import Strict

Method = Literal["full", "head", "film_norm", "input_adapter", "calibration"]
"""Ways to adapt a run to other pairs."""


class AugmentConfig(Strict):
    """Departures like those of a GCM, drawn anew for each day and predictor of a training batch. Every one is off at 0."""

    smoothing: float = Field(
        0.0, ge=0, le=1, description="mix each map with its 3 x 3 mean, by a share between 0 and this (uniform): a GCM that resolves less"
    )
    bias: float = Field(
        0.0, ge=0, description="add a constant to each map: normal, this many of the predictor's standard deviations in time"
    )
    noise: float = Field(
        0.0, ge=0, description="add a red-noise map (amplitude falls as wavenumber^-1.5): this many of the predictor's standard deviations"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="put a predictor's training mean in place of its map, with this probability")


PRESETS: dict[str, dict[str, Any]] = {
    "doury": {"optimiser": "adam", "learning_rate": 5e-3, "weight_decay": 0.0, "batch_size": 32, "epochs": 100, "patience": 15,
              "schedule": "plateau", "clip": 0.0},
}  # fmt: skip
"""Training as in the authors' code of Doury et al. (2022, https://doi.org/10.1007/s00382-022-06343-9), whose mean squared error is
``loss: {name: mse, balance: none}``."""


class TrainConfig(Strict):
    """The training loop; finetune and few_shot start from these values."""

    on: list[str] = Field(
        min_length=1,
        description="pairs to learn from: NAME/perfect (RCMu -> RCM) or NAME/imperfect (GCM -> RCM, reanalysis -> observations)",
    )
    epochs: int = Field(60, ge=1, description="at most this many passes over the training days")
    batch_size: int = Field(64, ge=1, description="days a step")
    preset: Literal["none", "doury"] = Field(
        "none",
        description="doury: what is not given is as in Doury et al. (2022): adam, learning_rate 5e-3, weight_decay 0, batch_size 32, "
        "epochs 100, patience 15, schedule plateau, clip 0",
    )
    optimiser: Literal["adamw", "adam"] = Field("adamw", description="adam: weight_decay is added to the gradient (L2)")
    accumulate: int = Field(
        1, ge=1, description="go through a batch in this many parts, one after the other, which takes less memory; the step stays one"
    )
    precision: Literal["auto", "float32", "bf16"] = Field(
        "auto", description="of the network's products and convolutions; auto: bf16 on GPUs that have it, float32 elsewhere"
    )
    compile: bool = Field(False, description="torch.compile the network: a slow start, then faster steps; needs a C++ compiler or Triton")
    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate")
    weight_decay: float = Field(1e-4, ge=0, description="weight decay")
    schedule: Literal["cosine", "plateau"] = Field(
        "cosine", description="cosine with warm-up, or x 0.7 after 4 epochs without progress (Doury et al.)"
    )
    warmup_epochs: float = Field(1.0, ge=0, description="linear warm-up, in epochs (cosine only)")
    patience: int = Field(15, ge=1, description="stop after this many epochs without a better validation loss")
    ema: float = Field(0.0, ge=0, lt=1, description="decay of an exponential moving average of the weights; 0: off")
    clip: float = Field(1.0, ge=0, description="largest gradient norm; 0: any")
    seed: int = Field(0, ge=0, description="seed of weights, shuffling and dropout")
    seeds: list[Annotated[int, Field(ge=0)]] = Field([], description="train a run for each of these seeds, one after the other, instead")
    margin_seconds: float = Field(
        60.0, ge=0, description="save and stop (exit code 75) this long before SLURM ends the job, and as much earlier as a step takes"
    )
    augment: AugmentConfig = Field(AugmentConfig(), description="simulated GCM-like departures of the predictors while pretraining")
    weights: dict[str, Annotated[float, Field(gt=0, le=1000)]] = Field(
        {},
        description="pretraining: how often an epoch sees each day of a pair of train.on; 1 unless given, 0.5: a random half of its days",
    )
    stream: Literal["auto", "never", "always"] = Field(
        "auto", description="read the days from disk as they are needed; auto: where they do not fit into memory"
    )
    buffer_days: int | None = Field(
        None, ge=2, description="mix this many days at a time, shard by shard; default all, or 4096 where they do not fit into memory"
    )
    baselines: list[Literal["bilinear", "climatology", "ridge", "kernel_ridge"]] = Field(
        ["bilinear", "climatology", "ridge"], description="fitted on the same pairs, applied beside"
    )

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, values: Any) -> Any:
        return {**PRESETS["doury"], **values} if isinstance(values, dict) and values.get("preset") == "doury" else values

    @model_validator(mode="after")
    def _seeds_once_each(self) -> TrainConfig:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: {self.seeds} has a seed twice: give each once")
        return self

    @model_validator(mode="after")
    def _weights_of_pairs_there_are(self) -> TrainConfig:
        foreign = [case for case in self.weights if case not in self.on]
        if foreign:
            raise ValueError(f"weights: '{foreign[0]}' is not in train.on: give pairs of it ({', '.join(self.on)})")
        return self


class FineTuneConfig(Strict):
    """Go on from a trained run on other pairs; what is not given is taken from train."""

    on: list[str] = Field(min_length=1, description="pairs to adapt to, as train.on")
    epochs: int = Field(20, ge=1, description="at most this many passes")
    learning_rate: float = Field(2e-4, gt=0, description="peak learning rate")
    l2_sp: float = Field(1e-3, ge=0, description="pull towards the starting weights: l2_sp / 2 * |w - w0|^2 (L2-SP)")
    method: Method = Field(
        "full",
        description="what moves: full: all weights; head: the last layer; film_norm: normalisation layers and what the numbers of the day "
        "act on; input_adapter: first layer and normalisation layers; calibration: nothing, mean and spread of each cell are matched",
    )
    replay: float = Field(
        0.0, ge=0, lt=1, description="share of training days taken from the pairs that the run learned from, against forgetting them"
    )

    @model_validator(mode="after")
    def _calibration_is_a_closed_form(self) -> FineTuneConfig:
        given = sorted({"epochs", "learning_rate", "l2_sp", "replay"} & self.model_fields_set)
        if self.method == "calibration" and given:
            raise ValueError(f"method calibration is a closed form without training: leave out {', '.join(given)}")
        return self


class FewShotConfig(FineTuneConfig):
    """Fine-tuning on a few whole years of the target pairs."""

    shots: int = Field(
        2, ge=1, description="number of whole years; spread evenly over the training years, an equal share from each contiguous period"
    )
