"""Is the position of a model size known to be positive? Only then does its logarithm, or its ratio to another, mean
much.

A population's spectral position is never negative; its noise-corrected estimate is where the noise exceeds it. So the
mean over seeds is held against the runs' own errors, the noise of batches and probes: how much seeds differ has no
part in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from spectral_reach.studies.analysis.estimate import LEAST_BLOCKS, Estimate
from spectral_reach.studies.analysis.numbers import small
from spectral_reach.studies.analysis.seed_spread import student_interval


def why_not_positive(runs: Sequence[Estimate]) -> str | None:
    """Why the mean of the runs of one size, all defined, is not significantly positive; None if it is.

    It is if its 95% interval lies above 0, with the degrees of freedom of all runs' errors.
    """
    mean = Estimate(
        value=float(np.mean([each.value for each in runs])),
        stderr=math.hypot(*(each.stderr for each in runs)) / len(runs),
        n=sum(each.n for each in runs),
    )
    degrees = max(1, sum(min(LEAST_BLOCKS, each.n) - 1 for each in runs))
    return None if student_interval(mean, degrees).low > 0 else f"not significantly positive: {small(mean)}"
