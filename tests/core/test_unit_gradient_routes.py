"""Unit gradients by layer rules, from a pass of each unit alone or from the whole graph: one result, by the first way
that holds."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import oracle
import pytest
import small_models
import torch
from comparing import assert_equal, disagreements
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import spectral_reach as sr
from spectral_reach.decomposition import one_batch
from spectral_reach.jacobian import unit_gradients
from spectral_reach.jacobian.unit_backward import UnitBackward

RULES, OWN, WHOLE = "layer rules", "own passes", "whole graph"


@pytest.fixture
def route(monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """Which route the last measurement took."""
    taken = []
    by_own_passes = unit_gradients._by_own_passes
    inner_products = UnitBackward.inner_products

    def by_rules(*arguments: Any) -> Any:
        taken.append(RULES)
        return inner_products(*arguments)

    monkeypatch.setattr(UnitBackward, "inner_products", by_rules)

    def spy(*arguments: Any) -> Any:
        products = by_own_passes(*arguments)
        taken.append(WHOLE if products is None else OWN)
        return products

    monkeypatch.setattr(unit_gradients, "_by_own_passes", spy)
    return lambda: taken[-1] if taken else WHOLE


def subject(model: nn.Module, inputs: Callable[[int], Tensor], k: int = 3, per_unit: tuple[int, ...] = ()) -> Any:
    return small_models.Subject(
        model.double(),
        oracle.CROSS_ENTROPY,
        "classes last",
        lambda b: (inputs(b).double(), small_models.labels([b, *per_unit], k, 0.0)),
    )


def measured(subject: Any, n: int = 5, *, signs_of: int | None = 0, **arguments: Any) -> sr.Decomposition:
    """A measurement by ``exact`` that agrees with the oracle."""
    torch.manual_seed(1)
    batch = subject.draw_batch(n)
    result = sr.decompose(subject.model, batch, loss=subject.loss.given, estimator="exact", **arguments)
    assert disagreements(result, oracle.one_batch(subject.explicit(batch), signs_of)) == {}
    return result


# --- independent units: their own passes ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in small_models.KINDS if "dropout" not in kind])
def test_both_routes_give_the_same_numbers(
    kind: str, route: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = small_models.draw(kind, 7)
    drawn.model.train(kind == "convolution-batch-norm-training")
    batch, other = drawn.draw_batch(4), drawn.draw_batch(3)

    def results() -> list[sr.Decomposition]:
        return [
            sr.decompose(drawn.model, batch, loss=drawn.loss.given, estimator="batch", against=against)
            for against in (None, other)
        ]

    monkeypatch.setattr(one_batch.UnitBackward, "of", lambda _: SimpleNamespace(reason="not today"))
    own = results()
    assert route() == OWN
    monkeypatch.setattr(unit_gradients, "_by_own_passes", lambda *_: None)
    whole = results()
    for a, b in zip(own, whole, strict=True):
        assert_equal(a, b, relative=1e-7)


# --- units that see each other: the whole graph ---------------------------------------------------------------------


class Centred(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


class GatedMean(nn.Module):
    """A gate at zero: every unit has its own outputs alone, but the gate's gradient is the batch's."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gate * (x - x.mean(0))


class Fixed(nn.Module):
    """Works for one batch size only."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.layer, self.n = nn.Linear(4, 3), n

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).view(self.n, 3)


class SequenceFirst(nn.Module):
    """(T, B, E) as nn.GRU has it by default: the leading axis of the inputs is not that of the units."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent, self.readout = nn.GRU(3, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.recurrent(x)[0][-1])


class Direct(nn.Module):
    """Batch statistics by an operator that nothing intercepts: units stay coupled, and the derivatives say so."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.readout = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.batch_norm(self.first(x), None, None, None, None, True, 0.1, 1e-5, False)
        return self.readout(x)


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), Centred(), nn.Linear(5, 3)), lambda b: torch.randn(b, 4)),
        (lambda: Fixed(5), lambda b: torch.randn(b, 4)),
        (SequenceFirst, lambda b: torch.randn(4, b, 3)),
        (SequenceFirst, lambda b: torch.randn(b, b, 3)),  # as long as there are units: cut along the wrong axis
        (Direct, lambda b: torch.randn(b, 4)),
    ],
    ids=["centred", "fixed-size", "sequence-first", "sequence-first-square", "direct-batch-norm"],
)
def test_units_that_cannot_stand_alone_take_the_whole_graph(
    model: Callable[[], nn.Module], inputs: Callable[[int], Tensor], route: Callable[[], str]
) -> None:
    torch.manual_seed(0)
    measured(subject(model(), inputs))
    assert route() == WHOLE


def test_a_coupling_by_values_alone_is_none_of_gradients(route: Callable[[], str]) -> None:
    """At zero the gate lets no gradient through to other units, and its own is that of each unit's values."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), GatedMean(5), nn.Linear(5, 3))
    measured(subject(model, lambda b: torch.randn(b, 4)), signs_of=None)
    assert route() == RULES


