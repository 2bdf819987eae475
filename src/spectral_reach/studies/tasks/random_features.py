"""Random features of one exponent at several seeds: their decomposition and spectrum, beside what theory predicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spectral_reach.studies.config import check, check_types
from spectral_reach.studies.tasks.registry import OnShare, register

# One core of a 2-core cloud machine, float32: a decomposition passes over n m features a few times, and the kernel of
# n inputs is formed and factorised in float64.
_SECONDS_A_FEATURE = 8.5e-9
_SECONDS_A_PAIR = 1.3e-7


@register("random_features")
@dataclass(frozen=True, kw_only=True, slots=True)
class RandomFeatureDraws:
    """Draws of one exponent.

    Attributes:
        exponent: beta of the covariance eigenvalues k^-beta, from 1 to 3.
        dimension: d of the inputs.
        inputs: n.
        features: m.
        teachers: T targets of each draw, standardised together; each is a batch of its own.
        spectrum_inputs: how many of the inputs the spectra are taken on; few beside m, or finite width shows in them.
        first_seed: of the seeds, which follow one another.
        seeds: how many.
    """

    exponent: float
    dimension: int
    inputs: int
    features: int
    teachers: int
    spectrum_inputs: int
    first_seed: int
    seeds: int

    def __post_init__(self) -> None:
        check_types(self)
        check(self, "exponent", 1 <= self.exponent <= 3, "1 to 3")
        for name in ("dimension", "inputs", "features", "teachers", "seeds"):
            check(self, name, getattr(self, name) >= 1, "at least 1")
        check(self, "spectrum_inputs", 1 <= self.spectrum_inputs <= self.inputs, "1 to the number of inputs")
        check(self, "first_seed", self.first_seed >= 0, "at least 0")

    @property
    def seconds(self) -> float:
        """Expected time on one core."""
        pass_over = _SECONDS_A_FEATURE * self.inputs * self.features * self.teachers
        return self.seeds * (pass_over + _SECONDS_A_PAIR * self.inputs**2)

    def execute(self, study: Path, on_share: OnShare) -> Mapping[str, Any]:
        """Measure every seed.

        Returns:
            ``seed`` (S,); ``chi_loss``, ``chi_net``, ``delta_loss``, ``chi_pos`` and ``predicted_chi_pos`` (S,), means
            over teachers; ``p_network`` and ``p_limit`` (S, spectrum_inputs), normalised eigenvalues of the eNTK and
            of the arc-cosine kernel; ``covariance`` (d,), eigenvalues with sum d.
        """
        from spectral_reach.theory.draw import DrawConfig, draw_problem, measure_draw
        from spectral_reach.theory.draw_spectra import measure_spectra
        from spectral_reach.theory.gaussian_data import PowerLawGaussian

        config = DrawConfig(
            exponent=self.exponent,
            dimension=self.dimension,
            inputs=self.inputs,
            features=self.features,
            teachers=self.teachers,
        )
        draws, spectra = [], []
        seeds = range(self.first_seed, self.first_seed + self.seeds)
        for done, seed in enumerate(seeds):
            on_share(done / self.seeds)
            problem = draw_problem(config, seed)
            draws.append(measure_draw(problem))
            spectra.append(measure_spectra(problem, self.spectrum_inputs))
        components = {
            name: np.array([getattr(draw, name) for draw in draws])
            for name in ("chi_loss", "chi_net", "delta_loss", "chi_pos")
        }
        data = PowerLawGaussian(dimension=self.dimension, exponent=self.exponent)
        return {
            "seed": np.array(seeds),
            **components,
            "predicted_chi_pos": np.array([draw.predicted.chi_pos for draw in draws]),
            "p_network": np.stack([each.network for each in spectra]),
            "p_limit": np.stack([each.limit for each in spectra]),
            "covariance": data.eigenvalues.numpy(),
        }
