"""A training that diverges goes on as without a tracker: rows that are not defined say why, and one warning does."""

import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import spectral_reach as sr
from spectral_reach.measured.not_finite import NotFiniteError
from spectral_reach.records.run_folder import RunFolder
from spectral_reach.sinks.metrics import metrics_of

STEPS, BREAKS = 6, 3


def make_batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(8, 4, generator=generator), torch.randint(0, 3, (8,), generator=generator)


def train(tracker: sr.Tracker | None, model: nn.Module, *, shared: bool, value: float, back: bool = False) -> None:
    """After ``BREAKS`` updates a weight is not finite, for good or for one step."""
    torch.manual_seed(1)
    for step in range(STEPS):
        inputs, targets = make_batch(step)
        outputs = model(inputs)
        loss = F.cross_entropy(outputs, targets)
        if tracker is not None:
            tracker.measure(step, (inputs, targets), **({"outputs": outputs, "step_loss": loss} if shared else {}))
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                gradient, parameter.grad = parameter.grad, None
                parameter -= 0.1 * (gradient.nan_to_num() if back else gradient)
            if step == BREAKS - 1:
                kept = model[0].weight[0, 0].clone()
                model[0].weight[0, 0] = value
            elif step == BREAKS and back:
                model[0].weight[0, 0] = kept


def make_model() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.2), nn.Tanh(), nn.Linear(6, 3))


@pytest.mark.parametrize("shared", [False, True])
def test_training_goes_on_and_the_rows_say_why(tmp_path: Path, shared: bool) -> None:
    plain, watched = make_model(), make_model()
    train(None, plain, shared=shared, value=math.nan)
    batches, pairs = {"heldout": make_batch(99)}, [("training", "heldout")]
    with (
        pytest.warns(UserWarning, match="is not defined") as told,
        sr.Tracker(watched, schedule=1, updates=1, batches=batches, pairs=pairs, out=tmp_path / "run") as tracker,
    ):
        train(tracker, watched, shared=shared, value=math.nan)
    for a, b in zip(plain.parameters(), watched.parameters(), strict=True):
        assert torch.equal(a.nan_to_num(nan=7.0), b.nan_to_num(nan=7.0))
    texts = sorted(str(each.message) for each in told)
    assert len(texts) == 2, texts
    assert texts[0].startswith(
        f"the effect of the update of step {BREAKS - 1} is not defined, and recorded as NaN: the"
    )
    assert texts[1].startswith(f"the measurement of step {BREAKS} is not defined, and recorded as NaN: ")
    assert all("the model has diverged" in text for text in texts)
    for rows in (tracker.history, *tracker.histories.values()):
        assert [math.isfinite(row["chi_pos"]) for row in rows] == [step < BREAKS for step in range(STEPS)]
        for row in rows[BREAKS:]:
            assert all("outputs are not finite in 8 of 8" in reason for reason in row["undefined"].values())
            assert metrics_of("measurement", row) == {}
            assert {"loss", "chi_pos", "gradient_noise_scale"} <= row["undefined"].keys()
    finite = [math.isfinite(row["change"]) for row in tracker.updates]
    assert finite == [step < BREAKS - 1 for step in range(STEPS)]
    assert list(map(repr, RunFolder.open(tmp_path / "run").updates.rows())) == list(map(repr, tracker.updates))


def test_sums_over_updates_leave_out_what_is_not_defined(tmp_path: Path) -> None:
    model = make_model()
    with (
        pytest.warns(UserWarning, match="is not defined"),
        sr.Tracker(model, schedule=1, updates=1, out=tmp_path / "run") as tracker,
    ):
        train(tracker, model, shared=False, value=math.inf, back=True)
    rows = tracker.updates
    defined = [row for row in rows if math.isfinite(row["change"])]
    assert [row["step"] for row in rows] == list(range(STEPS))
    assert [row["step"] for row in defined] == [0, 1, 4, 5]
    assert [row["updates"] for row in rows] == [1, 2, 2, 2, 3, 4]
    assert rows[-1]["cumulated_change"] == pytest.approx(sum(row["change"] for row in defined), rel=1e-12)
    assert math.isnan(rows[2]["cumulated_change"])
    # A tracker that goes on takes up the same sums.
    with sr.Tracker(model, schedule=1, updates=1, out=tmp_path / "run") as again:
        again.measure(STEPS, make_batch(STEPS))
        with torch.no_grad():
            model[0].weight.mul_(1.01)
    last = again.updates[-1]
    assert last["updates"] == 5
    assert last["cumulated_change"] == pytest.approx(rows[-1]["cumulated_change"] + last["change"], rel=1e-12)


def test_a_next_batch_that_is_not_finite_leaves_the_rest_of_the_row() -> None:
    model = make_model()
    tracker = sr.Tracker(model, schedule=1, updates=1)
    tracker.measure(0, make_batch(0))
    with torch.no_grad():
        model[0].weight.mul_(1.01)
    with pytest.warns(UserWarning, match="the measurement of step 1"):
        tracker.measure(1, (torch.full((8, 4), math.nan), make_batch(1)[1]))
    [row] = tracker.updates
    assert math.isfinite(row["change"])
    assert row["undefined"] == dict.fromkeys(
        ("next_loss_before", "next_change"), "there is no next batch with a finite loss"
    )


def squared_root(outputs: Tensor, targets: Tensor) -> Tensor:
    """Zero at the targets, with a derivative that is not finite there."""
    return (outputs - targets).square().sum(-1).sqrt().mean()


@pytest.mark.parametrize(
    ("loss", "batch", "told"),
    [
        ("cross_entropy", (torch.full((4, 3), math.inf), torch.zeros(4, dtype=torch.int64)), "outputs are not finite"),
        ("mse", (torch.ones(4, 3), torch.full((4, 3), math.nan)), "targets that are not finite"),
        ("mse", (torch.ones(4, 3), torch.full((4, 3), 1e30)), "the loss is inf"),
        (squared_root, (torch.zeros(4, 3), torch.zeros(4, 3)), "gradient of the loss with respect to the outputs"),
    ],
)
def test_every_way_of_not_being_finite(loss: Any, batch: Any, told: str) -> None:
    model = nn.Linear(3, 3)
    with torch.no_grad():
        model.bias.zero_()
    with pytest.raises(NotFiniteError, match=told):
        sr.decompose(model, batch, loss=loss)
    with pytest.warns(UserWarning, match=told):
        result = sr.Tracker(model, schedule=1, loss=loss).measure(0, batch)
    assert result is not None
    assert told in result.undefined["chi_pos"]


def test_other_errors_still_end_the_training() -> None:
    tracker = sr.Tracker(make_model(), schedule=1)
    with warnings.catch_warnings(), pytest.raises(ValueError, match="targets range from"):
        tracker.measure(0, (make_batch(0)[0], torch.full((8,), 7)))
