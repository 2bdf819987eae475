"""Models that checkpoint their activations are measured as the same models without: layer rules need all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import oracle
import pytest
import small_models
import torch
import torch.nn.functional as F
from by_unit import check
from comparing import RELATIVE, assert_equal
from oracle import Explicit
from torch import Tensor, nn
from torch.utils import checkpoint as checkpointing
from torch.utils.checkpoint import checkpoint

import spectral_reach as sr
from spectral_reach.tracking.row import seed_of

B, T, K = 6, 5, 7
REENTRANT = pytest.mark.parametrize("reentrant", [False, True], ids=["non-reentrant", "reentrant"])


class Net(nn.Module):
    """A block between an embedding and a readout; ``reentrant`` is how it is checkpointed, None for not at all."""

    def __init__(self, reentrant: bool | None, *, dropout: float = 0.0, times: int = 1) -> None:
        super().__init__()
        self.embedding, self.readout = nn.Embedding(K, 4), nn.Linear(4, K)
        self.norm = nn.LayerNorm(4)
        self.block = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Dropout(dropout), nn.Linear(6, 4))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.reentrant, self.times, self.raising = reentrant, times, False
        self.in_backward: list[bool] = []  # for each call of the block; a list, for what it gets stays in it

    def body(self, x: Tensor) -> Tensor:
        self.calls = self.calls + 1
        self.in_backward.append(torch._C._current_graph_task_id() >= 0)
        if self.raising:
            raise RuntimeError("boom in the block")
        return x + self.block(self.norm(x))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for _ in range(self.times):
            x = self.body(x) if self.reentrant is None else checkpoint(self.body, x, use_reentrant=self.reentrant)
        return self.readout(x)


@dataclass(frozen=True)
class Checkpointed(small_models.Subject):
    """The oracle differentiates forwards, as checkpointing cannot: it is given the same model without."""

    plain: small_models.Subject | None = None

    def explicit(self, batch: Any, names: Sequence[str] | None = None, seed: int = 0) -> Explicit:
        assert self.plain is not None
        return self.plain.explicit(batch, names, seed)


def net(reentrant: bool | None, **arguments: Any) -> Net:
    torch.manual_seed(0)
    return Net(reentrant, **arguments).double()


def draw_batch(length: int = T) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randint(0, K, (B, length)), small_models.labels([B, length], K, 0.2)


@REENTRANT
@pytest.mark.parametrize("dropout", [0.0, 0.4], ids=["plain", "dropout"])
@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice"])
def test_units_agree_with_the_oracle(reentrant: bool, dropout: float, times: int) -> None:
    plain = small_models.Subject(
        net(None, dropout=dropout, times=times), oracle.CROSS_ENTROPY, "classes last", lambda _: draw_batch()
    )
    model = net(reentrant, dropout=dropout, times=times)
    check(Checkpointed(model, plain.loss, plain.layout, plain.draw_batch, plain=plain), draw_batch())


@REENTRANT
@pytest.mark.parametrize("estimator", ["per_unit", "auto", "exact"])
@pytest.mark.parametrize("arguments", [{}, {"times": 2}, {"dropout": 0.4}, {"dropout": 0.4, "times": 2}], ids=str)
def test_no_number_changes(reentrant: bool, estimator: str, arguments: dict[str, Any]) -> None:
    """With dropout too: the masks are those without checkpointing, and those of the backward pass are the same."""
    # So many output directions that ``auto`` does not take them one by one.
    batch = draw_batch(40 if estimator == "auto" else T)
    results = [
        sr.decompose(net(r, **arguments), batch, estimator=estimator, probes=2, seed=3) for r in (reentrant, None)
    ]
    assert_equal(*results, relative=RELATIVE)
    assert results[0].estimator == ("exact" if estimator == "exact" else "per_unit")
    assert results[0].passed_over == ""


@REENTRANT
def test_two_batches(reentrant: bool) -> None:
    torch.manual_seed(2)
    against = torch.randint(0, K, (B, T)), torch.randint(0, K, (B, T))
    results = [
        sr.decompose(net(r), draw_batch(), against=against, estimator="per_unit", units=2) for r in (reentrant, None)
    ]
    assert_equal(*results, relative=RELATIVE)


# --- Hugging Face -----------------------------------------------------------------------------------------------------


def llama(reentrant: bool | None) -> nn.Module:
    torch.manual_seed(0)
    model = small_models.llama_of(num_hidden_layers=2, num_key_value_heads=1, use_cache=False).train()
    if reentrant is not None:
        # gradient_checkpointing_enable, which later releases call by another name.
        kind = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
        arguments = {f"{kind}_checkpointing_kwargs": {"use_reentrant": reentrant}}
        getattr(model, f"{kind}_checkpointing_enable")(**arguments)
    return model


@REENTRANT
def test_llama(reentrant: bool) -> None:
    model, plain = llama(reentrant), llama(None)
    torch.manual_seed(1)
    batch = small_models._padded(torch.randint(0, 7, (B, 4)), 0.2, left=False)
    of_plain = small_models.Subject(plain, oracle.CROSS_ENTROPY, "classes last", lambda _: batch, shift=True)
    check(Checkpointed(model, of_plain.loss, of_plain.layout, of_plain.draw_batch, shift=True, plain=of_plain), batch)
    results = [sr.decompose(m, batch, estimator="per_unit", probes=2) for m in (model, plain)]
    assert_equal(*results, relative=RELATIVE)
    assert (results[0].estimator, results[0].passed_over) == ("per_unit", "")
    # It is on: layers run twice in a training step.
    calls = [0, 0]
    for i, m in enumerate((model, plain)):

        def count(*_: Any, i: int = i) -> None:
            calls[i] += 1

        m.model.layers[0].mlp.register_forward_pre_hook(count)
        m(**batch).loss.backward()
    assert calls == [2, 1]
    for p, q in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)


# --- what is left behind ----------------------------------------------------------------------------------------------


def gradients(model: Net) -> dict[str, Tensor]:
    """Of one training step, which has to run the block again."""
    model.zero_grad()
    model.in_backward.clear()
    tokens, targets = draw_batch()
    torch.manual_seed(5)
    F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten()).backward()
    assert model.in_backward == [False, True]
    return {name: p.grad.clone() for name, p in model.named_parameters()}


@REENTRANT
@pytest.mark.parametrize("estimator", ["per_unit", "exact"])
@pytest.mark.parametrize("raising", [False, True], ids=["measured", "raised"])
def test_training_goes_on_with_checkpointing(reentrant: bool, estimator: str, raising: bool) -> None:
    model = net(reentrant, dropout=0.3)
    before = gradients(model)
    attributes = dict(vars(checkpointing))
    model.raising = raising
    if raising:
        with pytest.raises(RuntimeError, match="boom in the block"):
            sr.decompose(model, draw_batch(), estimator=estimator)
    else:
        sr.decompose(model, draw_batch(), estimator=estimator)
    model.raising = False
    assert vars(checkpointing).keys() == attributes.keys()
    assert all(value is attributes[name] for name, value in vars(checkpointing).items())
    after = gradients(model)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_probes_over_the_batch_leave_checkpointing_on() -> None:
    """They are what a model takes that needs it to fit into memory."""
    model = net(False, dropout=0.3)
    for estimator in ("batch", "per_unit", "exact", "batch"):
        model.in_backward.clear()
        sr.decompose(model, draw_batch(), estimator=estimator, probes=2)
        assert any(model.in_backward) == (estimator == "batch"), estimator


# --- in a training step -----------------------------------------------------------------------------------------------


def train(
    reentrant: bool, measured: bool, parameters: str | None, known: bool = False
) -> tuple[dict[str, Tensor], list[sr.Decomposition | None]]:
    """All that training leaves behind. ``known``: with measurements before, of which the structure is known."""
    model = net(reentrant, dropout=0.3)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    tracker = sr.Tracker(model, schedule=1, estimator="per_unit", parameters=parameters)
    for _ in range(2 * known):
        sr.decompose(model, draw_batch(), estimator="per_unit", parameters=parameters)
    torch.manual_seed(4)
    results, losses = [], []
    for step in range(4):
        batch = torch.randint(0, K, (B, T)), torch.randint(0, K, (B, T))
        optimiser.zero_grad()
        outputs = model(batch[0])
        loss = F.cross_entropy(outputs.flatten(0, 1), batch[1].flatten())
        if measured:
            options: dict[str, Any] = {"estimator": "per_unit", "parameters": parameters, "seed": seed_of(0, step)}
            expected = sr.decompose(model, batch, **options)
            results.append(tracker.measure(step, batch, outputs=outputs, step_loss=loss))
            if results[-1] is not None:
                assert_equal(results[-1], expected)
        loss.backward()
        assert len(tracker.history) == (step + 1 if measured else 0)
        optimiser.step()
        losses.append(loss.item())
    state = {
        **model.state_dict(),
        **{f"grad {name}": p.grad for name, p in model.named_parameters()},
        **{f"{i} {key}": value for i, s in optimiser.state_dict()["state"].items() for key, value in s.items()},
        "generator": torch.get_rng_state(),
        "losses": torch.tensor(losses),
    }
    return state, results


def assert_undisturbed(reentrant: bool, parameters: str | None, *, shared: bool, known: bool = False) -> None:
    without, _ = train(reentrant, False, parameters)
    with_it, results = train(reentrant, True, parameters, known)
    assert [result is None for result in results] == 4 * [shared]
    assert with_it.keys() == without.keys()
    for name, value in without.items():
        assert torch.equal(value, with_it[name]), name


@REENTRANT
@pytest.mark.parametrize("known", [False, True])
def test_a_step_is_measured_in_passes_of_its_own(reentrant: bool, known: bool) -> None:
    """Also where the structure is known: its activations are gone."""
    assert_undisturbed(reentrant, None, shared=False, known=known)


@pytest.mark.parametrize("parameters", ["readout", "embedding"])
def test_a_step_is_shared_where_what_is_measured_is_not_checkpointed(parameters: str) -> None:
    """The probes of the embedding go through the checkpointed block, which runs again for them."""
    assert_undisturbed(False, parameters, shared=True)
    # Reentrant checkpointing hides the operations of the block from everybody.
    assert_undisturbed(True, parameters, shared=False)
