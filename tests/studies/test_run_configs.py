"""Configurations of runs: read back as written, and refused where they are impossible, with the setting named."""

import json
import math
import re
from dataclasses import replace
from typing import Any

import pytest
from small_runs import MEASUREMENT, TRAINING, digits, small_run

from spectral_reach.studies.config import overridden
from spectral_reach.studies.training.config import MeasurementConfig
from spectral_reach.studies.training.run_config import RunConfig, check_data


def test_a_run_is_read_back_from_its_json() -> None:
    config = small_run()
    assert RunConfig.from_dict(json.loads(json.dumps(config.as_dict()))) == config


@pytest.mark.parametrize(
    ("config", "change", "message"),
    [
        (TRAINING, {"steps": 0}, "TrainingConfig.steps is 0; expected at least 1"),
        (TRAINING, {"batch_size": -1}, "TrainingConfig.batch_size is -1; expected at least 1"),
        (TRAINING, {"learning_rate": 0.0}, "learning_rate is 0.0; expected a positive number"),
        (TRAINING, {"learning_rate": math.nan}, "learning_rate is nan; expected a positive number"),
        (TRAINING, {"warmup_steps": 12}, "warmup_steps is 12; expected fewer than the 12 steps"),
        (TRAINING, {"schedule": "step"}, "schedule is 'step'; expected constant or linear or cosine"),
        (TRAINING, {"optimiser": "adam"}, "optimiser is 'adam'; expected adamw or sgd"),
        (TRAINING, {"precision": "fp16"}, "precision is 'fp16'; expected float32 or bfloat16"),
        (TRAINING, {"device": "tpu"}, "device is 'tpu'; expected auto or cpu or cuda"),
        (TRAINING, {"trained": "head"}, "trained is 'head'; expected all or readout"),
        (TRAINING, {"accumulation": 3}, "accumulation is 3; expected a divisor of 4 units"),
        (TRAINING, {"momentum": 1.0}, "momentum is 1.0; expected at least 0 and below 1"),
        (MEASUREMENT, {"heldout_units": 1}, "heldout_units is 1; expected 0, or at least 2"),
        (TRAINING, {"final_fraction": 1.5}, "final_fraction is 1.5; expected 0 to 1"),
        (TRAINING, {"weight_decay": -0.1}, "weight_decay is -0.1; expected a number of at least 0"),
        (TRAINING, {"beta2": 1.0}, "beta2 is 1.0; expected at least 0 and below 1"),
        (TRAINING, {"clip_norm": 0.0}, "clip_norm is 0.0; expected a positive number, a large one not to clip"),
        (TRAINING, {"clip_norm": math.inf}, "clip_norm is inf; expected a positive number, a large one not to clip"),
        (TRAINING, {"seed": -1}, "seed is -1; expected at least 0"),
        (TRAINING, {"seed": 2**63}, f"seed is {2**63}; expected at least 0 and below 2**63"),
        (TRAINING, {"checkpoint_every": 0}, "checkpoint_every is 0; expected at least 1"),
        (MEASUREMENT, {"units": 1}, "MeasurementConfig.units is 1; expected at least 2, for noise"),
        (MEASUREMENT, {"late_units": 1}, "MeasurementConfig.late_units is 1; expected at least 2, for noise"),
        (MEASUREMENT, {"late_fraction": 1.0}, "late_fraction is 1.0; expected at least 0 and below 1"),
        (MEASUREMENT, {"late_measurements": -1}, "late_measurements is -1; expected at least 0"),
        (MEASUREMENT, {"estimator": "magic"}, "'magic'"),
    ],
)
def test_impossible_settings_are_named(config: Any, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        replace(config, **change)


def test_a_setting_of_another_type_is_named() -> None:
    with pytest.raises(TypeError, match=r"TrainingConfig.steps is 12.0, a float; expected a int"):
        replace(TRAINING, steps=12.0)
    with pytest.raises(TypeError, match=r"TrainingConfig.steps is True, a bool; expected a int"):
        replace(TRAINING, steps=True)
    assert type(replace(TRAINING, learning_rate=1).learning_rate) is float


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["training", "nesterov"], True, "training has no setting 'nesterov'; its settings are steps, batch_size"),
        (["measurement", "every"], 3, "measurement has no setting 'every'; its settings are per_decade"),
        (["model", "layers"], 3, "The model family 'llama' has no setting 'layers'"),
        (["model", "name"], "gpt", "Unknown model family 'gpt'; the known ones are llama, vit"),
        (["data", "name"], "mnist", "DataConfig.name is 'mnist'; expected "),
        (["colour"], "red", "A run has no setting 'colour'; its settings are name, family, data, model"),
        (["backbone"], "other", "RunConfig.backbone is 'other'; expected none to train all of it"),
        (["threads"], 0, "RunConfig.threads is 0; expected at least 1"),
        (["name"], "../elsewhere", "RunConfig.name is '../elsewhere'; expected letters, digits, - and _"),
    ],
)
def test_unknown_settings_of_a_run_are_named(path: list[str], value: Any, message: str) -> None:
    values = small_run().as_dict()
    inner = values
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(ValueError, match=re.escape(message)):
        RunConfig.from_dict(values)


