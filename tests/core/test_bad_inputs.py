"""Every bad input ends in one error that says what was got, what was expected and what to do."""

import re
import types
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import spectral_reach as sr


def classifier(k: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, k))


def batch(n: int = 6) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(n, 4), torch.randint(0, 3, (n,))


class Returns(nn.Module):
    """A model that returns what the given function makes of a linear layer's outputs."""

    def __init__(self, of: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.layer, self.of = nn.Linear(4, 3), of

    def forward(self, x: Tensor) -> Any:
        return self.of(self.layer(x))


def refuses(error: type[Exception], *parts: str, model: Any = None, given: Any = None, **arguments: Any) -> None:
    """``decompose`` raises ``error``, with all ``parts`` in its message, in this order."""
    pattern = ".*".join(re.escape(part) for part in parts)
    with pytest.raises(error, match=f"(?s){pattern}"):
        sr.decompose(classifier() if model is None else model, batch() if given is None else given, **arguments)


# --- arguments ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["probes", "units", "memory_budget"])
@pytest.mark.parametrize("value", [0, -3, np.int64(0)])
def test_counts_below_one(name: str, value: int) -> None:
    refuses(ValueError, f"{name} is {value}", "expected 1 or more", **{name: value})


@pytest.mark.parametrize("name", ["probes", "units", "memory_budget", "seed"])
@pytest.mark.parametrize("value", [True, 2.0, "2", torch.tensor(2)])
def test_counts_that_are_no_integers(name: str, value: Any) -> None:
    refuses(TypeError, f"{name} is {value!r}", "expected an integer", **{name: value})


@pytest.mark.parametrize("value", [-1, 2**63, 2**80])
def test_seeds_out_of_range(value: int) -> None:
    refuses(ValueError, f"seed is {value}", "expected an integer from 0 to 2**63 - 1", seed=value)


@pytest.mark.parametrize("value", [np.int32(3), np.uint8(3), 3])
def test_integers_of_numpy_are_integers(value: Any) -> None:
    result = sr.decompose(classifier(), batch(), estimator="batch", seed=value, probes=value, units=value)
    assert result == sr.decompose(classifier(), batch(), estimator="batch", seed=3, probes=3, units=3)


@pytest.mark.parametrize("estimator", ["exact", "batch", "auto"])
@pytest.mark.parametrize("masked", [False, True])
def test_more_units_than_the_batch_holds(estimator: str, masked: bool) -> None:
    x, y = batch(6)
    if masked:
        y[:2] = -100
    held = 4 if masked else 6
    refuses(ValueError, f"units={held + 1}", f"holds {held} labelled units", given=(x, y), units=held + 1)


def test_unknown_estimator() -> None:
    refuses(ValueError, "estimator='exakt' is unknown", "'auto'", "'batch', 'exact'", estimator="exakt")


def test_unknown_loss() -> None:
    refuses(ValueError, "loss='nll' is unknown", "'cross_entropy', 'mse'", "callable", loss="nll")


@pytest.mark.parametrize("loss", [None, 3, ["mse"]])
def test_a_loss_that_is_no_loss(loss: Any) -> None:
    refuses(TypeError, f"loss is a {type(loss).__name__}", "expected a name or a callable", loss=loss)


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss, nn.MSELoss])
def test_the_class_of_a_loss_in_place_of_an_instance(loss: Any) -> None:
    name = loss.__name__
    refuses(TypeError, f"loss is the class {name}; expected an instance of it: loss={name}()", loss=loss)


# --- models -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [lambda x: x, "model", classifier, None])
def test_a_model_that_is_no_module(model: Any) -> None:
    with pytest.raises(TypeError, match=f"model is a {type(model).__name__}; expected a torch.nn.Module"):
        sr.decompose(model, batch())


def test_a_script_module() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(classifier())
    refuses(TypeError, "TorchScript", "expected the Python modules", model=nn.Sequential(scripted))


def test_no_trainable_parameters() -> None:
    refuses(ValueError, "no trainable parameters (requires_grad)", model=classifier().requires_grad_(False))
    refuses(ValueError, "no trainable parameters (requires_grad)", model=nn.Flatten())


