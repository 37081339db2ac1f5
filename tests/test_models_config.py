"""The model sections of the config: what is refused, and that a config without the new options is described as ever."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from training_world import make_config

from downscale.config.load import digest, dump_yaml
from downscale.config.models import KernelRidgeConfig, ModelConfig


def test_a_model_is_described_by_what_it_uses():
    assert ModelConfig().model_dump() == {"name": "resunet", "width": 32, "backbone": "none", "static": None, "dropout": 0.0}
    unet = ModelConfig(name="unet_doury", width=64)
    assert unet.model_dump() == {"name": "unet_doury", "width": 64, "backbone": "none", "static": None, "dropout": 0.0}
    assert ModelConfig(name="deepesd", filters=10).model_dump() == {"name": "deepesd", "backbone": "none", "filters": 10}
    sized = ModelConfig(size="small", attention=True)
    assert sized.model_dump(exclude_none=True) == {
        "name": "resunet", "backbone": "none", "dropout": 0.0, "size": "small", "attention": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        {"name": "resunet", "size": "base"},
        {"name": "deepesd", "land_only": True, "numbers": True},
        {"name": "unet_doury", "padding": "replicate", "final_relu": True, "activation_1d": "relu"},
    ],
)
def test_what_is_described_is_the_same_model_again(options):
    model = ModelConfig(**options)
    again = ModelConfig.model_validate(model.model_dump())
    assert again.model_dump() == model.model_dump()
    assert digest(again) == digest(model)
    assert dump_yaml(again) == dump_yaml(model)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"name": "unet_doury", "dropout": 0.1}, "unet_doury has no dropout"),
        ({"name": "unet_doury", "static": True}, "static: resunet"),
        ({"name": "deepesd", "width": 32}, "deepesd has no width"),
        ({"name": "deepesd", "size": "small"}, "has no size"),
        ({"name": "resunet", "filters": 2}, "filters: deepesd"),
        ({"name": "resunet", "land_only": True}, "has no land_only"),
        ({"name": "resunet", "numbers": True}, "has no numbers"),
        ({"name": "resunet", "activation_1d": "relu"}, "activation_1d: unet_doury"),
        ({"name": "resunet", "final_relu": True}, "has no final_relu"),
        ({"name": "resunet", "padding": "replicate"}, "has no padding"),
        ({"size": "small", "width": 32}, "exclude each other"),
        ({"attention": True}, "attention needs size"),
    ],
)
def test_an_option_of_another_network_is_refused(options, complaint):
    with pytest.raises(ValidationError, match=complaint):
        ModelConfig(**options)


@pytest.mark.parametrize("options", [{"alphas": [0.0, 1.0]}, {"gammas": [-1.0]}, {"components": [0]}, {"alphas": []}])
def test_candidates_of_kernel_ridge_are_above_zero(options):
    with pytest.raises(ValidationError):
        KernelRidgeConfig(**options)


@pytest.mark.parametrize(
    ("sections", "complaint"),
    [
        ({"model": {"name": "deepesd"}, "normalise": {"predictors": "map"}}, "numbers: true"),
        ({"model": {"name": "unet_doury", "final_relu": True}}, "normalise.targets.pr: none"),
        (
            {"model": {"name": "unet_doury", "final_relu": True, "backbone": "ridge"}, "normalise": {"targets": {"pr": "none"}}},
            "a backbone",
        ),
    ],
)
def test_a_network_that_does_not_fit_the_rest_is_refused(tmp_path, sections, complaint):
    with pytest.raises(ValidationError, match=complaint):
        config(tmp_path, sections)


def config(folder, sections):
    """make_config with a model section of its own."""
    base = make_config(folder).model_dump(exclude_none=True)
    return type(make_config(folder)).model_validate({**base, **sections})


def test_a_network_that_fits_is_taken(tmp_path):
    fitting = {"model": {"name": "unet_doury", "final_relu": True}, "normalise": {"targets": {"pr": "none"}}}
    assert config(tmp_path, fitting).model.final_relu
    assert config(tmp_path, {"model": {"name": "deepesd", "numbers": True}, "normalise": {"predictors": "map"}}).model.numbers
