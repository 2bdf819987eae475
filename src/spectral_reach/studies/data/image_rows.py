"""Images as rows of one long list, wherever they lie: arrays in memory or memory maps, one after the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spectral_reach.studies.data.dataset import Rows

Images = npt.NDArray[np.uint8]
"""(n, H, W, C), channels last."""


@dataclass(frozen=True, slots=True, eq=False)
class ImageRows:
    """Square uint8 images of one shape, (n, H, W, C) over all parts; nothing is read before ``take``.

    Attributes:
        parts: arrays or memory maps, each (n_i, H, W, C).
    """

    parts: tuple[Images, ...]

    def __post_init__(self) -> None:
        for part in self.parts:
            if part.ndim != 4 or part.dtype != np.uint8 or part.shape[1] != part.shape[2] or 0 in part.shape:
                raise ValueError(
                    f"Images are {part.dtype} of shape {part.shape}; expected uint8 of shape (images, size, size, "
                    "channels) with at least one image."
                )
        if len({part.shape[1:] for part in self.parts}) != 1:
            shapes = ", ".join(str(part.shape[1:]) for part in self.parts) or "none"
            raise ValueError(f"Images come in the shapes {shapes}; expected at least one part, and one shape.")

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    @property
    def size(self) -> int:
        """H = W, in pixels."""
        return int(self.parts[0].shape[1])

    @property
    def channels(self) -> int:
        """C."""
        return int(self.parts[0].shape[3])

    def take(self, rows: Rows) -> Images:
        """The images ``rows``, (B, H, W, C), in that order; negative rows count from the end, as in NumPy.

        Raises:
            IndexError: there is no such row.
        """
        rows = np.asarray(rows)
        rows = np.where(rows < 0, rows + len(self), rows)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"Rows {rows.min()} to {rows.max()} were asked for; expected rows below {len(self)}.")
        taken = np.empty((len(rows), *self.parts[0].shape[1:]), dtype=np.uint8)
        first = 0
        for part in self.parts:
            here = (rows >= first) & (rows < first + len(part))
            taken[here] = part[rows[here] - first]
            first += len(part)
        return taken
