"""What must hold for every model and batch, whatever the numbers are."""

import copy
import math
from typing import Any

import oracle
import pytest
import small_models
import torch
from comparing import assert_equal
from small_models import Subject
from torch import Tensor, nn

import spectral_reach as sr

# Different orders of the same sums in float64.
ROUNDING = 1e-11
COMPONENTS = ("loss", "chi_loss", "chi_net", "chi_pos", "delta_loss")
UNBIASED = ("delta_loss_unbiased", "chi_pos_unbiased")
# Kinds whose units do not see each other; batch statistics are constants, but constants of the whole batch.
INDEPENDENT = [kind for kind in small_models.KINDS if "dropout" not in kind]
# ... and do not depend on which other units are in the batch either.
SEPARATE = [kind for kind in INDEPENDENT if "batch-norm" not in kind or "eval" in kind]


def drawn(kind: str, number: int = 5) -> Subject:
    subject = small_models.draw(kind, number)
    if "gpt2" in kind:
        subject.model.eval()  # no dropout
    return subject


def measure(subject: Subject, batch: Any, **arguments: Any) -> sr.Decomposition:
    return sr.decompose(subject.model, batch, loss=subject.loss.given, **{"estimator": "exact", **arguments})


def agree(a: sr.Decomposition, b: sr.Decomposition, *names: str, factor: float = 1.0) -> None:
    """Values of ``a`` are ``factor`` times those of ``b``; sums that cancel are as precise as their terms."""
    # By Cauchy and Schwarz no gradient of the batch is larger than this.
    norms = {"delta_loss": a.chi_loss * a.chi_net, "chi_pos": 1.0}
    for name in names:
        x, y = getattr(a, name), factor * getattr(b, name)
        assert x == pytest.approx(y, rel=ROUNDING, abs=ROUNDING * norms.get(name.removesuffix("_unbiased"), 0)), name


def reindexed(batch: Any, index: Tensor) -> Any:
    if isinstance(batch, dict):
        return {name: value[index] for name, value in batch.items()}
    return tuple(part[index] for part in batch)


# --- the spectrum -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", small_models.KINDS)
def test_position_is_the_mean_eigenvalue_under_the_loss_gradient(kind: str) -> None:
    subject = drawn(kind)
    batch = subject.draw_batch(3)
    modes = oracle.spectrum(subject.explicit(batch))
    assert modes.p.sum() == pytest.approx(1, rel=ROUNDING)
    assert modes.gamma2.sum() == pytest.approx(1, rel=ROUNDING)
    assert measure(subject, batch).chi_pos == pytest.approx((modes.gamma2 * modes.p).sum(), rel=1e-9)


def linear(inputs: Tensor, k: int, targets: Tensor | None = None, **arguments: Any) -> sr.Decomposition:
    """f = W x with squared error: Theta = (x_m . x_n) times the identity on the K outputs."""
    torch.manual_seed(0)
    model = nn.Linear(inputs.shape[1], k, bias=False).double()
    targets = torch.randn(len(inputs), k).double() if targets is None else targets
    return sr.decompose(model, (inputs, targets), loss="mse", estimator="exact", **arguments)


def test_a_single_mode_is_at_position_one() -> None:
    result = linear(torch.ones(4, 3).double(), 1, targets=5 * torch.ones(4, 1).double())
    assert result.chi_pos == pytest.approx(1, rel=ROUNDING)
    assert result.chi_net == pytest.approx(3, rel=ROUNDING)


def test_a_flat_spectrum_is_at_position_one_over_its_size() -> None:
    result = linear(2 * torch.eye(5).double(), 3)
    assert result.chi_pos == pytest.approx(1 / 15, rel=ROUNDING)
    assert result.chi_net == pytest.approx(4 * 3, rel=ROUNDING)


def test_a_loss_gradient_in_the_tail_is_at_the_tail() -> None:
    """Two samples with kernels 1 and 1e-6; only the second has a loss."""
    x = torch.tensor([[1.0, 0.0], [0.0, 1e-3]]).double()
    torch.manual_seed(0)
    model = nn.Linear(2, 1, bias=False).double()
    y = model(x).detach()
    y[1] += 1
    result = sr.decompose(model, (x, y), loss="mse", estimator="exact")
    assert result.chi_pos == pytest.approx(1e-6 / (1 + 1e-6), rel=1e-9)


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("kind", ["mlp", "convolution-group-norm", "causal-lm-tied", "dropout"])
def test_positions_lie_where_they_must(kind: str, number: int) -> None:
    subject = drawn(kind, number)
    a, b = subject.draw_batch(2 + number % 3), subject.draw_batch(2)
    assert 0 <= measure(subject, a).chi_pos <= 1 + ROUNDING
    assert abs(measure(subject, a, against=b).chi_pos) <= 1 + ROUNDING


