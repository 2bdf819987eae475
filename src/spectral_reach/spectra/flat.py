"""A Jacobian on flat vectors, as a Krylov process wants it."""

from __future__ import annotations

import torch
from torch import Tensor

from spectral_reach.jacobian.jacobian import PlainJacobian


class FlatJacobian:
    """J: (P,) -> (n k,) and its transpose, in the precision of the outputs and at least float32."""

    def __init__(self, jacobian: PlainJacobian) -> None:
        self._jacobian = jacobian
        outputs = jacobian.outputs
        self.dtype = torch.promote_types(outputs.dtype, torch.float32)
        self.device = outputs.device

    @property
    def shape(self) -> tuple[int, int]:
        """(n k, P)."""
        return self._jacobian.shape

    def pull(self, u: Tensor) -> Tensor:
        """J^T u, (P,)."""
        gradient = self._jacobian.pull(u.view_as(self._jacobian.outputs))
        # On one device: a model may be spread over several.
        return torch.cat([part.flatten().to(self.device, self.dtype) for part in gradient])

    def push(self, v: Tensor) -> Tensor:
        """J v, (n k,)."""
        sizes = [p.numel() for p in self._jacobian.parameters]
        parts = zip(
            torch.split(v, sizes),
            self._jacobian.parameters,
            strict=True,
        )
        tangent = [part.view_as(p).to(p.device, p.dtype) for part, p in parts]
        return self._jacobian.push(tangent).flatten().to(self.dtype)
