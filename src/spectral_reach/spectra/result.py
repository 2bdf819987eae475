"""The result: where the eigenvalues are, where the loss gradient stands among them, and where the loss reduction is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np

from spectral_reach.measured.arguments import integer
from spectral_reach.spectra.density import Density
from spectral_reach.spectra.krylov import Floats, Krylov, Rule
from spectral_reach.spectra.power_law import PowerLaw, fit_tail
from spectral_reach.spectra.quadrature import Bounds, ReductionBounds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Method = Literal["explicit", "lanczos"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Spectrum:
    """The spectrum of a kernel Theta in a space of n outputs, and a loss gradient u in it.

    All values are normalised as in ``Decomposition``, with the chosen samples as the batch: chi_loss = N ||u||^2,
    chi_net = Tr(Theta) / N, p = lambda / Tr(Theta).

    Attributes:
        method: ``"explicit"``: every mode. ``"lanczos"``: p and gamma2 are nodes and weights of a Gauss rule, the
            m-point measure that has the first 2m moments of sum_k gamma_k^2 delta(p - p_k).
        p: normalised eigenvalues or nodes, float64, descending. Those of ``"explicit"`` sum to 1.
        gamma2: shares of the squared loss gradient, float64, sum 1; NaN where the loss gradient is zero.
        loss: L; NaN for a bare kernel.
        chi_loss: N ||u||^2 of the chosen outputs.
        chi_net: Tr(Theta) / N of the chosen outputs.
        chi_net_stderr: its standard error; 0 where it is exact. Every p has that relative error.
        delta_loss: u^T Theta u.
        n_samples: N, chosen samples.
        n_outputs: K, chosen classes.
        n_parameters: P; 0 for a bare kernel.
        share_of_loss_gradient: ||u||^2 of the chosen outputs as a share of that of all outputs of the batch.
        rounding: normalised eigenvalues below are rounding.
        eigenvectors: q_k as columns, (n, n) float64, rows over samples, then classes; None unless asked for.
        krylov: what the process from the loss gradient left; of ``"lanczos"`` only.
        density: the density of all eigenvalues; where random vectors were asked for and the trace is not zero.
        tolerance: on the quantiles, at which the process was to stop.
        converged: whether the quantiles that were asked for are known within the tolerance.
        undefined: why a value is NaN, by its name.
    """

    method: Method
    p: Floats
    gamma2: Floats
    loss: float
    chi_loss: float
    chi_net: float
    chi_net_stderr: float
    delta_loss: float
    n_samples: int
    n_outputs: int
    n_parameters: int
    share_of_loss_gradient: float
    rounding: float
    eigenvectors: Floats | None = None
    krylov: Krylov | None = None
    density: Density | None = None
    tolerance: float = 0.0
    converged: bool = True
    undefined: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "undefined", MappingProxyType(dict(self.undefined)))

    @property
    def n_modes(self) -> int:
        """n = N K, the dimension of the output space."""
        return self.n_samples * self.n_outputs

    @property
    def chi_pos(self) -> float:
        """sum_k gamma_k^2 p_k, the spectral position; NaN where the loss gradient or the kernel is zero."""
        return float((self.gamma2 * self.p).sum())

    @property
    def loss_reduction(self) -> Rule:
        """gamma_k^2 p_k / chi_pos at p_k: how the loss reduction of a gradient step is spread over the spectrum.

        Raises:
            ValueError: there is none: the loss gradient or its part in the kernel's range is zero.
        """
        self._check_reduction()
        if self.krylov is None:
            return Rule(nodes=self.p, weights=self.gamma2 * self.p / self.chi_pos)
        rule = self.krylov.along_the_gradient()
        return Rule(nodes=rule.nodes / self._trace, weights=rule.weights)

    def position_quantile(self, q: float) -> float:
        """The normalised eigenvalue at and below which a fraction q of the loss reduction happens.

        Explicit: the least p_k for which that holds. Lanczos: between its bounds, on the line through the middles of
        the rule's steps; ``position_bounds`` has what is certain.

        Raises:
            ValueError, TypeError: q is not between 0 and 1, or there is no loss reduction.
        """
        _check_fraction(q)
        rule = self.loss_reduction
        if self.krylov is None or self.krylov.exhausted:
            return rule.quantile(q)
        bounds = self.position_bounds(q)
        nodes, weights = rule.nodes[::-1], rule.weights[::-1]
        middles = np.cumsum(weights) - weights / 2
        line = math.exp(float(np.interp(q, middles, np.log(nodes))))
        return min(max(line, bounds.low), bounds.high)

    def position_bounds(self, q: float, steps: int | None = None) -> Bounds:
        """What is certain of ``position_quantile(q)``, up to rounding and the error of the trace.

        Explicit spectra leave nothing open. ``steps`` asks what fewer Lanczos steps would have told.

        Raises:
            ValueError, TypeError: as ``position_quantile``, or ``steps`` is not between 1 and what was made.
        """
        _check_fraction(q)
        self._check_reduction()
        if self.krylov is None:
            value = self.loss_reduction.quantile(q)
            return Bounds(low=value, high=value)
        if steps is not None and not 1 <= integer("steps", steps) <= self.krylov.steps:
            raise ValueError(f"steps is {steps}; expected 1 to {self.krylov.steps}, those that were made")
        small = self.krylov if steps is None else self.krylov.first(steps)
        bounds = ReductionBounds(small).quantile(q)
        return Bounds(low=bounds.low / self._trace, high=bounds.high / self._trace)

    @property
    def steps(self) -> int:
        """Lanczos steps that were made; 0 for explicit spectra."""
        return 0 if self.krylov is None else self.krylov.steps

    @property
    def participation_ratio(self) -> float:
        """1 / sum_k p_k^2: how many equal modes would have the same sum of squares."""
        if self.method == "explicit":
            return float(1 / (self.p**2).sum())
        return math.nan if self.density is None else self.density.participation_ratio.value

    @property
    def effective_rank(self) -> float:
        """exp(-sum_k p_k ln p_k)."""
        if self.method == "explicit":
            kept = self.p[~(self.p == 0)]  # a NaN stays: nothing is undefined in silence
            return float(np.exp(-(kept * np.log(kept)).sum()))
        return math.nan if self.density is None else self.density.effective_rank.value

    def tail(self, first: int | None = None, last: int | None = None) -> PowerLaw:
        """The power law p_k ~ k^-a of the tail with its interval, for modes ``first`` to ``last``; see ``fit_tail``.

        Raises:
            ValueError, TypeError: the spectrum is not explicit, or the range is none.
        """
        if self.method != "explicit":
            raise ValueError("the tail's exponent needs every mode; expected a spectrum by method='explicit'")
        return fit_tail(self.p, self.rounding, first, last)

    def save(self, file: Path | str) -> Path:
        """Write everything to ``file`` (.npz, no pickle), whole or not at all; returns the file.

        Raises:
            ValueError: the name does not end in .npz.
            RecordError: the file cannot be written.
        """
        from spectral_reach.records.arrays import save_arrays
        from spectral_reach.spectra.arrays import to_arrays

        return save_arrays(to_arrays(self), Path(file))

    @classmethod
    def load(cls, file: Path | str) -> Spectrum:
        """Read what ``save`` wrote.

        Raises:
            RecordError: the file cannot be read, is damaged or holds something else.
            ValueError: it is no spectrum, or one of another version.
        """
        from spectral_reach.records.arrays import load_arrays
        from spectral_reach.spectra.arrays import from_arrays

        return from_arrays(load_arrays(Path(file)))

    def plot(self) -> Figure:
        """p_k, gamma_k^2 and their product against k, and the distribution of the loss reduction, as a figure.

        Raises:
            ModuleNotFoundError: matplotlib is not installed.
        """
        from spectral_reach.figures.spectrum_panels import plot_spectrum

        return plot_spectrum(self)

    def _check_reduction(self) -> None:
        # A position is made of rounding below one rounding of the largest mode, or far below the mean one.
        least = self.rounding / 8
        if self.krylov is not None:
            least = 64 * self.rounding / float(self.p[0]) / self.n_modes if self.p[0] > 0 else 0.0
        if not self.chi_pos > least:
            raise ValueError(
                "the loss reduction is zero: the loss gradient lies where the kernel is 0, or is 0 itself; expected a "
                "gradient that a step would follow"
            )

    @property
    def _trace(self) -> float:
        return self.chi_net * self.n_samples

    def __str__(self) -> str:
        from spectral_reach.spectra.table import table

        return table(self)


def _check_fraction(q: object) -> None:
    if isinstance(q, bool) or not isinstance(q, Real):
        raise TypeError(f"q is {q!r}; expected a fraction between 0 and 1")
    if not 0 < float(q) < 1:
        raise ValueError(f"q is {q!r}; expected a fraction between 0 and 1")