# --- the product ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [{}, {"estimator": "batch", "probes": 3}, {"units": 2}])
@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("kind", ["mlp", "convolution-batch-norm-training", "llama"])
def test_the_product_of_the_components_is_the_loss_change(kind: str, pair: bool, arguments: dict[str, Any]) -> None:
    subject = drawn(kind)
    result = measure(subject, subject.draw_batch(4), against=subject.draw_batch(3) if pair else None, **arguments)
    assert result.chi_loss * result.chi_net * result.chi_pos == pytest.approx(result.delta_loss, rel=ROUNDING)
    raw = result.raw
    assert raw.chi_loss * raw.chi_net * raw.chi_pos == pytest.approx(raw.delta_loss, rel=ROUNDING)
    assert result.chi_pos_unbiased == pytest.approx(
        result.delta_loss_unbiased / (result.chi_loss * result.chi_net), rel=ROUNDING
    )
    n = math.sqrt(result.n_samples * (result.n_samples_against or result.n_samples))
    assert raw.chi_loss * n == pytest.approx(result.chi_loss, rel=ROUNDING)
    assert raw.chi_net == pytest.approx(result.chi_net * n, rel=ROUNDING)
    assert (raw.chi_pos, raw.delta_loss) == (result.chi_pos, result.delta_loss)


def test_the_loss_change_is_what_a_small_step_does() -> None:
    subject = drawn("causal-lm-untied")
    a, b = subject.draw_batch(4), subject.draw_batch(3)
    pair = measure(subject, a, against=b)
    model = copy.deepcopy(subject.model)
    loss_of_a, loss_of_b = (
        lambda m, x=x, y=y: oracle.as_callable(subject.loss.given)(m(x)[y != -100], y[y != -100]) for x, y in (a, b)
    )
    gradients = torch.autograd.grad(loss_of_a(model), list(model.parameters()))
    eta = 1e-6
    with torch.no_grad():
        before = loss_of_b(model).item()
        for p, g in zip(model.parameters(), gradients, strict=True):
            p.sub_(g, alpha=eta)
        after = loss_of_b(model).item()
    # The second order of the step is eta times smaller.
    assert (before - after) / eta == pytest.approx(pair.delta_loss, abs=1e-4 * measure(subject, a).delta_loss)


# --- batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", INDEPENDENT)
def test_a_batch_twice_over_has_the_same_components(kind: str) -> None:
    """Also with batch normalisation in training mode: its statistics are the same."""
    subject = drawn(kind)
    batch = subject.draw_batch(3)
    once, twice = (measure(subject, reindexed(batch, torch.arange(3).repeat(times))) for times in (1, 2))
    agree(twice, once, *COMPONENTS)
    assert (twice.n_samples, twice.n_units) == (2 * once.n_samples, 2 * once.n_units)
    assert twice.raw.chi_net == pytest.approx(2 * once.raw.chi_net, rel=ROUNDING)
    assert twice.raw.chi_loss == pytest.approx(once.raw.chi_loss / 2, rel=ROUNDING)


@pytest.mark.parametrize("kind", INDEPENDENT)
def test_the_order_of_units_does_not_matter(kind: str) -> None:
    subject = drawn(kind)
    batch = subject.draw_batch(5)
    ordered, permuted = measure(subject, batch), measure(subject, reindexed(batch, torch.tensor([3, 0, 4, 1, 2])))
    agree(permuted, ordered, *COMPONENTS, *UNBIASED)


@pytest.mark.parametrize("kind", INDEPENDENT)
def test_the_error_bar_of_three_units_does_not_depend_on_their_order(kind: str) -> None:
    """With more units, random signs estimate the noise of their pairs, and order decides which unit gets which."""
    subject = drawn(kind, 9)
    batch = subject.draw_batch(3)
    a, b = measure(subject, batch), measure(subject, reindexed(batch, torch.tensor([2, 0, 1])))
    for name in ("delta_loss_unbiased_stderr", "chi_pos_unbiased_stderr"):
        assert getattr(a, name) == pytest.approx(getattr(b, name), rel=1e-9, nan_ok=True)


@pytest.mark.parametrize("kind", [kind for kind in SEPARATE if kind not in ("mlp", "dense-regression")])
@pytest.mark.parametrize("pair", [False, True])
def test_rows_and_units_without_a_label_change_nothing(kind: str, pair: bool) -> None:
    subject = drawn(kind)
    batch, extra = subject.draw_batch(4), subject.draw_batch(2)
    place = "labels" if isinstance(batch, dict) else 1
    extra = dict(extra) if isinstance(extra, dict) else list(extra)
    extra[place] = torch.full_like(extra[place], -100)
    if isinstance(batch, dict):
        longer: Any = {name: torch.cat([extra[name][:1], batch[name], extra[name][1:]]) for name in batch}
    else:
        longer = tuple(torch.cat([e[:1], part, e[1:]]) for part, e in zip(batch, extra, strict=True))
    against = subject.draw_batch(3) if pair else None
    a, b = measure(subject, batch, against=against), measure(subject, longer, against=against)
    agree(b, a, *COMPONENTS, *UNBIASED)
    assert (a.n_samples, a.n_units, a.n_outputs) == (b.n_samples, b.n_units, b.n_outputs)
    assert b.delta_loss_unbiased_stderr == pytest.approx(a.delta_loss_unbiased_stderr, rel=1e-9, nan_ok=True)


