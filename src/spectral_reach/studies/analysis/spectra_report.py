"""What a spectra study says: how the kernel and the loss gradient on it have changed between start and end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spectral_reach.spectra.result import Spectrum
from spectral_reach.studies.analysis.estimate import Estimate, mean
from spectral_reach.studies.analysis.numbers import interval, size, small, with_error
from spectral_reach.studies.analysis.report import Report, Section
from spectral_reach.studies.analysis.spectra import Measured, SpectraResult, read_spectra

STUDY = "spectra"

COLUMNS = ("step", "sequences", "chi_pos", "median position", "participation ratio", "effective rank", "tail exponent")

TOP = 10
"""Modes at the top of the spectrum whose share of the loss reduction is told."""


def report(study: Path) -> Report:
    """The report of a study folder. Raises as ``read_spectra`` does."""
    return report_of(read_spectra(study, STUDY))


def report_of(result: SpectraResult) -> Report:
    """One section: a row a snapshot."""
    snapshots = [(p, step) for p in result.sizes for step in result.steps_of(p)]
    section = Section(
        title="Explicit spectra of the empirical kernel",
        columns=COLUMNS,
        rows=tuple(_row(step, result.at(p, step)) for p, step in snapshots),
        text=describe(result),
        left_out_if_narrow=("sequences", "effective rank"),
    )
    values = {
        "settings": dict(result.settings),
        "snapshots": [_numbers(p, step, result.at(p, step)) for p, step in snapshots],
    }
    return Report(study=STUDY, preset=result.preset, sections=(section,), legend=_LEGEND, values=values)


def describe(result: SpectraResult) -> str:
    """One paragraph: what was decomposed, and what training has changed in it."""
    if not result.measured:
        return "No spectrum has been taken yet."
    parameters = result.sizes[-1]
    start, end = result.steps_of(parameters)[0], result.steps_of(parameters)[-1]
    first, last = result.at(parameters, start), result.at(parameters, end)
    one = result.measured[0].spectrum
    waiting = f" ({len(result.measured)} of {result.planned} so far)" if len(result.measured) < result.planned else ""
    head = (
        f"A Llama of {size(parameters)} parameters; kernels of {one.n_modes:,} outputs, {one.n_samples} positions of "
        f"a sequence x its {one.n_outputs} most frequent next tokens, on {len(first)} sequences{waiting}. These "
        f"outputs hold {_mean(last, lambda s: s.share_of_loss_gradient).value:.0%} of the squared loss gradient at the "
        "end."
    )
    return head if start == end else " ".join((head, _change(first, last, end)))


def _change(first: Sequence[Measured], last: Sequence[Measured], end: int) -> str:
    positions = [small(_mean(each, lambda s: s.chi_pos)) for each in (first, last)]
    tops = [f"{_mean(each, top_share).value:.0%}" for each in (first, last)]
    ratios = [with_error(_mean(each, lambda s: s.participation_ratio)) for each in (first, last)]
    return (
        f"From initialisation to step {end:,} chi_pos goes from {positions[0]} to {positions[1]}, the share of the "
        f"loss reduction on the {TOP} largest modes from {tops[0]} to {tops[1]}, and the participation ratio of the "
        f"kernel from {ratios[0]} to {ratios[1]}."
    )


def top_share(spectrum: Spectrum) -> float:
    """Of the loss reduction, on the largest modes."""
    return float(spectrum.loss_reduction.weights[:TOP].sum())


def _mean(measured: Sequence[Measured], value: Callable[[Spectrum], float]) -> Estimate:
    return mean(np.array([value(each.spectrum) for each in measured]))


def _row(step: int, measured: Sequence[Measured]) -> tuple[str, ...]:
    tails = [each.spectrum.tail() for each in measured]
    tail = "–"
    if tails and not any(each.undefined for each in tails):
        # Of the sequences each has an interval of its own; the widest ends are safe.
        low, high = min(each.low for each in tails), max(each.high for each in tails)
        tail = f"{np.mean([each.exponent for each in tails]):.2f} ({interval(low, high)})"
    return (
        f"{step:,}",
        str(len(measured)),
        small(_mean(measured, lambda s: s.chi_pos)),
        small(_mean(measured, lambda s: s.position_quantile(0.5))),
        with_error(_mean(measured, lambda s: s.participation_ratio)),
        with_error(_mean(measured, lambda s: s.effective_rank)),
        tail,
    )


def _numbers(parameters: int, step: int, measured: Sequence[Measured]) -> dict[str, Any]:
    def of_each(spectrum: Spectrum) -> dict[str, Any]:
        tail = spectrum.tail()
        return {
            "loss": spectrum.loss,
            "chi_loss": spectrum.chi_loss,
            "chi_net": spectrum.chi_net,
            "chi_pos": spectrum.chi_pos,
            "median_position": spectrum.position_quantile(0.5),
            "share_of_top_modes": top_share(spectrum),
            "participation_ratio": spectrum.participation_ratio,
            "effective_rank": spectrum.effective_rank,
            "share_of_loss_gradient": spectrum.share_of_loss_gradient,
            "tail_exponent": tail.exponent,
            "tail_low": tail.low,
            "tail_high": tail.high,
        }

    return {"parameters": parameters, "step": step, "sequences": [of_each(each.spectrum) for each in measured]}


_LEGEND = (
    "Means over sequences with their standard errors. Median position: the normalised eigenvalue at and below which "
    "half of the loss reduction happens. Participation ratio 1 / Σp², effective rank exp(-Σ p ln p). Tail exponent a "
    "of p_k ~ k^-a, with the widest ends of the sequences' 95% intervals."
)
