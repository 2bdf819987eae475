"""Small random models with random batches, in float64: every kind of layer that the oracle is asked about."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import oracle
import torch
import torch.nn.functional as F
from oracle import Explicit, RowLoss
from torch import Tensor, nn


@dataclass(frozen=True)
class Subject:
    """A model and batches for it: what the package gets, and what the oracle needs to know about it."""

    model: nn.Module
    loss: RowLoss
    layout: str
    draw_batch: Callable[[int], Any]  # number of units -> (inputs, targets) or a mapping with labels
    shift: bool = False

    def explicit(self, batch: Any, names: Sequence[str] | None = None, seed: int = 0) -> Explicit:
        targets = batch["labels"] if isinstance(batch, Mapping) else batch[1]
        args = () if isinstance(batch, Mapping) else (batch[0],)
        kwargs = {k: v for k, v in batch.items() if k != "labels"} if isinstance(batch, Mapping) else {}
        rows = oracle.labelled_rows(targets, self.layout, shift=self.shift)
        return oracle.explicit(self.model, args, kwargs, rows, self.loss, names, seed=seed)


# --- targets ------------------------------------------------------------------------------------------------------


def labels(shape: Sequence[int], k: int, ignored: float) -> Tensor:
    """Class indices, each -100 with probability ``ignored``, a whole unit at a time with the same probability.

    Two labels in two units always stay, one of them at the end of its unit: they survive a causal shift.
    """
    drawn = torch.randint(0, k, shape)
    masked = torch.rand(shape) < ignored
    masked |= (torch.rand(shape[0]) < ignored).view(-1, *[1] * (len(shape) - 1))
    masked.view(shape[0], -1)[: min(2, shape[0]), -1] = False
    return drawn.masked_fill(masked, oracle.IGNORED)


def class_loss(choice: random.Random) -> RowLoss:
    return choice.choice(
        [
            oracle.CROSS_ENTROPY,
            oracle.CROSS_ENTROPY,
            oracle.smoothed_cross_entropy(choice.uniform(0.05, 0.4)),
            oracle.CROSS_ENTROPY.times(2.5),
        ]
    )


def regression_loss(choice: random.Random) -> RowLoss:
    return choice.choice([oracle.SQUARED_ERROR, oracle.SQUARED_ERROR, oracle.LOG_COSH, oracle.BINARY])


# --- feed-forward -------------------------------------------------------------------------------------------------


def activation(choice: random.Random) -> nn.Module:
    return choice.choice([nn.Tanh(), nn.GELU(), nn.ReLU(), nn.SiLU(), nn.Softplus()])


def mlp(choice: random.Random) -> Subject:
    width, k = choice.randint(3, 5), choice.randint(1, 3)
    shared = nn.Linear(width, width)
    hidden = [shared, activation(choice)] * choice.randint(0, 2)  # one layer, used several times
    model = nn.Sequential(nn.Linear(3, width), activation(choice), *hidden, nn.Linear(width, k))
    scalar = k == 1 and choice.random() < 0.5
    if scalar:
        model.append(nn.Flatten(0))
    return Subject(
        model.double(),
        regression_loss(choice),
        "scalar" if scalar else "regression",
        lambda b: (torch.randn(b, 3).double(), torch.rand(b, *(() if scalar else (k,))).double()),
    )


def dropout_mlp(choice: random.Random) -> Subject:
    model = nn.Sequential(
        nn.Dropout(0.2), nn.Linear(4, 6), activation(choice), nn.Dropout(0.4), nn.Linear(6, 4), nn.Dropout(0.1)
    )
    return Subject(
        model.double(), class_loss(choice), "classes last", lambda b: (torch.randn(b, 4).double(), labels([b], 4, 0.2))
    )


class DenseRegression(nn.Module):
    """(B, 3) -> (B, T, K): each unit has several rows of several outputs."""

    def __init__(self, length: int, k: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 5), nn.Tanh())
        self.readout = nn.Linear(5, length * k)
        self.shape = (length, k)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.body(x)).unflatten(1, self.shape)


def dense_regression(choice: random.Random) -> Subject:
    length, k = choice.randint(2, 3), choice.randint(1, 3)
    return Subject(
        DenseRegression(length, k).double(),
        regression_loss(choice),
        "regression",
        lambda b: (torch.randn(b, 3).double(), torch.rand(b, length, k).double()),
    )


# --- convolutions -------------------------------------------------------------------------------------------------


def convolution(norm: Callable[[int], nn.Module], *, training: bool) -> Callable[[random.Random], Subject]:
    def build(choice: random.Random) -> Subject:
        dense = choice.random() < 0.4  # a label for every pixel, classes second
        channels, k = 4, 3
        body = [nn.Conv2d(2, channels, 3, padding=1), norm(channels), activation(choice)]
        if choice.random() < 0.5:
            body += [nn.Conv2d(channels, channels, 3, groups=2, bias=False, padding=1), norm(channels), nn.Tanh()]
        head = [nn.Conv2d(channels, k, 1)] if dense else [nn.AvgPool2d(2), nn.Flatten(), nn.Linear(channels * 4, k)]
        model = nn.Sequential(*body, *head).double()
        if not training:
            with torch.no_grad():
                model(3 * torch.randn(16, 2, 4, 4).double() + 1)  # running statistics that differ from 0 and 1
        model.train(training)
        shape = [2, 3] if dense else []
        size = (2, 3) if dense else (4, 4)
        return Subject(
            model,
            class_loss(choice),
            "classes second" if dense else "classes last",
            lambda b: (torch.randn(b, 2, *size).double(), labels([b, *shape], k, 0.3 if dense else 0.15)),
        )

    return build


class Conv1dNet(nn.Module):
    """Batch normalisation over (B, C) and (B, C, T), one of them called twice, one without running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(2, 3, 3, padding=1)
        self.again = nn.Conv1d(3, 3, 1)
        self.norm = nn.BatchNorm1d(3)
        self.last = nn.BatchNorm1d(3, track_running_stats=False, affine=False)
        self.readout = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.norm(self.convolution(x)))
        x = torch.tanh(self.norm(self.again(x)))
        return self.readout(self.last(x.mean(2)))


