"""How closely two ways to one number have to agree."""

from __future__ import annotations

import torch
from torch import Tensor

from spectral_reach.jacobian.forms import at_least_float32, norm
from spectral_reach.measured.linearisation import Linearisation


def tolerance_of(linearisation: Linearisation) -> float:
    """Relative rounding between a unit alone and within its batch, by the coarsest precision of the forward pass."""
    dtypes = {p.dtype for p in linearisation.parameters.values()} | {linearisation.f.dtype}
    device = linearisation.f.device.type
    if torch.is_autocast_enabled(device):
        dtypes.add(torch.get_autocast_dtype(device))
    eps = max(torch.finfo(dtype).eps for dtype in dtypes)
    # 8e3 eps is 1e-3 in float32: far above rounding, far below the effect of any coupling; coarser types stop at 5%.
    return min(8e3 * eps, 0.05)


def same_outputs(outputs: Tensor, expected: Tensor, tolerance: float) -> bool:
    """Whether two passes gave the same outputs."""
    outputs, expected = outputs.detach(), expected.detach()
    return norm(at_least_float32(outputs - expected)) <= tolerance * norm(at_least_float32(expected))
