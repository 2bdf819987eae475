"""Claim: spectral position is the same on training and on held-out data.

Two statistics, each with a finding of its own:

1. Late: held-out over training data, both averaged over seeds first, geometric mean over sizes. Supported if the 95%
   interval lies within 1 / 1.2 to 1.2 (equivalence within 20%), contradicted if it lies outside, else inconclusive.
   Inconclusive too where an average is not significantly positive, and for mini-batch chi_pos where the two have
   different numbers of units, on which it depends.
2. Over training: Spearman's correlation of the two over windows of measurements, mean over sizes. Supported if its
   interval lies above 0.5, contradicted if it lies below 0 (they move against each other), else inconclusive: noise
   alone brings a correlation down to anything between. Runs without such a correlation do not count, and the reason
   says how many and why.
"""

from __future__ import annotations

import numpy as np

from spectral_reach.studies.analysis.claims.claim import claim_on_families
from spectral_reach.studies.analysis.claims.finding import Judgement
from spectral_reach.studies.analysis.claims.sources import PIXELS, TEXT
from spectral_reach.studies.analysis.curve_correlation import curve_correlation
from spectral_reach.studies.analysis.interval import Interval
from spectral_reach.studies.analysis.late_average import late_average
from spectral_reach.studies.analysis.mean_of_sizes import RunValue, mean_of_sizes
from spectral_reach.studies.analysis.numbers import size
from spectral_reach.studies.analysis.size_ratio import Pair, as_factor, size_ratios
from spectral_reach.studies.analysis.study_data import FamilyData
from spectral_reach.studies.analysis.verdict import Verdict, within

EQUIVALENT = 1.2
TOGETHER = 0.5


def judge_late(family: FamilyData, measure: str) -> Judgement:
    """The first statistic of this file's head."""
    pairs: dict[int, list[Pair]] = {}
    units: set[tuple[tuple[int, ...], tuple[int, ...]]] = set()
    for run in family.runs:
        if run.is_finished:
            held, train = late_average(run, heldout=True), late_average(run)
            pairs.setdefault(run.parameters, []).append(
                Pair(seed=run.seed, above=getattr(held, measure), below=getattr(train, measure))
            )
            units.add((held.n_units, train.n_units))
    ratios = size_ratios(pairs, (f"late held-out {measure}", f"late {measure}"))
    ratio, reason = as_factor(ratios.mean), ratios.reason
    if measure == "chi_pos" and reason is None and any(held != train for held, train in units):
        reason, ratio = "mini-batches of different numbers of units do not compare", Interval.missing()
    if reason is not None:
        verdict, sentence = Verdict.INCONCLUSIVE, f"Not decided: {reason}"
    else:
        verdict = within(ratio, 1 / EQUIVALENT, EQUIVALENT)
        farthest = int(np.abs(ratios.logs).argmax())
        at = size(ratios.parameters[farthest])
        where = f"farthest from 1 at {at} parameters, {np.exp(ratios.logs[farthest]):.2f}"
        sentence = f"{_AGREEMENT[verdict]}; {where}"
    return Judgement(
        statistic=f"late {measure} on held-out over that on training data, geometric mean over sizes",
        interval=ratio,
        n=sum(len(each) for each in pairs.values()),
        counted="runs",
        verdict=verdict,
        reason=sentence,
    )


_AGREEMENT = {
    Verdict.SUPPORTED: f"They agree within {EQUIVALENT - 1:.0%}",
    Verdict.CONTRADICTED: f"They differ by more than {EQUIVALENT - 1:.0%}",
    Verdict.INCONCLUSIVE: f"The interval reaches over a bound, {1 / EQUIVALENT:.2f} or {EQUIVALENT:.2f}",
}


def judge_curve(family: FamilyData, measure: str) -> Judgement:
    """The second statistic of this file's head."""
    finished = [run for run in family.runs if run.is_finished]
    result = mean_of_sizes(
        [
            RunValue(parameters=run.parameters, seed=run.seed, estimate=curve_correlation(run, measure))
            for run in finished
        ],
        least=-1,
        most=1,
    )
    rho = result.interval
    if rho.low > TOGETHER:
        verdict, sentence = Verdict.SUPPORTED, "Held-out and training position rise and fall together"
    elif rho.high < 0:
        verdict, sentence = Verdict.CONTRADICTED, "Held-out and training position move against each other"
    else:
        verdict, sentence = Verdict.INCONCLUSIVE, f"The interval is neither above {TOGETHER} nor below 0"
    if result.reason is not None:
        sentence = f"Not decided: {result.reason}"
    elif result.left_out:
        sentence += f"; left out: {result.left_out} of {len(finished)} runs ({result.why_left_out})"
    return Judgement(
        statistic=f"Spearman correlation of {measure} on held-out and on training data over training, mean over sizes",
        interval=rho,
        n=result.runs,
        counted="runs",
        verdict=verdict,
        reason=sentence,
    )


CLAIM = claim_on_families(
    "train-and-test-agree",
    "Spectral position is the same on training and on held-out data.",
    (TEXT, PIXELS),
    (judge_late, judge_curve),
)
