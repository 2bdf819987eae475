"""What a trial found out serves later measurements of the model, and only those that it holds for."""

import copy
import gc
import random
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import small_models
import torch
from comparing import assert_equal
from torch import Tensor, nn

import spectral_reach as sr
from spectral_reach.jacobian import known_structures, unit_backward
from spectral_reach.jacobian.forms import Dense, Form
from spectral_reach.jacobian.graph import Graph
from spectral_reach.jacobian.rules import Use, layer_rule, registry
from spectral_reach.jacobian.uses import Uses
from spectral_reach.measured.linearisation import Linearisation

K = 3
Measure = Callable[..., bool]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> Measure:
    """Measures, and tells whether a trial was made."""
    trials = []

    def checked_uses(linearisation: Linearisation, graph: Graph) -> Uses:
        trials.append(linearisation.n_units_in_batch)
        return checked(linearisation, graph)

    def measure(model: nn.Module, batch: Any, **arguments: Any) -> bool:
        before = len(trials)
        assert sr.decompose(model, batch, **{"estimator": "per_unit", **arguments}).estimator == "per_unit"
        assert len(trials) - before in (0, 1)
        return len(trials) > before

    checked = unit_backward.checked_uses
    monkeypatch.setattr(unit_backward, "checked_uses", checked_uses)
    return measure