def test_a_lazy_module_is_not_initialised_by_looking() -> None:
    model = nn.Sequential(nn.LazyLinear(5), nn.Linear(5, 3))
    refuses(ValueError, "'0.weight' has no shape yet", "run one forward pass first", model=model)
    assert isinstance(model[0], nn.LazyLinear)
    refuses(ValueError, "'0.running_mean' has no shape", model=nn.Sequential(nn.LazyBatchNorm1d(affine=False)))


def test_complex_parameters() -> None:
    refuses(TypeError, "parameter 'weight' is complex", "expected real", model=nn.Linear(4, 3, dtype=torch.complex64))


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (lambda f: (f, f), "returned a tuple"),
        (lambda f: [f], "returned a list"),
        (lambda f: None, "returned a NoneType"),
        (lambda f: {"scores": f}, "returned a dict"),
        (lambda f: types.SimpleNamespace(logits=None), "returned a SimpleNamespace"),
    ],
)
def test_a_model_that_returns_no_tensor(returned: Callable[[Tensor], Any], said: str) -> None:
    refuses(TypeError, said, "expected a tensor or an object with a tensor .logits: wrap", model=Returns(returned))


@pytest.mark.parametrize("returned", [lambda f: types.SimpleNamespace(logits=f), lambda f: {"logits": f}])
def test_logits_are_found_where_they_are(returned: Callable[[Tensor], Any]) -> None:
    torch.manual_seed(0)
    wrapped = Returns(returned)
    assert sr.decompose(wrapped, batch()) == sr.decompose(wrapped.layer, batch())


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_outputs_of_another_type(dtype: torch.dtype) -> None:
    refuses(TypeError, f"outputs have dtype {dtype}", "floating point", model=Returns(lambda f: f.to(dtype)))


def test_a_model_that_returns_its_loss() -> None:
    refuses(ValueError, "output is a scalar", "(units, ...), not a loss", model=Returns(lambda f: f.mean()))


def test_detached_outputs() -> None:
    refuses(ValueError, "do not depend on any trainable parameter", "detach", model=Returns(lambda f: f.detach()))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_outputs_that_are_not_finite(value: float) -> None:
    x, y = batch()
    x[3, 0] = value
    said = "not finite in 1 of 6 labelled rows (first in unit 3)", "diverged"
    refuses(ValueError, *said, model=nn.Linear(4, 3), given=(x, y))


def test_an_input_that_is_not_finite_does_not_pass_silently_for_want_of_a_label() -> None:
    """A gradient is a sum over all rows, and zero times nan is nan."""
    x, y = batch()
    without = sr.decompose(classifier(), (x[1:], y[1:]), estimator="exact")
    x[0], y[0] = float("nan"), -100
    refuses(ValueError, "the loss gradient of parameter '2.weight' is not finite", given=(x, y))
    x[0] = 1e3
    assert sr.decompose(classifier(), (x, y), estimator="exact").chi_net == pytest.approx(without.chi_net, rel=1e-5)


def test_a_gradient_that_is_not_finite() -> None:
    model = Returns(lambda f: f + (f - f.detach()).sqrt())
    refuses(ValueError, "the loss gradient of parameter 'layer.weight' is not finite", "square root", model=model)


@pytest.mark.parametrize("layers", [[], [nn.Unflatten(1, (5, 1))]])
def test_batch_statistics_of_a_single_value(layers: list[nn.Module]) -> None:
    model = nn.Sequential(nn.Linear(4, 5), *layers, nn.BatchNorm1d(5), nn.Flatten(), nn.Linear(5, 3))
    said = f"one value per channel (input of shape {(1, 5, 1) if layers else (1, 5)})", "two or more", "model.eval()"
    refuses(ValueError, *said, model=model, given=batch(1))
    assert sr.decompose(model.eval(), batch(1)).n_units == 1  # the remedy of the message


