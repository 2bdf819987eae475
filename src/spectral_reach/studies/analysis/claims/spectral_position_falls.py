"""Claim: spectral position falls during training, after its early rise.

Statistic: the late average over the early peak (``early_peak``: the surest high window of the first half of training,
measured on other batches than those that chose it), both averaged over seeds first; the geometric mean of the sizes'
ratios.

Supported if the 95% interval of that ratio lies below 1. Contradicted if it lies above 1, and so does that of the ratio
to the windows that may be the highest (``early_peak``, by the upper end): only what is above every early window has
risen throughout. Else inconclusive. Inconclusive too where the position of some size is not significantly positive at
its peak or late, and for mini-batch chi_pos where peak and late measurements have different numbers of units, on which
it depends. Whether there was a rise before it does not count; the reason says in how many sizes the peak is not in the
first window.
"""

from __future__ import annotations

import numpy as np

from spectral_reach.studies.analysis.claims.claim import claim_on_families
from spectral_reach.studies.analysis.claims.finding import Judgement
from spectral_reach.studies.analysis.claims.sources import PIXELS, TEXT
from spectral_reach.studies.analysis.early_peak import End, early_peaks
from spectral_reach.studies.analysis.late_average import late_average
from spectral_reach.studies.analysis.numbers import size
from spectral_reach.studies.analysis.size_ratio import Pair, SizeRatios, as_factor, size_ratios
from spectral_reach.studies.analysis.study_data import FamilyData
from spectral_reach.studies.analysis.verdict import Verdict, below


def judge_fall(family: FamilyData, measure: str) -> Judgement:
    """The rule of this file's head; also that of the ViTs' claims."""
    ratios, later = _late_over_peak(family, measure, "low")
    ratio = as_factor(ratios.mean)
    verdict = below(ratio, 1.0)
    if verdict == Verdict.CONTRADICTED and not _late_over_peak(family, measure, "high")[0].mean.low > 0:
        verdict = Verdict.INCONCLUSIVE
    return Judgement(
        statistic=f"late {measure} over its early peak, geometric mean over sizes",
        interval=ratio,
        n=sum(run.is_finished for run in family.runs),
        counted="runs",
        verdict=verdict,
        reason=_sentence(verdict, ratios, later) if ratios.reason is None else f"Not decided: {ratios.reason}",
    )


def _late_over_peak(family: FamilyData, measure: str, by: End) -> tuple[SizeRatios, int]:
    """The ratios, and in how many sizes most runs have their peak after the first window."""
    pairs: dict[int, list[Pair]] = {}
    later = 0
    peak_units: set[int] = set()
    late_units: set[int] = set()
    for parameters in sorted({run.parameters for run in family.runs if run.is_finished}):
        runs = [run for run in family.runs if run.is_finished and run.parameters == parameters]
        peaks = early_peaks(runs, measure, by=by)
        later += 2 * sum(peak.is_later for peak in peaks) > len(peaks)
        for run, peak in zip(runs, peaks, strict=True):
            late = late_average(run)
            pairs.setdefault(parameters, []).append(Pair(seed=run.seed, above=getattr(late, measure), below=peak.value))
            peak_units.update(peak.n_units)
            late_units.update(late.n_units)
    if measure == "chi_pos" and len(peak_units | late_units) > 1:
        why = f"mini-batches of {_units(peak_units)} units at the peak and of {_units(late_units)} late do not compare"
        return SizeRatios.missing(why), later
    return size_ratios(pairs, (f"the late average of {measure}", f"the early peak of {measure}")), later


def _sentence(verdict: Verdict, ratios: SizeRatios, later: int) -> str:
    fallen = int((ratios.logs < 0).sum())
    factors = np.exp(ratios.logs)
    span = " and ".join(f"{factors[i]:.2g} at {size(ratios.parameters[i])}" for i in sorted({0, len(factors) - 1}))
    course = f"in {fallen} of {len(factors)} sizes the late average lies below the peak: {span} parameters"
    course += f"; that is in a later window than the first in {later} of {len(factors)}"
    match verdict:
        case Verdict.SUPPORTED:
            return f"It falls; {course}"
        case Verdict.CONTRADICTED:
            return f"It rises; {course}"
        case _ if ratios.mean.low > 0:
            return f"It rises above the surest early window, but another, known less well, may be as high; {course}"
        case _:
            return f"The interval holds 1, no change; {course}"


def _units(units: set[int]) -> str:
    return " or ".join(str(n) for n in sorted(units)) or "no"


CLAIM = claim_on_families(
    "spectral-position-falls",
    "Spectral position falls during training, after its early rise.",
    (TEXT, PIXELS),
    (judge_fall,),
)
