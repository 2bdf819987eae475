"""What is not defined is NaN, with the reason on the result; everything else keeps its value."""

import math
from collections.abc import Callable

import pytest
import torch
from comparing import undefined_fields
from torch import Tensor, nn

import spectral_reach as sr

UNBIASED = {"delta_loss_unbiased", "delta_loss_unbiased_stderr", "chi_pos_unbiased", "chi_pos_unbiased_stderr"}
POSITIONS = {"chi_pos", "chi_pos_stderr", "chi_pos_unbiased", "chi_pos_unbiased_stderr"}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()


def batch(n: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    return torch.randn(n, 3).double(), torch.randn(n, 2).double()


def reasons(result: sr.Decomposition) -> dict[str, str]:
    assert undefined_fields(result) == set(result.undefined)
    return dict(result.undefined)


def test_everything_is_defined_for_three_units_with_signal() -> None:
    x, _ = batch(1)
    result = sr.decompose(network(), (x.repeat(3, 1), torch.zeros(3, 2).double()), loss="mse", estimator="exact")
    assert reasons(result) == {}


def test_one_unit_has_no_spread() -> None:
    result = sr.decompose(network(), batch(1), loss="mse", estimator="exact")
    found = reasons(result)
    assert "one unit has no spread" in found.pop("chi_net_population_stderr")
    assert found == dict.fromkeys(UNBIASED | {"gradient_noise_scale"}, "needs two units or more")
    assert 0 <= result.chi_pos <= 1


def test_two_units_have_a_corrected_value_but_no_error_bar() -> None:
    result = sr.decompose(network(), batch(2), loss="mse", estimator="exact")
    found = reasons(result)
    assert {"delta_loss_unbiased_stderr", "chi_pos_unbiased_stderr"} <= set(found)
    assert "three units" in found["delta_loss_unbiased_stderr"]
    assert found["delta_loss_unbiased_stderr"] == found["chi_pos_unbiased_stderr"]
    assert math.isfinite(result.delta_loss_unbiased)
    assert math.isfinite(result.chi_pos_unbiased)


@pytest.mark.parametrize("sizes", [(1, 4), (4, 1), (1, 1)])
def test_a_pair_with_one_unit_has_no_spread(sizes: tuple[int, int]) -> None:
    a, b = (batch(size, seed=size + place) for place, size in enumerate(sizes))
    result = sr.decompose(network(), a, against=b, loss="mse", estimator="exact")
    expected = dict.fromkeys(UNBIASED, "needs two units or more in each batch")
    found = reasons(result)
    assert "one unit has no spread" in found.pop("chi_net_population_stderr")
    assert {k: v for k, v in found.items() if k != "gradient_noise_scale"} == expected


def test_two_units_are_enough_for_the_error_bar_of_a_pair() -> None:
    result = sr.decompose(network(), batch(2), against=batch(2, seed=2), loss="mse", estimator="exact")
    assert reasons(result) == {"gradient_noise_scale": "defined for one batch, not for a pair"}


@pytest.mark.parametrize("estimator", ["exact", "batch"])
def test_a_perfect_fit_has_no_position(estimator: str) -> None:
    model = network()
    x, _ = batch(4)
    result = sr.decompose(model, (x, model(x).detach()), loss="mse", estimator=estimator, probes=3)
    found = reasons(result)
    no_spread = {"chi_net_population_stderr"} if estimator == "batch" else set()
    assert set(found) == POSITIONS | {"gradient_noise_scale"} | no_spread
    assert {found[name] for name in POSITIONS} == {"the loss gradient is zero"}
    assert result.loss == result.chi_loss == result.delta_loss == result.delta_loss_unbiased == 0
    assert result.chi_net > 0


def test_a_perfect_fit_on_one_side_of_a_pair_has_no_position() -> None:
    model = network()
    x, _ = batch(4)
    result = sr.decompose(model, (x, model(x).detach()), against=batch(5), loss="mse", estimator="exact")
    assert {reasons(result)[name] for name in POSITIONS} == {"the loss gradient is zero"}
    assert result.delta_loss == result.delta_loss_unbiased == 0


@pytest.mark.parametrize("against", [None, 5])
def test_one_unit_that_holds_all_of_the_loss_leaves_no_error_bar_of_the_position(against: int | None) -> None:
    """Leaving that unit out leaves 0 / 0, as when only one example violates the margin of a hinge loss."""
    model = network()
    x, _ = batch(4)
    y = model(x).detach()
    y[1] += 1
    other = None if against is None else batch(against)
    result = sr.decompose(model, (x, y), against=other, loss="mse", estimator="exact")
    found = reasons(result)
    assert "without one of its units" in found.pop("chi_pos_unbiased_stderr")
    assert set(found) == {"gradient_noise_scale"}
    assert math.isfinite(result.delta_loss_unbiased_stderr)


def test_one_unit_that_holds_nearly_all_of_the_loss_leaves_no_rounding_error_in_its_place() -> None:
    """The other units' share is 1e-24 of the total, below the resolution of float64; leaving one out must see it."""
    model = network()
    x, _ = batch(4)
    y = model(x).detach()
    y += 1e-12
    y[1] += 1
    result = sr.decompose(model, (x, y), loss="mse", estimator="exact")
    assert math.isfinite(result.chi_pos_unbiased_stderr)
    assert result.chi_pos_unbiased_stderr > 1e6 * abs(result.chi_pos_unbiased)


class Unmoved(nn.Module):
    """One parameter of two moves the outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.moves = nn.Parameter(torch.ones(2).double())
        self.idle = nn.Parameter(torch.ones(3).double())

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :2] * self.moves


@pytest.mark.parametrize("estimator", ["exact", "batch"])
def test_parameters_that_do_not_move_the_outputs_have_no_position(estimator: str) -> None:
    result = sr.decompose(Unmoved(), batch(4), loss="mse", parameters="idle", estimator=estimator, probes=2)
    found = reasons(result)
    assert all("no selected parameter moves the outputs" in found[name] for name in POSITIONS)
    assert result.chi_net == result.delta_loss == 0
    assert result.chi_loss > 0


def test_one_probe_has_no_spread() -> None:
    result = sr.decompose(network(), batch(4), loss="mse", estimator="batch", probes=1)
    found = reasons(result)
    assert {"chi_net_stderr", "chi_pos_stderr", "chi_pos_unbiased_stderr"} <= set(found)
    assert found["chi_net_stderr"] == "one probe has no spread: ask for probes >= 2"
    assert "delta_loss_unbiased_stderr" not in found
    assert "chi_net_stderr" not in reasons(sr.decompose(network(), batch(4), loss="mse", estimator="batch", probes=2))


def test_one_unit_of_many_has_no_spread() -> None:
    result = sr.decompose(network(), batch(4), loss="mse", estimator="exact", units=1)
    assert reasons(result)["chi_net_stderr"] == "one unit has no spread: ask for units >= 2"
    assert "chi_net_stderr" not in reasons(sr.decompose(network(), batch(4), loss="mse", estimator="exact", units=2))


def test_a_batch_against_itself_is_no_independent_draw() -> None:
    b = batch(4)
    result = sr.decompose(network(), b, against=(b[0].clone(), b[1].clone()), loss="mse", estimator="exact")
    assert {reasons(result)[name] for name in UNBIASED} == {
        "against is the same batch; noise is only removed between independent draws"
    }


def test_a_batch_against_itself_in_another_order_is_none_either() -> None:
    x, y = batch(4)
    order = torch.tensor([2, 0, 3, 1])
    result = sr.decompose(network(), (x, y), against=(x[order], y[order]), loss="mse", estimator="exact")
    assert "is the same batch" in reasons(result)["delta_loss_unbiased"]
    # One unit twice in place of another is another draw.
    other = torch.tensor([2, 0, 3, 3])
    result = sr.decompose(network(), (x, y), against=(x[other], y[other]), loss="mse", estimator="exact")
    assert "delta_loss_unbiased" not in reasons(result)


def test_two_batches_with_equal_outputs_and_labels_are_still_two_batches() -> None:
    """A readout that starts at zero says the same of every input."""
    model = network()
    nn.init.zeros_(model[2].weight)  # type: ignore[arg-type]
    (x, y), (other, _) = batch(4), batch(4, seed=2)
    result = sr.decompose(model, (x, y), against=(other, y), loss="mse", estimator="exact")
    assert reasons(result) == {"gradient_noise_scale": "defined for one batch, not for a pair"}


@pytest.mark.parametrize("show", [str, repr])
def test_an_undefined_value_is_shown_with_its_reason(show: Callable[[object], str]) -> None:
    shown = show(sr.decompose(network(), batch(1), loss="mse", estimator="exact"))
    assert "nan" in shown
    assert "needs two units or more" in shown
