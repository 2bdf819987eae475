r"""A unit that is alone in its pass: its gradients are those of an ordinary backward pass, so no layer rule is needed.

That is how models are measured whose activations are checkpointed, as they must be where a single long sequence fills
the memory. A linear readout f = W h + b is taken apart here as by ``readout``: its own share is exact, everything below
is probed through h. If W (or b) is used below too, as a tied embedding is, the product of its two gradients is

    2 <sum_n (W c_n) h_n^T, G>,    c = (W^T W)^+ q,

where G is its gradient below, that of q . h. It is unbiased, since W c is what of v = W c a gradient below can see.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spectral_reach.jacobian.affine_map import AffineMap, find_affine_map
from spectral_reach.jacobian.backward_pass import plain_arithmetic
from spectral_reach.jacobian.forms import at_least_float32, row_squares
from spectral_reach.jacobian.graph import keeps_its_tensors
from spectral_reach.jacobian.one_by_one import TakeGradient, each_gradient
from spectral_reach.jacobian.readout import HiddenProbes
from spectral_reach.jacobian.unit_signs import unit_signs
from spectral_reach.jacobian.vjp import squared_norm
from spectral_reach.measured.linearisation import Linearisation


def trace_of_one_unit(alone: Linearisation, *, seed: int, probes: int) -> Tensor:
    """Independent unbiased estimates of Tr(J_i J_i^T), (probes,) float64."""
    map_ = find_affine_map(alone)
    if map_ is None or map_.hidden is None or not keeps_its_tensors(map_.product):
        draws = [
            squared_norm_of_one(alone, unit_signs(alone, alone.n_outputs, alone.f.dtype, seed=seed, probe=probe))
            for probe in range(probes)
        ]
        return torch.tensor(draws, dtype=torch.float64)
    hidden_probes = HiddenProbes.of(map_.weight())
    draws = []
    for probe in range(probes):
        z = unit_signs(alone, hidden_probes.rank, hidden_probes.mix.dtype, seed=seed, probe=probe)
        draws.append(_own_share(alone, map_) + _below(alone, map_, *hidden_probes.of_signs(z)))
    return torch.tensor(draws, dtype=torch.float64)


def squared_norm_of_one(alone: Linearisation, cotangent: Tensor, also: TakeGradient | None = None) -> float:
    """||J_i^T v||^2 for v (N, K); ``also`` is shown the gradients too."""
    norms: list[float] = []

    def take(name: str, gradient: Tensor) -> None:
        norms.append(squared_norm([gradient]))
        if also is not None:
            also(name, gradient)

    each_gradient(alone.f, cotangent.to(alone.f.dtype), alone.parameters, take)
    return sum(norms)


def _own_share(alone: Linearisation, map_: AffineMap) -> float:
    K, N = alone.n_outputs, alone.n_samples
    share = float(K * N) if map_.bias_name else 0.0
    if map_.weight_name:
        share += K * float(row_squares(map_.hidden_values()[alone.place]).sum())
    return share


def _below(alone: Linearisation, map_: AffineMap, q: Tensor, c: Tensor) -> float:
    """One draw of what acts through h, from q and c of the labelled rows, (N, D) each."""
    hidden, place = map_.hidden, alone.place
    assert hidden is not None
    assert place is not None
    metadata = hidden.node._input_metadata[hidden.output_nr]
    cotangent = torch.zeros(tuple(metadata.shape), dtype=metadata.dtype, device=q.device)
    cotangent.index_copy_(0, place, q.to(metadata.dtype))
    shares: list[float] = []

    def take(name: str, gradient: Tensor) -> None:
        shares.append(squared_norm([gradient]))
        with plain_arithmetic(gradient):
            if name == map_.weight_name:
                h = map_.hidden_values()[place]
                seen = h @ (at_least_float32(gradient).mT @ map_.weight())
                shares.append(2 * float((seen * c).sum(dtype=torch.float64)))
            elif name == map_.bias_name:
                seen = c @ (map_.weight().mT @ at_least_float32(gradient))
                shares.append(2 * float(seen.sum(dtype=torch.float64)))

    each_gradient(hidden, cotangent, alone.parameters, take)
    return sum(shares)
