"""What the numbers of a study say, in words, whichever way they fall. The text under the figure.

Every sentence is chosen by the thresholds below and by the rule of ``size_order``, and by nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from spectral_reach.studies.analysis.estimate import Estimate
from spectral_reach.studies.analysis.frontier import Frontier
from spectral_reach.studies.analysis.numbers import interval, signed, size, small
from spectral_reach.studies.analysis.rank import RankCorrelation
from spectral_reach.studies.analysis.size_order import LEVEL, SizeOrder, size_order, verdict_of_rank
from spectral_reach.studies.analysis.summary import FamilySummary, Summary
from spectral_reach.studies.analysis.verdict import Verdict

WELL_BELOW = 0.1  # of the unigram entropy: a run whose held-out loss ends higher has learnt little else
OVERFIT = 0.1  # of the training loss: a larger gap to the held-out loss is worth a sentence


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


def late_order(family: FamilySummary, measure: str) -> SizeOrder:
    """What the late ``measure`` of the family, ``chi_pos`` or ``chi_pos_unbiased``, does with size."""
    late: dict[int, list[Estimate]] = {}
    for run in family.runs:
        late.setdefault(run.parameters, []).append(getattr(run.late, measure))
    rank: RankCorrelation = getattr(family, f"rank_{measure}")
    return size_order({parameters: each for parameters, each in late.items() if _any_defined(each)}, rank)


def _any_defined(runs: Sequence[Estimate]) -> bool:
    return any(each.is_defined for each in runs)


def _position(family: FamilySummary) -> str:
    if family.rank_chi_pos_unbiased.reason is not None:
        return f"Spectral position cannot be compared over sizes: {family.rank_chi_pos_unbiased.reason}."
    order = late_order(family, "chi_pos_unbiased")
    rank = order.rank
    ends = " and ".join(f"{small(end.late)} at {size(end.parameters)}" for end in (order.smallest, order.largest))
    course = (
        f"Averaged over the last tenth of training{' and over seeds' if order.covers_seeds else ''}, chi_pos_unbiased "
        f"is {ends} parameters; its rank correlation with size is {signed(rank.rho)} "
        f"({interval(rank.low, rank.high)} within the errors, {_chance(rank)})"
    )
    if order.by_rank not in (Verdict.SUPPORTED, Verdict.CONTRADICTED):
        return f"{course}: inconclusive, {_why_inconclusive(rank)}."
    falls = order.by_rank is Verdict.SUPPORTED
    seen = f"larger models end {'deeper' if falls else 'less deep'} in the spectral tail"
    if order.verdict is Verdict.INCONCLUSIVE:
        doubt = order.reason or "the 95% intervals of the smallest and the largest size do not show it"
        return f"{course}: by rank {seen}, but {doubt}: inconclusive."
    return f"{course}: {seen}, {'as the paper says' if falls else 'which contradicts the paper'}."


def _why_inconclusive(rank: RankCorrelation) -> str:
    if 1 / math.factorial(rank.sizes) > LEVEL:
        return f"{rank.sizes} sizes are too few for any order to be clearer than chance (p ≤ {LEVEL})"
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
    match verdict_of_rank(rank):
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
