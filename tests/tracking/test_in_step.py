"""Measuring with the passes of a training step: the numbers of a measurement of its own, and training that never
notices."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import spectral_reach as sr
from spectral_reach.tracking.row import seed_of

B, T, K = 6, 5, 7


def undefined_told() -> Any:
    return pytest.warns(UserWarning, match=r"the measurement of step \d is not defined, and recorded as NaN: .*goes on")


class Net(nn.Module):
    def __init__(self, dropout: float = 0.0, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.embedding, self.positions = nn.Embedding(K, 8), nn.Parameter(0.1 * torch.randn(T, 8))
        self.middle = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Dropout(dropout), nn.Linear(16, 8))
        self.norm = nn.LayerNorm(8) if norm is None else norm
        self.readout = nn.Linear(8, K, bias=False)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, tokens: Tensor) -> Tensor:
        self.calls += 1
        x = self.embedding(tokens) + self.positions
        return self.readout(self.norm(x + self.middle(x)))


def draw_batch() -> tuple[Tensor, Tensor]:
    targets = torch.randint(0, K, (B, T))
    targets[0, 2:] = -100
    return torch.randint(0, K, (B, T)), targets


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def in_step(
    model: nn.Module, make_loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy, **options: Any
) -> tuple[dict[str, Any], sr.Decomposition]:
    """The row of a step, and the measurement in passes of its own that it should equal."""
    torch.manual_seed(3)
    tokens, targets = draw_batch()
    tracker = sr.Tracker(model, schedule=1, **{"estimator": "per_unit", **options})
    expected = sr.decompose(model, (tokens, targets), **{"estimator": "per_unit", **options, "seed": seed_of(0, 0)})
    outputs = model(tokens)
    loss = make_loss(outputs, targets)
    assert tracker.measure(0, (tokens, targets), outputs=outputs, step_loss=loss, tokens=30) is None
    assert tracker.history == []
    loss.backward()
    (row,) = tracker.history
    return row, expected


def assert_row(row: dict[str, Any], expected: sr.Decomposition, relative: float) -> None:
    for name, value in expected.as_dict().items():
        assert row[name] == (pytest.approx(value, rel=relative, nan_ok=True) if isinstance(value, float) else value)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"probes": 3},
        {"units": 2, "probes": 2},
        {"noise_units": 3},
        {"noise_units": 2, "units": 2},
        {"noise_units": B},
        {"parameters": "middle"},
        {"parameters": "middle", "noise_units": 4},
    ],
)
def test_the_row_is_that_of_a_measurement_of_its_own(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    row, expected = in_step(Net().double(), **options)
    assert_row(row, expected, 1e-9)
    assert (row["step"], row["tokens"]) == (0, 30)


@pytest.mark.parametrize("noise_units", [None, 24])
@pytest.mark.parametrize("factor", [1.0, -3.0])
def test_of_many_units_the_value_is_that_of_all_and_eight_tell_its_error(
    noise_units: int | None, factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "B", 24)
    torch.manual_seed(0)
    model = Net().double()
    row, expected = in_step(model, lambda o, y: factor * cross_entropy(o, y), noise_units=noise_units)
    if noise_units is not None:  # the whole table
        return assert_row(row, expected, 1e-9)
    assert (row["noise_units"], expected.noise_units) == (8, 24)
    errors = ("delta_loss_unbiased_stderr", "chi_pos_unbiased_stderr")
    assert_row({**row, **{name: getattr(expected, name) for name in (*errors, "noise_units")}}, expected, 1e-9)
    torch.manual_seed(3)
    few = sr.decompose(model, draw_batch(), estimator="per_unit", seed=seed_of(0, 0), noise_units=8)
    # The same eight units, and their two parts of the variance: the less of it, the more units the value is from.
    assert row["delta_loss"] == pytest.approx(few.delta_loss, rel=1e-9)
    for name in errors:
        assert 0 < row[name] < getattr(few, name)
    return None


@pytest.mark.parametrize(("noise_units", "of"), [(None, 24), (4, 4)])
def test_hooks_on_gradients_cost_more_but_change_nothing(
    noise_units: int | None, of: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hook may change the sum of the gradients, which products of some units need: then there are other ways."""
    monkeypatch.setitem(globals(), "B", 24)
    torch.manual_seed(0)
    model = Net().double()
    model.readout.weight.register_hook(lambda gradient: 2 * gradient)
    torch.manual_seed(3)
    tokens, targets = draw_batch()
    tracker = sr.Tracker(model, schedule=1, estimator="per_unit", noise_units=noise_units)
    expected = sr.decompose(model, (tokens, targets), estimator="per_unit", noise_units=noise_units, seed=seed_of(0, 0))
    outputs = model(tokens)
    loss = cross_entropy(outputs, targets)
    tracker.measure(0, (tokens, targets), outputs=outputs, step_loss=loss)
    loss.backward()
    (row,) = tracker.history
    assert_row(row, expected, 1e-9)
    assert row["noise_units"] == of