# --- batches ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (torch.randn(6, 4), "batch is a Tensor"),
        ((torch.randn(6, 4),), "batch is a tuple of length 1"),
        ([torch.randn(6, 4)] * 3, "batch is a list of length 3"),
        (None, "batch is a NoneType"),
        ("text", "batch is a str"),
    ],
)
def test_a_batch_of_another_kind(given: Any, said: str) -> None:
    with pytest.raises(TypeError, match=re.escape(f"{said}; expected (inputs, targets) or a mapping with 'labels'")):
        sr.decompose(classifier(), given)


def test_the_second_batch_is_named_in_its_errors() -> None:
    refuses(TypeError, "against: the batch is a Tensor; expected (inputs, targets)", against=torch.randn(6, 4))
    refuses(ValueError, "against: the batch is empty", against=(torch.randn(0, 4), torch.zeros(0, dtype=torch.long)))
    x, y = torch.randn(4, 4), torch.randint(0, 3, (4,))
    refuses(ValueError, "against: no row", against=(x, torch.full((4,), -100)))
    refuses(ValueError, "against: targets range from 0 to 7", against=(x, torch.tensor([0, 1, 2, 7])))
    refuses(ValueError, "against: the model's outputs are not finite", against=(x * float("nan"), y))
    refuses(ValueError, "against: units=5, but the batch holds 4 labelled units", against=(x, y), units=5)


def test_a_mapping_without_labels() -> None:
    given = {"input_ids": torch.zeros(2, 3), "attention_mask": torch.ones(2, 3)}
    refuses(ValueError, "keys ['attention_mask', 'input_ids']", "expected a key 'labels'", "-100", given=given)


@pytest.mark.parametrize("targets", [[0, 1, 2], np.zeros(6), None])
def test_targets_that_are_no_tensor(targets: Any) -> None:
    said = f"targets of the batch are a {type(targets).__name__}; expected a torch.Tensor"
    refuses(TypeError, said, given=(batch()[0], targets))
    refuses(TypeError, said, given={"input": batch()[0], "labels": targets})


def test_targets_without_units() -> None:
    given = batch()[0], torch.tensor(1)
    refuses(ValueError, "targets of the batch are a scalar", "leading axis over units", given=given)
    empty = torch.randn(0, 4), torch.zeros(0, dtype=torch.long)
    refuses(ValueError, "batch is empty", "shape (0,)", "expected a unit or more", given=empty)


@pytest.mark.parametrize("dtype", [torch.bool, torch.complex64])
def test_targets_of_another_type(dtype: torch.dtype) -> None:
    x, y = batch()
    given = x, y.to(dtype)
    refuses(TypeError, f"targets of the batch have dtype {dtype}", "class indices or real numbers", given=given)


def test_no_labelled_rows() -> None:
    x, y = batch()
    refuses(
        ValueError, "no row of the batch carries a label", "at least one label", given=(x, torch.full_like(y, -100))
    )


def test_no_labelled_rows_after_the_shift() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(vocab_size=9, hidden_size=4, intermediate_size=4, num_hidden_layers=1, num_attention_heads=1)
    tokens = torch.randint(0, 9, (2, 4))
    labels = torch.full_like(tokens, -100)
    labels[:, 0] = 1  # the one position that nothing predicts
    given = {"input_ids": tokens, "labels": labels}
    refuses(
        ValueError, "no row of the batch carries a label", "causal shift", model=LlamaForCausalLM(config), given=given
    )


@pytest.mark.parametrize(("low", "high"), [(0, 3), (-1, 2), (-7, 99)])
def test_class_indices_out_of_range(low: int, high: int) -> None:
    x, y = batch()
    y[:2] = torch.tensor([low, high])
    said = f"targets range from {low} to {high}", "expected class indices in 0 .. 2 (the model has 3 outputs), or -100"
    refuses(ValueError, *said, given=(x, y))


