"""The random-features study: its presets and settings, its tasks, and what they leave behind."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spectral_reach.studies import registry
from spectral_reach.studies.config import SettingTypeError
from spectral_reach.studies.cost import expected_cost
from spectral_reach.studies.random_features import PRESETS, RandomFeaturesConfig
from spectral_reach.studies.tasks.random_features import RandomFeatureDraws
from spectral_reach.theory.draw import DrawConfig, draw_problem, measure_draw

SMALL: dict[str, Any] = {
    "exponent": 2.0,
    "dimension": 6,
    "inputs": 20,
    "features": 30,
    "teachers": 3,
    "spectrum_inputs": 8,
    "first_seed": 3,
    "seeds": 2,
}


@pytest.mark.parametrize("preset", PRESETS)
def test_the_presets_are_planned(preset: str) -> None:
    config = PRESETS[preset]()
    assert config.preset == preset
    assert RandomFeaturesConfig.from_dict({"preset": preset}) == config
    plan = registry.find("random-features").plan({"preset": preset})
    settings = [task.settings for task in plan.tasks]
    for exponent in config.exponents:
        seeds = [
            seed
            for each in settings
            if isinstance(each, RandomFeatureDraws) and each.exponent == exponent
            for seed in range(each.first_seed, each.first_seed + each.seeds)
        ]
        assert seeds == list(range(config.seeds))


def test_quick_is_what_the_issue_asks_for_in_the_time_that_it_gives() -> None:
    quick = PRESETS["quick"]()
    assert quick.exponents == (1.0, 1.5, 2.0, 2.5, 3.0)
    assert quick.seeds == 20
    assert expected_cost(quick.plan(), workers=2).minutes < 10


def test_settings_can_be_changed() -> None:
    config = RandomFeaturesConfig.from_dict({"preset": "toy", "exponents": [1, 2.5], "seeds": 7})
    assert config.exponents == (1.0, 2.5)
    names = [task.name for task in config.plan().tasks]
    assert names == [
        "exponent-1-seeds-00-04",
        "exponent-1-seeds-05-06",
        "exponent-2.5-seeds-00-04",
        "exponent-2.5-seeds-05-06",
    ]


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        (
            {"preset": "huge"},
            ValueError,
            "Unknown preset 'huge' of the random-features study; the known ones are quick",
        ),
        ({"width": 3}, ValueError, "The random-features study has no setting 'width'"),
        ({"exponents": 2}, SettingTypeError, r"exponents is 2; expected a list of numbers, as \[1.0, 2.0\]"),
        ({"exponents": []}, ValueError, "expected at least one exponent"),
        ({"exponents": [1, 1.0]}, ValueError, "expected different exponents"),
        ({"exponents": [0.5]}, ValueError, "exponent is 0.5; expected 1 to 3"),
        ({"seeds": 0}, ValueError, "seeds is 0; expected at least 1"),
        ({"inputs": 10}, ValueError, "spectrum_inputs is 64; expected 1 to the number of inputs"),
        ({"teachers": 0}, ValueError, "teachers is 0; expected at least 1"),
        ({"features": 2.5}, SettingTypeError, "features is 2.5"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        registry.find("random-features").plan({"preset": "toy", **settings})


def test_a_task_measures_every_seed(tmp_path: Path) -> None:
    shares: list[float] = []
    values = RandomFeatureDraws(**SMALL).execute(tmp_path, shares.append)
    assert shares == [0.0, 0.5]
    assert values["seed"].tolist() == [3, 4]
    config = DrawConfig(exponent=2.0, dimension=6, inputs=20, features=30, teachers=3)
    for row, seed in enumerate((3, 4)):
        draw = measure_draw(draw_problem(config, seed))
        assert values["chi_net"][row] == draw.chi_net
        assert values["chi_loss"][row] == draw.chi_loss
        assert values["chi_pos"][row] == draw.chi_pos
        assert values["predicted_chi_pos"][row] == draw.predicted.chi_pos
    for name in ("p_network", "p_limit"):
        assert values[name].shape == (2, 8)
        np.testing.assert_allclose(values[name].sum(1), 1, rtol=1e-12)
    assert values["covariance"].sum() == pytest.approx(6)
    assert values["covariance"][0] / values["covariance"][2] == pytest.approx(9)


def test_seconds_grow_with_the_work() -> None:
    base = RandomFeatureDraws(**SMALL).seconds
    assert RandomFeatureDraws(**{**SMALL, "seeds": 4}).seconds == pytest.approx(2 * base)
    assert RandomFeatureDraws(**{**SMALL, "features": 300}).seconds > base
