"""One draw of inputs, features and teachers, measured as any network is: through ``sr.decompose``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spectral_reach.decomposition.decompose import decompose
from spectral_reach.theory.arc_cosine import arc_cosine_kernel
from spectral_reach.theory.gaussian_data import PowerLawGaussian
from spectral_reach.theory.gp_teacher import draw_teachers
from spectral_reach.theory.predictions import Predictions
from spectral_reach.theory.random_features import RandomFeatures


@dataclass(frozen=True, kw_only=True, slots=True)
class DrawConfig:
    """Sizes of one draw.

    Attributes:
        exponent: beta of the covariance eigenvalues k^-beta, from 1 to 3.
        dimension: d of the inputs.
        inputs: n. The mean of ||x||^2 / d over them, hence chi_net, has a relative spread of up to 1.2 / sqrt(n).
        features: m. They add up to 1.3 / sqrt(m) to that of chi_net and 0.3 / sqrt(m) to that of chi_pos.
        teachers: T targets, standardised together. They give chi_pos a relative spread of 0.2 / sqrt(T) (beta = 3) to
            0.8 / sqrt(T) (beta = 1), and a bias of -0.4 / T at most (``predictions.expected_position``).
    """

    exponent: float
    dimension: int = 100
    inputs: int = 2000
    features: int = 2000
    teachers: int = 96


@dataclass(frozen=True, kw_only=True, slots=True)
class Draw:
    """Means over the teachers of what ``decompose`` has measured, and the predictions for these inputs.

    Attributes:
        chi_loss: mean over teachers of chi_loss; 1 to rounding, as standardised.
        chi_net: the same for all teachers.
        delta_loss: mean over teachers.
        predicted: from the arc-cosine kernel on the inputs.
    """

    chi_loss: float
    chi_net: float
    delta_loss: float
    predicted: Predictions

    @property
    def chi_pos(self) -> float:
        """mean(delta_loss) / mean(chi_loss * chi_net) over the teachers: numerator and denominator apart."""
        return self.delta_loss / (self.chi_loss * self.chi_net)


@dataclass(frozen=True, kw_only=True, slots=True)
class DrawnProblem:
    """A network, its inputs (n, d), its targets (T, n, 1) and the limit kernel (n, n) that drew them."""

    network: RandomFeatures
    inputs: Tensor
    targets: Tensor
    kernel: Tensor


def draw_problem(config: DrawConfig, seed: int, dtype: torch.dtype = torch.float32) -> DrawnProblem:
    """Inputs, features and teachers, each from a random stream of its own: another width leaves the inputs as they are.

    Exponents do not share draws either, so that their errors are independent.

    Raises:
        ValueError: a size below 1, an exponent out of range or a negative seed.
    """
    if seed < 0:
        raise ValueError(f"seed is {seed}; expected at least 0")
    data = PowerLawGaussian(dimension=config.dimension, exponent=config.exponent)
    streams = np.random.SeedSequence([seed, round(1000 * config.exponent)]).generate_state(3, np.uint64)
    of_inputs, of_features, of_teachers = (torch.Generator().manual_seed(int(state >> 1)) for state in streams)
    inputs = data.draw(config.inputs, of_inputs)
    kernel = arc_cosine_kernel(inputs)
    return DrawnProblem(
        network=RandomFeatures(config.dimension, config.features, generator=of_features, dtype=dtype),
        inputs=inputs.to(dtype),
        targets=draw_teachers(kernel, config.teachers, of_teachers).to(dtype).unsqueeze(2),
        kernel=kernel,
    )


def measure_draw(problem: DrawnProblem) -> Draw:
    """``decompose`` for each teacher as a batch of its own: loss 0.5 (f - y)^2 at f = 0."""
    results = [
        decompose(
            problem.network,
            (problem.inputs, target),
            loss="mse",
            # Exact here, and 10 times faster than "exact": the readout is all there is, and its share of the trace is
            # counted and not sampled. Two probes, so that this shows as a standard error of 0.
            estimator="per_unit",
            probes=2,
            noise_units=2,  # no noise-corrected values are wanted
        )
        for target in problem.targets
    ]
    assert all(result.chi_net_stderr == 0 for result in results)
    return Draw(
        chi_loss=float(np.mean([result.chi_loss for result in results])),
        chi_net=results[0].chi_net,
        delta_loss=float(np.mean([result.delta_loss for result in results])),
        predicted=Predictions.of(problem.kernel),
    )
