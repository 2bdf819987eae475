"""What the numbers of a study say, in words, whichever way they fall. The text under the figure.

Every sentence is chosen by the thresholds below and by nothing else. An order of sizes by late spectral
position is clear if the rank correlation of the two is negative, an order as clear would come by chance with
probability ``LEVEL`` at most (permutation test, one-sided), and redrawing every value within its standard error
leaves the correlation negative in 97.5% of the draws: that is half of what *supports* the paper's claim, that
larger models end deeper in the spectral tail (lower spectral position). The same three with the sign turned round
are half of what *contradicts* it. Anything else is *inconclusive*.

The other half is that the 95% intervals of the smallest and the largest size, over seeds where there are several, do
not overlap. Only both together say something of the paper's claim, as in ``claims.larger_models_end_lower``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from spectral_reach.studies.analysis.estimate import Estimate
from spectral_reach.studies.analysis.frontier import Frontier
from spectral_reach.studies.analysis.numbers import interval, signed, size, small
from spectral_reach.studies.analysis.positive import why_not_positive
from spectral_reach.studies.analysis.rank import RankCorrelation
from spectral_reach.studies.analysis.seed_spread import student_interval
from spectral_reach.studies.analysis.size_average import means_over_seeds
from spectral_reach.studies.analysis.summary import FamilySummary, Summary
from spectral_reach.studies.analysis.verdict import Verdict

LEVEL = 0.05
WELL_BELOW = 0.1  # of the unigram entropy: a run whose held-out loss ends higher has learnt little else
OVERFIT = 0.1  # of the training loss: a larger gap to the held-out loss is worth a sentence


def verdict(rank: RankCorrelation) -> Verdict:
    """What the order of the sizes says, by the rule of this file's head; undefined correlations are inconclusive."""
    if rank.p_falling <= LEVEL and rank.high < 0:
        return Verdict.SUPPORTED
    if rank.p_rising <= LEVEL and rank.low > 0:
        return Verdict.CONTRADICTED
    return Verdict.INCONCLUSIVE


def describe(summary: Summary) -> str:
    """The whole study: one paragraph a family."""
    return "\n\n".join(describe_family(family) for family in summary.families)