def test_a_coupling_that_the_batch_gradient_does_not_show_is_right(
    route: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """y = x + gate * mean(x) with mean(x) = 0 and gate = 0: outputs and <g_i, g> are those of independent units."""

    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate = nn.Parameter(torch.zeros(4))
            self.readout = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.readout(x + self.gate * x.mean(0))

    def centred(b: int) -> Tensor:
        # Exactly centred, in numbers without rounding errors.
        half = torch.randint(-8, 9, (b // 2, 4)) / 4
        return torch.cat([half, -half])

    torch.manual_seed(0)
    measured(subject(Mean(), centred), n=6, signs_of=None)
    assert route() == RULES
    # The same by passes of each unit alone would be wrong, and is not taken for right.
    monkeypatch.setattr(one_batch.UnitBackward, "of", lambda _: SimpleNamespace(reason="not today"))
    measured(subject(Mean(), centred), n=6)
    assert route() == WHOLE


@pytest.mark.parametrize("kind", ["dropout", "attention-dropout"])
def test_a_stochastic_forward_pass_needs_no_second_one(kind: str, route: Callable[[], str]) -> None:
    measured(small_models.draw(kind, 3), signs_of=None)
    assert route() == RULES


def test_a_stochastic_forward_pass_with_a_parameter_that_has_no_rule_takes_the_whole_graph(
    route: Callable[[], str],
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.PReLU(5), nn.Dropout(0.3), nn.Linear(5, 3))
    measured(subject(model, lambda b: torch.randn(b, 4)))
    assert route() == WHOLE


def test_noise_from_a_generator_of_the_models_own_needs_no_second_pass(route: Callable[[], str]) -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.random = nn.Linear(4, 3), torch.Generator().manual_seed(0)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x * torch.rand(x.shape, generator=self.random))

    torch.manual_seed(0)
    sr.decompose(Noisy(), (torch.randn(5, 4), torch.randint(0, 3, (5,))))
    assert route() == RULES


def test_a_unit_without_a_label_still_counts_for_the_others_statistics(route: Callable[[], str]) -> None:
    """It is no part of f, but part of the batch that normalisation sees."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3)).double()
    x, y = torch.randn(6, 4).double(), torch.tensor([0, -100, 2, 1, -100, 1])
    result = sr.decompose(model, (x, y), estimator="exact")
    rows = oracle.labelled_rows(y, "classes last")
    expected = oracle.one_batch(oracle.explicit(model, (x,), {}, rows, oracle.CROSS_ENTROPY))
    assert disagreements(result, expected) == {}
    assert result.n_units == result.n_samples == 4
    assert route() == RULES


# --- what vectorised backward passes cannot do ------------------------------------------------------------------------


class Checkpointed(nn.Module):
    def __init__(self, body: nn.Module, width: int) -> None:
        super().__init__()
        self.body, self.readout = body, nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(checkpoint(self.body, x, use_reentrant=False))


class Plain(Checkpointed):
    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.body(x))


@pytest.mark.parametrize(
    "body",
    [
        lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh()),
        lambda: nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5).eval(), nn.Tanh()),
        lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Dropout(0.3)),
    ],
    ids=["plain", "batch-norm-eval", "dropout"],
)
@pytest.mark.parametrize("estimator", ["exact", "batch"])
def test_activation_checkpointing_changes_no_number(
    body: Callable[[], nn.Module], estimator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Layer rules do not work within it: everything by passes of each unit alone, with random signs for pairs of units.
    monkeypatch.setattr(one_batch.UnitBackward, "of", lambda _: SimpleNamespace(reason="not today"))

    def result(kind: type[Checkpointed]) -> sr.Decomposition:
        torch.manual_seed(0)
        model = kind(body(), 5).double()
        torch.manual_seed(1)
        batch = torch.randn(6, 4).double(), torch.randint(0, 3, (6,))
        return sr.decompose(model, batch, estimator=estimator, probes=3)

    assert_equal(result(Checkpointed), result(Plain), relative=1e-10)


def test_probes_over_the_batch_refuse_checkpointing_of_batch_statistics() -> None:
    model = Checkpointed(nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5)), 5)
    batch = torch.randn(6, 4), torch.randint(0, 3, (6,))
    with pytest.raises(ValueError, match="batch normalisation in training mode inside activation checkpointing"):
        sr.decompose(model, batch, estimator="batch")
    sr.decompose(model.eval(), batch, estimator="batch")


class Doubled(torch.autograd.Function):
    """2 x, with a backward pass that vectorisation cannot follow, each for another reason."""

    reason = "item"

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        if Doubled.reason == "item":
            return gradient * 2 if gradient.abs().sum().item() >= 0 else gradient
        if Doubled.reason == "numpy":
            return torch.from_numpy(2 * gradient.numpy())
        result = torch.empty(gradient.shape, dtype=gradient.dtype)
        result.copy_(gradient)  # in place into a tensor that is not vectorised
        return result.mul_(2)


@pytest.mark.parametrize("reason", ["item", "numpy", "in-place"])
def test_a_function_without_a_batching_rule_works_with_exact(reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Model(nn.Module):
        def __init__(self, doubled: Callable[[Tensor], Tensor]) -> None:
            super().__init__()
            self.first, self.second, self.doubled = nn.Linear(4, 5), nn.Linear(5, 3), doubled

        def forward(self, x: Tensor) -> Tensor:
            return self.second(torch.tanh(self.doubled(self.first(x))))

    def result(doubled: Callable[[Tensor], Tensor]) -> sr.Decomposition:
        torch.manual_seed(0)
        model = Model(doubled).double()
        torch.manual_seed(1)
        return sr.decompose(model, (torch.randn(6, 4).double(), torch.randint(0, 3, (6,))), estimator="exact")

    monkeypatch.setattr(Doubled, "reason", reason)
    assert_equal(result(Doubled.apply), result(lambda x: 2 * x), relative=1e-12)
