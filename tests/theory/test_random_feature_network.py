"""The network of random features: its Jacobian, its kernel, its start."""

import math

import pytest
import torch
from torch.func import functional_call, jacrev

import spectral_reach as sr
from spectral_reach.theory.arc_cosine import arc_cosine_kernel
from spectral_reach.theory.random_features import RandomFeatures


def network(width=40, seed=0):
    return RandomFeatures(5, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def inputs(n=12):
    return torch.randn(n, 5, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def test_it_starts_at_zero_with_the_readout_as_its_only_parameters():
    net = network()
    assert {name: tuple(p.shape) for name, p in net.named_parameters()} == {"readout.weight": (1, 40)}
    assert bool((net(inputs()) == 0).all())
    assert set(net.state_dict()) == {"weights", "readout.weight"}


@pytest.mark.parametrize("at_the_start", [True, False])
def test_its_ntk_is_the_gram_matrix_of_the_features(at_the_start):
    net, x = network(), inputs()
    if not at_the_start:
        torch.nn.init.normal_(net.readout.weight, generator=torch.Generator().manual_seed(3))
    parameters = {name: p.detach() for name, p in net.named_parameters()}
    jacobian = jacrev(lambda p: functional_call(net, p, (x,)).squeeze(1))(parameters)["readout.weight"].flatten(1)
    phi = math.sqrt(2) * (x @ net.weights.T).clamp(min=0)
    torch.testing.assert_close(jacobian @ jacobian.T, phi @ phi.T / 40, rtol=1e-12, atol=1e-14)


def test_what_decompose_finds_is_the_features_algebra():
    net, x = network(), inputs()
    y = torch.randn(12, 1, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    gram = net.features(x) @ net.features(x).T
    for estimator in ("exact", "per_unit"):
        found = sr.decompose(net, (x, y), loss="mse", estimator=estimator, probes=2)
        assert found.loss == pytest.approx(0.5 * float(y.square().mean()), rel=1e-12)
        assert found.chi_loss == pytest.approx(float(y.square().mean()), rel=1e-12)
        assert found.chi_net == pytest.approx(float(gram.trace()) / 12, rel=1e-12)
        assert found.chi_net_stderr == 0
        position = float(y.T @ gram @ y) / float(y.square().sum() * gram.trace())
        assert found.chi_pos == pytest.approx(position, rel=1e-12)


def test_the_mean_over_draws_is_the_limit_kernel_at_any_width():
    x, draws = inputs(), 4000
    grams = torch.stack([(f := network(3, seed).features(x)) @ f.T for seed in range(draws)])
    errors = grams.std(0) / math.sqrt(draws)
    assert bool(((grams.mean(0) - arc_cosine_kernel(x)).abs() < 4.5 * errors).all())


def test_deviations_fall_with_the_root_of_the_width():
    x, limit = inputs(), arc_cosine_kernel(inputs())

    def deviation(width):
        features = [network(width, seed).features(x) for seed in range(60)]
        return math.sqrt(sum(float((f @ f.T - limit).square().sum()) for f in features) / 60)

    assert deviation(25) / deviation(2500) == pytest.approx(10, rel=0.15)


def test_the_draw_is_the_same_in_every_precision():
    low = RandomFeatures(5, 40, generator=torch.Generator().manual_seed(0))
    assert torch.equal(low.weights, network().weights.float())


@pytest.mark.parametrize(("sizes", "message"), [((0, 4), "dimension is 0"), ((4, 0), "width is 0")])
def test_sizes_below_one_are_refused(sizes, message):
    with pytest.raises(ValueError, match=f"{message}; expected at least 1"):
        RandomFeatures(*sizes, generator=torch.Generator())
