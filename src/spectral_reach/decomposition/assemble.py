"""The pieces of a measurement brought together, every NaN with its reason."""

from __future__ import annotations

import math
from dataclasses import dataclass

from spectral_reach.decomposition import lnp
from spectral_reach.decomposition.result import Decomposition
from spectral_reach.estimators import TraceEstimate
from spectral_reach.estimators.gradient_noise import NoiseFreeNorm
from spectral_reach.measured.extent import Extent


@dataclass(frozen=True, kw_only=True, slots=True)
class TraceErrors:
    """What is known of the error of chi_net, of one batch or of the geometric mean of two."""

    stderr: float
    stderr_undefined: str
    population_stderr: float
    population_undefined: str
    passed_over: str

    @classmethod
    def of(cls, trace: TraceEstimate, other: TraceEstimate | None = None) -> TraceErrors:
        """From the trace of one batch, or from those of two."""
        stderr, population_stderr = trace.stderr, trace.population_stderr
        if other is not None:
            chi_nets = trace.chi_net, other.chi_net
            stderr = lnp.geometric_mean_stderr(*chi_nets, trace.stderr, other.stderr)
            population_stderr = lnp.geometric_mean_stderr(*chi_nets, trace.population_stderr, other.population_stderr)
        both = [trace] if other is None else [trace, other]
        return cls(
            stderr=stderr,
            stderr_undefined=next((t.undefined for t in both if t.undefined), ""),
            population_stderr=population_stderr,
            population_undefined=next((t.population_undefined for t in both if t.population_undefined), ""),
            passed_over=next((t.passed_over for t in both if t.passed_over), ""),
        )


def assemble(
    extent: Extent,
    *,
    loss: float,
    delta_loss: float,
    chi_loss: float,
    chi_net: float,
    errors: TraceErrors,
    estimator: str,
    probes: int,
    n_samples_against: int | None,
    noise: NoiseFreeNorm | None,
    noise_undefined: str,
    units: int,
    chi_net_by_unit: bool,
) -> Decomposition:
    """Bring the pieces together and give every NaN its reason."""
    undefined: dict[str, str] = {}

    def defined(name: str, value: float, reason: str) -> float:
        if math.isnan(value):
            assert reason, f"{name} is NaN without a reason"
            undefined[name] = reason
        return value

    position = lnp.position(delta_loss, chi_loss, chi_net, errors.stderr, is_exact=probes == 0)
    no_position = position.undefined
    nan = NoiseFreeNorm(
        value=math.nan,
        stderr=math.nan,
        position=(math.nan, math.nan),
        noise_scale=math.nan,
        units=0,
    )
    known = nan if noise is None else noise
    unbiased, unbiased_stderr = math.nan, math.nan
    # Where chi_net is known by unit, the position of ``noise`` holds it already.
    chi_net_in_position = 1.0 if chi_net_by_unit else chi_net
    if not no_position:
        unbiased = known.position[0] / chi_net_in_position
        unbiased_stderr = known.position[1] / chi_net_in_position
        if not chi_net_by_unit:
            # The error of the probes adds to that of the draw of the batch. By unit it is part of how units differ.
            unbiased_stderr = math.hypot(unbiased_stderr, unbiased * errors.stderr / chi_net)
    if noise is None:
        no_scale = noise_undefined
    elif n_samples_against is not None:
        no_scale = "defined for one batch, not for a pair"
    else:
        no_scale = "the noise-corrected gradient norm is not positive: too few units to tell the signal from the noise"
    return Decomposition(
        loss=loss,
        chi_loss=chi_loss,
        chi_net=chi_net,
        chi_pos=defined("chi_pos", position.value, no_position),
        delta_loss=delta_loss,
        chi_net_stderr=defined("chi_net_stderr", errors.stderr, errors.stderr_undefined),
        chi_net_population_stderr=defined(
            "chi_net_population_stderr", errors.population_stderr, errors.population_undefined
        ),
        chi_pos_stderr=defined("chi_pos_stderr", position.stderr, no_position or errors.stderr_undefined),
        delta_loss_unbiased=defined("delta_loss_unbiased", known.value, noise_undefined),
        delta_loss_unbiased_stderr=defined(
            "delta_loss_unbiased_stderr", known.stderr, noise_undefined if noise is None else noise.stderr_undefined
        ),
        chi_pos_unbiased=defined("chi_pos_unbiased", unbiased, no_position or noise_undefined),
        chi_pos_unbiased_stderr=defined(
            "chi_pos_unbiased_stderr",
            unbiased_stderr,
            no_position
            or (noise_undefined if noise is None else noise.position_stderr_undefined)
            or ("" if chi_net_by_unit else errors.stderr_undefined),
        ),
        gradient_noise_scale=defined("gradient_noise_scale", known.noise_scale, no_scale),
        n_samples=extent.n_samples,
        n_samples_against=n_samples_against,
        n_units=extent.n_units,
        units=units,
        noise_units=known.units,
        n_outputs=extent.n_outputs,
        probes=probes,
        estimator=estimator,
        passed_over=errors.passed_over,
        undefined=undefined,
    )
