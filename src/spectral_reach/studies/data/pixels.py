"""Images as next-pixel prediction: pixels in raster order are the tokens, made when a batch asks for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from spectral_reach.studies.data.dataset import Batch, Part, Rows
from spectral_reach.studies.data.image_rows import ImageRows, Images
from spectral_reach.studies.data.tokens import entropy_of_counts

Colour = Literal["grey", "rgb"]

_LUMA = np.array([299, 587, 114])
"""Parts in 1,000 of red, green and blue in grey (ITU-R BT.601)."""
_COUNTED = 4096
_COUNTED_SEED = 20260531
_COUNTED_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PixelData:
    """Images as sequences of pixel tokens, row by row from the top left; the first token says that an image begins.

    A pixel is one token (grey) or three (red, green, blue, in this order). A value v of 0 to 255, or the mean of those
    that a smaller pixel covers, becomes token floor(v * levels / 256). Token ``levels`` begins every image, so that all
    pixels are predicted. All in whole numbers: the tokens are the same on every machine.

    Attributes:
        name: the data set's name in the registry.
        label: what a figure calls it.
        description: one sentence on what the data are and how they were split.
        train: images to train on; read when a batch asks for them.
        heldout: images that training never sees.
        content_hash: sha256 of the source content, so that a run can tell whether the data are the same.
        levels: different values of a pixel, 2 to 256.
        colour: "grey" or "rgb"; of images with one channel "grey".
        size: height and width in pixels after averaging over squares; a divisor of that of the images.
        facts: anything worth recording about how the data were made; ``levels``, ``colour`` and ``size`` are added.
        unigram_entropy: nats per pixel token of held-out images under the frequencies in training images; what a model
            that ignores its input can reach. Counted on construction on at most 4,096 images of either part, drawn
            once with a fixed seed: the images differ by some 0.2 nats, so the standard error is about 0.003.
    """

    name: str
    label: str
    description: str
    train: ImageRows
    heldout: ImageRows
    content_hash: str
    levels: int = 256
    colour: Colour = "grey"
    size: int
    facts: Mapping[str, Any] = field(default_factory=dict)
    unigram_entropy: float = field(init=False)

    def __post_init__(self) -> None:
        check_pixels(self.train, levels=self.levels, colour=self.colour, size=self.size)
        if (self.train.size, self.train.channels) != (self.heldout.size, self.heldout.channels):
            raise ValueError(
                f"Data set {self.name!r}: train images have size {self.train.size} and {self.train.channels} channels, "
                f"held-out ones {self.heldout.size} and {self.heldout.channels}; expected them equal."
            )
        facts = {**self.facts, "levels": self.levels, "colour": self.colour, "size": self.size}
        object.__setattr__(self, "facts", MappingProxyType(facts))
        entropy = entropy_of_counts(self._counts(self.train), self._counts(self.heldout))
        object.__setattr__(self, "unigram_entropy", entropy)

    @property
    def vocabulary(self) -> int:
        """The levels, and the token before the first pixel."""
        return self.levels + 1

    @property
    def context(self) -> int:
        """T, the pixel tokens of an image."""
        return self.size**2 * (3 if self.colour == "rgb" else 1)

    @property
    def dimensions(self) -> Mapping[str, int]:
        """Vocabulary and context, which a model has to share."""
        return {"vocabulary": self.vocabulary, "context": self.context}

    def units(self, part: Part) -> int:
        """How many images a part has."""
        return len(self._part(part))

    def batch(self, part: Part, rows: Rows) -> Batch:
        """Inputs (B, T), beginning with the token ``levels``, and the pixels (B, T) that are predicted, int64."""
        pixels = pixel_tokens(self._part(part).take(rows), levels=self.levels, colour=self.colour, size=self.size)
        begin = np.full((len(pixels), 1), self.levels)
        inputs = np.concatenate([begin, pixels[:, :-1]], axis=1)
        return torch.from_numpy(inputs), torch.from_numpy(pixels)

    def _part(self, part: Part) -> ImageRows:
        return self.train if part == "train" else self.heldout

    def _counts(self, images: ImageRows) -> npt.NDArray[np.int64]:
        """How often each token is predicted, over ``_COUNTED`` images or all."""
        rng = np.random.default_rng(_COUNTED_SEED)
        chosen = np.sort(rng.choice(len(images), size=min(_COUNTED, len(images)), replace=False))
        counts = np.zeros(self.vocabulary, dtype=np.int64)
        for first in range(0, len(chosen), _COUNTED_AT_ONCE):
            some = images.take(chosen[first : first + _COUNTED_AT_ONCE])
            tokens = pixel_tokens(some, levels=self.levels, colour=self.colour, size=self.size)
            counts += np.bincount(tokens.reshape(-1), minlength=self.vocabulary)
        return counts


def check_pixels(images: ImageRows, *, levels: int, colour: str, size: int) -> None:
    """Refuse what ``pixel_tokens`` cannot make of the images.

    Raises:
        ValueError: levels, colour or size are out of range.
    """
    if not 2 <= levels <= 256:
        raise ValueError(f"levels is {levels}; expected 2 to 256, the different values of a pixel.")
    possible = {1: ("grey",), 3: ("grey", "rgb")}.get(images.channels, ())
    if colour not in possible:
        raise ValueError(
            f"colour is {colour!r} for images of {images.channels} channels; expected "
            f"{' or '.join(map(repr, possible)) or 'images of 1 channel (grey) or 3 (red, green, blue)'}."
        )
    if size < 1 or images.size % size:
        divisors = [d for d in range(1, images.size + 1) if images.size % d == 0]
        raise ValueError(
            f"size is {size}; expected a divisor of the images' {images.size} pixels: {', '.join(map(str, divisors))}."
        )


def pixel_tokens(images: Images, *, levels: int, colour: str, size: int) -> npt.NDArray[np.int64]:
    """Tokens (B, T) of images (B, H, W, C): see ``PixelData``."""
    values, per_unit = images.astype(np.int64), 1
    if colour == "grey" and images.shape[-1] == 3:
        values, per_unit = values @ _LUMA[:, None], 1000
    if (side := images.shape[1] // size) > 1:
        squares = values.reshape(len(values), size, side, size, side, values.shape[-1])
        values, per_unit = squares.sum(axis=(2, 4)), per_unit * side**2
    # values / per_unit is the mean of the pixels that each covers, 0 to 255.
    return (values * levels // (256 * per_unit)).reshape(len(values), -1)
