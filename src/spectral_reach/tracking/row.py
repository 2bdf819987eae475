"""What a caller adds to a row: columns of single values, and the seed of a step."""

from __future__ import annotations

from collections.abc import Container, Mapping

import numpy as np
from torch import Tensor

Value = bool | int | float | str | None


def checked_columns(columns: Mapping[str, object], reserved: Container[str]) -> dict[str, Value]:
    """The columns with numbers of NumPy and torch as Python's.

    Raises:
        ValueError: a column has the name of a field.
        TypeError: a column that is no single value.
    """
    values: dict[str, Value] = {}
    for name, value in columns.items():
        if name in reserved:
            raise ValueError(
                f"column {name!r} has the name of a field of the row; expected another name, for example "
                f"{'train_' + name!r}"
            )
        if isinstance(value, (Tensor, np.ndarray, np.generic)):
            if value.ndim != 0:
                raise TypeError(
                    f"column {name!r} is of shape {tuple(value.shape)}; expected a single number or string: reduce "
                    "it, or give one column per element"
                )
            value = value.item()
        if value is not None and not isinstance(value, (bool, int, float, str)):
            raise TypeError(f"column {name!r} is a {type(value).__name__}; expected a single number or string")
        values[name] = value
    return values


def seed_of(seed: int, step: int) -> int:
    """A seed of 63 bits for the probes of one step: unrelated from step to step, the same on every run."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))
