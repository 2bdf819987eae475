"""The result as an object: frozen, complete as a dict, and readable."""

import dataclasses
import json
import math

import pytest
import torch
from torch import nn

import spectral_reach as sr


def result(**arguments: object) -> sr.Decomposition:
    torch.manual_seed(0)
    x = torch.randn(6, 4)
    return sr.decompose(nn.Linear(4, 3), (x, torch.randint(0, 3, (6,))), **arguments)  # type: ignore[arg-type]


def test_it_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        result().loss = 0.0  # type: ignore[misc]
    with pytest.raises(TypeError):
        result().undefined["loss"] = "no"  # type: ignore[index]


def test_as_dict_holds_every_field_as_a_plain_value() -> None:
    measured = result(estimator="batch")
    row = measured.as_dict()
    assert list(row) == [field.name for field in dataclasses.fields(sr.Decomposition)]
    for value in row.values():
        assert type(value) in (float, int, str, dict, type(None))
    assert json.loads(json.dumps(row))["undefined"] == dict(measured.undefined) != {}


def test_it_prints_as_a_table_that_says_what_is_exact() -> None:
    lines = str(result(estimator="exact")).splitlines()
    assert lines[0] == "Decomposition: 6 samples in 6 units, 3 outputs each, estimator exact"
    shown = {line.split()[0]: line for line in lines[1:]}
    assert set(shown) == {
        *("loss", "delta_loss", "chi_loss", "chi_net", "chi_pos"),
        *("delta_loss_unbiased", "chi_pos_unbiased", "gradient_noise_scale"),
    }
    assert [name for name, line in shown.items() if "(exact)" in line] == ["chi_net", "chi_pos"]
    assert [name for name, line in shown.items() if "±" in line] == ["delta_loss_unbiased", "chi_pos_unbiased"]
    estimated = str(result(estimator="batch", probes=3, against=(torch.randn(5, 4), torch.arange(5) % 3)))
    assert estimated.startswith("Decomposition: 6 against 5 samples in 6 units, 3 outputs each, estimator batch (3 pro")
    assert "(exact)" not in estimated


def test_an_error_bar_of_zero_over_draws_of_the_batch_is_not_called_exact() -> None:
    shown = str(dataclasses.replace(result(estimator="exact"), delta_loss_unbiased_stderr=0.0))
    line = next(line for line in shown.splitlines() if "delta_loss_unbiased" in line)
    assert line.endswith("± 0")


def test_what_could_not_be_measured_is_a_row_of_reasons() -> None:
    row = sr.Decomposition.undefined_everywhere("no label", estimator="exact").as_dict()
    floats = {name for name, value in row.items() if isinstance(value, float)}
    assert all(math.isnan(row[name]) for name in floats)
    assert row["undefined"] == dict.fromkeys(floats, "no label")
    assert [row[name] for name in ("n_samples", "n_units", "n_outputs", "probes")] == [0, 0, 0, 0]


def test_raw_of_nothing_is_nan() -> None:
    raw = sr.Decomposition.undefined_everywhere("no label", estimator="exact").raw
    assert all(math.isnan(value) for value in dataclasses.asdict(raw).values())
