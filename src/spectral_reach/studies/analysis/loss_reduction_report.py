"""What a loss-reduction study says: where in the spectrum the loss falls, along training and by size."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from spectral_reach.spectra.result import Spectrum
from spectral_reach.studies.analysis.estimate import Estimate
from spectral_reach.studies.analysis.numbers import size, small
from spectral_reach.studies.analysis.report import Report, Section
from spectral_reach.studies.analysis.spectra import Measured, SpectraResult, read_spectra

STUDY = "loss-reduction"
QUANTILES = (0.1, 0.5, 0.9)
COLUMNS = ("run", "step", "loss", "chi_pos", "10%", "50%", "90%", "50% is certain to be")


def report(study: Path) -> Report:
    """The report of a study folder. Raises as ``read_spectra`` does."""
    return report_of(read_spectra(study, STUDY))


def report_of(result: SpectraResult) -> Report:
    """One section: a row a snapshot."""
    section = Section(
        title="Where the loss is reduced, over all outputs",
        columns=COLUMNS,
        rows=tuple(_row(each) for each in result.measured),
        text=describe(result),
        left_out_if_narrow=("loss", "10%", "90%"),
    )
    values = {"settings": dict(result.settings), "snapshots": [_numbers(each) for each in result.measured]}
    return Report(study=STUDY, preset=result.preset, sections=(section,), legend=_LEGEND, values=values)


def describe(result: SpectraResult) -> str:
    """One paragraph: what was measured, and where the median of the loss reduction has gone in each size."""
    if not result.measured:
        return "No spectrum has been taken yet."
    one = result.measured[-1].spectrum
    waiting = f" ({len(result.measured)} of {result.planned} so far)" if len(result.measured) < result.planned else ""
    head = (
        f"{len(result.sizes)} Llamas, {len(result.measured)} spectra{waiting} over all {one.n_modes:,} outputs of "
        f"{result.settings['sequences']} sequences, {result.settings['lanczos_steps']} Lanczos steps each."
    )
    return " ".join((head, *(_course(result, parameters) for parameters in result.sizes)))


def _course(result: SpectraResult, parameters: int) -> str:
    steps = result.steps_of(parameters)
    found = [result.at(parameters, step)[0].spectrum for step in steps]
    medians = [each.position_quantile(0.5) for each in found]
    peak = max(range(len(medians)), key=medians.__getitem__)
    text = (
        f"{size(parameters)}: half of the loss reduction lies at and below p = {_plain(medians[0])} at step {steps[0]}"
    )
    if len(steps) > 1:
        if 0 < peak < len(steps) - 1:
            text += f", {_plain(medians[peak])} at step {steps[peak]}"
        text += f" and {_plain(medians[-1])} at step {steps[-1]:,}"
    return f"{text}."


def _plain(position: float) -> str:
    return small(Estimate(value=position, stderr=math.nan, n=1, reason="of one batch"))


def _row(measured: Measured) -> tuple[str, ...]:
    spectrum = measured.spectrum
    bounds = spectrum.position_bounds(0.5)
    return (
        measured.run,
        f"{measured.step:,}",
        f"{spectrum.loss:.3f}",
        f"{spectrum.chi_pos:.2e}",
        *(f"{spectrum.position_quantile(q):.1e}" for q in QUANTILES),
        f"{bounds.low:.1e} to {'?' if math.isinf(bounds.high) else f'{bounds.high:.1e}'}",
    )


def _numbers(measured: Measured) -> dict[str, Any]:
    spectrum = measured.spectrum
    return {
        "run": measured.run,
        "parameters": measured.parameters,
        "step": measured.step,
        "flops": measured.flops,
        "loss": spectrum.loss,
        "chi_loss": spectrum.chi_loss,
        "chi_net": spectrum.chi_net,
        "chi_net_stderr": spectrum.chi_net_stderr,
        "chi_pos": spectrum.chi_pos,
        "quantiles": [_quantile(spectrum, q) for q in QUANTILES],
    }


def _quantile(spectrum: Spectrum, q: float) -> dict[str, Any]:
    bounds = spectrum.position_bounds(q)
    high = None if math.isinf(bounds.high) else bounds.high
    return {"q": q, "position": spectrum.position_quantile(q), "low": bounds.low, "high": high}


_LEGEND = (
    "10%, 50%, 90%: the normalised eigenvalue at and below which that share of the loss reduction of a gradient step "
    "on this batch happens. Certain: what the Lanczos steps prove of the 50%, but for rounding and the error of the "
    "trace."
)
