"""The ways to estimate chi_net of a batch that are compared.

A way is prepared once for a model and a batch, outside the time that is measured, and then gives one estimate a seed:
``draw(seed)`` is one probe, with all the passes that the way needs for it. Ways that differ in cost but not in what
they compute give the same number for a seed, which is checked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from opacus_norms import not_installed, unit_norms_by_opacus
from torch import Tensor, nn
from workload import Batch

import spectral_reach as sr
from spectral_reach.estimators import EstimatorOptions, estimate_trace
from spectral_reach.estimators.subset import draw_units, generator
from spectral_reach.jacobian.unit_backward import UnitBackward
from spectral_reach.jacobian.unit_signs import unit_signs
from spectral_reach.measured.isolation import leaving_no_trace
from spectral_reach.measured.linearisation import Linearisation, linearise
from spectral_reach.measured.losses import cross_entropy
from spectral_reach.measured.parameters import select_parameters

FEW = 8
"""``units=`` of the cheap population estimate: this part of the batch, 4 of 32."""

Draw = Callable[[int], float]


@dataclass(frozen=True, kw_only=True)
class Way:
    """One line of the table.

    Attributes:
        name: in the JSON.
        title: in the table and the plot.
        prepare: of a model and a batch, which it may change, what gives one estimate a seed.
        same_as: another way that gives the same numbers, cheaper: the spread is taken from it.
        missing: why it cannot be measured here; empty if it can.
    """

    name: str
    title: str
    prepare: Callable[[nn.Module, Batch], Draw]
    same_as: str = ""
    missing: str = ""


def linearised(model: nn.Module, batch: Batch, unit_ids: Tensor | None = None) -> Linearisation:
    """The forward pass, and the gradient of the loss by the outputs; ``unit_ids`` tell the probes of a part's units."""
    with leaving_no_trace(model):
        return linearise(model, batch, cross_entropy, select_parameters(model, None), seed=0, unit_ids=unit_ids)


def unmeasured(linearisation: Linearisation) -> Linearisation:
    """The same without what an earlier probe over it has kept: a measurement makes one probe."""
    return replace(linearisation)


def options(seed: int, units: int | None = None) -> EstimatorOptions:
    """One probe."""
    return EstimatorOptions(probes=1, units=units, seed=seed, memory_budget=2**28)


def few_units(batch: Batch) -> int:
    """How many units the population estimate uses."""
    return max(2, len(batch[0]) // FEW)


def signs(shape: torch.Size, seed: int) -> Tensor:
    """A Rademacher vector."""
    random = generator(seed, "probes", torch.device("cpu"))
    return torch.randint(0, 2, shape, generator=random).float().mul_(2).sub_(1)


def unit_norms_one_by_one(model: nn.Module, inputs: Tensor, v: Tensor) -> Tensor:
    """||J_i^T v||^2 by an ordinary pass of each unit alone: slow, obvious, and what the others are checked against."""
    norms = []
    for unit in inputs.split(1):
        gradients = torch.autograd.grad(model(unit).logits[0], list(model.parameters()), v)
        norms.append(sum(float(gradient.double().square().sum()) for gradient in gradients))
    return torch.tensor(norms, dtype=torch.float64)


def _batch_fresh(model: nn.Module, batch: Batch) -> Draw:
    inputs, _ = batch
    parameters = list(model.parameters())
    rows = linearised(model, batch)  # whose units tell the signs

    def draw(seed: int) -> float:
        outputs = model(inputs).logits.flatten(0, 1)
        v = unit_signs(rows, outputs.shape[1], outputs.dtype, seed=seed, probe=0)
        gradients = torch.autograd.grad(outputs, parameters, v)
        return sum(float(gradient.square().sum(dtype=torch.float64)) for gradient in gradients) / len(outputs)

    return draw


def _batch_shared(model: nn.Module, batch: Batch) -> Draw:
    linearisation = linearised(model, batch)
    return lambda seed: estimate_trace("batch", linearisation, options(seed)).chi_net


def _opacus(model: nn.Module, batch: Batch) -> Draw:
    inputs, targets = batch
    norms = unit_norms_by_opacus(model)
    shape = torch.Size((targets.shape[1], model.get_output_embeddings().out_features))
    return lambda seed: float(norms(inputs, signs(shape, seed)).double().sum()) / targets.numel()


def _per_unit_scratch(model: nn.Module, batch: Batch) -> Draw:
    return lambda seed: estimate_trace("per_unit", linearised(model, batch), options(seed)).chi_net


def _per_unit_inside(model: nn.Module, batch: Batch, units: int | None = None) -> Draw:
    linearisation = linearised(model, batch)
    UnitBackward.of(linearisation)
    return lambda seed: estimate_trace("per_unit", unmeasured(linearisation), options(seed, units)).chi_net


def _few_inside(model: nn.Module, batch: Batch) -> Draw:
    return _per_unit_inside(model, batch, few_units(batch))


def _few_scratch(model: nn.Module, batch: Batch) -> Draw:
    inputs, targets = batch

    def draw(seed: int) -> float:
        chosen = draw_units(len(inputs), few_units(batch), generator(seed, "units", inputs.device))
        part = inputs[chosen], targets[chosen]
        return estimate_trace("per_unit", linearised(model, part, chosen), options(seed)).chi_net

    return draw


def _decompose(model: nn.Module, batch: Batch) -> Draw:
    return lambda seed: sr.decompose(model, batch, estimator="per_unit", seed=seed).chi_net


def _exact(model: nn.Module, batch: Batch) -> Draw:
    return lambda seed: sr.decompose(model, batch, estimator="exact", seed=seed).chi_net


EXACT = Way(name="exact", title="exact trace", prepare=_exact)


def all_ways(units: int) -> list[Way]:
    """In the order of the table; ``units`` in the batch."""
    few = f"{max(2, units // FEW)} of {units} units"
    return [
        Way(
            name="batch_fresh",
            title="(a) whole-batch vector, fresh forward",
            prepare=_batch_fresh,
            same_as="batch_shared",
        ),
        Way(
            name="opacus",
            title="(b) Opacus, one shared vector, fresh forward",
            prepare=_opacus,
            missing=not_installed(),
        ),
        Way(name="batch_shared", title="batch, forward shared", prepare=_batch_shared),
        Way(
            name="per_unit_scratch",
            title="per_unit, from scratch",
            prepare=_per_unit_scratch,
            same_as="per_unit_inside",
        ),
        Way(name="per_unit_inside", title="per_unit, inside a step", prepare=_per_unit_inside),
        Way(
            name="few_scratch",
            title=f"per_unit, {few}, from scratch",
            prepare=_few_scratch,
            same_as="few_inside",
        ),
        Way(name="few_inside", title=f"per_unit, {few}, inside a step", prepare=_few_inside),
        Way(
            name="decompose",
            title="sr.decompose, from scratch",
            prepare=_decompose,
            same_as="per_unit_inside",
        ),
    ]
