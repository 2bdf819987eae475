"""Hand-written digits, scikit-learn's 8 x 8 images in 17 grey levels: as next-pixel prediction and with classes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from spectral_reach.studies.data.image_rows import ImageRows
from spectral_reach.studies.data.images import ImageData, channel_histogram, channel_statistics
from spectral_reach.studies.data.registry import register
from spectral_reach.studies.data.tokens import TokenData, digest

GREY_LEVELS = 17
BEGIN = GREY_LEVELS
"""The token before the first pixel, so that all 64 pixels are predicted."""

_HELDOUT = 297
_SPLIT_SEED = 20260531


@register("digits")
def load_digits() -> TokenData:
    """1,797 images (UCI optical recognition of hand-written digits, as scikit-learn ships them), row by row.

    297 are held out. The split is fixed and stratified: as many of every digit as its frequency asks for.
    """
    pixels, digits = _pixels_and_digits("digits")
    images = np.concatenate([np.full((len(pixels), 1), BEGIN), pixels], axis=1).astype(np.uint16)
    heldout = _stratified(digits)
    return TokenData(
        name="digits",
        label="Images (8 × 8 digits)",
        description=f"{len(pixels):,} hand-written digits as 64 pixel tokens of {GREY_LEVELS} grey levels, "
        f"{_HELDOUT} held out",
        train=images[~heldout],
        heldout=images[heldout],
        vocabulary=GREY_LEVELS + 1,
        content_hash=digest(images.tobytes(), heldout.tobytes()),
    )


@register("digits-images")
def load_digits_images() -> ImageData:
    """The same images, split in the same way, with the digit that each shows: one channel of values 0 to 16."""
    pixels, digits = _pixels_and_digits("digits-images")
    images = pixels.reshape(-1, 8, 8, 1).astype(np.uint8)
    heldout = _stratified(digits)
    mean, std = channel_statistics(channel_histogram(images[~heldout]))
    return ImageData(
        name="digits-images",
        label="Images (8 × 8 digits, classes)",
        description=f"{len(images):,} hand-written digits of {GREY_LEVELS} grey levels with their class, "
        f"{_HELDOUT} held out",
        train=ImageRows((images[~heldout],)),
        train_labels=digits[~heldout],
        heldout=ImageRows((images[heldout],)),
        heldout_labels=digits[heldout],
        classes=10,
        mean=mean,
        std=std,
        content_hash=digest(images.tobytes(), digits.tobytes(), heldout.tobytes()),
    )


def _pixels_and_digits(name: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """(1797, 64) grey levels and (1797) digits."""
    try:
        from sklearn.datasets import load_digits as load
    except ImportError as missing:
        raise ImportError(
            f"The data set {name!r} comes with scikit-learn, which is not installed: "
            "pip install 'spectral-reach[studies]'."
        ) from missing
    pixels, digits = load(return_X_y=True)
    if pixels.shape != (1797, 64) or pixels.min() != 0 or pixels.max() != GREY_LEVELS - 1:
        raise ValueError(
            f"scikit-learn's digits are {pixels.shape} with values {pixels.min()} to {pixels.max()}; "
            f"expected (1797, 64) with 0 to {GREY_LEVELS - 1}. Install a release of scikit-learn that ships "
            "the 8 x 8 digits."
        )
    return pixels, np.asarray(digits, dtype=np.int64)


def _stratified(digits: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Mask of held-out images: in a random order sorted by digit, the images at evenly spaced places."""
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(digits))
    by_digit = order[np.argsort(digits[order], kind="stable")]
    mask = np.zeros(len(digits), dtype=np.bool_)
    mask[by_digit[np.arange(_HELDOUT) * len(digits) // _HELDOUT]] = True
    return mask
