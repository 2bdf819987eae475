"""Lower precision costs digits, never more; every device gives the same numbers."""

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from comparing import RELATIVE, rounding_of
from torch import Tensor, nn

import spectral_reach as sr

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
FIELDS = ("loss", "chi_loss", "chi_net", "delta_loss", "chi_pos")


class Classifier(nn.Module):
    """A convolution with batch statistics, attention over its places, and a readout."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.qkv = nn.Linear(4, 12)
        self.layer_norm = nn.LayerNorm(4)
        self.readout = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.norm(self.convolution(x))).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(x).chunk(3, dim=2)
        x = self.layer_norm(x + F.scaled_dot_product_attention(q, k, v))
        return self.readout(x.mean(1))


def subject(device: str = "cpu") -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    model, x, y = Classifier(), torch.randn(8, 2, 4, 4), torch.randint(0, 5, (8,))
    return model.to(device), (x.to(device), y.to(device))


def to(batch: tuple[Tensor, Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return batch[0].to(dtype), batch[1]


def assert_close(low: sr.Decomposition, high: sr.Decomposition, relative: float) -> None:
    for name in FIELDS:
        assert getattr(low, name) == pytest.approx(getattr(high, name), rel=relative), name
    # Differences of larger numbers: rounding is relative to those.
    norm = high.delta_loss + abs(high.delta_loss_unbiased)
    assert low.delta_loss_unbiased == pytest.approx(high.delta_loss_unbiased, abs=4 * relative * norm)
    size = norm / (high.chi_loss * high.chi_net)
    assert low.chi_pos_unbiased == pytest.approx(high.chi_pos_unbiased, abs=4 * relative * size)
    assert low.chi_pos_unbiased_stderr == pytest.approx(high.chi_pos_unbiased_stderr, abs=8 * relative * size)


def in_float64(model: nn.Module, batch: tuple[Tensor, Tensor], **arguments: Any) -> sr.Decomposition:
    """The same weights and inputs, already rounded, computed in float64."""
    return sr.decompose(copy.deepcopy(model).double(), to(batch, torch.float64), **arguments)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_a_model_in_lower_precision_agrees_within_its_rounding(device: str, dtype: torch.dtype, training: bool) -> None:
    model, batch = subject(device)
    model, batch = model.to(dtype).train(training), to(batch, dtype)
    result = sr.decompose(model, batch, estimator="exact")
    assert_close(result, in_float64(model, batch, estimator="exact"), rounding_of(dtype))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("estimator", ["exact", "batch"])
def test_autocast_agrees_within_the_rounding_of_its_type(device: str, training: bool, estimator: str) -> None:
    model, batch = subject(device)
    model.train(training)
    with torch.autocast(device, torch.bfloat16):
        result = sr.decompose(model, batch, estimator=estimator, probes=4)
    assert_close(result, in_float64(model, batch, estimator=estimator, probes=4), rounding_of(torch.bfloat16))


@pytest.mark.parametrize("device", DEVICES)
def test_half_precision_keeps_unit_gradients_that_a_mean_over_samples_would_underflow(device: str) -> None:
    """r = 2^-12 in each of 2^13 samples: u = r / N is zero in float16, the unit gradients are not."""
    n, units = 2**13, 4
    model = nn.Linear(1, 1, bias=False).half().to(device)
    nn.init.ones_(model.weight)
    x = torch.ones(units, n // units, 1, dtype=torch.float16, device=device)
    target = x.float() - 2.0**-12
    result = sr.decompose(model, (x, target), loss="mse", estimator="batch", probes=2)
    assert result.n_samples == n
    # Every sample has gradient r x = 2^-12, so that there is no noise to take out.
    assert result.delta_loss == pytest.approx(2.0**-24, rel=rounding_of(torch.float16))
    assert result.delta_loss_unbiased == pytest.approx(2.0**-24, rel=rounding_of(torch.float16))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("arguments", [{"estimator": "exact"}, {"estimator": "exact", "units": 3}])
def test_every_device_gives_the_same_numbers(device: str, arguments: Mapping[str, Any]) -> None:
    model, batch = subject(device)
    on_device = sr.decompose(model.double(), to(batch, torch.float64), **arguments)
    model, batch = subject("cpu")
    on_cpu = sr.decompose(model.double(), to(batch, torch.float64), **arguments)
    if "units" in arguments and device != "cpu":
        pytest.skip("each device has random numbers of its own")
    assert_close(on_device, on_cpu, RELATIVE)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a second device beside the CPU")
@pytest.mark.parametrize("estimator", ["exact", "batch"])
def test_a_model_spread_over_devices(estimator: str) -> None:
    class Spread(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 3).cuda()

        def forward(self, x: Tensor) -> Tensor:
            return self.second(torch.tanh(self.first(x)).cuda())

    torch.manual_seed(0)
    model = Spread().double()
    x, y = torch.randn(6, 4).double(), torch.randint(0, 3, (6,))
    result = sr.decompose(model, (x, y.cuda()), estimator=estimator, probes=2)
    together = nn.Sequential(copy.deepcopy(model.first), nn.Tanh(), copy.deepcopy(model.second).cpu())
    if estimator == "exact":
        assert_close(result, sr.decompose(together, (x, y), estimator="exact"), RELATIVE)
    assert result.delta_loss > 0


def test_squared_norms_in_half_precision_are_not_rounded_alike() -> None:
    """Stretches of equal norm between two numbers of bfloat16: each would be rounded down by the same 0.3%."""
    from spectral_reach.jacobian.forms import row_squares

    rows = torch.full((1, 2**16), 1.0, dtype=torch.bfloat16)
    rows[:, ::128] = 1.5
    assert float(row_squares(rows)) == pytest.approx(float(rows.double().square().sum()), rel=1e-6)