@pytest.mark.parametrize(
    "loss",
    [
        lambda o, t: F.cross_entropy(o, t, label_smoothing=0.1),  # raises an IndexError
        lambda o, t: -o.log_softmax(1).gather(1, t[:, None]).mean(),  # raises a RuntimeError
    ],
)
@pytest.mark.parametrize(("low", "high"), [(0, 3), (-1, 2)])
def test_class_indices_out_of_range_of_a_loss_of_the_users(loss: Any, low: int, high: int) -> None:
    x, y = batch()
    y[:2] = torch.tensor([low, high])
    said = f"targets range from {low} to {high}", "expected class indices in 0 .. 2 (the model has 3 outputs), or -100"
    refuses(ValueError, *said, given=(x, y), loss=loss)


@pytest.mark.parametrize("error", [IndexError, RuntimeError])
def test_an_error_of_a_loss_with_targets_in_range_stays_what_it_is(error: type[Exception]) -> None:
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        raise error("of its own")

    refuses(error, "of its own", loss=loss)
    refuses(error, "of its own", given=(batch()[0], torch.full((6, 3), 7.0)), loss=loss)


@pytest.mark.parametrize("offset", [50, -50])
def test_class_indices_out_of_range_of_a_model_that_computes_its_own_loss(offset: int) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(vocab_size=9, hidden_size=4, intermediate_size=4, num_hidden_layers=1, num_attention_heads=1)
    model = LlamaForCausalLM(config)
    tokens = torch.arange(8).reshape(2, 4)
    given = {"input_ids": tokens, "labels": tokens + offset}
    refuses(ValueError, "out of bounds", f"labels that range from {offset} to {offset + 7}", model=model, given=given)
    # An error that has nothing to do with labels stays what it is.
    with pytest.raises(IndexError, match="out of range in self"):
        sr.decompose(nn.Embedding(5, 3), (torch.full((2, 2), 7), torch.zeros(2, 2, dtype=torch.long)))


def test_class_indices_as_floats() -> None:
    x, y = batch()
    refuses(TypeError, "got targets of dtype torch.float32", "class indices", "'mse'", given=(x, y.float()))


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (
            torch.zeros(5, dtype=torch.long),
            "outputs have shape (6, 3) and targets (5,); expected the same leading axis",
        ),
        (torch.zeros(6, 2, dtype=torch.long), "outputs of shape (6, 3) and targets of shape (6, 2)"),
        (torch.zeros(6, 3, dtype=torch.long), "outputs of shape (6, 3) and targets of shape (6, 3)"),
    ],
)
def test_shapes_that_do_not_fit_cross_entropy(targets: Tensor, said: str) -> None:
    refuses(ValueError, said, given=(batch()[0], targets))


@pytest.mark.parametrize("shape", [(6,), (6, 1), (6, 4), (6, 3, 1)])
def test_shapes_that_do_not_fit_squared_error(shape: tuple[int, ...]) -> None:
    said = "outputs of shape (6, 3) and targets of shape " + str(shape), "expected the same shape"
    refuses(ValueError, *said, given=(batch()[0], torch.zeros(shape)), loss="mse")


def test_targets_that_are_not_finite() -> None:
    targets = torch.zeros(6, 3)
    targets[1, 2] = float("nan")
    refuses(ValueError, "loss='mse' got targets that are not finite", given=(batch()[0], targets), loss="mse")


# --- losses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "error", "said"),
    [
        (lambda o, t: F.cross_entropy(o, t, reduction="sum"), ValueError, "not a mean over samples"),
        (
            lambda o, t: F.cross_entropy(o, t, weight=torch.tensor([1.0, 2.0, 5.0])),
            ValueError,
            "not a mean over samples",
        ),
        (lambda o, t: F.cross_entropy(o, t) + o.var(), ValueError, "not a mean over samples"),
        (lambda o, t: F.cross_entropy(o, t, reduction="none"), ValueError, "a tensor of shape (6,); expected a scalar"),
        (lambda o, t: F.cross_entropy(o, t)[None], ValueError, "a tensor of shape (1,); expected a scalar"),
        (lambda o, t: F.cross_entropy(o, t).item(), TypeError, "the loss returned a float; expected a scalar tensor"),
        (lambda o, t: (F.cross_entropy(o, t), 0), TypeError, "the loss returned a tuple; expected a scalar tensor"),
        (lambda o, t: F.cross_entropy(o.detach(), t), ValueError, "does not depend on the outputs through autograd"),
        (lambda o, t: (o.argmax(1) == t).float().mean(), ValueError, "does not depend on the outputs through autograd"),
        (lambda o, t: F.cross_entropy(o, t) / 0, ValueError, "the loss is inf; expected a finite value"),
        (lambda o, t: F.cross_entropy(o, t) * float("nan"), ValueError, "the loss is nan; expected a finite value"),
        (
            lambda o, t: (o - o.detach()).sqrt().mean(),
            ValueError,
            "gradient of the loss with respect to the outputs is",
        ),
    ],
)
def test_losses_that_are_no_mean_of_finite_terms(loss: Any, error: type[Exception], said: str) -> None:
    refuses(error, said, loss=loss)


