"""Digits in all shifts: what is shifted is background at the edges, and no image is in both parts."""

import numpy as np
import pytest

from spectral_reach.studies import data
from spectral_reach.studies.data.batches import heldout_batches


def test_every_image_comes_in_every_shift_and_stays_in_its_part() -> None:
    plain, shifted = data.load("digits"), data.load("digits", shifts=1)
    assert shifted.units("train") == 9 * plain.units("train") == 13_500
    assert shifted.units("heldout") == 9 * plain.units("heldout")
    assert shifted.content_hash != plain.content_hash
    for part in ("train", "heldout"):
        before = plain.batch(part, np.arange(50))[1].reshape(50, 8, 8).numpy()
        rows = np.concatenate([np.arange(50) + copy * plain.units(part) for copy in range(9)])
        after = shifted.batch(part, rows)[1].reshape(9, 50, 8, 8).numpy()
        assert (after[4] == before).all()  # no shift
        assert (after[0][:, 1:, 1:] == before[:, :-1, :-1]).all()  # down and to the right
        assert (after[0][:, 0] == 0).all()
        assert (after[7][:, :-1] == before[:, 1:]).all()  # up
        assert (after[7][:, -1] == 0).all()


def test_classes_go_with_their_images() -> None:
    plain, shifted = data.load("digits-images"), data.load("digits-images", shifts=2)
    assert shifted.units("train") == 25 * plain.units("train")
    n = plain.units("train")
    images, classes = plain.batch("train", np.arange(40))
    again, same = shifted.batch("train", np.arange(40) + 12 * n)
    assert (classes == same).all()
    # Mean and spread differ, the grey levels are the same.
    scale = (images.max() - images.min()) / (again.max() - again.min())
    assert np.allclose((images - images.min()).numpy(), ((again - again.min()) * scale).numpy(), atol=1e-5)
    assert "each in the 25 shifts of up to 2 pixels" in shifted.description


def test_a_held_out_loss_covers_many_digits_and_every_shift() -> None:
    """Held-out units at even distances would be 33 digits in nine shifts."""
    shifted = data.load("digits", shifts=1)
    place = {tuple(row.tolist()): i for i, row in enumerate(shifted.heldout[:, 1:])}
    batches = heldout_batches(shifted, units=297, batch_size=64)
    rows = [place[tuple(row.tolist())] for _, targets in batches for row in targets]
    assert len(rows) == 297
    assert len({row % 297 for row in rows}) > 170  # 194 expected
    assert {row // 297 for row in rows} == set(range(9))


@pytest.mark.parametrize("name", ["digits", "digits-images"])
@pytest.mark.parametrize(
    ("shifts", "error", "message"),
    [
        (3, ValueError, "shifts is 3; expected 0 to 2 pixels: digits have 8 along a side"),
        (-1, ValueError, "shifts is -1; expected 0 to 2"),
        (1.0, TypeError, "shifts is 1.0, a float; expected a whole number"),
    ],
)
def test_impossible_shifts_are_named(name: str, shifts: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        data.load(name, shifts=shifts)
