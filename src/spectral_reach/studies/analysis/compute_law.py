"""L(C): the robust power laws of the loss along the compute frontier, with and without an irreducible loss.

The points are those of ``frontier``: windows of log compute in which at least two sizes take part, the lowest loss of
any size in each. ``power_fit`` fits them; its interval comes from the same redrawn curves as the frontier's line,
batches within every window or whole runs where a size has several, the lowest size chosen anew. What that does not
cover is listed there. The windows of one run are neighbours of one curve, so the F-test for the irreducible loss
counts more independent points than there are where the misfit of the law exceeds the noise: see ``residual_scale``
and ``noise_scale``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spectral_reach.studies.analysis.frontier import FrontierPoint, envelope
from spectral_reach.studies.analysis.power_fit import PowerFit, power_fit, undefined_fit
from spectral_reach.studies.analysis.size_curve import size_curves
from spectral_reach.studies.analysis.study_data import RunData


@dataclass(frozen=True, kw_only=True, slots=True)
class ComputeLaw:
    """L(C) in both forms, x being FLOPs.

    Attributes:
        points: what was fitted; empty where there is no frontier.
        covers_seeds: whether every size had several runs, so that the intervals cover their spread.
        without_irreducible: L = A C^-alpha.
        with_irreducible: L = E + A C^-alpha.
    """

    points: tuple[FrontierPoint, ...]
    covers_seeds: bool
    without_irreducible: PowerFit
    with_irreducible: PowerFit


def compute_law(runs: Sequence[RunData], *, seed: int = 0, draws: int = 1000) -> ComputeLaw:
    """The laws of one family's runs. Runs of equal parameters are one size; unfinished ones count as far as they are,
    unless their size has a finished one."""
    found = envelope(size_curves(runs, draws, np.random.default_rng(seed)))
    if isinstance(found, str):
        return ComputeLaw(
            points=(),
            covers_seeds=False,
            without_irreducible=undefined_fit(found, irreducible=False),
            with_irreducible=undefined_fit(found, irreducible=True),
        )
    without, with_irreducible = (
        power_fit(
            np.exp(found.log_flops),
            np.exp(found.log_loss),
            irreducible=irreducible,
            redrawn_loss=np.exp(found.log_loss_redrawn),
            redrawn_x=np.exp(found.log_flops_redrawn),
        )
        for irreducible in (False, True)
    )
    return ComputeLaw(
        points=found.points,
        covers_seeds=found.covers_seeds,
        without_irreducible=without,
        with_irreducible=with_irreducible,
    )
