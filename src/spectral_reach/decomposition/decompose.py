"""``sr.decompose``: one measurement of a model on a batch, or on a pair of batches."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from spectral_reach.decomposition import lnp
from spectral_reach.decomposition.result import Decomposition
from spectral_reach.estimators import EstimatorOptions, TraceEstimate, check_name, estimate_trace
from spectral_reach.estimators.gradient_noise import NoiseFreeNorm, noise_free_norm, noise_free_product
from spectral_reach.estimators.subset import generator
from spectral_reach.jacobian.unit_backward import UnitBackward
from spectral_reach.jacobian.unit_gradients import UnitGradientProducts, loss_gradient, unit_gradient_products
from spectral_reach.jacobian.vjp import inner_product
from spectral_reach.measured.isolation import leaving_no_trace, unwrapped
from spectral_reach.measured.linearisation import Linearisation, linearise
from spectral_reach.measured.losses import Loss, resolve_loss
from spectral_reach.measured.parameters import Selection, select_parameters


def decompose(
    model: nn.Module,
    batch: Any,
    *,
    loss: Loss = "cross_entropy",
    against: Any = None,
    estimator: str = "auto",
    probes: int = 1,
    units: int | None = None,
    parameters: Selection = None,
    seed: int = 0,
    memory_budget: int = 2**28,
) -> Decomposition:
    """Take the linearised loss change of a gradient step apart: delta_loss = chi_loss * chi_net * chi_pos.

    Nothing is changed by looking: parameters, ``.grad``, buffers, hooks, training flags and random generators are
    afterwards as before. The model is measured in the mode it is in: dropout draws one mask for the measurement,
    batch normalisation in training mode uses this batch's statistics as constants.

    Args:
        model: any module whose output is a tensor or has a tensor ``.logits``.
        batch: ``(inputs, targets)``, outputs = ``model(inputs)`` aligned with targets, -100 = no label; or a mapping
            passed by keyword with ``labels``, where causal language models are shifted as Hugging Face does.
        loss: ``"cross_entropy"``, ``"mse"`` (half the squared error, summed over outputs) or a callable
            ``(outputs, targets) -> scalar``, a mean over samples; a callable gets the labelled rows only.
        against: a second batch B, an independent draw: ``batch`` makes the step and B feels it. A unit that is in both,
            other than by chance, makes the noise-corrected values too large.
        estimator: of chi_net: ``"exact"`` (every output direction), ``"per_unit"`` (an independent random probe for
            each unit, in one backward pass), ``"batch"`` (random probes over the whole batch) or ``"auto"``: exact
            where there are at most 1,024 output directions, else per unit, or batch where units cannot be told apart.
        probes: random probes; two or more give a standard error for this batch.
        units: estimate chi_net from this many random units of each batch; None for all.
        parameters: names, modules, parameters or a predicate ``(name, parameter) -> bool``; frozen ones never count.
        seed: of the probes, the choice of units and the dropout masks.
        memory_budget: bytes for batched vector-Jacobian products; changes speed, not results.

    Returns:
        The normalised components, errors and counts; see ``Decomposition``. What is undefined is NaN with a reason.

    Raises:
        ValueError, TypeError: what was got, what was expected and what to do. A batch without any label raises
            ``NoLabelledRowsError``, a ValueError.

    Example:
        >>> import torch, spectral_reach as sr
        >>> model = torch.nn.Linear(4, 3)
        >>> result = sr.decompose(model, (torch.randn(8, 4), torch.randint(0, 3, (8,))))
        >>> 0 <= result.chi_pos <= 1
        True
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a {type(model).__name__}; expected a torch.nn.Module")
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise TypeError("model is or holds a TorchScript module; expected the Python modules that it was made from")
    options = EstimatorOptions(
        probes=_positive_integer("probes", probes),
        units=None if units is None else _positive_integer("units", units),
        seed=_seed(seed),
        memory_budget=_positive_integer("memory_budget", memory_budget),
    )
    check_name(estimator)
    loss_function = resolve_loss(loss)
    model = unwrapped(model)
    theta = select_parameters(model, parameters)
    with leaving_no_trace(model):
        first = linearise(model, batch, loss_function, theta, seed=options.seed)
        if against is None:
            return _one_batch(first, estimator, options)
        # Not seed + 1: a loop over seeds would meet the same probes twice.
        second_options = replace(options, seed=generator(options.seed, "against", torch.device("cpu")).initial_seed())
        second = linearise(model, against, loss_function, theta, seed=options.seed, name="against")
        return _two_batches(first, second, estimator, (options, second_options))


def _one_batch(linearisation: Linearisation, estimator: str, options: EstimatorOptions) -> Decomposition:
    chi_loss, chi_loss_of_unit = _chi_losses(linearisation)
    products, delta_loss = _products_of_units(linearisation, options)
    trace = estimate_trace(estimator, linearisation, options)
    noise: NoiseFreeNorm | None = None
    if products is not None:
        chi_net_of_unit = None
        if trace.unit_traces is not None:
            chi_net_of_unit = trace.unit_traces / linearisation.samples_of_unit.cpu()
        noise = noise_free_norm(products, linearisation.unit_weights, chi_loss_of_unit, chi_net_of_unit)
    return _assemble(
        linearisation,
        loss=linearisation.loss,
        delta_loss=delta_loss,
        chi_loss=chi_loss,
        chi_net=trace.chi_net,
        errors=_TraceErrors.of(trace),
        estimator=trace.estimator,
        probes=trace.probes,
        n_samples_against=None,
        noise=noise,
        noise_undefined="needs two units or more",
        chi_net_by_unit=trace.unit_traces is not None,
    )