@pytest.mark.parametrize("kind", small_models.KINDS)
def test_a_batch_against_itself_is_that_batch(kind: str) -> None:
    """Also with dropout, which draws one mask for the whole measurement."""
    subject = small_models.draw(kind, 5)
    batch = subject.draw_batch(4)
    single, pair = measure(subject, batch), measure(subject, batch, against=batch)
    agree(pair, single, *COMPONENTS)
    assert pair.n_samples_against == pair.n_samples == single.n_samples


@pytest.mark.parametrize("kind", ["mlp", "causal-lm-tied", "convolution-batch-norm-training"])
def test_a_pair_is_symmetric_but_for_the_loss(kind: str) -> None:
    subject = drawn(kind)
    a, b = subject.draw_batch(4), subject.draw_batch(3)
    forth, back = measure(subject, a, against=b), measure(subject, b, against=a)
    agree(forth, back, *COMPONENTS[1:])
    assert forth.loss == measure(subject, b).loss
    assert back.loss == measure(subject, a).loss


# --- losses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [0.01, 7.0])
@pytest.mark.parametrize("kind", ["mlp", "convolution-group-norm", "gru", "llama"])
@pytest.mark.parametrize("pair", [False, True])
def test_a_loss_in_other_units_moves_only_the_loss_component(kind: str, factor: float, pair: bool) -> None:
    subject = drawn(kind)
    batch, against = subject.draw_batch(4), subject.draw_batch(3) if pair else None
    a = measure(subject, batch, against=against)
    b = sr.decompose(subject.model, batch, loss=subject.loss.times(factor).given, against=against, estimator="exact")
    agree(b, a, "loss", factor=factor)
    agree(b, a, "chi_loss", "delta_loss", "delta_loss_unbiased", factor=factor**2)
    agree(b, a, "chi_net", "chi_pos", "chi_pos_unbiased")
    assert b.gradient_noise_scale == pytest.approx(a.gradient_noise_scale, rel=1e-6, nan_ok=True)


def test_a_callable_is_the_loss_that_it_computes() -> None:
    subject = drawn("causal-lm-tied")
    batch = subject.draw_batch(4)
    for name in ("cross_entropy", oracle.as_callable("cross_entropy"), nn.CrossEntropyLoss()):
        assert_equal(
            sr.decompose(subject.model, batch, loss=name, estimator="exact"),
            sr.decompose(subject.model, batch, estimator="exact"),
            relative=1e-10,
        )


# --- parameters -------------------------------------------------------------------------------------------------------


class Split(nn.Module):
    """A layer in two halves."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        half = layer.out_features // 2
        self.halves = nn.ModuleList([nn.Linear(layer.in_features, half), nn.Linear(layer.in_features, half)]).double()
        for place, part in enumerate(self.halves):
            part.weight.data = layer.weight.data[place * half : (place + 1) * half].clone()
            part.bias.data = layer.bias.data[place * half : (place + 1) * half].clone()

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([part(x) for part in self.halves], dim=1)


def test_a_layer_in_two_halves_is_that_layer() -> None:
    torch.manual_seed(0)
    whole = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    split = nn.Sequential(Split(whole[0]), whole[1], whole[2])
    batch = torch.randn(5, 3).double(), torch.randint(0, 3, (5,))
    a, b = (sr.decompose(model, batch, estimator="exact") for model in (whole, split))
    assert_equal(a, b, relative=1e-9)


@pytest.mark.parametrize("pair", [False, True])
def test_kernels_and_loss_changes_add_up_over_parameters(pair: bool) -> None:
    subject = drawn("attention-rms-norm")
    batch, against = subject.draw_batch(3), subject.draw_batch(3) if pair else None
    whole = measure(subject, batch, against=against)
    named = dict(subject.model.named_parameters())
    parts = [measure(subject, batch, against=against, parameters=name) for name in named]
    assert sum(part.delta_loss for part in parts) == pytest.approx(whole.delta_loss, rel=1e-9)
    if not pair:
        assert sum(part.chi_net for part in parts) == pytest.approx(whole.chi_net, rel=1e-9)
    assert {part.chi_loss for part in parts} == {whole.chi_loss}
    frozen = copy.deepcopy(subject.model)
    frozen.embedding.weight.requires_grad_(False)
    rest = sr.decompose(frozen, batch, loss=subject.loss.given, against=against, estimator="exact")
    chosen = measure(subject, batch, against=against, parameters=[n for n in named if n != "embedding.weight"])
    assert_equal(rest, chosen, relative=1e-9)


# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["convolution-batch-norm-training", "causal-lm-tied", "lstm", "attention-dropout"])
@pytest.mark.parametrize("units", [None, 2])
def test_the_memory_budget_changes_no_number(kind: str, units: int | None) -> None:
    subject = drawn(kind)
    batch = subject.draw_batch(4)
    results = [measure(subject, batch, memory_budget=budget, units=units) for budget in (1, 10_000, 2**40)]
    for other in results[1:]:
        agree(other, results[0], *COMPONENTS, *UNBIASED)
        assert other.chi_net_stderr == pytest.approx(results[0].chi_net_stderr, rel=1e-9)