@pytest.mark.parametrize("part", ["data", "model", "training", "measurement"])
def test_a_missing_or_misshapen_part_is_named(part: str) -> None:
    values = small_run().as_dict()
    with pytest.raises(TypeError, match=f"{part} is 3; expected settings by name"):
        RunConfig.from_dict({**values, part: 3})
    del values[part]
    with pytest.raises(ValueError, match=f"A run lacks '{part}'"):
        RunConfig.from_dict(values)


def test_the_rate_warms_up_then_falls_or_stays() -> None:
    cosine = replace(TRAINING, steps=100, warmup_steps=9, learning_rate=1.0, final_fraction=0.1)
    assert [cosine.rate(step) for step in range(9)] == [(step + 1) / 10 for step in range(9)]
    assert cosine.rate(9) == 1.0
    falling = [cosine.rate(step) for step in range(9, 100)]
    assert falling == sorted(falling, reverse=True)
    assert 0.1 < falling[-1] < 0.101
    middle = 9 + 91 / 2
    assert cosine.rate(int(middle)) == pytest.approx(0.55, abs=0.9 * math.pi / 2 / 91)
    linear = replace(cosine, schedule="linear")
    assert linear.rate(99) == pytest.approx(0.1 + 0.9 / 91)
    assert linear.rate(54) == pytest.approx(1 - 0.9 * 45 / 91)
    constant = replace(cosine, schedule="constant")
    assert {constant.rate(step) for step in range(9, 100)} == {1.0}


def test_late_measurements_are_spread_over_the_last_part_and_use_late_units() -> None:
    config = MeasurementConfig(per_decade=1, width=2, units=4, late_measurements=5, late_units=9)
    steps = config.measured_steps(200)
    assert set(steps) >= {0, 1, 10, 11, 100, 101, 180, 184, 188, 192, 196, 198, 199}
    assert [step for step in steps if step >= 180] == [180, 184, 188, 192, 196, 198, 199]
    assert {config.units_at(step, 200) for step in steps if step < 180} == {4}
    assert {config.units_at(step, 200) for step in steps if step >= 180} == {9}


def test_a_run_shorter_than_its_late_measurements_is_measured_at_every_late_step() -> None:
    config = MeasurementConfig(per_decade=1, width=1, units=4, late_fraction=0.5, late_measurements=50, late_units=9)
    assert config.measured_steps(8) == (0, 1, 4, 5, 6, 7)


def test_data_that_changed_since_the_run_was_planned_are_refused() -> None:
    config = small_run()
    other = replace(config, facts={**config.facts, "data_hash": "0" * 64})
    with pytest.raises(ValueError, match=r"data of run 'pixels-small' have changed: content hash .*, expected 000000"):
        check_data(other, digits())


def test_data_that_do_not_fit_the_model_or_the_batches_are_refused() -> None:
    config = small_run()
    narrow = replace(config, model=replace(config.model, vocabulary=17))
    with pytest.raises(
        ValueError, match="made for vocabulary 17, context 64, its data have vocabulary 18, context 64; exp"
    ):
        check_data(narrow, digits())
    large = replace(config, training=replace(config.training, batch_size=1501))
    with pytest.raises(ValueError, match="has batch_size 1501; expected at most 1500, the training units"):
        check_data(large, digits())


def test_settings_are_overridden_one_by_one_at_every_depth() -> None:
    base = {"a": 1, "b": {"c": 2, "d": {"e": 3}}}
    assert overridden(base, {"b": {"d": {"e": 4}}, "f": 5}) == {"a": 1, "b": {"c": 2, "d": {"e": 4}}, "f": 5}
    assert overridden(base, {"b": None}) == {"a": 1, "b": None}
    assert base == {"a": 1, "b": {"c": 2, "d": {"e": 3}}}
