"""What a model reaches at each of several learning rates: which is best, and whether it is the same at other widths."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from spectral_reach.studies.config import SettingTypeError, check, check_types
from spectral_reach.studies.tasks.coordinate_sizes import FLOPS_PER_SECOND, SECONDS_A_STEP, SECONDS_TO_START
from spectral_reach.studies.tasks.registry import OnShare, register
from spectral_reach.studies.tasks.short_training import ShortTraining, check_toy, toy_training

_LAST_SHARE = 0.1


@register("rate_sweep")
@dataclass(frozen=True, kw_only=True, slots=True)
class RateSweep:
    """One model from the same weights, on the same data, at every rate.

    Attributes:
        family: a model family that has a toy problem.
        parametrisation: standard or mup.
        width: of the model.
        base_width: in muP that of the base.
        depth: layers.
        rates: AdamW's, ascending; those of the base's width.
        steps: of training, a tenth of them warm-up.
        batch_size: units a step.
        seed: of weights and data.
    """

    family: str
    parametrisation: str
    width: int
    base_width: int
    depth: int
    rates: tuple[float, ...]
    steps: int
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        check_types(self)
        check_rates(self)
        check_toy(self)
        check(self, "seed", self.seed >= 0, "at least 0")

    @property
    def seconds(self) -> float:
        """All trainings."""
        a_training = SECONDS_A_STEP * self.steps + self._training().flops / FLOPS_PER_SECOND
        return SECONDS_TO_START + len(self.rates) * a_training

    def execute(self, study: Path, on_share: OnShare) -> Mapping[str, Any]:
        """``loss`` (rates,): mean over the last tenth of the steps; NaN where training diverged."""
        training = self._training()
        loss = np.empty(len(self.rates))
        for i, rate in enumerate(self.rates):
            on_share(i / len(self.rates))
            model = training.config.build(self.seed)
            losses = list(replace(training, rate=rate).losses(model))
            last = max(1, round(_LAST_SHARE * self.steps))
            loss[i] = float(np.mean(losses[-last:])) if math.isfinite(losses[-1]) else math.nan
        return {"loss": loss}

    def _training(self) -> ShortTraining:
        return toy_training(self, rate=self.rates[0], warmup=self.steps // 10, seed=self.seed)


def check_rates(config: Any) -> None:
    """The setting ``rates`` is a list of positive numbers in ascending order, which becomes a tuple of floats.

    Raises:
        SettingTypeError: it is no list of numbers.
        ValueError: they are not positive or not ascending.
    """
    rates = config.rates
    if not isinstance(rates, list | tuple) or not all(type(rate) in (int, float) for rate in rates):
        raise SettingTypeError(
            f"{type(config).__name__}.rates is {rates!r}; expected a list of numbers, as [0.001, 0.01]."
        )
    usable = len(rates) > 0 and list(rates) == sorted(set(rates)) and rates[0] > 0 and rates[-1] < math.inf
    check(config, "rates", usable, "positive numbers in ascending order")
    object.__setattr__(config, "rates", tuple(float(rate) for rate in rates))