def conv1d_batch_norm(choice: random.Random) -> Subject:
    return Subject(
        Conv1dNet().double(),
        class_loss(choice),
        "classes last",
        lambda b: (torch.randn(b, 2, 4).double(), labels([b], 3, 0.0)),
    )


# --- sequences ----------------------------------------------------------------------------------------------------


class Block(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, width: int, norm: Callable[[int], nn.Module], causal: bool, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList([norm(width), norm(width)])
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.GELU())
        self.dropout = nn.Dropout(dropout)
        self.causal = causal

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (y.unflatten(2, (2, -1)).transpose(1, 2) for y in self.qkv(self.norms[0](x)).chunk(3, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.dropout(self.out(y.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.mlp(self.norms[1](x)))


class Transformer(nn.Module):
    def __init__(
        self,
        vocabulary: int,
        norm: Callable[[int], nn.Module],
        *,
        tied: bool,
        causal: bool,
        pooled: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        width = 4
        self.embedding = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(0.5 * torch.randn(4, width))
        self.block = Block(width, norm, causal, dropout)
        self.norm = norm(width)
        self.readout = nn.Linear(width, vocabulary, bias=not tied)
        if tied:
            self.readout.weight = self.embedding.weight
        self.pooled = pooled

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens) + self.positions[: tokens.shape[1]]
        x = self.norm(self.block(x))
        return self.readout(x.mean(1) if self.pooled else x)


def transformer(
    norm: Callable[[int], nn.Module], *, tied: bool, causal: bool, pooled: bool = False, dropout: float = 0.0
) -> Callable[[random.Random], Subject]:
    def build(choice: random.Random) -> Subject:
        vocabulary, length = choice.choice([5, 6]), choice.randint(2, 4)
        model = Transformer(vocabulary, norm, tied=tied, causal=causal, pooled=pooled, dropout=dropout)
        return Subject(
            model.double(),
            class_loss(choice),
            "classes last",
            lambda b: (
                torch.randint(0, vocabulary, (b, length)),
                labels([b] if pooled else [b, length], vocabulary, 0.1 if pooled else 0.3),
            ),
        )

    return build


class Recurrent(nn.Module):
    def __init__(self, cell: Callable[..., nn.Module], vocabulary: int, bidirectional: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, 3, padding_idx=0)
        self.recurrent = cell(3, 3, num_layers=2, batch_first=True, bidirectional=bidirectional)
        self.readout = nn.Linear(6 if bidirectional else 3, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        states, _ = self.recurrent(self.embedding(tokens))
        return self.readout(states)


def recurrent(cell: Callable[..., nn.Module]) -> Callable[[random.Random], Subject]:
    def build(choice: random.Random) -> Subject:
        vocabulary, length = 5, choice.randint(2, 4)
        return Subject(
            Recurrent(cell, vocabulary, bidirectional=choice.random() < 0.3).double(),
            class_loss(choice),
            "classes last",
            lambda b: (torch.randint(0, vocabulary, (b, length)), labels([b, length], vocabulary, 0.3)),
        )

    return build


# --- Hugging Face -------------------------------------------------------------------------------------------------


def _in_double(model: nn.Module) -> nn.Module:
    """Float64 throughout: LlamaRMSNorm computes in float32 whatever its inputs are, so nn.RMSNorm takes its place."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child).__name__ == "LlamaRMSNorm":
                norm = nn.RMSNorm(child.weight.shape[0], eps=child.variance_epsilon)
                norm.weight = child.weight
                setattr(module, name, norm)
    for p in model.parameters():
        # Away from the small initial weights, under which all logits are nearly equal.
        nn.init.normal_(p, std=0.3)
    return model.double()


def _padded(tokens: Tensor, ignored: float, *, left: bool) -> dict[str, Tensor]:
    """A mapping with an attention mask, and labels that equal the tokens but for padding and random omissions."""
    lengths = torch.randint(2, tokens.shape[1] + 1, (tokens.shape[0],))
    lengths[:2] = tokens.shape[1]
    place = torch.arange(tokens.shape[1])
    mask = place >= tokens.shape[1] - lengths[:, None] if left else place < lengths[:, None]
    omitted = torch.rand(tokens.shape) < ignored
    omitted[:2, -1] = False
    return {
        "input_ids": tokens,
        "attention_mask": mask.long(),
        "labels": tokens.masked_fill(~mask | omitted, oracle.IGNORED),
    }


def llama_of(**settings: Any) -> nn.Module:
    """A Llama of 7 tokens in float64, for up to 8 of them."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=7,
        hidden_size=4,
        intermediate_size=5,
        num_attention_heads=2,
        max_position_embeddings=8,
        **settings,
    )
    return _in_double(LlamaForCausalLM(config))


def llama(choice: random.Random) -> Subject:
    model = llama_of(
        num_hidden_layers=choice.randint(1, 2),
        num_key_value_heads=choice.choice([1, 2]),
        tie_word_embeddings=choice.random() < 0.5,
    )
    return Subject(
        model.train(choice.random() < 0.5),
        class_loss(choice),
        "classes last",
        lambda b: _padded(torch.randint(0, 7, (b, 4)), 0.2, left=False),
        shift=True,
    )


def gpt2(choice: random.Random) -> Subject:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=6,
        n_positions=6,
        n_embd=4,
        n_layer=1,
        n_head=2,
        resid_pdrop=0.2,
        embd_pdrop=0.1,
        attn_pdrop=0.0,
    )
    return Subject(
        _in_double(GPT2LMHeadModel(config)).train(choice.random() < 0.5),
        class_loss(choice),
        "classes last",
        lambda b: _padded(torch.randint(0, 6, (b, 4)), 0.2, left=False),
        shift=True,
    )


def bert(choice: random.Random) -> Subject:
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        vocab_size=6,
        hidden_size=4,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=4,
        max_position_embeddings=6,
        type_vocab_size=1,
    )
    return Subject(
        _in_double(BertForMaskedLM(config)).eval(),
        class_loss(choice),
        "classes last",
        lambda b: _padded(torch.randint(0, 6, (b, 4)), 0.4, left=choice.random() < 0.5),
    )


KINDS: dict[str, Callable[[random.Random], Subject]] = {
    "mlp": mlp,
    "dense-regression": dense_regression,
    "dropout": dropout_mlp,
    "convolution-batch-norm-training": convolution(nn.BatchNorm2d, training=True),
    "convolution-batch-norm-eval": convolution(nn.BatchNorm2d, training=False),
    "convolution-group-norm": convolution(lambda channels: nn.GroupNorm(2, channels), training=True),
    "convolution-1d-batch-norm": conv1d_batch_norm,
    "attention-layer-norm": transformer(nn.LayerNorm, tied=False, causal=False, pooled=True),
    "attention-rms-norm": transformer(nn.RMSNorm, tied=False, causal=False),
    "attention-dropout": transformer(nn.LayerNorm, tied=False, causal=True, dropout=0.3),
    "causal-lm-tied": transformer(nn.RMSNorm, tied=True, causal=True),
    "causal-lm-untied": transformer(nn.LayerNorm, tied=False, causal=True),
    "gru": recurrent(nn.GRU),
    "lstm": recurrent(nn.LSTM),
    "llama": llama,
    "gpt2": gpt2,
    "bert": bert,
}


def draw(kind: str, number: int) -> Subject:
    """The subject of this kind and number: the same in every process."""
    torch.manual_seed(1000 + number)
    return KINDS[kind](random.Random(number))