@pytest.mark.parametrize("noise_units", [None, 3])
@pytest.mark.parametrize("hidden", ["a penalty", "a hook"])
def test_what_else_changes_the_gradients_of_the_step_is_seen(
    noise_units: int | None, hidden: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "B", 24)
    torch.manual_seed(0)
    model = Net()
    tokens, targets = draw_batch()
    tracker = sr.Tracker(model, schedule=1, estimator="per_unit", noise_units=noise_units)
    for step in range(2):
        outputs = model(tokens)
        loss = cross_entropy(outputs, targets)
        tracker.measure(step, (tokens, targets), outputs=outputs, step_loss=loss)
        if step and hidden == "a penalty":
            loss = loss + 1e-2 * sum(p.square().sum() for p in model.parameters())
        elif step:
            model.middle[0].weight.register_hook(lambda gradient: 1.1 * gradient)
        with undefined_told() if step else nullcontext():
            loss.backward()
    clean, disturbed = tracker.history
    assert clean["delta_loss"] > 0
    assert math.isnan(disturbed["delta_loss"])
    assert "is not that of the measured loss alone" in disturbed["undefined"]["delta_loss"]


def test_parameters_in_half_precision_leave_the_table_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "B", 24)
    torch.manual_seed(0)
    row, expected = in_step(Net().bfloat16())
    assert row["noise_units"] == expected.noise_units == 24
    assert row["delta_loss"] == pytest.approx(expected.delta_loss, rel=0.05)


@pytest.mark.parametrize("factor", [0.25, 65536.0, -1.0])
def test_a_factor_before_the_loss_changes_no_number(factor: float) -> None:
    """Gradient accumulation divides the loss, a scaler of half precision multiplies it."""
    torch.manual_seed(0)
    row, expected = in_step(Net().double(), lambda outputs, targets: factor * cross_entropy(outputs, targets))
    assert_row(row, expected, 1e-9)


def test_with_autocast() -> None:
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        row, expected = in_step(Net())
    # The gradient of the loss is rounded to bfloat16, once with and once without a factor that is no power of two.
    assert_row(row, expected, 4 * torch.finfo(torch.bfloat16).eps)


def train(measure_in_step: bool) -> tuple[dict[str, Any], int]:
    torch.manual_seed(1)
    model = Net(dropout=0.3)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    tracker = sr.Tracker(model, schedule=2, estimator="per_unit")
    losses = []
    for step in range(9):
        optimiser.zero_grad()
        for _ in range(2):  # micro-batches; the first of a step is measured
            tokens, targets = draw_batch()
            outputs = model(tokens)
            loss = cross_entropy(outputs, targets) / 2
            if measure_in_step:
                tracker.measure(step, (tokens, targets), outputs=outputs, step_loss=loss)
            loss.backward()
            losses.append(loss.item())
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    state = {
        **model.state_dict(),
        **{f"grad {name}": p.grad for name, p in model.named_parameters()},
        **{f"{i} {key}": value for i, s in optimiser.state_dict()["state"].items() for key, value in s.items()},
        "generator": torch.get_rng_state(),
        "losses": torch.tensor(losses),
    }
    assert all(not module._forward_hooks and not module._backward_hooks for module in model.modules())
    return state, len(tracker.history)


def test_training_is_the_same_to_the_bit() -> None:
    (without, none), (with_it, rows) = train(False), train(True)
    assert (none, rows) == (0, 5)
    assert with_it.keys() == without.keys()
    for name, value in without.items():
        assert torch.equal(value, with_it[name]), name


# --- steps that cannot be shared --------------------------------------------------------------------------------------


def test_units_that_see_each_other_are_measured_in_passes_of_their_own() -> None:
    class Centred(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x - x.mean(0)

    torch.manual_seed(0)
    model = Net(norm=Centred()).double()
    torch.manual_seed(3)
    tokens, targets = draw_batch()
    tracker = sr.Tracker(model, schedule=1, estimator="batch")
    outputs = model(tokens)
    loss = cross_entropy(outputs, targets)
    result = tracker.measure(0, (tokens, targets), outputs=outputs, step_loss=loss)
    assert result is not None
    assert_row(result.as_dict(), sr.decompose(model, (tokens, targets), estimator="batch", seed=seed_of(0, 0)), 1e-12)
    loss.backward()
    assert len(tracker.history) == 1


def test_a_parameter_without_a_rule_is_measured_in_passes_of_its_own() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(K, 8), nn.Linear(8, 8), nn.PReLU(), nn.Linear(8, K)).double()
    tokens, targets = draw_batch()
    tracker = sr.Tracker(model, schedule=1, estimator="per_unit")
    outputs = model(tokens)
    loss = cross_entropy(outputs, targets)
    result = tracker.measure(0, (tokens, targets), outputs=outputs, step_loss=loss)
    assert result is not None
    assert_row(
        result.as_dict(), sr.decompose(model, (tokens, targets), estimator="per_unit", seed=seed_of(0, 0)), 1e-12
    )


