"""Hand-written digits, scikit-learn's 8 x 8 images in 17 grey levels: as next-pixel prediction and with classes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from spectral_reach.studies.config import check_whole_number
from spectral_reach.studies.data.image_rows import ImageRows
from spectral_reach.studies.data.images import ImageData, channel_histogram, channel_statistics
from spectral_reach.studies.data.registry import register
from spectral_reach.studies.data.tokens import TokenData, digest

GREY_LEVELS = 17
BEGIN = GREY_LEVELS
"""The token before the first pixel, so that all 64 pixels are predicted."""

_HELDOUT = 297
_MOST_SHIFTS = 2
_SPLIT_SEED = 20260531


@register("digits")
def load_digits(*, shifts: int = 0) -> TokenData:
    """1,797 images (UCI optical recognition of hand-written digits, as scikit-learn ships them), row by row.

    297 are held out. The split is fixed and stratified: as many of every digit as its frequency asks for.

    Args:
        shifts: every image comes in all shifts of up to so many pixels, (2 shifts + 1)^2 of them: more to learn than
            a model of some hundred thousand parameters can know by heart. 0 to 2.

    Raises:
        ValueError: shifts out of range.
        SettingTypeError: shifts that are no whole number.
    """
    pixels, digits = _pixels_and_digits("digits")
    heldout = _stratified(digits)
    pixels, heldout = _shifted(pixels, shifts), np.tile(heldout, _copies(shifts))
    images = np.concatenate([np.full((len(pixels), 1), BEGIN), pixels], axis=1).astype(np.uint16)
    return TokenData(
        name="digits",
        label="Images (8 × 8 digits)",
        description=f"{len(digits):,} hand-written digits{_in_words(shifts)} as 64 pixel tokens of {GREY_LEVELS} grey "
        f"levels, {_HELDOUT} held out",
        train=images[~heldout],
        heldout=images[heldout],
        vocabulary=GREY_LEVELS + 1,
        content_hash=digest(images.tobytes(), heldout.tobytes()),
    )


@register("digits-images")
def load_digits_images(*, shifts: int = 0) -> ImageData:
    """The same images, split in the same way, with the digit that each shows: one channel of values 0 to 16.

    Args:
        shifts: as for ``digits``.

    Raises:
        ValueError: shifts out of range.
        SettingTypeError: shifts that are no whole number.
    """
    pixels, digits = _pixels_and_digits("digits-images")
    description = f"{len(digits):,} hand-written digits{_in_words(shifts)} of {GREY_LEVELS} grey levels with their "
    description += f"class, {_HELDOUT} held out"
    heldout = np.tile(_stratified(digits), _copies(shifts))
    images = _shifted(pixels, shifts).reshape(-1, 8, 8, 1).astype(np.uint8)
    digits = np.tile(digits, _copies(shifts))
    mean, std = channel_statistics(channel_histogram(images[~heldout]))
    return ImageData(
        name="digits-images",
        label="Images (8 × 8 digits, classes)",
        description=description,
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


def _copies(shifts: int) -> int:
    """Of every image.

    Raises:
        ValueError, SettingTypeError: no whole number from 0 to 2.
    """
    check_whole_number("shifts", shifts)
    if not 0 <= shifts <= _MOST_SHIFTS:
        raise ValueError(f"shifts is {shifts}; expected 0 to {_MOST_SHIFTS} pixels: digits have 8 along a side.")
    return (2 * shifts + 1) ** 2


def _shifted(pixels: npt.NDArray[np.float64], shifts: int) -> npt.NDArray[np.float64]:
    """All images (n, 64) under one shift, then all under the next; what comes in from outside is background."""
    if _copies(shifts) == 1:
        return pixels
    padded = np.pad(pixels.reshape(-1, 8, 8), ((0, 0), (shifts, shifts), (shifts, shifts)))
    places = range(2 * shifts + 1)
    return np.concatenate([padded[:, i : i + 8, j : j + 8].reshape(-1, 64) for i in places for j in places])


def _in_words(shifts: int) -> str:
    return f", each in the {_copies(shifts)} shifts of up to {shifts} pixels," if shifts else ""


def _stratified(digits: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Mask of held-out images: in a random order sorted by digit, the images at evenly spaced places."""
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(digits))
    by_digit = order[np.argsort(digits[order], kind="stable")]
    mask = np.zeros(len(digits), dtype=np.bool_)
    mask[by_digit[np.arange(_HELDOUT) * len(digits) // _HELDOUT]] = True
    return mask
