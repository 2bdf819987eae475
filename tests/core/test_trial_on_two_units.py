"""What a trial on two units must not be fooled by: couplings, rows and orders that only look like the usual ones."""

import pytest
import torch
from by_unit import _traces, check, classifier, measured
from torch import nn

from spectral_reach.jacobian.unit_backward import UnitBackward
from spectral_reach.measured.isolation import leaving_no_trace
from spectral_reach.measured.linearisation import linearise
from spectral_reach.measured.losses import resolve_loss
from spectral_reach.measured.parameters import select_parameters


class Net(nn.Module):
    def __init__(self, forward, **modules):
        super().__init__()
        for name, module in modules.items():
            setattr(self, name, module)
        self.function = forward

    def forward(self, x):
        return self.function(self, x)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def right_or_refused(subject, batch):
    found = measured(subject, batch)
    assert found.reason or found.disagreements() == {}


def test_units_coupled_through_their_variance():
    def forward(m, x):
        h = torch.tanh(m.a(x))
        return m.b(h + h.var(0, correction=0))

    s = classifier(Net(forward, a=nn.Linear(4, 5), b=nn.Linear(5, 3)), lambda b: torch.randn(b, 4), ignored=0.0)
    right_or_refused(s, s.draw_batch(5))


def test_rows_picked_by_the_data_that_happen_to_be_as_many():
    def forward(m, x):
        rows, chosen = torch.tanh(m.p(x)).flatten(0, 1), x.flatten(0, 1)[:, 0] > 0
        out = torch.zeros_like(rows).index_put((chosen.nonzero()[:, 0],), torch.tanh(m.e(rows[chosen])))
        return m.r((rows + out).unflatten(0, x.shape[:2]).mean(1))

    x = torch.randn(4, 4, 4)
    x[:, :, 0] = -x[:, :, 0].abs()
    for unit, count in enumerate([2, 3, 1, 2]):
        x[unit, :count, 0] *= -1
    s = classifier(Net(forward, p=nn.Linear(4, 4), e=nn.Linear(4, 4), r=nn.Linear(4, 3)), None)
    right_or_refused(s, (x.double(), torch.tensor([0, 1, 2, 0])))


def test_a_part_of_the_units_loses_no_parameter():
    def forward(m, x):
        x = x[:, : int((x != 0).sum(1).max())]
        return m.r((torch.tanh(m.l(m.t(x))) * (x != 0)[..., None]).sum(1))

    x = torch.zeros(5, 5, dtype=torch.long)
    for unit, n in enumerate([5, 2, 3, 4, 2]):
        x[unit, :n] = torch.randint(1, 6, (n,))
    s = classifier(Net(forward, t=nn.Embedding(6, 4), l=nn.Linear(4, 4), r=nn.Linear(4, 3)), None)
    batch = x, torch.tensor([0, 1, 2, 0, 1])
    explicit = s.explicit(batch)
    with leaving_no_trace(s.model):
        parameters = select_parameters(s.model)
        lin = linearise(s.model, batch, resolve_loss("cross_entropy"), parameters, seed=0)
        part = UnitBackward.of(lin).over(torch.tensor([1, 2]))
        got = None if part is None else _traces(part)
    if got is not None:
        assert got.tolist() == pytest.approx([(explicit.J[explicit.unit == i] ** 2).sum() for i in (1, 2)], rel=1e-9)


def test_sequence_first_with_sequences_of_one():
    def forward(m, x):
        return m.r(torch.tanh(m.a(x.transpose(0, 1)))).transpose(0, 1)

    s = classifier(Net(forward, a=nn.Linear(3, 5), r=nn.Linear(5, 3)), lambda b: torch.randn(b, 1, 3), rows=(1,))
    check(s, s.draw_batch(5))


def test_a_reshape_that_adds_axes_of_one_before_the_units():
    def forward(m, x):
        x = x.unflatten(2, (2, 2)).transpose(1, 2)
        return torch.einsum("bhts,bhso,hoi->bti", (x @ x.mT).softmax(-1), torch.tanh(m.a(x)), m.w)

    s = classifier(
        Net(forward, a=nn.Linear(2, 2), w=nn.Parameter(torch.randn(2, 2, 3))),
        lambda b: torch.randn(b, 5, 4),
        rows=(5,),
        ignored=0.0,
    )
    check(s, s.draw_batch(4))


@pytest.mark.parametrize("kind", ["mlp", "einsum", "frames"])
def test_the_last_position_alone_is_read(kind):
    def mlp(m, x):
        return m.r(torch.tanh(m.a(x.flatten(0, 1))).unflatten(0, x.shape[:2])[:, -1])

    def einsum(m, x):
        return torch.einsum("bti,vi->btv", torch.tanh(m.a(x)), m.r.weight)[:, -1]

    def frames(m, x):
        h = torch.tanh(m.c(x.flatten(0, 1)[:, None])).mean(2).unflatten(0, x.shape[:2])
        return m.r(h[:, -1])

    net = Net(locals()[kind], a=nn.Linear(3, 5), c=nn.Conv1d(1, 5, 2), r=nn.Linear(5, 4))
    s = classifier(net, lambda b: torch.randn(b, 4, 3), 4)
    # The one row of a unit that has a gradient could be anyone's: these parameters take passes of each unit alone.
    untold = {"mlp": {"a.weight", "a.bias"}, "einsum": set(), "frames": {"c.weight", "c.bias"}}[kind]
    check(s, s.draw_batch(5), unknown=untold)


@pytest.mark.parametrize("cell", [nn.GRU, nn.LSTM])
def test_a_readout_of_a_recurrent_layer(cell):
    s = classifier(
        Net(lambda m, x: m.r(m.c(x)[0]), c=cell(3, 4, batch_first=True), r=nn.Linear(4, 3)),
        lambda b: torch.randn(b, 4, 3),
        rows=(4,),
    )
    check(s, s.draw_batch(5), readout=True)


@pytest.mark.parametrize("units", [3, 5, 6])
def test_the_same_with_the_last_position_read_is_silently_wrong(units):
    def forward(m, x):
        x = x.unflatten(2, (2, 2)).transpose(1, 2)
        return torch.einsum("bhts,bhso,hoi->bti", (x @ x.mT).softmax(-1), torch.tanh(m.a(x)), m.w)[:, -1]

    net = Net(forward, a=nn.Linear(2, 2), w=nn.Parameter(torch.randn(2, 2, 3)))
    s = classifier(net, lambda b: torch.randn(b, 5, 4), ignored=0.0)
    right_or_refused(s, s.draw_batch(units))
