"""Tr(Theta) in the chosen space, which normalises every eigenvalue that is known without the others."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from spectral_reach.estimators.interface import EstimatorOptions, estimate_trace
from spectral_reach.estimators.subset import generator
from spectral_reach.jacobian.jacobian import PlainJacobian, signs
from spectral_reach.jacobian.vjp import squared_norm
from spectral_reach.spectra.prepared import Prepared

_PRODUCTS = 2**28
"""Bytes for the batched products of estimators."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """Tr(Theta) / N with its standard error for this batch; ``undefined`` says why that is NaN."""

    chi_net: float
    stderr: float
    undefined: str


def trace_of(ready: Prepared, jacobian: PlainJacobian, probes: int, memory_budget: int) -> Trace:
    """Of the whole batch by the estimators of ``sr.decompose``; of a part of the outputs by sign vectors over them."""
    if ready.space.is_everything:
        options = EstimatorOptions(
            probes=probes, units=None, seed=ready.seed, memory_budget=min(_PRODUCTS, memory_budget)
        )
        estimate = estimate_trace("auto", ready.linearisation, options)
        return Trace(chi_net=estimate.chi_net, stderr=estimate.stderr, undefined=estimate.undefined)
    random = generator(ready.seed, "probes", jacobian.outputs.device)
    drawn = [squared_norm(jacobian.pull(signs(jacobian.outputs, random))) for _ in range(probes)]
    draws = torch.tensor(drawn, dtype=torch.float64) / ready.space.shape[0]
    if probes == 1:
        return Trace(chi_net=float(draws), stderr=math.nan, undefined="one probe has no spread: ask for probes >= 2")
    return Trace(chi_net=float(draws.mean()), stderr=float(draws.std()) / math.sqrt(probes), undefined="")
