"""Images as next-pixel prediction: the order, the levels and the averaging of the tokens, by a slow direct count."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from small_library import rows

from spectral_reach.studies.data import pixels
from spectral_reach.studies.data.image_rows import ImageRows
from spectral_reach.studies.data.pixels import PixelData


def images(count: int, *, size: int = 4, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size=(count, size, size, channels)).astype(np.uint8)


def make(train: np.ndarray, heldout: np.ndarray, **settings: object) -> PixelData:
    return PixelData(
        name="n",
        label="l",
        description="d",
        train=ImageRows((train,)),
        heldout=ImageRows((heldout,)),
        content_hash="0",
        **{"size": 4, **settings},  # type: ignore[arg-type]
    )


def direct(image: np.ndarray, levels: int, colour: str, size: int) -> list[int]:
    """The definition, pixel by pixel in exact fractions."""
    side, tokens = image.shape[0] // size, []
    for row in range(size):
        for column in range(size):
            square = image[row * side : (row + 1) * side, column * side : (column + 1) * side].reshape(side**2, -1)
            means = [Fraction(int(channel.sum()), side**2) for channel in square.T.astype(int)]
            if colour == "grey" and len(means) == 3:
                means = [
                    Fraction(299, 1000) * means[0] + Fraction(587, 1000) * means[1] + Fraction(114, 1000) * means[2]
                ]
            tokens += [math.floor(mean * levels / 256) for mean in means]
    return tokens


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("size", [4, 2, 1])
@pytest.mark.parametrize("colour", ["grey", "rgb"])
def test_tokens_are_the_pixels_in_raster_order(channels: int, levels: int, size: int, colour: str) -> None:
    if (channels, colour) == (1, "rgb"):
        return
    some = images(6, channels=channels)
    some[0], some[1] = 255, 0
    loaded = make(some, some[:2], levels=levels, colour=colour, size=size)
    batch = loaded.batch("train", np.array([4, 0, 1, 5]))
    assert rows(batch) == [(levels, *direct(some[i], levels, colour, size)) for i in (4, 0, 1, 5)]
    inputs, targets = batch
    assert inputs.dtype == targets.dtype == torch.int64
    assert inputs.is_contiguous()
    assert targets.is_contiguous()
    assert targets[1].unique().tolist() == [levels - 1]
    assert loaded.dimensions == {"vocabulary": levels + 1, "context": targets.shape[1]}
    assert (loaded.vocabulary, loaded.context) == (levels + 1, size**2 * (3 if colour == "rgb" else 1))


def test_whole_colours_are_their_own_tokens() -> None:
    some = images(2)
    _, targets = make(some, some, colour="rgb").batch("heldout", np.array([1]))
    assert targets[0].tolist() == some[1].reshape(-1).tolist()


def test_unigram_entropy_is_that_of_a_direct_count() -> None:
    train, heldout = images(7), images(3, seed=1)
    seen = [token for image in train for token in direct(image, 8, "grey", 2)]
    expected = [-math.log((seen.count(t) + 1) / (len(seen) + 9)) for i in heldout for t in direct(i, 8, "grey", 2)]
    loaded = make(train, heldout, levels=8, colour="grey", size=2)
    assert loaded.unigram_entropy == pytest.approx(math.fsum(expected) / len(expected), rel=1e-13)


def test_unigram_entropy_of_many_images_is_counted_on_some(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    train, heldout = images(300, size=2), images(40, size=2, seed=1)
    exact = make(train, heldout, levels=4, size=2).unigram_entropy
    monkeypatch.setattr(pixels, "_COUNTED", 100)
    monkeypatch.setattr(pixels, "_COUNTED_AT_ONCE", 32)
    take = ImageRows.take
    monkeypatch.setattr(ImageRows, "take", lambda self, rows: taken.extend(rows.tolist()) or take(self, rows))
    estimate = make(train, heldout, levels=4, size=2).unigram_entropy
    assert len(taken) == 140
    assert len(set(taken[:100])) == 100
    assert estimate != exact
    # 400 of 1,200 pixels in 4 levels: the share of a level is off by some 2% of 1, its logarithm by some 8%.
    assert estimate == pytest.approx(exact, abs=0.1)
    assert estimate == make(train, heldout, levels=4, size=2).unigram_entropy


@pytest.mark.parametrize(
    ("train", "settings", "message"),
    [
        (images(2), {"levels": 257}, "levels is 257; expected 2 to 256"),
        (images(2), {"levels": 1}, "levels is 1; expected 2 to 256"),
        (images(2), {"size": 3}, "size is 3; expected a divisor of the images' 4 pixels: 1, 2, 4"),
        (images(2), {"size": 8}, "size is 8; expected a divisor"),
        (images(2), {"size": 0}, "size is 0; expected a divisor"),
        (images(2), {"colour": "red"}, "colour is 'red' for images of 3 channels; expected 'grey' or 'rgb'"),
        (images(2, channels=1), {"colour": "rgb"}, "colour is 'rgb' for images of 1 channels; expected 'grey'"),
        (images(2, channels=2), {}, r"of 2 channels; expected images of 1 channel \(grey\) or 3"),
        (images(2, size=8), {}, "train images have size 8 .* held-out ones 4 .*; expected them equal"),
    ],
)
def test_impossible_pixels_are_named(train: np.ndarray, settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(train, images(2), **settings)
