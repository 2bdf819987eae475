"""Batches are functions of (seed, step): what one holds, and that no order of calls can change it."""

import numpy as np
import pytest
import torch
from small_library import rows

from spectral_reach.studies.data.batches import (
    heldout_batches,
    measurement_batch,
    training_batch,
    training_indices,
)
from spectral_reach.studies.data.tokens import TokenData


@pytest.fixture
def tokens() -> TokenData:
    """50 train and 20 held-out sequences, every one different."""
    every = np.arange(70 * 4).reshape(70, 4).astype(np.uint16)
    return TokenData(
        name="n",
        label="l",
        description="d",
        train=every[:50],
        heldout=every[50:],
        vocabulary=300,
        content_hash="0",
    )


def test_a_batch_is_inputs_and_the_tokens_that_follow_them(tokens: TokenData) -> None:
    inputs, targets = training_batch(tokens, 3, seed=1, batch_size=8)
    assert inputs.shape == targets.shape == (8, 3)
    assert inputs.dtype == targets.dtype == torch.int64
    torch.testing.assert_close(inputs[:, 1:], targets[:, :-1], rtol=0, atol=0)
    chosen = tokens.train[training_indices(50, 3, seed=1, batch_size=8)]
    assert rows((inputs, targets)) == [tuple(row) for row in chosen.tolist()]


def test_an_epoch_uses_no_sequence_twice_and_the_next_has_another_order() -> None:
    epochs = [
        np.concatenate([training_indices(50, step, seed=0, batch_size=8) for step in range(start, start + 6)])
        for start in (0, 6)
    ]
    for epoch in epochs:
        assert len(set(epoch.tolist())) == 48
    assert epochs[0].tolist() != epochs[1].tolist()


def test_a_step_has_the_same_batch_whatever_was_asked_before(tokens: TokenData) -> None:
    forward = [rows(training_batch(tokens, step, seed=2, batch_size=7)) for step in range(30)]
    backward = [rows(training_batch(tokens, step, seed=2, batch_size=7)) for step in reversed(range(30))]
    assert forward == backward[::-1]
    assert forward != [rows(training_batch(tokens, step, seed=3, batch_size=7)) for step in range(30)]


def test_batches_touch_no_global_generator(tokens: TokenData) -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index]
    training_batch(tokens, 0, seed=0, batch_size=4)
    measurement_batch(tokens, 0, seed=0, units=4)
    heldout_batches(tokens, units=5, batch_size=2)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()  # type: ignore[index]


def test_measurement_batches_are_fresh_independent_and_reproducible(tokens: TokenData) -> None:
    first = rows(measurement_batch(tokens, 5, seed=0, units=40))
    # 40 draws with replacement from 50 that are all different: 50 (1 - 0.98^40) = 28 expected, 2 standard deviation.
    assert 20 <= len(set(first)) <= 36
    assert first == rows(measurement_batch(tokens, 5, seed=0, units=40))
    assert first != rows(measurement_batch(tokens, 6, seed=0, units=40))
    assert set(first) <= {tuple(row) for row in tokens.train.tolist()}


def test_a_probe_sees_the_data_in_an_order_of_its_own(tokens: TokenData) -> None:
    pre_training = [rows(training_batch(tokens, step, seed=2, batch_size=7)) for step in range(7)]
    probing = [rows(training_batch(tokens, step, seed=2, batch_size=7, probing=True)) for step in range(7)]
    assert all(a != b for a, b in zip(pre_training, probing, strict=True))
    assert len({row for batch in probing for row in batch}) == 49


def test_held_out_units_of_a_measurement_are_all_different(tokens: TokenData) -> None:
    for step in range(20):
        assert len(set(rows(measurement_batch(tokens, step, seed=0, units=12, part="heldout")))) == 12
    chosen = rows(measurement_batch(tokens, 3, seed=0, units=20, part="heldout"))
    assert sorted(chosen) == sorted(tuple(row) for row in tokens.heldout.tolist())
    with pytest.raises(ValueError, match="measurement of 21 units was asked for; expected at least 1 and at most 20"):
        measurement_batch(tokens, 3, seed=0, units=21, part="heldout")


def test_held_out_batches_are_drawn_from_all_files_and_always_the_same(tokens: TokenData) -> None:
    batches = heldout_batches(tokens, units=6, batch_size=4)
    assert [len(inputs) for inputs, _ in batches] == [4, 2]
    chosen = [row for batch in batches for row in rows(batch)]
    assert len(set(chosen)) == 6
    assert set(chosen) <= {tuple(row) for row in tokens.heldout.tolist()}
    assert chosen == [row for batch in heldout_batches(tokens, units=6, batch_size=6) for row in rows(batch)]
    everything = heldout_batches(tokens, units=1000, batch_size=64)
    assert [row for batch in everything for row in rows(batch)] == [tuple(r) for r in tokens.heldout.tolist()]


@pytest.mark.parametrize("batch_size", [0, 51])
def test_batches_larger_than_the_data_are_refused(tokens: TokenData, batch_size: int) -> None:
    with pytest.raises(ValueError, match=f"batch_size is {batch_size}; expected 1 to 50"):
        training_batch(tokens, 0, seed=0, batch_size=batch_size)


def test_a_measurement_of_nothing_is_refused(tokens: TokenData) -> None:
    with pytest.raises(ValueError, match="measurement of 0 units was asked for; expected at least 1"):
        measurement_batch(tokens, 0, seed=0, units=0)
