"""What ``sr.decompose`` must say of a batch, sample by sample: each unit goes through the network alone, unpadded."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Sample:
    """One labelled row: its unit, its K outputs with their graph, and its loss as a function of them."""

    unit: int
    outputs: Tensor
    loss: Callable[[Tensor], Tensor]


def cross_entropy(label: int) -> Callable[[Tensor], Tensor]:
    return lambda outputs: -torch.log_softmax(outputs, 0)[label]


def components(network: nn.Module, samples: Sequence[Sample]) -> dict[str, float]:
    """Normalised components from the whole Jacobian, by the definitions of arXiv 2605.31244."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    n = len(samples)
    jacobian, u, losses = [], [], []
    for sample in samples:
        f = sample.outputs.detach().double().requires_grad_()
        value = sample.loss(f)
        losses.append(value.item())
        u.append(torch.autograd.grad(value, f)[0].numpy() / n)
        for output in sample.outputs:
            grads = torch.autograd.grad(output, parameters, retain_graph=True, allow_unused=True)
            parts = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, grads, strict=True)]
            jacobian.append(torch.cat([part.flatten() for part in parts]).double().numpy())
    J = np.stack(jacobian).reshape(n, len(u[0]), -1)
    U = np.stack(u)
    by_row = np.einsum("nk,nkp->np", U, J)
    unit = np.array([sample.unit for sample in samples])
    by_unit = np.stack([by_row[unit == each].sum(0) for each in sorted(set(unit.tolist()))])
    weights = np.array([(unit == each).mean() for each in sorted(set(unit.tolist()))])
    total = by_unit.sum(0)
    chi_loss, chi_net, delta = (U**2).sum(), (J**2).sum(), total @ total
    unbiased = math.nan
    if len(weights) > 1:
        unbiased = (delta - (by_unit**2).sum()) / (1 - (weights**2).sum())
    return {
        "loss": float(np.mean(losses)),
        "chi_loss": chi_loss * n,
        "chi_net": chi_net / n,
        "chi_pos": delta / (chi_loss * chi_net),
        "delta_loss": delta,
        "delta_loss_unbiased": unbiased,
    }
