"""A batch in micro-batches has the numbers of the whole batch, whatever its architecture, loss, lengths and masks."""

import math
import random
from typing import Any

import pytest
import small_models
import torch
import torch.nn.functional as F
from comparing import disagreements
from oracle import one_batch, two_batches
from test_checkpointing import B as OF_NET
from test_checkpointing import draw_batch, net
from torch import Tensor, nn

import spectral_reach as sr

_BATCH_NORM = ("convolution-batch-norm-training", "convolution-1d-batch-norm")
# Models that draw random numbers, or whose units see each other, cannot be measured in parts.
KINDS = [kind for kind in small_models.KINDS if "dropout" not in kind and kind not in _BATCH_NORM]
FLOATS = [name for name, value in sr.Decomposition.__dataclass_fields__.items() if value.type == "float"]
ROUNDING = 1e-9
"""Relative to the sizes of what is added and subtracted: the components."""


def assert_same(parts: sr.Decomposition, whole: sr.Decomposition, relative: float = ROUNDING) -> None:
    """All fields, up to rounding. Noise-corrected values are differences, with the size of what they are from."""
    scale = {
        "delta_loss_unbiased": abs(whole.delta_loss) + abs(whole.delta_loss_unbiased),
        "chi_pos_unbiased": abs(whole.chi_pos) + abs(whole.chi_pos_unbiased),
    }
    for name, expected in whole.as_dict().items():
        got = getattr(parts, name)
        if not isinstance(expected, float):
            assert got == expected, name
            continue
        assert math.isnan(got) == math.isnan(expected), (name, got, expected)
        if math.isnan(expected):
            continue
        if name.endswith("_unbiased_stderr"):
            of = scale[name.removesuffix("_stderr")] + expected
            assert abs(got**2 - expected**2) <= 100 * relative * of**2, (name, got, expected)
        elif name == "gradient_noise_scale":
            assert got == pytest.approx(expected, rel=1e-5), name
        else:
            assert abs(got - expected) <= relative * scale.get(name, abs(expected)) + 1e-24, (name, got, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_is_that_of_the_whole_batch(kind: str) -> None:
    subject = small_models.draw(kind, 5)
    choice = random.Random(kind)
    batch = subject.draw_batch(6)
    for estimator in ("exact", "per_unit", "batch", "auto"):
        options: dict[str, Any] = {
            "loss": subject.loss.given,
            "estimator": estimator,
            "probes": choice.choice([1, 2, 3]),
            "units": choice.choice([None, 2]),
            "noise_units": choice.choice([None, 3]),
            "seed": choice.randrange(2**40),
        }
        whole = sr.decompose(subject.model, batch, **options)
        for size in (1, choice.choice([2, 4])):
            room = choice.choice([1, 2**12, 2**28])  # little of it, and the products take several passes
            parts = sr.decompose(subject.model, batch, **options, micro_batch=size, memory_budget=room, offload=True)
            assert_same(parts, whole)


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_of_batches(kind: str) -> None:
    subject = small_models.draw(kind, 2)
    a, b = subject.draw_batch(5), subject.draw_batch(4)
    options: dict[str, Any] = {"loss": subject.loss.given, "estimator": "exact", "seed": 7}
    for size in (1, 3):
        parts = sr.decompose(subject.model, a, against=b, micro_batch=size, **options)
        expected = two_batches(subject.explicit(a), subject.explicit(b), 7)
        assert disagreements(parts, expected) == {}
        assert_same(parts, sr.decompose(subject.model, a, against=b, **options))
    same = sr.decompose(subject.model, a, against=a, micro_batch=2, **options)
    assert "same batch" in same.undefined["chi_pos_unbiased"]
    assert same.delta_loss == pytest.approx(parts_alone(subject, a).delta_loss)


def parts_alone(subject: small_models.Subject, batch: Any) -> sr.Decomposition:
    return sr.decompose(subject.model, batch, micro_batch=2, loss=subject.loss.given)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind in ("llama", "bert", "gru", "mlp")])
