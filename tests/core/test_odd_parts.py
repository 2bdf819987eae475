"""Batches whose parts are easily taken for what they are not: what units share, labels that are inputs, class weights.

The numbers of the parts are those of the whole batch, or there is an error.
"""

from collections import OrderedDict
from typing import Any

import pytest
import torch
from test_micro_batches import assert_same
from torch import Tensor, nn

import spectral_reach as sr
from spectral_reach.jacobian import one_by_one


class Scaled(nn.Module):
    """Inputs with a scale of each feature, which all units share."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
        x, scale = inputs
        return self.last(torch.tanh(self.first(x) * scale))


class LookedUp(nn.Module):
    """Units that look rows of a table up, which all of them share."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(5, 3)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        return self.last(inputs["table"][inputs["index"]])


@pytest.mark.parametrize("labelled", [1, 5])
def test_what_units_share_may_not_look_like_a_row_for_each(labelled: int) -> None:
    torch.manual_seed(0)
    model, inputs, scale = Scaled().double(), torch.randn(5, 5).double(), torch.rand(5).double()
    targets = torch.randint(3, (5,))
    targets[labelled:] = -100
    with pytest.raises(ValueError, match=r"leading axis is over units .*\(inputs\[0\], inputs\[1\]\)"):
        sr.decompose(model, ((inputs, scale), targets), micro_batch=1)
    of_one_row = (inputs, scale.unsqueeze(0)), targets
    assert_same(sr.decompose(model, of_one_row, micro_batch=1), sr.decompose(model, of_one_row))


def test_what_units_share_may_be_as_long_as_a_part() -> None:
    torch.manual_seed(0)
    model, table = LookedUp().double(), torch.randn(4, 5).double()
    batch = {"index": torch.arange(12) % 4, "table": table}, torch.randint(3, (12,))
    for options in ({}, {"units": 2}):
        whole = sr.decompose(model, batch, estimator="per_unit", noise_units=12, **options)
        parts = sr.decompose(model, batch, estimator="per_unit", noise_units=12, micro_batch=4, **options)
        assert_same(parts, whole)


def test_padding_beside_the_only_labelled_unit() -> None:
    """Its outputs may be no numbers, of which the whole batch would be full."""

    class Divided(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x / x.norm(dim=1, keepdim=True))

    torch.manual_seed(0)
    model, inputs = Divided(4, 3).double(), torch.zeros(3, 4).double()
    inputs[1] = torch.randn(4)
    targets = torch.tensor([-100, 2, -100])
    parts = sr.decompose(model, (inputs, targets), micro_batch=1)
    assert_same(parts, sr.decompose(model, (inputs[1:2], targets[1:2])))


class Decoder(nn.Module):
    """Predicts each label from the one before it; from the inputs where no labels are given, as Bart does."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.last = nn.Embedding(9, 6), nn.Linear(6, 9)

    def forward(self, input_ids: Tensor, labels: Tensor | None = None) -> Tensor:
        given = input_ids if labels is None else labels.clamp(min=0)
        before = torch.cat([torch.zeros_like(given[:, :1]), given[:, :-1]], 1)
        return self.last(torch.tanh(self.table(before)) + self.table(input_ids).mean(1, keepdim=True))


@pytest.mark.parametrize("size", [1, 2])
def test_labels_that_are_inputs_too(size: int) -> None:
    """Also where they are the same as the inputs in the unit that is looked at."""
    torch.manual_seed(0)
    model, labels = Decoder().double(), torch.randint(9, (4, 5))
    input_ids = labels.clone()
    input_ids[1:, 2] = 0
    batch = {"input_ids": input_ids, "labels": labels}
    assert_same(sr.decompose(model, batch, micro_batch=size), sr.decompose(model, batch))


@pytest.mark.parametrize("size", [1, 2, 6])
def test_class_weights_are_refused_whichever_classes_meet(size: int) -> None:
    """The first and the last unit are of one class, and so are both of each part."""
    torch.manual_seed(0)
    model, inputs = nn.Linear(4, 3).double(), torch.randn(6, 4).double()
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 5.0]).double())
    with pytest.raises(ValueError, match="not a mean over samples"):
        sr.decompose(model, (inputs, torch.tensor([1, 1, 0, 0, 1, 1])), loss=loss, micro_batch=size)
    of_one_class = inputs, torch.ones(6).long()
    parts = sr.decompose(model, of_one_class, loss=loss, micro_batch=size)
    assert_same(parts, sr.decompose(model, of_one_class, loss=loss))


@pytest.mark.parametrize("hooked", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_parameters_have_the_hooks_that_they_had(monkeypatch: Any, hooked: bool, fails: bool) -> None:
    """Also after an error in the middle of a backward pass, with none of the hooks called."""
    torch.manual_seed(0)
    model, called = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).double(), []
    if hooked:
        model[0].weight.register_hook(lambda gradient: called.append(gradient))
    batch = torch.randn(6, 4).double(), torch.randint(3, (6,))
    tables = [parameter._backward_hooks for parameter in model.parameters()]
    entries = [None if table is None else OrderedDict(table) for table in tables]
    if fails:
        whole, passes = one_by_one._hook, []

        def failing(name: str, take: Any) -> Any:
            def of_first(name: str, gradient: Tensor) -> None:
                passes.append(name)
                if len(passes) > 2:
                    raise MemoryError("no more")
                take(name, gradient)

            return whole(name, of_first)

        monkeypatch.setattr(one_by_one, "_hook", failing)
        with pytest.raises(MemoryError, match="no more"):
            sr.decompose(model, batch, micro_batch=1)
        monkeypatch.undo()
    else:
        sr.decompose(model, batch, micro_batch=1)
    after = [parameter._backward_hooks for parameter in model.parameters()]
    assert all(a is b for a, b in zip(after, tables, strict=True))
    assert [None if table is None else OrderedDict(table) for table in after] == entries
    assert called == []
    nn.functional.cross_entropy(model(batch[0]), batch[1]).backward()
    assert len(called) == hooked
    assert all(bool(parameter.grad.any()) for parameter in model.parameters())
