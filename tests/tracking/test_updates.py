"""Updates as a training loop makes them: what is recorded of each, when, and that training does not notice."""

import math
from collections import OrderedDict, UserDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import spectral_reach as sr
from spectral_reach.records.run_folder import RunFolder

STEPS = 6


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.2), nn.GELU(), nn.Linear(6, 3))


def make_batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(8, 4, generator=generator), torch.randint(0, 3, (8,), generator=generator)


def train(
    model: nn.Module, tracker: sr.Tracker | None, *, steps: range = range(STEPS), shared: bool = False
) -> torch.optim.Optimizer:
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.02)
    torch.manual_seed(1)
    for step in steps:
        inputs, targets = make_batch(step)
        if tracker is not None and not shared:
            tracker.measure(step, (inputs, targets), tokens=8 * step)
        outputs = model(inputs)
        loss = F.cross_entropy(outputs, targets)
        if tracker is not None and shared:
            tracker.measure(step, (inputs, targets), outputs=outputs, step_loss=loss)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimiser.step()
    return optimiser


@pytest.mark.parametrize("shared", [False, True])
def test_training_is_the_same_to_the_bit(shared: bool) -> None:
    plain, watched = make_model(), make_model()
    train(plain, None)
    after = torch.rand(3)
    with sr.Tracker(watched, schedule=2, updates=1) as tracker:
        train(watched, tracker, shared=shared)
        assert torch.rand(3).equal(after)
    assert len(tracker.updates) == STEPS
    assert len(tracker.history) == STEPS // 2
    for a, b in zip(plain.parameters(), watched.parameters(), strict=True):
        assert a.equal(b)


def test_a_row_says_what_the_update_did_and_adds_it_up() -> None:
    model = make_model().eval()
    losses = []
    with sr.Tracker(model, schedule=lambda step: False, updates=1) as tracker:
        optimiser = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
        for step in range(STEPS):
            inputs, targets = make_batch(0)  # one batch over and over: its loss telescopes
            tracker.measure(step, (inputs, targets), tokens=8 * step)
            loss = F.cross_entropy(model(inputs), targets)
            losses.append(loss.item())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    rows = tracker.updates
    assert [row["step"] for row in rows] == list(range(STEPS))
    assert [row["tokens"] for row in rows] == [8 * step for step in range(STEPS)]
    assert [row["updates"] for row in rows] == list(range(1, STEPS + 1))
    for step, row in enumerate(rows):
        assert row["loss_before"] == pytest.approx(losses[step], rel=1e-6)
        assert row["linear"] + row["correction"] == row["change"] == row["loss_after"] - row["loss_before"]
        assert row["cumulated_change"] == pytest.approx(row["loss_after"] - losses[0], abs=1e-6)
        assert row["cumulated_linear"] + row["cumulated_correction"] == pytest.approx(row["cumulated_change"], abs=1e-9)
        is_last = step == STEPS - 1
        assert math.isnan(row["next_change"]) if is_last else row["next_change"] == row["change"]


def accumulated(model: nn.Module, tracker: sr.Tracker) -> None:
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(STEPS):
        optimiser.zero_grad()
        for micro in range(2):
            inputs, targets = make_batch(2 * step + micro)
            tracker.measure(step, (inputs, targets))
            (F.cross_entropy(model(inputs), targets) / 2).backward()
        optimiser.step()


def two_optimisers(model: Any, tracker: sr.Tracker) -> None:
    optimisers = [torch.optim.SGD(model[0].parameters(), lr=0.1), torch.optim.AdamW(model[3].parameters(), lr=0.01)]
    for step in range(STEPS):
        inputs, targets = make_batch(step)
        tracker.measure(step, (inputs, targets))
        model.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        for optimiser in optimisers:
            optimiser.step()


def with_a_scaler(model: nn.Module, tracker: sr.Tracker) -> None:
    optimiser, scaler = torch.optim.SGD(model.parameters(), lr=0.1), torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for step in range(STEPS):
        inputs, targets = make_batch(step)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            tracker.measure(step, (inputs, targets))
            loss = F.cross_entropy(model(inputs), targets)
        optimiser.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimiser)
        scaler.update()


def with_a_closure(model: nn.Module, tracker: sr.Tracker) -> None:
    optimiser = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=2)
    for step in range(STEPS):
        inputs, targets = make_batch(step)
        tracker.measure(step, (inputs, targets))

        def closure(inputs: Tensor = inputs, targets: Tensor = targets) -> Tensor:
            optimiser.zero_grad()
            loss = F.cross_entropy(model(inputs), targets)
            loss.backward()
            return loss

        optimiser.step(closure)


def compiled(model: nn.Module, tracker: sr.Tracker) -> None:
    fast = torch.compile(model, backend="aot_eager")
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(STEPS):
        inputs, targets = make_batch(step)
        tracker.measure(step, (inputs, targets))
        optimiser.zero_grad()
        F.cross_entropy(fast(inputs), targets).backward()
        optimiser.step()


@pytest.mark.parametrize("loop", [accumulated, two_optimisers, with_a_scaler, with_a_closure, compiled])
def test_in_every_kind_of_loop(loop: Callable[[nn.Module, sr.Tracker], None]) -> None:
    plain, watched = make_model(), make_model()
    torch.manual_seed(1)
    loop(plain, sr.Tracker(plain, schedule=lambda step: False))
    torch.manual_seed(1)
    with sr.Tracker(watched, schedule=3, updates=1) as tracker:
        loop(watched, tracker)
    assert [row["step"] for row in tracker.updates] == list(range(STEPS))
    assert all(row["linear"] != 0 and row["update_norm"] > 0 for row in tracker.updates)
    for a, b in zip(plain.parameters(), watched.parameters(), strict=True):
        assert a.equal(b)