def test_the_oracle_agrees(kind: str) -> None:
    subject = small_models.draw(kind, 8)
    batch = subject.draw_batch(6)
    parts = sr.decompose(subject.model, batch, loss=subject.loss.given, estimator="exact", micro_batch=2)
    assert disagreements(parts, one_batch(subject.explicit(batch))) == {}


def test_many_units_have_the_values_of_all_and_the_errors_of_eight() -> None:
    """As in a training step; the error is a fair one, not the same."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    batch = torch.randn(40, 6).double(), torch.randint(3, (40,))
    whole = sr.decompose(model, batch)
    parts = [sr.decompose(model, batch, micro_batch=size) for size in (1, 7, 40)]
    for each in parts:
        assert each.noise_units == 8
        for name in ("loss", "chi_loss", "chi_net", "chi_pos", "delta_loss", "chi_pos_unbiased"):
            assert getattr(each, name) == pytest.approx(getattr(whole, name), rel=1e-10)
        assert_same(each, parts[0])
        assert each.chi_pos_unbiased_stderr == pytest.approx(whole.chi_pos_unbiased_stderr, rel=0.5)


@pytest.mark.parametrize("reentrant", [False, True], ids=["non-reentrant", "reentrant"])
@pytest.mark.parametrize("tied", [False, True])
def test_checkpointed_activations(reentrant: bool, tied: bool) -> None:
    plain, model = net(None), net(reentrant)
    for each in (plain, model):
        if tied:
            each.readout.weight = each.embedding.weight
    options: dict[str, Any] = {"estimator": "per_unit", "probes": 2, "seed": 3}
    whole = sr.decompose(plain, draw_batch(), **options)
    parts = sr.decompose(model, draw_batch(), micro_batch=1, checkpointing=True, **options)
    # A pass of its own for the loss of each unit, a probe or two, the products of all: each ran the block again.
    assert sum(model.in_backward) >= 4 * (OF_NET - 1)
    assert_same(parts, whole)
    exact = sr.decompose(model, draw_batch(), micro_batch=1, checkpointing=True, estimator="exact")
    assert_same(exact, sr.decompose(plain, draw_batch(), estimator="exact"))
    with pytest.raises(ValueError, match="one unit at a time: micro_batch=1"):
        sr.decompose(model, draw_batch(), micro_batch=2, checkpointing=True, **options)


def test_the_probe_of_a_unit_alone_is_unbiased_with_a_readout_that_is_used_below() -> None:
    """Over all signs: the exact trace, for a tied weight that the layers below use as a matrix and a bias too."""

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.bias = nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(4))

        def forward(self, x: Tensor) -> Tensor:
            h = torch.tanh(torch.tanh(x @ self.table.T + self.bias) @ self.table)
            return F.linear(h, self.table, self.bias)

    from unittest.mock import patch

    from spectral_reach.jacobian import one_unit
    from spectral_reach.measured.isolation import leaving_no_trace
    from spectral_reach.measured.linearisation import linearise
    from spectral_reach.measured.losses import resolve_loss

    torch.manual_seed(0)
    model = Tied().double()
    batch = torch.randn(1, 3).double(), torch.tensor([2])
    expected = sr.decompose(model, batch, estimator="exact").raw.chi_net
    with leaving_no_trace(model):
        part = linearise(model, batch, resolve_loss("cross_entropy"), dict(model.named_parameters()), seed=0)
        rank = 3
        draws = []
        for number in range(2**rank):
            z = torch.tensor([[1.0 if number >> place & 1 else -1.0 for place in range(rank)]]).double()
            with patch.object(one_unit, "unit_signs", lambda *args, z=z, **kwargs: z):
                draws.append(float(one_unit.trace_of_one_unit(part, seed=0, probes=1)))
    assert sum(draws) / len(draws) == pytest.approx(expected, rel=1e-10)
    assert max(draws) > min(draws)


def test_probes_depend_on_the_unit_alone() -> None:
    """The trace of a unit is the same number beside any others."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 300)).double()
    inputs, labels = torch.randn(5, 6).double(), torch.randint(300, (5,))
    hidden = labels.clone()
    hidden[1] = -100
    few = sr.decompose(model, (inputs, hidden), estimator="per_unit", seed=4)
    all_of_them = sr.decompose(model, (inputs, labels), estimator="per_unit", seed=4)
    second = labels.clone()
    second[[0, 2, 3, 4]] = -100
    one = sr.decompose(model, (inputs, second), estimator="per_unit", seed=4)
    assert all_of_them.raw.chi_net == pytest.approx(few.raw.chi_net + one.raw.chi_net, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_half_and_single_precision(dtype: torch.dtype) -> None:
    subject = small_models.draw("llama", 1)
    model = subject.model.to(dtype)
    batch = subject.draw_batch(6)
    whole = sr.decompose(model, batch, estimator="per_unit")
    parts = sr.decompose(model, batch, estimator="per_unit", micro_batch=2)
    rounding = 1e-4 if dtype == torch.float32 else 0.05
    for name in ("loss", "chi_loss", "chi_net", "delta_loss", "chi_pos"):
        assert getattr(parts, name) == pytest.approx(getattr(whole, name), rel=rounding), name


def test_nothing_is_left_behind() -> None:
    subject = small_models.draw("llama", 1)
    before = {name: value.clone() for name, value in subject.model.state_dict().items()}
    state = torch.get_rng_state()
    sr.decompose(subject.model, subject.draw_batch(4), micro_batch=1)
    torch.set_rng_state(state)
    batch = subject.draw_batch(4)
    drawn = torch.get_rng_state()
    sr.decompose(subject.model, batch, micro_batch=3)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(value.equal(before[name]) for name, value in subject.model.state_dict().items())
    assert all(parameter.grad is None for parameter in subject.model.parameters())


class Centred(nn.Module):
    """Every unit sees the mean of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x - x.mean(0))


@pytest.mark.parametrize(
    ("model", "options", "told"),
    [
        (lambda: nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)), {"micro_batch": 2}, "draws random numbers"),
        (
            lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)),
            {"micro_batch": 2},
            "batch normalisation in training mode",
        ),
        (Centred, {"micro_batch": 1}, "other outputs beside another one"),
        (lambda: nn.Linear(4, 3), {"micro_batch": 0}, "micro_batch is 0; expected 1 or more"),
        (lambda: nn.Linear(4, 3), {"offload": True}, "offload=True without micro_batch or max_memory"),
        (lambda: nn.Linear(4, 3), {"micro_batch": 2, "noise_units": 9}, "noise_units=9, but the batch holds 6"),
        (lambda: nn.Linear(4, 3), {"micro_batch": 2, "units": 9}, "units=9, but the batch holds 6"),
        (
            lambda: nn.Linear(4, 3),
            {"micro_batch": 1, "loss": lambda f, y: F.cross_entropy(f, y, reduction="sum")},
            "not a mean over samples",
        ),
    ],
)
def test_what_cannot_be_measured_in_parts(model: Any, options: dict[str, Any], told: str) -> None:
    torch.manual_seed(0)
    batch = torch.randn(6, 4), torch.randint(3, (6,))
    with pytest.raises(ValueError, match=told):
        sr.decompose(model(), batch, **options)


def test_batches_without_labels() -> None:
    model = nn.Linear(4, 3).double()
    inputs = torch.randn(6, 4).double()
    nothing = torch.full((6,), -100)
    with pytest.raises(ValueError, match="no row of the batch carries a label"):
        sr.decompose(model, (inputs, nothing), micro_batch=2)
    one = nothing.clone()
    one[3] = 1
    assert_same(sr.decompose(model, (inputs, one), micro_batch=2), sr.decompose(model, (inputs, one)))
