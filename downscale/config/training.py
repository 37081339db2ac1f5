"""Config sections of the training loop and of going on from a run: train, finetune, few_shot."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from downscale.config.inputs import Strict


class TrainConfig(Strict):
    """The training loop; finetune and few_shot start from these values."""

    on: list[str] = Field(
        min_length=1,
        description="pairs to learn from: NAME/perfect (RCMu -> RCM) or NAME/imperfect (GCM -> RCM, reanalysis -> observations)",
    )
    epochs: int = Field(60, ge=1, description="at most this many passes over the training days")
    batch_size: int = Field(64, ge=1, description="days a step")
    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate (AdamW)")
    weight_decay: float = Field(1e-4, ge=0, description="AdamW weight decay")
    schedule: Literal["cosine", "plateau"] = Field(
        "cosine", description="cosine with warm-up, or x 0.7 after 4 epochs without progress (Doury et al.)"
    )
    warmup_epochs: float = Field(1.0, ge=0, description="linear warm-up, in epochs (cosine only)")
    patience: int = Field(15, ge=1, description="stop after this many epochs without a better validation loss")
    ema: float = Field(0.0, ge=0, lt=1, description="decay of an exponential moving average of the weights; 0: off")
    clip: float = Field(1.0, gt=0, description="largest gradient norm")
    seed: int = Field(0, ge=0, description="seed of weights, shuffling and dropout")
    baselines: list[Literal["bilinear", "climatology", "ridge"]] = Field(
        ["bilinear", "climatology", "ridge"], description="fitted on the same pairs, applied beside"
    )


class FineTuneConfig(Strict):
    """Go on from a trained run on other pairs; what is not given is taken from train."""

    on: list[str] = Field(min_length=1, description="pairs to adapt to, as train.on")
    epochs: int = Field(20, ge=1, description="at most this many passes")
    learning_rate: float = Field(2e-4, gt=0, description="peak learning rate")
    l2_sp: float = Field(1e-3, ge=0, description="pull towards the starting weights: l2_sp / 2 * |w - w0|^2 (L2-SP)")


class FewShotConfig(FineTuneConfig):
    """Fine-tuning on a few whole years of the target pairs."""

    shots: int = Field(
        2, ge=1, description="number of whole years; spread evenly over the training years, an equal share from each contiguous period"
    )