def describe_family(family: FamilySummary) -> str:
    """One paragraph: how far the runs are, the frontier, spectral position over sizes, held-out loss."""
    sentences = [
        _head(family),
        _unfinished(family),
        _frontier(family.frontier),
        _position(family),
        _mini_batch(family),
        _held_out(family),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _head(family: FamilySummary) -> str:
    sizes = sorted({run.parameters for run in family.runs})
    if not sizes:
        return f"{family.label}, no run has begun."
    if len(sizes) == 1:
        return f"{family.label}, one size of {size(sizes[0])} parameters."
    return f"{family.label}, {len(sizes)} sizes from {size(sizes[0])} to {size(sizes[-1])} parameters."


def _unfinished(family: FamilySummary) -> str:
    waiting = [f"{run.name} ({run.steps_done} of {run.steps} steps)" for run in family.runs if not run.is_finished]
    waiting += [f"{name} (not begun)" for name in family.not_started]
    return f"Not finished: {', '.join(waiting)}." if waiting else ""


def _frontier(frontier: Frontier) -> str:
    if frontier.reason is not None:
        return f"No loss-compute frontier is fitted: {frontier.reason}."
    noise = "runs and batches" if frontier.covers_seeds else "batch noise, not seeds"
    sensitivity = ""
    if not math.isnan(frontier.without_each_size[0]):
        sensitivity = f"; {interval(*frontier.without_each_size)} when any one size is left out"
    fit = f"exponent α = {signed(frontier.exponent, 3)} (95% interval over {noise}: "
    fit += f"{interval(frontier.low, frontier.high)}{sensitivity})"
    if frontier.low > 0:
        return f"Along the frontier the train loss falls with compute C as C^−α, {fit}."
    if frontier.high < 0:
        return f"Along the frontier the train loss rises with compute, against every scaling law: {fit}."
    return f"The frontier shows no clear fall of the train loss with compute: {fit}."


def _position(family: FamilySummary) -> str:
    rank = family.rank_chi_pos_unbiased
    if rank.reason is not None:
        return f"Spectral position cannot be compared over sizes: {rank.reason}."
    by_size: dict[int, list[Estimate]] = {}
    for run in family.runs:
        if run.late.chi_pos_unbiased.is_defined:
            by_size.setdefault(run.parameters, []).append(run.late.chi_pos_unbiased)
    means = means_over_seeds(list(by_size.values()))
    ends = " and ".join(f"{small(means.estimates[i])} at {size(list(by_size)[i])}" for i in (0, -1))
    course = (
        f"Averaged over the last tenth of training{' and over seeds' if means.covers_seeds else ''}, chi_pos_unbiased "
        f"is {ends} parameters; its rank correlation with size is {signed(rank.rho)} "
        f"({interval(rank.low, rank.high)} within the errors, {_chance(rank)})"
    )
    order = verdict(rank)
    if order not in (Verdict.SUPPORTED, Verdict.CONTRADICTED):
        return f"{course}: inconclusive, {_why_inconclusive(rank)}."
    falls = order is Verdict.SUPPORTED
    seen = f"larger models end {'deeper' if falls else 'less deep'} in the spectral tail"
    doubt = _doubt(by_size, falls=falls)
    if doubt is not None:
        return f"{course}: by rank {seen}, but {doubt}: inconclusive."
    return f"{course}: {seen}, {'as the paper says' if falls else 'which contradicts the paper'}."


def _doubt(by_size: Mapping[int, Sequence[Estimate]], *, falls: bool) -> str | None:
    """Why the smallest and the largest size do not show what the rank correlation does; None if they do."""
    sizes = (min(by_size), max(by_size))
    for parameters in sizes:
        reason = why_not_positive(by_size[parameters])
        if reason is not None:
            return f"the value at {size(parameters)} is {reason}"
    means = means_over_seeds(list(by_size.values()))
    smallest, largest = (student_interval(means.estimates[i], means.degrees) for i in (0, -1))
    lower, higher = (largest, smallest) if falls else (smallest, largest)
    return None if lower.high < higher.low else "the 95% intervals of the smallest and the largest size do not show it"


def _why_inconclusive(rank: RankCorrelation) -> str:
    if 1 / math.factorial(rank.n) > LEVEL:
        return f"{rank.n} runs are too few for any order to be clearer than chance (p ≤ {LEVEL})"
    if min(rank.p_falling, rank.p_rising) > LEVEL:
        return f"chance alone would too often give so clear an order (p > {LEVEL})"
    return "the errors of the values leave their order open"


def _mini_batch(family: FamilySummary) -> str:
    rank = family.rank_chi_pos
    if rank.reason is not None:
        return ""
    units = " or ".join(str(n) for n in sorted({n for run in family.runs for n in run.late.n_units}))
    text = f"Mini-batch chi_pos ({units} units), raised by gradient noise, has rank correlation {signed(rank.rho)}"
    text += f" ({_chance(rank)})"
    match verdict(rank):
        case Verdict.SUPPORTED:
            return f"{text}: it falls with size too."
        case Verdict.CONTRADICTED:
            return f"{text}: it rises with size."
        case _:
            return f"{text}: inconclusive."


def _chance(rank: RankCorrelation) -> str:
    """The one-sided p-value of the direction that was seen."""
    p = min(rank.p_falling, rank.p_rising)
    return f"one-sided p = {p:.2g}" if p >= 0.001 else "one-sided p < 0.001"


def _held_out(family: FamilySummary) -> str:
    known = [run for run in family.runs if run.late.heldout_reason is None]
    if not known:
        return ""
    below = [1 - run.late.heldout_loss / run.unigram_entropy for run in known]
    sentences = [f"Held-out loss ends {_span(min(below), max(below))} the unigram entropy."]
    poor = [size(run.parameters) for run, share in zip(known, below, strict=True) if share < WELL_BELOW]
    if poor:
        sentences.append(f"Not {WELL_BELOW:.0%} below it, so too little trained to be judged: {', '.join(poor)}.")
    overfit = [
        f"{size(run.parameters)} ({run.late.heldout_loss:.2f} against {run.late.train_loss.value:.2f})"
        for run in known
        if run.late.heldout_loss > (1 + OVERFIT) * run.late.train_loss.value
    ]
    if overfit:
        sentences.append(f"Over-fitting, held-out over train loss by more than {OVERFIT:.0%}: {', '.join(overfit)}.")
    return " ".join(sentences)


def _span(low: float, high: float) -> str:
    """A range of shares below something, negative ones being above it: "12% above to 30% below"."""
    sides = ["below" if share >= 0 else "above" for share in (low, high)]
    first, last = f"{abs(low):.0%}", f"{abs(high):.0%} {sides[1]}"
    if sides[0] != sides[1]:
        return f"{first} {sides[0]} to {last}"
    return last if last.startswith(first) else f"{first} to {last}"