def test_a_sum_is_found_out_within_one_unit_too() -> None:
    def summed(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets, reduction="sum")

    given = torch.randn(1, 5, 4), torch.randint(0, 3, (1, 5))
    refuses(ValueError, "not a mean over samples", "reduction='mean'", given=given, loss=summed)


def test_a_mean_over_units_of_unequal_length_is_no_mean_over_samples() -> None:
    """A loss that averages in each sequence first weighs a row by its unit, which rows alone do not know."""
    x, y = torch.randn(2, 4, 4), torch.randint(0, 3, (2, 4))
    y[0, 1:] = -100

    def by_sequence(outputs: Tensor, targets: Tensor) -> Tensor:
        rows = F.cross_entropy(outputs, targets, reduction="none")
        return (rows[:1].mean() + rows[1:].mean()) / 2 if len(rows) == 5 else rows.mean()

    refuses(ValueError, "not a mean over samples", given=(x, y), loss=by_sequence)


# --- parameters ---------------------------------------------------------------------------------------------------


def test_a_name_that_the_model_does_not_have() -> None:
    refuses(ValueError, "names '0.wieght', which the model does not have", "0.weight", parameters="0.wieght")
    refuses(ValueError, "names 'encoder'", "nearest names: ['0.weight', '0.bias', '2.weight']", parameters=["encoder"])


def test_modules_and_parameters_of_another_model() -> None:
    refuses(ValueError, "holds a Linear that is not a module of the model", parameters=nn.Linear(4, 5))
    refuses(ValueError, "holds a parameter of shape (3,) that the model does", parameters=[nn.Parameter(torch.ones(3))])


@pytest.mark.parametrize("selection", [[], lambda name, p: False, "0"])
def test_a_selection_of_nothing_trainable(selection: Any) -> None:
    model = classifier()
    model[0].requires_grad_(False)
    said = "selects none of the model's 2 trainable parameters", "for example '2.weight'"
    refuses(ValueError, *said, model=model, parameters=selection)


@pytest.mark.parametrize(("selection", "said"), [(3, "parameters is a int"), ([3], "parameters holds a int")])
def test_selections_of_another_kind(selection: Any, said: str) -> None:
    refuses(TypeError, said, "names, modules", parameters=selection)


@pytest.mark.parametrize("estimator", ["exact", "batch"])
def test_a_jacobian_that_overflows_is_no_position_of_zero(estimator: str) -> None:
    """In half precision: the loss gradient is small enough, an output's gradient is not."""
    model = nn.Sequential(nn.Linear(4, 5, bias=False), nn.Linear(5, 3, bias=False)).half()
    nn.init.constant_(model[0].weight, 0.0)
    nn.init.constant_(model[1].weight, 20.0)
    given = torch.full((2, 4), 3e4).half(), torch.full((2, 3), 1e-3).half()
    with pytest.raises(ValueError, match=r"chi_net is (inf|nan): the Jacobian of the outputs is not finite"):
        sr.decompose(model, given, loss="mse", estimator=estimator, probes=8)
    # By unit only the factors of the gradients are in half precision, and they fit.
    assert 0 < sr.decompose(model, given, loss="mse", estimator="per_unit").chi_pos < 1
