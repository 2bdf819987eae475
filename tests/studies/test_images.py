"""Images with classes: lists of parts, normalisation, what is refused, and the digits with their class."""

import math
from collections import Counter

import numpy as np
import pytest
import torch

from spectral_reach.studies import data
from spectral_reach.studies.data.image_rows import ImageRows
from spectral_reach.studies.data.images import ImageData, channel_histogram, channel_statistics


def images(count: int, *, size: int = 4, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size=(count, size, size, channels)).astype(np.uint8)


def make(**changed: object) -> ImageData:
    settings = {
        "name": "n",
        "label": "l",
        "description": "d",
        "train": ImageRows((images(5), images(3, seed=1))),
        "train_labels": np.array([0, 1, 1, 2, 1, 0, 0, 1]),
        "heldout": ImageRows((images(4, seed=2),)),
        "heldout_labels": np.array([1, 1, 2, 0]),
        "classes": 4,
        "mean": (120.0, 130.0, 140.0),
        "std": (50.0, 60.0, 70.0),
        "content_hash": "0",
    }
    return ImageData(**settings | changed)  # type: ignore[arg-type]


def test_parts_are_one_long_list_read_in_any_order() -> None:
    parts = (images(5), images(1, seed=1), images(7, seed=2))
    rows = ImageRows(parts)
    together = np.concatenate(parts)
    assert (len(rows), rows.size, rows.channels) == (13, 4, 3)
    for chosen in ([12, 0, 5, 5, 4, 6], [], [-1, -13]):
        np.testing.assert_array_equal(rows.take(np.array(chosen, dtype=np.int64)), together[chosen])
    with pytest.raises(IndexError, match="Rows 3 to 13 were asked for; expected rows below 13"):
        rows.take(np.array([13, 3]))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((), "Images come in the shapes none; expected at least one part"),
        ((images(2), images(2, size=8)), r"shapes \(4, 4, 3\), \(8, 8, 3\); expected at least one part, and one shape"),
        ((images(2)[:, :3],), r"uint8 of shape \(2, 3, 4, 3\); expected uint8 of shape \(images, size, size"),
        ((images(2).astype(np.float32),), r"float32 of shape \(2, 4, 4, 3\); expected uint8"),
        ((images(0),), r"shape \(0, 4, 4, 3\); expected .* at least one image"),
    ],
)
def test_images_that_are_none_are_refused(parts: tuple[np.ndarray, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageRows(parts)


def test_a_batch_is_normalised_channels_first_with_its_classes() -> None:
    loaded = make()
    inputs, targets = loaded.batch("train", np.array([6, 2]))
    assert inputs.shape == (2, 3, 4, 4)
    assert inputs.dtype == torch.float32
    assert targets.dtype == torch.int64
    assert targets.tolist() == [0, 1]
    pixel = images(3, seed=1)[1, 2, 3]
    expected = [(pixel[c] - loaded.mean[c]) / loaded.std[c] for c in range(3)]
    # Two roundings to float32 of numbers below 3.
    np.testing.assert_allclose(inputs[0, :, 2, 3].numpy(), expected, rtol=0, atol=1e-6)
    assert loaded.dimensions == {"classes": 4, "channels": 3, "image_size": 4}
    assert (loaded.units("train"), loaded.units("heldout")) == (8, 4)
    assert loaded.facts["mean"] == [120.0, 130.0, 140.0]
    assert loaded.batch("heldout", np.array([2]))[1].tolist() == [2]


def test_statistics_of_a_histogram_are_those_of_the_values() -> None:
    some = images(50)
    mean, std = channel_statistics(channel_histogram(some[:20]) + channel_histogram(some[20:]))
    np.testing.assert_allclose(mean, some.reshape(-1, 3).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(std, some.reshape(-1, 3).std(axis=0), rtol=1e-12)


def test_unigram_entropy_is_that_of_a_direct_count() -> None:
    # Training classes 0, 1, 2, 3 come 3, 4, 1, 0 times, and each count has one added.
    expected = [-math.log(q / 12) for q in (5, 5, 2, 4)]
    assert make().unigram_entropy == pytest.approx(math.fsum(expected) / 4, rel=1e-14)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"train_labels": np.zeros(7, dtype=np.int64)}, r"train classes are int64 of shape \(7,\); expected .*\(8,\)"),
        ({"train_labels": np.zeros(8, dtype=np.uint8)}, r"train classes are uint8 .*; expected int64"),
        ({"heldout_labels": np.array([0, 1, 2, 4])}, "heldout has classes 0 to 4; expected 0 to 3"),
        (
            {"heldout": ImageRows((images(4, size=8),))},
            "train images have size 4 .* held-out ones 8 .*expected them equal",
        ),
        ({"std": (1.0, 0.0, 1.0)}, r"std \(1.0, 0.0, 1.0\); expected 3 values each, and deviations above 0"),
        ({"mean": (1.0,)}, "expected 3 values each"),
    ],
)
def test_what_does_not_fit_together_is_refused(changed: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**changed)


def test_digits_with_classes_are_the_digits_that_are_pixels_elsewhere() -> None:
    from sklearn.datasets import load_digits

    classified, pixels = data.load("digits-images"), data.load("digits")
    assert classified.dimensions == {"classes": 10, "channels": 1, "image_size": 8}
    everything, digits = load_digits(return_X_y=True)
    digit_of = {tuple(image.astype(int)): digit for image, digit in zip(everything, digits, strict=True)}
    for part in ("train", "heldout"):
        count = classified.units(part)
        assert count == pixels.units(part)
        inputs, targets = classified.batch(part, np.arange(count))
        values = inputs[:, 0].numpy().reshape(count, 64) * classified.std[0] + classified.mean[0]
        np.testing.assert_allclose(values, getattr(pixels, part)[:, 1:], atol=1e-5)
        assert [digit_of[tuple(row)] for row in np.rint(values).astype(int)] == targets.tolist()
    inputs, _ = classified.batch("train", np.arange(1500))
    assert inputs.mean().item() == pytest.approx(0, abs=1e-5)
    assert inputs.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    # A tenth of each digit, nearly.
    assert classified.unigram_entropy == pytest.approx(math.log(10), abs=1e-3)
    assert min(Counter(digits.tolist()).values()) > 170