def test_batch_statistics_are_measured_as_constants_in_passes_of_their_own() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)).double()
    batch = torch.randn(9, 4).double(), torch.randint(0, 3, (9,))
    tracker = sr.Tracker(model, schedule=1, estimator="per_unit")
    expected = sr.decompose(model, batch, estimator="per_unit", seed=seed_of(0, 0))
    outputs = model(batch[0])
    result = tracker.measure(0, batch, outputs=outputs, step_loss=F.cross_entropy(outputs, batch[1]))
    assert result is not None
    assert_row(result.as_dict(), expected, 1e-9)


def test_another_loss_than_the_trackers_is_told_in_the_row() -> None:
    torch.manual_seed(0)
    with undefined_told():
        row, _ = in_step(Net(), lambda f, y: F.cross_entropy(f.flatten(0, 1), y.flatten(), label_smoothing=0.1))
    assert "has another gradient at the outputs than the loss that is measured" in row["undefined"]["delta_loss"]


def test_gradients_that_overflow_are_told_in_the_row() -> None:
    torch.manual_seed(0)
    with undefined_told():
        row, _ = in_step(Net(), lambda f, y: 1e38 * (1e38 * cross_entropy(f, y)))
    assert "not finite" in row["undefined"]["delta_loss"] or "another gradient" in row["undefined"]["delta_loss"]


def penalised(model: nn.Module, loss: Tensor) -> Tensor:
    return loss + 1e-3 * model.readout.weight.square().sum()


def refused(error: type[Exception], match: str, **arguments: Any) -> None:
    torch.manual_seed(0)
    model = Net()
    tokens, targets = draw_batch()
    outputs = model(tokens)
    given = {"outputs": outputs, "step_loss": cross_entropy(outputs, targets)}
    given |= {name: value(model, given) for name, value in arguments.items()}
    tracker = sr.Tracker(model, schedule=1, estimator="per_unit")
    with pytest.raises(error, match=match):
        tracker.measure(0, (tokens, targets), **given)


def test_what_is_no_step_is_refused() -> None:
    together = "expected outputs and step_loss together and without against"
    refused(ValueError, together, step_loss=lambda *_: None)
    refused(ValueError, together, outputs=lambda *_: None)
    refused(ValueError, together, against=lambda *_: draw_batch())
    refused(
        ValueError,
        "depends on parameter 'readout.weight' by another way than the outputs",
        step_loss=lambda model, given: penalised(model, given["step_loss"]),
    )
    refused(ValueError, "does not depend on outputs", step_loss=lambda *_: torch.zeros((), requires_grad=True) * 2)
    refused(TypeError, "step_loss is a float; expected the scalar loss", step_loss=lambda *_: 1.5)
    refused(TypeError, r"a tensor of shape \(6, 5, 7\)", step_loss=lambda model, given: given["outputs"])


def test_a_step_without_a_backward_pass_leaves_no_row() -> None:
    """An out-of-memory error, a skipped batch: the step is measured again when it comes again."""
    torch.manual_seed(0)
    model = Net()
    tracker = sr.Tracker(model, schedule=1, estimator="per_unit")
    for _ in range(2):
        tokens, targets = draw_batch()
        outputs = model(tokens)
        loss = cross_entropy(outputs, targets)
        tracker.measure(0, (tokens, targets), outputs=outputs, step_loss=loss)
    loss.backward()
    assert [row["step"] for row in tracker.history] == [0]
    tracker.measure(0, (tokens, targets), outputs=outputs, step_loss=loss)
    assert len(tracker.history) == 1


def test_a_tracker_closed_before_the_backward_pass_writes_nothing() -> None:
    torch.manual_seed(0)
    model = Net()
    tokens, targets = draw_batch()
    with sr.Tracker(model, schedule=1, estimator="per_unit") as tracker:
        outputs = model(tokens)
        loss = cross_entropy(outputs, targets)
        tracker.measure(0, (tokens, targets), outputs=outputs, step_loss=loss)
    loss.backward()
    assert tracker.history == []


class KeyBias(nn.Module):
    """Attention whose keys have a bias: it changes no output, so that its gradient is nothing but rounding."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.readout = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = self.query(x) @ self.key(x).mT
        return self.readout((scores.softmax(-1) @ self.value(x)).mean(1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_gradient_that_is_only_rounding_is_no_other_loss(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = KeyBias().to(dtype)
    inputs, targets = torch.randn(16, 12, 8, dtype=dtype), torch.zeros(16, dtype=torch.int64)
    with sr.Tracker(model, schedule=1, estimator="per_unit", units=4, noise_units=4) as tracker:
        outputs = model(inputs)
        loss = torch.nn.functional.cross_entropy(outputs, targets)
        tracker.measure(0, (inputs, targets), outputs=outputs, step_loss=loss)
        loss.backward()
    (row,) = tracker.history
    assert not row["undefined"]
    expected = sr.decompose(model, (inputs, targets), estimator="exact")
    assert row["delta_loss"] == pytest.approx(expected.delta_loss, rel=1e-4)
