"""The kernel as a scipy ``LinearOperator``, for eigensolvers and other methods of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import nn

from spectral_reach.jacobian.jacobian import PlainJacobian
from spectral_reach.measured.arguments import checked_model
from spectral_reach.measured.isolation import leaving_no_trace
from spectral_reach.measured.losses import Loss
from spectral_reach.measured.output_space import Choice
from spectral_reach.measured.parameters import Selection
from spectral_reach.spectra.flat import FlatJacobian
from spectral_reach.spectra.prepared import prepared

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

Space = Literal["outputs", "parameters", "smaller"]


def ntk_operator(
    model: nn.Module,
    batch: Any,
    *,
    loss: Loss = "cross_entropy",
    parameters: Selection = None,
    samples: Choice = None,
    classes: Choice = None,
    space: Space = "smaller",
    seed: int = 0,
) -> LinearOperator:
    """Theta = J J^T on outputs (n k), or J^T J on parameters (P), by one product with each of J^T and J.

    Both have the same eigenvalues but for zeros. Rows run over samples, then over classes; parameters in the order of
    ``model.named_parameters()``, flattened. The operator holds the graph of one forward pass: it is good as
    long as the parameters are not changed, and says so if they were, in place as optimisers do.

    Args:
        model, batch, loss, parameters, samples, classes, seed: as in ``sr.spectrum``.
        space: ``"outputs"``, ``"parameters"``, or the one with fewer dimensions.

    Raises:
        ValueError, TypeError: as ``sr.spectrum``.

    Example:
        >>> import torch, spectral_reach as sr
        >>> from scipy.sparse.linalg import eigsh
        >>> model = torch.nn.Linear(5, 3)
        >>> kernel = sr.ntk_operator(model, (torch.randn(8, 5), torch.randint(0, 3, (8,))))
        >>> kernel.shape, len(eigsh(kernel, k=4, return_eigenvectors=False))
        ((18, 18), 4)
    """
    from scipy.sparse.linalg import LinearOperator

    if space not in ("outputs", "parameters", "smaller"):
        raise ValueError(f"space={space!r} is unknown; expected 'outputs', 'parameters' or 'smaller'")
    inner = checked_model(model)
    with prepared(model, batch, loss, parameters, samples, classes, seed) as ready:
        products = FlatJacobian(PlainJacobian(ready.linearisation, ready.space, ready.random))
    n_outputs, n_parameters = products.shape
    on_outputs = space == "outputs" or (space == "smaller" and n_outputs <= n_parameters)
    size = n_outputs if on_outputs else n_parameters
    held = list(ready.linearisation.parameters.values())
    versions = [p._version for p in held]

    def times(vector: np.ndarray) -> np.ndarray:
        if [p._version for p in held] != versions:
            raise ValueError(
                "the parameters have been changed since this operator was made; expected them as they were: make "
                "another operator"
            )
        v = torch.as_tensor(np.ascontiguousarray(vector).reshape(-1)).to(products.device, products.dtype)
        # Hooks of the caller's on parameters would take part in the backward passes.
        with leaving_no_trace(inner):
            product = products.push(products.pull(v)) if on_outputs else products.pull(products.push(v))
        return product.detach().cpu().numpy()

    dtype = np.float64 if products.dtype == torch.float64 else np.float32
    return LinearOperator((size, size), matvec=times, rmatvec=times, dtype=dtype)