class Net(nn.Module):
    """Units are sequences (T, 4). They see each other where ``coupled`` or ``c`` say so."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.norm, self.readout = nn.Linear(4, 5), nn.LayerNorm(5), nn.Linear(5, K)
        self.unused = nn.Parameter(torch.zeros(2))
        self.register_buffer("c", torch.zeros(()))
        self.coupled = False

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.body(x))
        # As many operations on tensors of the same shapes, but other ones.
        x = x + (x.flip(0) if self.coupled else x.roll(1, 1))
        # The same operations whatever c is; where it is 0, the gradient of a unit reaches no other.
        return self.readout(self.norm(x + self.c * x.roll(1, 0)))


def draw_batch(units: int = 5, length: int = 2) -> tuple[Tensor, Tensor]:
    return torch.randn(units, length, 4), torch.randint(0, K, (units, length))


def known(model: nn.Module, tried: Measure, *batch: int, **arguments: Any) -> nn.Module:
    """The model after two measurements: the third one needs no trial."""
    assert [tried(model, draw_batch(*batch), **arguments) for _ in range(2)] == [True, True]
    return model


def test_trials_are_made_when_the_number_of_measurements_has_doubled(tried: Measure) -> None:
    model = Net()
    made = [tried(model, draw_batch()) for _ in range(17)]
    assert [number for number, trial in enumerate(made, 1) if trial] == [1, 2, 4, 8, 16]


def test_every_estimator_counts_and_uses_it(tried: Measure) -> None:
    """The loss gradients by unit need the structure as well."""
    model = known(Net(), tried)
    before = known_structures._KNOWN[model][0].met
    for estimator in ("exact", "batch", "per_unit"):
        sr.decompose(model, draw_batch(), estimator=estimator)
    assert known_structures._KNOWN[model][0].met == before + 3


# --- the numbers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        "mlp",
        "dropout",
        "convolution-batch-norm-training",
        "convolution-group-norm",
        "attention-rms-norm",
        "causal-lm-tied",
        "gru",
        "llama",
    ],
)
@pytest.mark.parametrize("options", [{}, {"units": 2, "noise_units": 2}], ids=str)
def test_no_number_changes(kind: str, options: dict[str, Any], tried: Measure) -> None:
    """To the last bit; without rules for some parameters too, and with a pass over some units alone."""
    subject = small_models.draw(kind, 1)
    batches = [subject.draw_batch(6) for _ in range(4)]
    fresh = copy.deepcopy(subject.model)
    arguments = {"estimator": "per_unit", "loss": subject.loss.given, **options}
    for batch in batches[:2]:
        assert tried(subject.model, batch, **arguments)
    assert not tried(subject.model, batches[2], **arguments)
    assert tried(subject.model, batches[0], **arguments)
    result = sr.decompose(subject.model, batches[3], **arguments)  # the fifth
    assert known_structures._KNOWN[subject.model][0].met == 5
    assert fresh not in known_structures._KNOWN
    assert_equal(result, sr.decompose(fresh, batches[3], **arguments))


@pytest.mark.parametrize("units", [1, 2, 3, 9])
@pytest.mark.parametrize("ruled", [True, False])
def test_another_number_of_units_needs_no_trial(units: int, ruled: bool, tried: Measure) -> None:
    """Nor do parameters for which there is no rule."""
    model = known(Net() if ruled else nn.Sequential(nn.Linear(4, 5), nn.PReLU(), nn.Linear(5, K)), tried)
    fresh = copy.deepcopy(model)
    batch = draw_batch(units)
    result = sr.decompose(model, batch, estimator="per_unit")
    assert known_structures._KNOWN[model][0].met == 3
    assert_equal(result, sr.decompose(fresh, batch, estimator="per_unit"))


# --- what it does not hold for ----------------------------------------------------------------------------------------


def test_another_length(tried: Measure) -> None:
    model = known(Net(), tried)
    assert tried(model, draw_batch(5, 3))
    assert not tried(model, draw_batch())
    assert [tried(model, draw_batch(5, 3)) for _ in range(2)] == [True, False]


def test_as_many_rows_in_other_units(tried: Measure) -> None:
    """The shapes of flattened operations are the same."""
    model = known(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, K)), tried, 6, 2)
    assert tried(model, draw_batch(4, 3))


@pytest.mark.parametrize(
    "parameters", ["body", ["readout"], lambda name, _: name != "unused"], ids=["module", "list", "all in use"]
)
def test_other_parameters(parameters: Any, tried: Measure) -> None:
    model = known(Net(), tried)
    assert tried(model, draw_batch(), parameters=parameters)
    assert not tried(model, draw_batch())


def test_a_layer_that_was_exchanged(tried: Measure) -> None:
    """Its outputs have the same shape, its parameter has another."""
    model = known(Net(), tried)
    model.body = nn.Linear(6, 5)
    assert tried(model, (torch.randn(5, 2, 6), draw_batch()[1]))


def test_a_parameter_that_was_frozen(tried: Measure) -> None:
    model = known(Net(), tried)
    model.norm.weight.requires_grad_(False)
    assert tried(model, draw_batch())


def test_a_rule_that_was_registered(tried: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    def rule(use: Use, d: Tensor) -> Form:
        return Dense.of(d)

    monkeypatch.setattr(registry, "_RULES", dict(registry._RULES))
    model = known(Net(), tried)
    layer_rule("NoSuchOperationBackward", slots=(1,))(rule)
    assert tried(model, draw_batch())
    # Nor does a rule that takes the place of another one go unnoticed.
    model = known(Net(), tried)
    layer_rule("NoSuchOperationBackward", slots=(1,))(lambda use, d: rule(use, d))
    assert tried(model, draw_batch())


def test_dropout_and_batch_statistics_that_come_and_go(tried: Measure) -> None:
    class Same(nn.Module):
        """Draws, with the same operations as without."""

        def forward(self, x: Tensor) -> Tensor:
            return x * (torch.rand(x.shape) if self.training else torch.ones(x.shape))

    for layer in (Same(), nn.BatchNorm1d(5)):
        model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), layer, nn.Linear(5, K)).eval()
        batch = torch.randn(5, 4), torch.randint(0, K, (5,))
        assert [tried(model, batch) for _ in range(2)] == [True, True]
        assert tried(model.train(), batch)
        assert not tried(model.eval(), batch)


def test_another_model(tried: Measure) -> None:
    model = known(Net(), tried)
    assert tried(copy.deepcopy(model), draw_batch())
    assert not tried(model, draw_batch())


# --- models that change -----------------------------------------------------------------------------------------------


def coupled(model: nn.Module, batch: tuple[Tensor, Tensor]) -> bool:
    """Whether the units are refused as seeing each other."""
    try:
        sr.decompose(model, batch, estimator="per_unit")
    except ValueError as error:
        return "units see each other" in str(error)
    return False


def test_units_coupled_by_other_operations_are_found_out_at_once(tried: Measure) -> None:
    model = known(Net(), tried)
    model.coupled = True
    assert coupled(model, draw_batch())
    # Again and again: what is not known is tried.
    assert coupled(model, draw_batch())
    model.coupled = False
    assert not tried(model, draw_batch())


@pytest.mark.parametrize(("changed", "found_out"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8)])
def test_units_coupled_by_data_are_found_out_by_the_next_trial(changed: int, found_out: int) -> None:
    model = Net()
    for number in range(1, found_out + 1):
        if number == changed:
            model.c.fill_(1)
        assert coupled(model, draw_batch()) == (number == found_out), number
    # Nothing is known any more.
    assert coupled(model, draw_batch())


def test_after_that_everything_starts_afresh(tried: Measure) -> None:
    model = known(Net(), tried)
    tried(model, draw_batch())
    model.c.fill_(1)
    assert coupled(model, draw_batch())
    model.c.fill_(0)
    assert [tried(model, draw_batch()) for _ in range(4)] == [True, True, False, True]


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_models_are_not_kept_alive() -> None:
    model = Net()
    batch = draw_batch()
    for _ in range(3):
        sr.decompose(model, batch, estimator="per_unit")
    assert model in known_structures._KNOWN
    before = len(known_structures._KNOWN)
    dead, of_parameter = weakref.ref(model), weakref.ref(model.body.weight)
    del model
    gc.collect()
    assert dead() is None
    assert of_parameter() is None
    assert len(known_structures._KNOWN) < before


def test_nor_is_what_a_measurement_computed() -> None:
    model = Net()
    outputs: list[Any] = []
    model.register_forward_hook(lambda module, inputs, output: outputs.append(weakref.ref(output)))
    for _ in range(3):
        sr.decompose(model, draw_batch(), estimator="per_unit", units=2)
    gc.collect()
    assert len(outputs) >= 3
    assert all(output() is None for output in outputs)


def test_eight_structures_of_a_model_are_kept(tried: Measure) -> None:
    model = Net()
    lengths = list(range(1, 12))
    random.Random(0).shuffle(lengths)
    for length in lengths:
        known(model, tried, 5, length)
    assert len(known_structures._KNOWN[model]) == 8
    # The third measurement of each: the latest need no trial.
    assert not any(tried(model, draw_batch(5, length)) for length in lengths[-8:])
    assert tried(model, draw_batch(5, lengths[0]))
    assert len(known_structures._KNOWN[model]) == 8
