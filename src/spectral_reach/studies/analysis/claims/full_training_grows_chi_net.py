"""Claim: full training grows chi_net, where probing on a random backbone does not.

Statistic: the growth of chi_net, its late average over that of the first window of measurements, geometric mean over
sizes, of full training over that of probes on random backbones.

Supported if three 95% intervals agree: the ratio of the two growths lies above 1, full training grows by more than 1,
and probing, in logarithms, by less than half as much. Contradicted if the ratio lies below 1, or full training grows
by less than 1, or probing by more than half as much. Else inconclusive. "Half as much" is judged by the interval of
log(growth in probing) - log(growth in full training) / 2 against 0, in which the errors of both count: full training
known badly can decide nothing. chi_net is the same for both measures of position.
"""

from __future__ import annotations

import math

from spectral_reach.studies.analysis.claims.finding import Judgement
from spectral_reach.studies.analysis.claims.probe_families import ProbeFamilies, claim_on_probes
from spectral_reach.studies.analysis.estimate import mean
from spectral_reach.studies.analysis.interval import Interval
from spectral_reach.studies.analysis.late_average import LATE_FRACTION
from spectral_reach.studies.analysis.numbers import with_interval
from spectral_reach.studies.analysis.probe_sets import FULL, RANDOM
from spectral_reach.studies.analysis.size_ratio import Pair, SizeRatios, as_factor, size_ratios
from spectral_reach.studies.analysis.study_data import FamilyData
from spectral_reach.studies.analysis.verdict import Verdict
from spectral_reach.studies.analysis.windows import group

LESS = 0.5
"""Of the logarithm of full training's growth: probing that grows by less does not grow."""


def judge(families: ProbeFamilies, measure: str) -> Judgement:
    """The rule of this file's head."""
    full, probing = (growth_of_chi_net(families.by_role[role]) for role in (FULL, RANDOM))
    difference, excess = full.minus(probing), probing.minus(full, times=LESS)
    verdict = (
        Verdict.INCONCLUSIVE if difference.reason is not None else _verdict(full.mean, difference.mean, excess.mean)
    )
    growths = [with_interval(*_ends(as_factor(each.mean))) for each in (full, probing)]
    return Judgement(
        statistic=f"growth of {measure} in full training over that in probing, geometric mean over sizes",
        interval=as_factor(difference.mean),
        n=difference.runs,
        counted="runs",
        verdict=verdict,
        reason=f"{_HOW[verdict]}: full training changes it by a factor of {growths[0]}, probing by {growths[1]}"
        if difference.reason is None
        else f"Not decided: {difference.reason}",
    )


def growth_of_chi_net(family: FamilyData) -> SizeRatios:
    """Late over first chi_net, by size."""
    pairs: dict[int, list[Pair]] = {}
    for run in family.runs:
        if run.is_finished:
            m = run.measurements
            first = group(m.step, m.n_units)[0]
            late = m.step >= math.ceil(LATE_FRACTION * run.steps)
            pair = Pair(seed=run.seed, above=mean(m.chi_net[late], in_sequence=True), below=mean(m.chi_net[first]))
            pairs.setdefault(run.parameters, []).append(pair)
    return size_ratios(pairs, ("late chi_net", "the first chi_net"))


def _verdict(full: Interval, difference: Interval, excess: Interval) -> Verdict:
    """From the logarithms of full training's growth, of the ratio, and of what probing has beyond half of it."""
    if difference.low > 0 and full.low > 0 and excess.high < 0:
        return Verdict.SUPPORTED
    if difference.high < 0 or full.high < 0 or excess.low > 0:
        return Verdict.CONTRADICTED
    return Verdict.INCONCLUSIVE


def _ends(interval: Interval) -> tuple[float, float, float]:
    return interval.value, interval.low, interval.high


_HOW = {
    Verdict.SUPPORTED: "Full training grows chi_net, probing does not",
    Verdict.CONTRADICTED: "Full training does not grow chi_net more than probing does",
    Verdict.INCONCLUSIVE: "The intervals leave open which of the two grows",
}

CLAIM = claim_on_probes(
    "full-training-grows-chi-net",
    "Full training grows chi_net, where probing on a random backbone does not.",
    (FULL, RANDOM),
    judge,
    ("chi_net",),
)
