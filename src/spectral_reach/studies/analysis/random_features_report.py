"""What a random-features study says, in a table and in words, whichever way its numbers fall."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spectral_reach.studies.analysis.estimate import Estimate
from spectral_reach.studies.analysis.numbers import signed, with_error
from spectral_reach.studies.analysis.random_features import (
    TOLERANCE_OF_POSITION,
    TOLERANCE_OF_UNITY,
    ExponentResult,
    RandomFeaturesResult,
    read_random_features,
)
from spectral_reach.studies.analysis.report import Report, Section

COLUMNS = ("exponent", "draws", "chi_loss", "chi_net", "chi_pos", "predicted", "excess", "allowed")


def report(study: Path) -> Report:
    """The report of a study folder. Raises as ``read_random_features`` does."""
    return report_of(read_random_features(study))


def report_of(result: RandomFeaturesResult) -> Report:
    """One section: a row an exponent, and the verdict."""
    section = Section(
        title="Random ReLU features on power-law data",
        columns=COLUMNS,
        rows=tuple(_row(each) for each in result.exponents),
        text=describe(result),
        left_out_if_narrow=("draws", "allowed"),
    )
    values = {"settings": dict(result.settings), "exponents": [_numbers(each) for each in result.exponents]}
    return Report(study="random-features", preset=result.preset, sections=(section,), legend=_LEGEND, values=values)


def describe(result: RandomFeaturesResult) -> str:
    """One paragraph: what was drawn, how far the measured components are from the predicted ones, and whether that is
    within what is asked."""
    settings = result.settings
    if not result.exponents:
        return "No draw has been measured yet."
    sizes = (
        f"{settings['inputs']:,} inputs of dimension {settings['dimension']:,}, {settings['features']:,} features and "
        f"{settings['teachers']} teachers"
    )
    waiting = f" of {result.planned} planned" if result.draws < result.planned else ""
    head = f"{result.draws} draws{waiting}, each of {sizes}."
    return " ".join((head, _distance(result), _verdict(result)))


def _distance(result: RandomFeaturesResult) -> str:
    loss = max(abs(each.chi_loss.value - 1) for each in result.exponents)
    net = max(result.exponents, key=lambda each: abs(each.chi_net.value - 1))
    position = max(result.exponents, key=lambda each: abs(each.excess.value))
    exactly = "1 to rounding" if loss < 1e-6 else f"within {100 * loss:.2f}% of 1"
    return (
        f"chi_loss is {exactly}, as standardised; chi_net is farthest from 1 at exponent {net.exponent:g}, "
        f"{with_error(net.chi_net)}; chi_pos is farthest from Σp² at exponent {position.exponent:g}, by "
        f"{_percent(position.excess)}."
    )


def _verdict(result: RandomFeaturesResult) -> str:
    bounds = (
        f"chi_loss and chi_net within {100 * TOLERANCE_OF_UNITY:g}% of 1 and chi_pos within its standard error and "
        f"{100 * TOLERANCE_OF_POSITION:g}% of Σp²"
    )
    if any(math.isnan(each.allowed_excess) for each in result.exponents):
        return f"Whether {bounds}, more draws must tell: one has no standard error."
    missed = [f"{each.exponent:g}" for each in result.exponents if not each.holds]
    if missed:
        return f"Missed at exponent {', '.join(missed)}: {bounds}."
    return f"At every exponent {bounds}."


def _row(result: ExponentResult) -> tuple[str, ...]:
    return (
        f"{result.exponent:g}",
        str(result.draws),
        f"{result.chi_loss.value:.4f}",
        with_error(result.chi_net),
        with_error(result.chi_pos),
        f"{result.predicted_chi_pos:.4f}",
        _percent(result.excess),
        "–" if math.isnan(result.allowed_excess) else f"± {100 * result.allowed_excess:.1f}%",
    )


def _percent(estimate: Estimate) -> str:
    value = f"{signed(100 * estimate.value, 1)}"
    return f"{value}%" if math.isnan(estimate.stderr) else f"({value} ± {100 * estimate.stderr:.1f})%"


def _numbers(result: ExponentResult) -> dict[str, Any]:
    estimates = {name: asdict(getattr(result, name)) for name in ("chi_loss", "chi_net", "chi_pos", "excess")}
    return {
        "exponent": result.exponent,
        "draws": result.draws,
        **estimates,
        "predicted_chi_pos": result.predicted_chi_pos,
        "allowed_excess": result.allowed_excess,
        "holds": result.holds,
    }


_LEGEND = (
    "Exponent: of the covariance eigenvalues k^-exponent. Means over draws of inputs, features and teachers with their "
    "standard errors. chi_pos of a draw is the ratio of means over its teachers, predicted the mean of Σp² of the "
    "arc-cosine kernel on the draws' inputs, excess that of chi_pos over the prediction of its own draw."
)
