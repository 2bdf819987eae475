"""The result of one measurement: the loss, network and position components of the linearised loss change."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

from spectral_reach.estimators.student import student_factor


@dataclass(frozen=True, kw_only=True, slots=True)
class RawDecomposition:
    """The components before normalisation: they grow or shrink with the number of samples N.

    Attributes:
        chi_loss: ||u||^2, with u the gradient of the mean loss at the outputs.
        chi_net: Tr(J J^T), over all N K outputs.
        chi_net_stderr: its standard error, as in ``Decomposition``.
        chi_pos: the same in both conventions.
        delta_loss: the same in both conventions.
    """

    chi_loss: float
    chi_net: float
    chi_net_stderr: float
    chi_pos: float
    delta_loss: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Decomposition:
    """``delta_loss = chi_loss * chi_net * chi_pos``: the linearised loss change of a gradient step, taken apart.

    With N samples, u = dL/df and the empirical neural tangent kernel Theta = J J^T, the stored values are normalised
    so that they do not depend on N: ``chi_loss = N ||u||^2`` and ``chi_net = Tr(Theta) / N``. ``raw`` undoes that.
    For two batches (``against``) A makes the step and B feels it: ``delta_loss = <g_A, g_B>``, ``chi_loss`` and
    ``chi_net`` are geometric means and ``chi_pos`` lies in [-1, 1]. A value that is not defined is NaN, and
    ``undefined`` says why. Source: arXiv 2605.31244; noise correction: a U-statistic over units (docs/theory.md).

    Attributes:
        loss: mean loss per sample, for cross entropy in nats; of the batch that feels the step when there are two.
        chi_loss: mean squared per-sample loss gradient, N ||u||^2.
        chi_net: mean kernel diagonal per sample, summed over the K outputs, Tr(Theta) / N.
        chi_pos: spectral position, the mean normalised kernel eigenvalue under the loss gradient, of this batch; in
            [0, 1] up to rounding with an exact ``chi_net``, while an estimate of that may take it out.
        delta_loss: ||dL/dtheta||^2 of this batch: the loss falls by eta * delta_loss in a gradient step of size eta.
        chi_net_stderr: standard error of ``chi_net`` for this batch, over probes; 0 where the trace is exact.
        chi_net_population_stderr: its standard error over draws of the batch too, from the spread over units.
        chi_pos_stderr: the same error carried over to ``chi_pos`` (delta method).
        delta_loss_unbiased: estimate of ||dL/dtheta||^2 of the whole population, free of mini-batch noise.
        delta_loss_unbiased_stderr: its standard error over draws of the batch.
        chi_pos_unbiased: ``delta_loss_unbiased / (chi_loss * chi_net)``: the position to compare across batch sizes.
        chi_pos_unbiased_stderr: its standard error over draws of the batch (and over probes).
        gradient_noise_scale: tr(Sigma) / ||G||^2, a number of units (McCandlish et al. 2018): in a batch of so many
            the noise of the gradient is as large as the gradient.
        n_samples: N, rows that carry a label, in the batch (in batch A of two).
        n_samples_against: N of batch B; None with one batch.
        n_units: independent examples (sequences, images) that hold at least one sample (in batch A of two).
        units: how many of them ``chi_net`` was estimated from (in the smaller batch of two).
        noise_units: how many of them have their loss gradients multiplied with those of all others, which is what the
            standard errors of the noise-corrected values are known from; 0 where none.
        n_outputs: K, outputs per sample.
        probes: random probes behind ``chi_net``; 0 for an exact trace.
        estimator: which estimator of chi_net was used.
        passed_over: what ``auto`` found amiss with the model, so that it did not take a better estimator; else empty.
        undefined: for each NaN field, the reason.
    """

    loss: float
    chi_loss: float
    chi_net: float
    chi_pos: float
    delta_loss: float
    chi_net_stderr: float
    chi_net_population_stderr: float
    chi_pos_stderr: float
    delta_loss_unbiased: float
    delta_loss_unbiased_stderr: float
    chi_pos_unbiased: float
    chi_pos_unbiased_stderr: float
    gradient_noise_scale: float
    n_samples: int
    n_samples_against: int | None
    n_units: int
    units: int
    noise_units: int
    n_outputs: int
    probes: int
    estimator: str
    passed_over: str = ""
    undefined: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        nan = {f.name for f in fields(self) if isinstance(v := getattr(self, f.name), float) and math.isnan(v)}
        assert nan == set(self.undefined), f"NaN fields {sorted(nan)} and reasons {sorted(self.undefined)} differ"
        object.__setattr__(self, "undefined", MappingProxyType(dict(self.undefined)))

    @classmethod
    def undefined_everywhere(cls, reason: str, estimator: str) -> Decomposition:
        """The row of a step that could not be measured: every value NaN for the same ``reason``, every count 0."""
        floats = [f.name for f in fields(cls) if f.type == "float"]
        values: dict[str, Any] = dict.fromkeys(floats, math.nan)
        return cls(
            **values,
            n_samples=0,
            n_samples_against=None,
            n_units=0,
            units=0,
            noise_units=0,
            n_outputs=0,
            probes=0,
            estimator=estimator,
            undefined=dict.fromkeys(floats, reason),
        )

    @property
    def raw(self) -> RawDecomposition:
        """The unnormalised components (with two batches N is sqrt(N_A N_B))."""
        other = self.n_samples if self.n_samples_against is None else self.n_samples_against
        n = math.sqrt(self.n_samples * other)
        return RawDecomposition(
            chi_loss=self.chi_loss / n if n else math.nan,
            chi_net=self.chi_net * n,
            chi_net_stderr=self.chi_net_stderr * n,
            chi_pos=self.chi_pos,
            delta_loss=self.delta_loss,
        )

    def interval(self, name: str, level: float = 0.95) -> tuple[float, float]:
        """A confidence interval: lower and upper end, NaN where the standard error is.

        Student's factor for the units (and probes) behind the error takes the place of the normal one. Too small an
        estimate of a noise-corrected value comes with too small an error, for both grow with the gradients of the
        units that were drawn. Its interval holds all values from which the estimate is no further than the error
        *there* allows, as Wilson's does for a proportion, where half of the squared error is taken to be in proportion
        to the value: it reaches further up than down. How often it holds the truth: docs/theory.md.

        Args:
            name: ``"chi_net"`` or ``"chi_pos"`` (this batch, other probes), ``"chi_net_population"``,
                ``"delta_loss_unbiased"`` or ``"chi_pos_unbiased"`` (other batches).
            level: the share of such intervals that hold the truth.
        """
        if not 0 < level < 1:
            raise ValueError(f"level is {level!r}; expected a number between 0 and 1, for example 0.95")
        probes = max(self.probes - 1, 1)
        by_probes = probes if self.estimator == "batch" else max(self.units * probes, 1)
        freedoms: dict[str, float] = {
            "chi_net": by_probes if self.units == self.n_units else self.units - 1,
            "chi_pos": by_probes if self.units == self.n_units else self.units - 1,
            "chi_net_population": self.units - 1,
            "delta_loss_unbiased": self._noise_freedom,
            "chi_pos_unbiased": self._noise_freedom,
        }
        if name not in freedoms:
            raise ValueError(f"name is {name!r}; expected one of {', '.join(freedoms)}")
        value = self.chi_net if name == "chi_net_population" else float(getattr(self, name))
        stderr = float(getattr(self, f"{name}_stderr"))
        if math.isnan(value) or math.isnan(stderr):
            return math.nan, math.nan
        factor = student_factor(max(freedoms[name], 1), level)
        if not name.endswith("_unbiased") or stderr == 0:
            return value - factor * stderr, value + factor * stderr
        # (value - x)^2 = factor^2 (stderr^2 + slope (x - value)), solved for x.
        slope = stderr**2 / (2 * max(value, stderr))
        shift = factor**2 * slope / 2
        half = math.hypot(factor * stderr, shift)
        return value + shift - half, value + shift + half

    @property
    def _noise_freedom(self) -> float:
        """Degrees of freedom of the error of the noise-corrected values.

        Products of gradients have heavier tails than normal numbers. With an excess kurtosis of 1 the variance of m
        of them is as well known as from 2 / (1/m + 2/(m - 1)) degrees of freedom; simulations ask for no such
        allowance where all units are multiplied with each other.
        """
        m = self.noise_units
        all_of_them = self.n_samples_against is not None or m == self.n_units
        return m - 1 if all_of_them or m < 2 else 2 / (1 / m + 2 / (m - 1))

    def as_dict(self) -> dict[str, Any]:
        """Every field by name, in order; ``undefined`` as a plain dict."""
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        values["undefined"] = dict(self.undefined)
        return values

    def __str__(self) -> str:
        def line(name: str, stderr: str | None = None) -> str:
            value = getattr(self, name)
            text = f"  {name:<21}{value:>12.5g}"
            if stderr is not None:
                error = getattr(self, stderr)
                exact = error == 0 and not name.endswith("_unbiased")
                text += " (exact)" if exact else "" if math.isnan(error) else f" ± {error:.2g}"
            if name in self.undefined:
                text += f"  ({self.undefined[name]})"
            return text

        pair = "" if self.n_samples_against is None else f" against {self.n_samples_against}"
        head = (
            f"Decomposition: {self.n_samples}{pair} samples in {self.n_units} units, {self.n_outputs} outputs each, "
            f"estimator {self.estimator}" + (f" ({self.probes} probes)" if self.probes else "")
        )
        return "\n".join(
            [
                head,
                line("loss"),
                line("delta_loss"),
                line("chi_loss"),
                line("chi_net", "chi_net_stderr"),
                line("chi_pos", "chi_pos_stderr"),
                line("delta_loss_unbiased", "delta_loss_unbiased_stderr"),
                line("chi_pos_unbiased", "chi_pos_unbiased_stderr"),
                line("gradient_noise_scale"),
                *([f"  (passed over {self.passed_over})"] if self.passed_over else []),
            ]
        )