def test_an_update_that_a_scaler_skips_did_nothing() -> None:
    model = make_model()
    optimiser, scaler = torch.optim.SGD(model.parameters(), lr=0.1), torch.amp.GradScaler("cpu")
    with sr.Tracker(model, schedule=lambda step: False, updates=1) as tracker:
        for step in range(3):
            inputs, targets = make_batch(step)
            tracker.measure(step, (inputs, targets))
            overflow = math.inf if step == 1 else 1.0
            optimiser.zero_grad()
            scaler.scale(F.cross_entropy(model(inputs), targets) * overflow).backward()
            scaler.step(optimiser)
            scaler.update()
    made, skipped, last = tracker.updates
    assert made["update_norm"] > 0
    assert last["update_norm"] > 0
    assert (skipped["change"], skipped["linear"], skipped["update_norm"]) == (0, 0, 0)
    assert [row["updates"] for row in tracker.updates] == [1, 2, 3]


def test_a_last_update_that_was_not_made_is_none() -> None:
    model = make_model()
    with sr.Tracker(model, schedule=lambda step: False, updates=1) as tracker:
        tracker.measure(0, make_batch(0))
    assert tracker.updates == []


def test_a_schedule_of_its_own_and_due() -> None:
    tracker = sr.Tracker(make_model(), schedule=[0], updates=[2, 4])
    due = []
    for step in range(STEPS):
        due.append(tracker.due(step))
        if due[-1]:
            tracker.measure(step, make_batch(step))
    assert due == [True, False, True, True, True, True]
    assert [row["step"] for row in tracker.updates] == [2, 4]
    assert [row["step"] for row in tracker.history] == [0]


def test_an_update_whose_next_step_is_not_told_is_left_out() -> None:
    tracker = sr.Tracker(make_model(), schedule=[0], updates=[0])
    tracker.measure(0, make_batch(0))
    with pytest.warns(UserWarning, match=r"the update of step 0 is left out: .* next called at step 2.*tracker\.due"):
        tracker.measure(2, make_batch(2))
    assert tracker.updates == []


def test_the_folder_keeps_them_and_a_new_tracker_goes_on(tmp_path: Path) -> None:
    model = make_model()
    with sr.Tracker(model, schedule=2, updates=1, out=tmp_path / "whole") as tracker:
        train(model, tracker)
    whole = tracker.updates
    model = make_model()
    with sr.Tracker(model, schedule=2, updates=1, out=tmp_path / "parts") as tracker:
        optimiser = train(model, tracker, steps=range(3))
    torch.manual_seed(1)
    with sr.Tracker(model, schedule=2, updates=1, out=tmp_path / "parts") as tracker:
        for step in range(2, STEPS):  # step 2 again: it is on record
            tracker.measure(step, make_batch(step), tokens=8 * step)
            if step > 2:
                optimiser.zero_grad()
                F.cross_entropy(model(make_batch(step)[0]), make_batch(step)[1]).backward()
                optimiser.step()
    rows = RunFolder.open(tmp_path / "parts").updates.rows()
    assert [row["step"] for row in rows] == list(range(STEPS))
    assert [row["updates"] for row in rows] == list(range(1, STEPS + 1))
    assert rows[1] == whole[1]
    assert rows[-1]["cumulated_change"] == pytest.approx(sum(row["change"] for row in rows), rel=1e-12)


def test_an_error_of_the_loop_is_not_replaced(tmp_path: Path) -> None:
    model = make_model()
    tracker = sr.Tracker(model, schedule=1, updates=1, out=tmp_path)

    def loop() -> None:
        with tracker:
            tracker.measure(0, make_batch(0))
            with torch.no_grad():
                model[0].weight.fill_(math.nan)
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        loop()
    assert tracker.updates == []


def test_batches_without_a_label() -> None:
    model = make_model()
    nothing = torch.randn(8, 4), torch.full((8,), -100)
    with sr.Tracker(model, schedule=lambda step: False, updates=1) as tracker:
        for step, batch in enumerate([make_batch(0), nothing, make_batch(2), make_batch(3)]):
            tracker.measure(step, batch)
            with torch.no_grad():
                model[0].weight.mul_(1.01)
    assert [row["step"] for row in tracker.updates] == [0, 2, 3]
    assert [math.isnan(row["next_change"]) for row in tracker.updates] == [True, False, True]


def test_columns_may_not_have_the_names_of_fields() -> None:
    tracker = sr.Tracker(make_model(), schedule=1, updates=1)
    for name in ("linear", "cumulated_change", "updates"):
        with pytest.raises(ValueError, match=f"column '{name}' has the name of a field"):
            tracker.measure(0, make_batch(0), **{name: 1.0})


@pytest.mark.parametrize("kind", [dict, OrderedDict, UserDict])
def test_a_loop_may_fill_one_batch_again(kind: type[Any]) -> None:
    """Also where it is a mapping that torch does not know, as a BatchEncoding."""

    class Named(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)

    rows = []
    for again in (False, True):
        torch.manual_seed(0)
        model = Named(4, 3)
        optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
        batch = kind(x=torch.empty(8, 4), labels=torch.empty(8, dtype=torch.int64))
        with sr.Tracker(model, schedule=lambda step: False, updates=1) as tracker:
            for step in range(3):
                inputs, targets = make_batch(step)
                if again:
                    batch["x"].copy_(inputs)
                    batch["labels"].copy_(targets)
                else:
                    batch = kind(x=inputs, labels=targets)
                tracker.measure(step, batch)
                optimiser.zero_grad()
                F.cross_entropy(model(batch["x"]), batch["labels"]).backward()
                optimiser.step()
        rows.append([row["change"] for row in tracker.updates])
    assert rows[0] == rows[1]
