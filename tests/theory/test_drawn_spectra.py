"""Spectra of random features through ``sr.spectrum``: the features' own, and near those of the limit kernel."""

import numpy as np
import pytest
import torch

import spectral_reach as sr
from spectral_reach.theory.draw import DrawConfig, draw_problem
from spectral_reach.theory.draw_spectra import measure_spectra


def problem(features=60, dtype=torch.float64):
    config = DrawConfig(exponent=1.5, dimension=10, inputs=40, features=features, teachers=2)
    return draw_problem(config, 0, dtype)


def test_the_network_s_spectrum_is_that_of_its_features():
    drawn = problem()
    singular = np.linalg.svd(drawn.network.features(drawn.inputs[:30]).numpy(), compute_uv=False) ** 2
    found = measure_spectra(drawn, 30)
    np.testing.assert_allclose(found.network, singular / singular.sum(), atol=1e-13)
    values = np.linalg.eigvalsh(drawn.kernel[:30, :30].numpy())[::-1]
    np.testing.assert_allclose(found.limit, values / values.sum(), atol=1e-13)


def test_spectrum_and_decompose_agree_on_the_position():
    drawn = problem()
    batch = (drawn.inputs, drawn.targets[1])
    position = sr.spectrum(drawn.network, batch, loss="mse", method="explicit").chi_pos
    assert position == pytest.approx(sr.decompose(drawn.network, batch, loss="mse").chi_pos, rel=1e-10)


def test_more_features_come_nearer_to_the_limit():
    def distance(features):
        spectra = measure_spectra(problem(features), 20)
        return np.abs(spectra.network / spectra.limit - 1).max()

    assert distance(50_000) < 0.1 < distance(60)


def test_fewer_features_than_inputs_leave_modes_empty():
    assert np.all(measure_spectra(problem(features=5), 20).network[5:] < 1e-12)


@pytest.mark.parametrize("inputs", [0, 41])
def test_more_inputs_than_there_are_is_refused(inputs):
    with pytest.raises(ValueError, match=f"inputs is {inputs}; expected 1 to 40, the inputs of the draw"):
        measure_spectra(problem(), inputs)
