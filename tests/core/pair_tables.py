"""What is seen of a table of products of unit gradients."""

import numpy as np
import torch

from spectral_reach.jacobian.some_units import SomeUnitProducts


def some(pairs: np.ndarray, units: np.ndarray, norms_of_all: bool = False) -> SomeUnitProducts:
    """The rows of a few ``units``, and the norms of all of them where they are wanted."""
    own = pairs[np.ix_(units, units)]
    return SomeUnitProducts(
        units=torch.from_numpy(units),
        squared_norms=torch.from_numpy(own.diagonal().copy()),
        with_batch=torch.from_numpy(pairs[units].sum(1)),
        pair_squares=float((np.tril(own, -1) ** 2).sum()),
        squared_norm=float(pairs.sum()),
        squared_norms_of_all=torch.from_numpy(pairs.diagonal().copy()) if norms_of_all else None,
    )
