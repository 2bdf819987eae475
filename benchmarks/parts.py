"""What a measurement from scratch is made of, piece by piece, to see what limits it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from timing import Times
from torch import nn
from ways import few_units, linearised, unmeasured
from workload import Batch

import spectral_reach as sr
from spectral_reach.jacobian.graph import Graph, edge
from spectral_reach.jacobian.trial import checked_uses
from spectral_reach.jacobian.unit_backward import UnitBackward
from spectral_reach.measured.linearisation import Linearisation


def works(model: nn.Module, batch: Batch) -> dict[str, Callable[[int], object]]:
    """Pieces of work to time; each is called with the number of the round."""
    linearisation = linearised(model, batch)
    backward = UnitBackward.of(linearisation)
    graph = Graph.below(linearisation.outputs, linearisation.parameters)
    nodes = {each.use.node for found in backward.uses.known.values() for each in found}
    lowest = [edge(node) for node in graph.bottommost(nodes)]
    few = few_units(batch)
    return {
        "forward": lambda _: model(batch[0]).logits.shape,
        "linearise": lambda _: linearised(model, batch).residual.shape,
        "linearise_and_check": lambda _: _checked(linearised(model, batch)),
        "propagation": lambda _: torch.autograd.grad(
            linearisation.f, lowest, linearisation.residual, retain_graph=True, allow_unused=True
        ),
        "unit_gradient_norms": lambda _: UnitBackward.of(unmeasured(linearisation)).squared_norms(
            linearisation.residual
        ),
        "unit_gradient_products": lambda _: backward.inner_products(linearisation.residual).shape,
        "decompose_few": lambda seed: sr.decompose(
            model, batch, estimator="per_unit", units=few, noise_units=few, seed=seed
        ),
    }


def _checked(linearisation: Linearisation) -> object:
    """The trial on two units, as the 1st, 2nd, 4th, 8th, ... measurement of a model makes it, and the gradient."""
    graph = Graph.below(linearisation.outputs, linearisation.parameters)
    return checked_uses(linearisation, graph), linearisation.residual.shape


def named(times: Mapping[str, Times]) -> dict[str, float]:
    """The pieces by themselves, from the median times of ``works`` and of the way ``decompose``."""
    return {
        "forward pass": times["forward"].median,
        "isolation and loss gradient at the outputs": times["linearise"].median - times["forward"].median,
        "graph and check of the layer rules": times["linearise_and_check"].median - times["linearise"].median,
        "a backward pass without any weight gradient": times["propagation"].median,
        "the same with norms of the units' loss gradients": times["unit_gradient_norms"].median,
        "or with the products of all pairs": times["unit_gradient_products"].median,
        "a whole decomposition": times["decompose"].median,
        "one with a few units": times["decompose_few"].median,
    }
