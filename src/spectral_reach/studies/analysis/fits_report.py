"""The fits of a study of families in one table: loss against compute and against size, both forms, or why not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from spectral_reach.studies.analysis.compute_law import compute_law
from spectral_reach.studies.analysis.numbers import with_interval
from spectral_reach.studies.analysis.power_fit import PowerFit
from spectral_reach.studies.analysis.report import Section
from spectral_reach.studies.analysis.size_law import FinalLoss, size_law
from spectral_reach.studies.analysis.study_data import FamilyData

TITLE = "Power laws of the loss"
COLUMNS = ("family", "law", "form", "exponent", "irreducible loss", "R²", "points", "interval from")
EXPLANATION = (
    "Robust fits (Huber's loss on the logarithm of the loss, several starts) with 95% intervals. L(C): the lowest "
    "train loss of any size against compute; L(N): the loss that finished runs end with against parameters. E is the "
    "irreducible loss in nats. A form that the data cannot carry has its reason in place of numbers. The line "
    "and exponent of the frontier in Figure 1 and in the words on a family are by least squares on the points of L(C), "
    "so they differ a little from the robust ones."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """One law in one form for one family.

    Attributes:
        family: its label.
        law: what is fitted to what.
        form: ``A x^-α`` or ``E + A x^-α``.
        fit: the numbers, or the reason why there are none.
        covers: what the interval is from.
    """

    family: str
    law: str
    form: str
    fit: PowerFit
    covers: str

    def cells(self) -> tuple[str, ...]:
        """Under ``COLUMNS``."""
        exponent, irreducible = self.fit.exponent, self.fit.irreducible
        if self.fit.reason is not None:
            return (self.family, self.law, self.form, "–", "–", "–", str(self.fit.n), f"not fitted: {self.fit.reason}")
        return (
            self.family,
            self.law,
            self.form,
            with_interval(exponent.value, exponent.low, exponent.high),
            with_interval(irreducible.value, irreducible.low, irreducible.high) if self.fit.with_irreducible else "–",
            "–" if math.isnan(self.fit.r2) else f"{self.fit.r2:.3f}",
            str(self.fit.n),
            self.covers,
        )

    def values(self) -> dict[str, Any]:
        """Plain JSON values."""
        exponent, irreducible = self.fit.exponent, self.fit.irreducible
        return {
            "family": self.family,
            "law": self.law,
            "form": self.form,
            "exponent": [exponent.value, exponent.low, exponent.high],
            "irreducible": [irreducible.value, irreducible.low, irreducible.high],
            "log_amplitude": self.fit.log_amplitude,
            "r2": self.fit.r2,
            "n": self.fit.n,
            "covers": self.covers,
            "reason": self.fit.reason,
        }


def fits(families: Sequence[FamilyData], *, seed: int = 0) -> tuple[Fit, ...]:
    """Every law of every family that has runs."""
    return tuple(fit for family in families if family.runs for fit in _of_family(family, seed))


def fits_section(found: Sequence[Fit]) -> Section:
    """The table for people."""
    return Section(
        title=TITLE,
        columns=COLUMNS,
        rows=tuple(fit.cells() for fit in found),
        text=EXPLANATION,
        left_out_if_narrow=("R²", "points", "interval from"),
    )


def _of_family(family: FamilyData, seed: int) -> Iterator[Fit]:
    by_compute = compute_law(family.runs, seed=seed)
    windows = "runs and batches" if by_compute.covers_seeds else "batch noise, not seeds"
    for fit in (by_compute.without_irreducible, by_compute.with_irreducible):
        yield _fit(family, "train loss along the frontier, L(C)", fit, windows)
    for quantity, law in (
        (FinalLoss.HELDOUT, "final held-out loss, L(N)"),
        (FinalLoss.TRAIN, "late train loss, L(N)"),
    ):
        by_size = size_law(family.runs, quantity, seed=seed)
        for fit in (by_size.without_irreducible, by_size.with_irreducible):
            yield _fit(family, law, fit, "scatter about the law" if fit.from_scatter else "seeds")


def _fit(family: FamilyData, law: str, fit: PowerFit, covers: str) -> Fit:
    form = "E + A x^−α" if fit.with_irreducible else "A x^−α"
    return Fit(family=family.label, law=law, form=form, fit=fit, covers=covers)