def _chi_losses(linearisation: Linearisation) -> tuple[float, Tensor]:
    """chi_loss, and the mean squared residual of each unit's samples, (n_units,)."""
    squares = lnp.chi_loss_of_rows(linearisation.residual)
    sums = torch.zeros(linearisation.n_units, dtype=torch.float64).index_add_(
        0, linearisation.unit_of_row.cpu(), squares
    )
    return float(squares.mean()), sums / linearisation.samples_of_unit.cpu()


def _products_of_units(
    linearisation: Linearisation, options: EstimatorOptions
) -> tuple[UnitGradientProducts | None, float]:
    """Products of the unit gradients (None for a single unit), and ||g||^2."""
    backward = UnitBackward.of(linearisation)
    if not backward.reason:
        pairs = backward.inner_products(linearisation.residual) / linearisation.n_samples**2
        return UnitGradientProducts.of_pairs(pairs) if linearisation.n_units > 1 else None, float(pairs.sum())
    gradient = loss_gradient(linearisation)
    delta_loss = inner_product(gradient, gradient)
    if linearisation.n_units == 1:
        return None, delta_loss
    return unit_gradient_products(linearisation, gradient, [], _signs(linearisation, options.seed)), delta_loss


def _two_batches(
    a: Linearisation, b: Linearisation, estimator: str, options: tuple[EstimatorOptions, EstimatorOptions]
) -> Decomposition:
    chi_losses = _chi_losses(a), _chi_losses(b)
    gradient_a, gradient_b = loss_gradient(a), loss_gradient(b)
    noise, noise_undefined = None, "needs two units or more in each batch"
    if a.has_units_of(b):
        noise_undefined = "against is the same batch; noise is only removed between independent draws"
    elif a.n_units > 1 and b.n_units > 1:
        seed = options[0].seed
        of_b = unit_gradient_products(b, gradient_b, [gradient_a], _signs(b, seed))
        of_a = unit_gradient_products(a, gradient_a, [gradient_b, of_b.signed_sum], _signs(a, seed))
        by_unit = chi_losses[0][1], chi_losses[1][1]
        noise = noise_free_product(of_a, of_b, a.unit_weights, b.unit_weights, by_unit)
    traces = [estimate_trace(estimator, each, its) for each, its in zip((a, b), options, strict=True)]
    chi_net = lnp.geometric_mean(traces[0].chi_net, traces[1].chi_net)
    return _assemble(
        a,
        loss=b.loss,
        delta_loss=inner_product(gradient_a, gradient_b),
        chi_loss=lnp.geometric_mean(chi_losses[0][0], chi_losses[1][0]),
        chi_net=chi_net,
        errors=_TraceErrors.of(*traces),
        # ``auto`` may choose differently for two batches of different sizes.
        estimator="+".join(dict.fromkeys(trace.estimator for trace in traces)),
        probes=max(trace.probes for trace in traces),
        n_samples_against=b.n_samples,
        noise=noise,
        noise_undefined=noise_undefined,
        chi_net_by_unit=False,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _TraceErrors:
    """What is known of the error of chi_net, of one batch or of the geometric mean of two."""

    stderr: float
    stderr_undefined: str
    population_stderr: float
    population_undefined: str
    passed_over: str

    @classmethod
    def of(cls, trace: TraceEstimate, other: TraceEstimate | None = None) -> _TraceErrors:
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


def _assemble(
    linearisation: Linearisation,
    *,
    loss: float,
    delta_loss: float,
    chi_loss: float,
    chi_net: float,
    errors: _TraceErrors,
    estimator: str,
    probes: int,
    n_samples_against: int | None,
    noise: NoiseFreeNorm | None,
    noise_undefined: str,
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
    nan = NoiseFreeNorm(value=math.nan, stderr=math.nan, position=(math.nan, math.nan), noise_scale=math.nan)
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
        n_samples=linearisation.n_samples,
        n_samples_against=n_samples_against,
        n_units=linearisation.n_units,
        n_outputs=linearisation.n_outputs,
        probes=probes,
        estimator=estimator,
        passed_over=errors.passed_over,
        undefined=undefined,
    )


def _signs(linearisation: Linearisation, seed: int) -> Tensor:
    random = generator(seed, "signs", torch.device("cpu"))
    return torch.randint(0, 2, (linearisation.n_units,), generator=random, dtype=torch.float64) * 2 - 1


def _integer(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} is {value!r}; expected an integer")
    return int(value)


def _seed(value: object) -> int:
    number = _integer("seed", value)
    if not 0 <= number < 2**63:
        raise ValueError(f"seed is {number}; expected an integer from 0 to 2**63 - 1")
    return number


def _positive_integer(name: str, value: object) -> int:
    number = _integer(name, value)
    if number < 1:
        raise ValueError(f"{name} is {number}; expected 1 or more")
    return number
