"""Every layer rule, and every combination that meets in one layer, against the oracle: unit traces and gradients."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import by_unit
import oracle
import pytest
import small_models
import torch
import torch.nn.functional as F
from by_unit import InDouble, check, classifier
from torch import Tensor, nn
from torch.nn.utils import parametrizations

UNITS = 5


class Around(nn.Module):
    """A layer between two that carry its inputs and outputs; the last one makes three outputs a row of the unit."""

    def __init__(self, layer: nn.Module, shape: Sequence[int], *, affine: bool = True) -> None:
        super().__init__()
        self.before = nn.Parameter(1 + torch.rand(*shape)) if affine else None
        self.layer = layer
        with torch.no_grad():
            out = layer(torch.randn(2, *shape)) if not hasattr(layer, "indices") else None
        self.width = out[0].numel()
        self.readout = nn.Linear(self.width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.before is None else torch.tanh(x * self.before)
        return self.readout(torch.tanh(self.layer(x)).flatten(1))


def scrambled(model: nn.Module) -> nn.Module:
    """No parameter at zero or one, where a wrong factor would not show."""
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return model


def around(layer: nn.Module, *shape: int, number: int = 0) -> small_models.Subject:
    torch.manual_seed(number)
    return classifier(scrambled(Around(layer, shape)), lambda b: torch.randn(b, *shape))


def check_layer(build: Callable[[], nn.Module], *shape: int, **arguments: Any) -> by_unit.ByUnit:
    torch.manual_seed(0)
    subject = around(build(), *shape)
    return check(subject, subject.draw_batch(UNITS), **arguments)


def check_model(
    build: Callable[[], nn.Module],
    inputs: Callable[[int], Tensor],
    k: int = 3,
    rows: Sequence[int] = (),
    units: int = UNITS,
    names: Sequence[str] | None = None,
    **arguments: Any,
) -> by_unit.ByUnit:
    torch.manual_seed(0)
    subject = classifier(scrambled(build()), inputs, k, rows)
    return check(subject, subject.draw_batch(units), names, **arguments)


def tokens(vocabulary: int, *shape: int) -> Callable[[int], Tensor]:
    return lambda b: torch.randint(0, vocabulary, (b, *shape))


# --- matrix products --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4), (1, 4), (1, 3, 4)], ids=str)
def test_linear(shape: tuple[int, ...], bias: bool) -> None:
    check_layer(lambda: nn.Linear(4, 2, bias=bias), *shape, readout=True)


class OneValue(nn.Module):
    """Units are numbers: the layers see one-dimensional inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.randn(())), nn.Parameter(torch.randn(1))
        self.readout = nn.Parameter(torch.randn(3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x * self.scale + self.shift)[:, None] * self.readout


def test_scalar_parameters_on_units_that_are_numbers() -> None:
    check_model(OneValue, lambda b: torch.randn(b), readout=False)


class OneDimensional(nn.Module):
    """A linear layer on (units,): an input without any axis but that which the layer contracts would mix the units, so
    each unit here is one entry of a stack."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.readout = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.readout(torch.tanh(self.layer(row))) for row in x])


def test_a_loop_over_units_is_refused_with_a_reason() -> None:
    torch.manual_seed(0)
    subject = classifier(OneDimensional(), lambda b: torch.randn(b, 4))
    assert "operations on the whole batch" in by_unit.measured(subject, subject.draw_batch(UNITS)).reason


def test_conv1d_of_transformers() -> None:
    from transformers.pytorch_utils import Conv1D

    check_layer(lambda: Conv1D(5, 4), 3, 4)
    check_layer(lambda: Conv1D(5, 4), 4)


class Applied(nn.Module):
    """A raw matrix, applied by whatever function."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], *shape: int) -> None:
        super().__init__()
        self.matrix, self.function = nn.Parameter(torch.randn(shape)), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.matrix)


RAW = {
    "x@W": (lambda x, w: x @ w, (4, 5), (4,)),
    "x@W-3d": (lambda x, w: x @ w, (4, 5), (3, 4)),
    "x@W-4d": (lambda x, w: x @ w, (4, 5), (2, 3, 4)),
    "x@W.T": (lambda x, w: x @ w.T, (5, 4), (3, 4)),
    "x@W.T.T": (lambda x, w: x @ w.T.mT, (4, 5), (3, 4)),
    "x@relu(W)": (lambda x, w: x @ w.relu(), (4, 5), (3, 4)),
    "x@W@W": (lambda x, w: torch.tanh(x @ w) @ w, (4, 4), (3, 4)),
    "x@W@W.T": (lambda x, w: torch.tanh(x @ w) @ w.T, (4, 4), (3, 4)),
    "x@W-slice": (lambda x, w: x @ w[1:, :2], (5, 3), (3, 4)),
    "x@W-chunks": (lambda x, w: torch.cat([x @ part for part in w.chunk(2, 1)], -1), (4, 6), (3, 4)),
    "x@(W*s)": (lambda x, w: x @ (2.5 * w), (4, 5), (3, 4)),
    "einsum-bi": (lambda x, w: torch.einsum("bi,io->bo", x, w), (4, 5), (4,)),
    "einsum-bti": (lambda x, w: torch.einsum("bti,io->bto", x, w), (4, 5), (3, 4)),
    "einsum-oi": (lambda x, w: torch.einsum("bti,oi->bto", x, w), (5, 4), (3, 4)),
    "einsum-heads": (lambda x, w: torch.einsum("bti,hio->bhto", x, w), (2, 4, 3), (3, 4)),
    "einsum-per-head": (lambda x, w: torch.einsum("bthi,hio->btho", x, w), (2, 4, 3), (3, 2, 4)),
    "einsum-per-head-first": (lambda x, w: torch.einsum("bhi,hio->bho", x, w), (2, 4, 3), (2, 4)),
    "einsum-over-time": (lambda x, w: torch.einsum("bti,ts->bsi", x, w), (3, 2), (3, 4)),
    "tensordot": (lambda x, w: torch.tensordot(x, w, dims=([2], [0])), (4, 5), (3, 4)),
    "mv": (lambda x, w: (x @ w)[:, None], (4,), (4,)),
    "mv-3d": (lambda x, w: x @ w, (4,), (3, 4)),
    "W@x": (lambda x, w: w @ x, (5, 3), (3, 4)),
    "W@x-columns": (lambda x, w: (w @ x.T).T, (5, 4), (4,)),
    "broadcast-bmm": (lambda x, w: x @ w, (2, 4, 3), (2, 3, 4)),
    "F.linear": (lambda x, w: F.linear(x, w), (5, 4), (2, 3, 4)),
    "addmm": (lambda x, w: torch.addmm(w[0], x, w, beta=0.5, alpha=2.0), (4, 4), (4,)),
    "outer": (lambda x, w: x.unsqueeze(-1) * w, (5,), (4,)),
}
# Applied in ways that no rule knows, and still right by a pass of each unit alone.
WITHOUT_RULE: set[str] = set()


@pytest.mark.parametrize("name", RAW)
def test_raw_matrices(name: str) -> None:
    function, matrix, shape = RAW[name]
    check_layer(lambda: Applied(function, *matrix), *shape, unknown=["layer.matrix"] if name in WITHOUT_RULE else [])


@pytest.mark.parametrize("k", [2, 5])
def test_bilinear(k: int) -> None:
    class Pairs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bilinear = nn.Bilinear(3, 4, k)

        def forward(self, x: Tensor) -> Tensor:
            return self.bilinear(x[..., :3], x[..., 3:])

    for shape in ((7,), (2, 7)):
        check_layer(Pairs, *shape, unknown=["layer.bilinear.weight"])


# --- tables -----------------------------------------------------------------------------------------------------------


class Table(nn.Module):
    """A causal language model in miniature: a table, a mix of positions, a readout that may be the table."""

    def __init__(self, *, tied: bool = False, twice: bool = False, bias: bool = False, **arguments: Any) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 4, **arguments)
        self.mix = nn.Linear(4, 4)
        self.readout = nn.Linear(4, 7, bias=bias)
        if tied:
            self.readout.weight = self.table.weight
        self.twice = twice

    def forward(self, x: Tensor) -> Tensor:
        h = self.table(x)
        if self.twice:
            h = torch.sin(h + 0.5 * self.table((x + 1) % 7).flip(1))
        return self.readout(torch.tanh(self.mix(h).cumsum(1)))


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("twice", [True, False], ids=["twice", "once"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("padding", [None, 0, 6, -1], ids=lambda p: f"padding={p}")
def test_embedding(padding: int | None, tied: bool, twice: bool, bias: bool) -> None:
    check_model(
        lambda: Table(padding_idx=padding, tied=tied, twice=twice, bias=bias),
        tokens(7, 4),
        k=7,
        rows=(4,),
        readout=True,
    )


@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3)], ids=str)
def test_embedding_of_any_number_of_indices(shape: tuple[int, ...]) -> None:
    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.readout = nn.Embedding(5, 4), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.tanh(self.table(x))
            return self.readout(h.flatten(1, -2).sum(1) if h.ndim > 2 else h)

    check_model(Bag, tokens(5, *shape), readout=True)


def test_embedding_that_scales_by_frequency() -> None:
    """Its own gradient is no derivative; what is said of a unit must be the one, or the reason."""
    torch.manual_seed(0)
    subject = classifier(Table(scale_grad_by_freq=True), tokens(7, 4), 7, (4,))
    found = by_unit.measured(subject, subject.draw_batch(UNITS))
    assert "how often" in found.reason or "how often" in found.unknown["table.weight"]


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_embedding_bag(mode: str) -> None:
    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.readout = nn.EmbeddingBag(5, 4, mode=mode), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.readout(torch.tanh(self.table(x)))

    check_model(Bag, lambda b: torch.stack([torch.randperm(5)[:3] for _ in range(b)]), unknown=["table.weight"])


# --- convolutions -----------------------------------------------------------------------------------------------------

CONVOLUTIONS = [nn.Conv1d, nn.Conv2d, nn.Conv3d]
GEOMETRIES: dict[str, dict[str, Any]] = {
    "plain": {},
    "stride": {"stride": 2},
    "padding": {"padding": 1},
    "stride-padding": {"stride": 2, "padding": 2},
    "dilation": {"dilation": 2},
    "stride-padding-dilation": {"stride": 2, "padding": 1, "dilation": 2},
    "same": {"padding": "same"},
    "same-dilation": {"padding": "same", "dilation": 2},
    "circular": {"padding": 1, "padding_mode": "circular"},
    "reflect-stride": {"padding": 1, "padding_mode": "reflect", "stride": 2},
}
CHANNELS = {"dense": (2, 3, 1), "groups": (4, 2, 2), "depthwise": (2, 4, 2), "one": (1, 2, 1)}


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_convolution(dimensions: int, geometry: str, channels: str, bias: bool) -> None:
    into, out, groups = CHANNELS[channels]
    size = (5, 5, 5) if dimensions < 3 else (5, 4, 3)
    if dimensions == 3 and "dilation" in geometry and "same" not in geometry:
        size = (5, 5, 5)
    kernel = 2 if dimensions == 3 else 3

    def build() -> nn.Module:
        return CONVOLUTIONS[dimensions - 1](into, out, kernel, groups=groups, bias=bias, **GEOMETRIES[geometry])

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Using padding='same' with even kernel", UserWarning)
        check_layer(build, into, *size[:dimensions])


def test_convolution_with_a_geometry_for_each_axis() -> None:
    check_layer(lambda: nn.Conv2d(2, 3, (1, 3), stride=(1, 2), padding=(0, 2), dilation=(2, 1)), 2, 3, 4)


TRANSPOSED: dict[str, dict[str, Any]] = {
    "plain": {},
    "stride-padding": {"stride": 2, "padding": 1},
    "output-padding": {"stride": 2, "output_padding": 1},
    "dilation": {"dilation": 2, "padding": 1},
    "all": {"stride": 2, "padding": 1, "output_padding": 1, "dilation": 2},
}


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("geometry", TRANSPOSED)
@pytest.mark.parametrize("kind", [nn.ConvTranspose1d, nn.ConvTranspose2d], ids=["1d", "2d"])
def test_transposed_convolution(kind: Callable[..., nn.Module], geometry: str, channels: str, bias: bool) -> None:
    into, out, groups = CHANNELS[channels]
    size = (3,) if kind is nn.ConvTranspose1d else (3, 2)
    check_layer(lambda: kind(into, out, 3, groups=groups, bias=bias, **TRANSPOSED[geometry]), into, *size)


def test_convolution_of_several_images_a_unit() -> None:
    """Video frames: the images of the units are merged into one axis, and that in either order."""

    class Frames(nn.Module):
        def __init__(self, frames_first: bool) -> None:
            super().__init__()
            self.convolution, self.readout = nn.Conv2d(2, 3, 2), nn.Linear(3, 3)
            self.frames_first = frames_first

        def forward(self, x: Tensor) -> Tensor:
            b, t = x.shape[:2]
            x = x.transpose(0, 1) if self.frames_first else x
            y = torch.tanh(self.convolution(x.flatten(0, 1)))
            y = y.unflatten(0, (t, b)).transpose(0, 1) if self.frames_first else y.unflatten(0, (b, t))
            return self.readout(y.mean((1, 3, 4)))

    for frames_first in (False, True):
        check_model(lambda first=frames_first: Frames(first), lambda b: torch.randn(b, 3, 2, 3, 3), readout=True)


# --- normalisation ----------------------------------------------------------------------------------------------------

NORMS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "layer": (lambda: nn.LayerNorm(4), (4,)),
    "layer-3d": (lambda: nn.LayerNorm(4), (3, 4)),
    "layer-4d": (lambda: nn.LayerNorm(4), (2, 3, 4)),
    "layer-two-axes": (lambda: nn.LayerNorm([3, 4]), (3, 4)),
    "layer-two-of-three-axes": (lambda: nn.LayerNorm([3, 4]), (2, 3, 4)),
    "layer-no-bias": (lambda: nn.LayerNorm(4, bias=False), (3, 4)),
    "layer-plain": (lambda: nn.LayerNorm(4, elementwise_affine=False), (3, 4)),
    "rms": (lambda: nn.RMSNorm(4), (4,)),
    "rms-3d": (lambda: nn.RMSNorm(4, eps=0.1), (3, 4)),
    "rms-two-axes": (lambda: nn.RMSNorm([3, 4]), (2, 3, 4)),
    "group": (lambda: nn.GroupNorm(2, 4), (4, 3)),
    "group-2d": (lambda: nn.GroupNorm(2, 4), (4, 3, 2)),
    "group-each": (lambda: nn.GroupNorm(4, 4), (4, 3)),
    "group-all": (lambda: nn.GroupNorm(1, 4), (4, 3)),
    "group-no-places": (lambda: nn.GroupNorm(2, 6), (6,)),
    "instance-1d": (lambda: nn.InstanceNorm1d(3, affine=True), (3, 4)),
    "instance-2d": (lambda: nn.InstanceNorm2d(3, affine=True), (3, 4, 2)),
    "instance-plain": (lambda: nn.InstanceNorm2d(3), (3, 4, 2)),
    "batch": (lambda: nn.BatchNorm1d(3), (3,)),
    "batch-1d": (lambda: nn.BatchNorm1d(3), (3, 4)),
    "batch-2d": (lambda: nn.BatchNorm2d(3), (3, 2, 2)),
    "batch-3d": (lambda: nn.BatchNorm3d(2), (2, 2, 2, 2)),
    "batch-plain": (lambda: nn.BatchNorm2d(3, affine=False), (3, 2, 2)),
    "batch-cumulative": (lambda: nn.BatchNorm1d(3, momentum=None), (3, 4)),
    "local-response": (lambda: nn.LocalResponseNorm(2), (3, 4)),
}


@pytest.mark.parametrize("training", [True, False], ids=["training", "eval"])
@pytest.mark.parametrize("name", NORMS)
def test_normalisation(name: str, training: bool) -> None:
    build, shape = NORMS[name]
    torch.manual_seed(0)
    subject = around(build(), *shape)
    with torch.no_grad():
        subject.model(3 * torch.randn(8, *shape).double() + 1)  # running statistics that differ from 0 and 1
    subject.model.train(training)
    check(subject, subject.draw_batch(UNITS), readout=True)


def test_instance_normalisation_with_running_statistics_in_eval_mode() -> None:
    torch.manual_seed(0)
    subject = around(nn.InstanceNorm1d(3, affine=True, track_running_stats=True), 3, 4)
    subject.model.eval()
    check(subject, subject.draw_batch(UNITS), readout=True)


RMS_NORMS = [
    ("llama", "LlamaRMSNorm"),
    ("mistral", "MistralRMSNorm"),
    ("qwen2", "Qwen2RMSNorm"),
    ("qwen3", "Qwen3RMSNorm"),
    ("phi3", "Phi3RMSNorm"),
    ("mixtral", "MixtralRMSNorm"),
    ("deepseek_v3", "DeepseekV3RMSNorm"),
    ("t5", "T5LayerNorm"),
    ("gemma", "GemmaRMSNorm"),
    ("gemma2", "Gemma2RMSNorm"),
    ("gemma3", "Gemma3RMSNorm"),
    ("olmo2", "Olmo2RMSNorm"),
    ("cohere", "CohereLayerNorm"),
    ("olmo", "OlmoLayerNorm"),
    ("gpt_oss", "GptOssRMSNorm"),
    ("mamba", "MambaRMSNorm"),
    ("qwen3_next", "Qwen3NextRMSNorm"),
    ("nemotron", "NemotronLayerNorm1P"),
    ("idefics", "IdeficsRMSNorm"),
    ("pixtral", "PixtralRMSNorm"),
    ("glm4", "Glm4RMSNorm"),
    ("jamba", "JambaRMSNorm"),
    ("granite", "GraniteRMSNorm"),
    ("moshi", "MoshiRMSNorm"),
    ("chameleon", "ChameleonRMSNorm"),
    ("zamba2", "Zamba2RMSNorm"),
]


@pytest.mark.parametrize(("family", "name"), RMS_NORMS, ids=[name for _, name in RMS_NORMS])
def test_norms_of_transformers(family: str, name: str) -> None:
    from importlib import import_module

    build = getattr(import_module(f"transformers.models.{family}.modeling_{family}"), name)
    with InDouble():
        check_layer(lambda: build(4), 3, 4, readout=True)
    # In the float32 that they compute in otherwise, whose graphs hold conversions.
    torch.manual_seed(0)
    subject = around(build(4), 3, 4)
    check(subject, subject.draw_batch(UNITS), readout=True, relative=1e-5)


# --- attention --------------------------------------------------------------------------------------------------------


class Attention(nn.Module):
    """Self attention, or that of a sequence to another one."""

    def __init__(self, *, cross: bool = False, kdim: int | None = None, vdim: int | None = None, **rest: Any) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, kdim=kdim, vdim=vdim, **rest)
        self.key, self.value = (nn.Linear(4, d) if d else None for d in (kdim, vdim))
        self.cross, self.batch_first = cross, rest.get("batch_first", False)
        self.readout = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        if not self.batch_first:
            x = x.transpose(0, 1)
        time = 1 if self.batch_first else 0
        q, kv = (x.narrow(time, 0, 2), x.narrow(time, 1, 3)) if self.cross else (x, x)
        k, v = (kv if layer is None else torch.tanh(layer(kv)) for layer in (self.key, self.value))
        y, _ = self.attention(q, k, v, need_weights=False)
        return self.readout(torch.tanh(y).mean(time))


ATTENTION: dict[str, dict[str, Any]] = {
    "self": {},
    "no-bias": {"bias": False},
    "bias-kv": {"add_bias_kv": True},
    "zero": {"add_zero_attn": True},
    "cross": {"cross": True},
    "cross-no-bias": {"cross": True, "bias": False},
    "kdim": {"kdim": 3, "cross": True},
    "vdim": {"vdim": 5, "cross": True},
    "kdim-vdim": {"kdim": 3, "vdim": 5},
    "kdim-vdim-bias-kv": {"kdim": 3, "vdim": 5, "add_bias_kv": True, "cross": True},
}


@pytest.mark.parametrize("batch_first", [True, False], ids=["batch-first", "sequence-first"])
@pytest.mark.parametrize("name", ATTENTION)
def test_multihead_attention(name: str, batch_first: bool) -> None:
    arguments = ATTENTION[name]
    check_model(
        lambda: Attention(batch_first=batch_first, **arguments),
        lambda b: torch.randn(b, 4, 4),
        readout=True,
    )


@pytest.mark.parametrize("norm_first", [True, False], ids=["pre-norm", "post-norm"])
@pytest.mark.parametrize("batch_first", [True, False], ids=["batch-first", "sequence-first"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_transformer_encoder_layer(batch_first: bool, norm_first: bool, dropout: float) -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(
                4, 2, 5, dropout=dropout, batch_first=batch_first, norm_first=norm_first, activation="gelu"
            )
            layer.self_attn.dropout = 0.0  # drawn inside a function, where the oracle cannot record it
            self.layer, self.readout = layer, nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            if batch_first:
                return self.readout(self.layer(x))
            return self.readout(self.layer(x.transpose(0, 1))).transpose(0, 1)

    check_model(Encoder, lambda b: torch.randn(b, 3, 4), rows=(3,), readout=batch_first)


def test_decoder_layers_of_torch() -> None:
    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.memory = nn.TransformerEncoderLayer(4, 2, 4, dropout=0.0, batch_first=True)
            self.layer = nn.TransformerDecoderLayer(4, 2, 4, dropout=0.0, batch_first=True)
            self.readout = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.readout(self.layer(x[:, :2], self.memory(x)))

    check_model(Decoder, lambda b: torch.randn(b, 4, 4), rows=(2,), readout=True)


# --- parameters by themselves -----------------------------------------------------------------------------------------


class Own(nn.Module):
    """Parameters of given shapes, and what a function makes of an input and them."""

    def __init__(self, function: Callable[..., Tensor], *shapes: Sequence[int]) -> None:
        super().__init__()
        self.p = nn.ParameterList([nn.Parameter(torch.randn(shape)) for shape in shapes])
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.p)


OWN: dict[str, tuple[Callable[..., Tensor], Sequence[Sequence[int]], Sequence[int]]] = {
    "bias": (lambda x, b: x + b, [(4,)], (4,)),
    "bias-3d": (lambda x, b: x + b, [(4,)], (3, 4)),
    "bias-first": (lambda x, b: b + x, [(4,)], (3, 4)),
    "bias-subtracted": (lambda x, b: x - b, [(4,)], (3, 4)),
    "bias-minus-x": (lambda x, b: b - x, [(3, 4)], (3, 4)),
    "bias-alpha": (lambda x, b: torch.add(x, b, alpha=2.5), [(4,)], (3, 4)),
    "bias-alpha-first": (lambda x, b: torch.add(b, x, alpha=2.5), [(4,)], (3, 4)),
    "bias-rsub": (lambda x, b: torch.rsub(x, b, alpha=1.5), [(4,)], (3, 4)),
    "bias-in-place": (lambda x, b: (2 * x).add_(b), [(4,)], (3, 4)),
    "bias-column": (lambda x, b: x + b[:, None], [(3,)], (3, 4)),
    "bias-with-unit-axis": (lambda x, b: x + b, [(1, 3, 4)], (3, 4)),
    "bias-with-short-axis": (lambda x, b: x + b, [(1, 3, 1)], (3, 4)),
    "bias-scalar": (lambda x, b: x + b, [()], (3, 4)),
    "bias-wider-than-x": (lambda x, b: x + b, [(1, 3, 4)], (1, 4)),
    "positions": (lambda x, p: x + p[: x.shape[1]], [(6, 4)], (3, 4)),
    "positions-batched": (lambda x, p: x + p[:, : x.shape[1]], [(1, 6, 4)], (3, 4)),
    "positions-learned-scale": (lambda x, p, s: x + s * p, [(3, 4), (1,)], (3, 4)),
    "layer-scale": (lambda x, s: x + s * torch.tanh(x), [(4,)], (3, 4)),
    "layer-scale-2d": (lambda x, s: x * s[:, None, None], [(3,)], (3, 2, 2)),
    "gate": (lambda x, s: x * torch.sigmoid(s), [()], (3, 4)),
    "temperature": (lambda x, s: x * s.exp(), [()], (4,)),
    "division": (lambda x, s: x / (s.square() + 1), [(4,)], (3, 4)),
    "softplus-division": (lambda x, s: x / F.softplus(s), [(4,)], (3, 4)),
    "power": (lambda x, s: x.sigmoid() ** s, [(4,)], (3, 4)),
    "addcmul": (lambda x, b, s: torch.addcmul(b, x, s), [(4,), (4,)], (3, 4)),
    "lerp": (lambda x, s: torch.lerp(x, x.tanh(), s), [(4,)], (3, 4)),
    "class-token": (lambda x, c: torch.cat([c.expand(len(x), -1, -1), x], 1), [(1, 1, 4)], (3, 4)),
    "class-token-repeat": (lambda x, c: torch.cat([c.repeat(len(x), 1, 1), x], 1), [(1, 1, 4)], (3, 4)),
    "class-token-vector": (lambda x, c: torch.cat([c.expand(len(x), 1, 4), x], 1), [(4,)], (3, 4)),
    "class-tokens": (lambda x, c: torch.cat([c.expand(len(x), -1, -1), x], 1), [(1, 2, 4)], (3, 4)),
    "class-token-stack": (lambda x, c: torch.cat([torch.stack([c] * len(x)), x], 1), [(2, 4)], (3, 4)),
    "class-token-interleave": (
        lambda x, c: torch.cat([c.repeat_interleave(len(x), 0), x], 1),
        [(1, 2, 4)],
        (3, 4),
    ),
    "initial-state": (lambda x, h: h.expand(len(x), -1) * x, [(4,)], (4,)),
    "initial-state-zeros": (lambda x, h: torch.zeros_like(x) + h + x, [(4,)], (4,)),
    "mask-token": (lambda x, m: torch.where(x > 0, x, m), [(4,)], (3, 4)),
    "added-twice": (lambda x, b: torch.tanh(x + b) + b, [(4,)], (3, 4)),
    "added-and-multiplied": (lambda x, b: torch.tanh(x + b) * b, [(4,)], (3, 4)),
    "squared": (lambda x, b: x * b * b, [(4,)], (3, 4)),
    "matrix-and-row": (lambda x, w: torch.tanh(x @ w) + w[0], [(4, 4)], (3, 4)),
    "matrix-and-diagonal": (lambda x, w: torch.tanh(x @ w) * w.diagonal(), [(4, 4)], (3, 4)),
    "matrix-and-table": (lambda x, w: torch.tanh(x @ w) + F.embedding(x.sum(-1).gt(0).long(), w), [(4, 4)], (3, 4)),
    "low-rank": (lambda x, a, b: x + x @ (a @ b), [(4, 2), (2, 4)], (3, 4)),
    "low-rank-apart": (lambda x, a, b: x + (x @ a) @ b, [(4, 2), (2, 4)], (3, 4)),
    "stacked": (lambda x, w: torch.tanh(x @ w[0]) @ w[1], [(2, 4, 4)], (3, 4)),
    "unbound": (lambda x, w: torch.tanh(x @ w.unbind(0)[0]) @ w.unbind(0)[1], [(2, 4, 4)], (3, 4)),
    "concatenated": (lambda x, a, b: x @ torch.cat([a, b], 1), [(4, 2), (4, 3)], (3, 4)),
    "indexed": (lambda x, w: x + w[torch.arange(x.shape[1])], [(6, 4)], (3, 4)),
    "outer-product": (lambda x, a, b: x @ torch.outer(a, b), [(4,), (3,)], (3, 4)),
    "relative-bias": (
        lambda x, w: torch.softmax(x @ x.mT + w[torch.arange(3)[:, None] - torch.arange(3) + 2], -1) @ x,
        [(5,)],
        (3, 4),
    ),
    "prelu": (lambda x, w: F.prelu(x, w), [(3,)], (3, 4)),
    "prelu-one": (lambda x, w: F.prelu(x, w), [(1,)], (3, 4)),
    "quotient": (lambda x, w: w / (x.square() + 1), [(4,)], (3, 4)),
    "mask": (lambda x, w: torch.where(torch.arange(4) > 1, w, x), [(3, 1)], (3, 4)),
    "looked-up": (lambda x, w: x * w[x.sum(-1).gt(0).long()], [(5, 4)], (3, 4)),
    "looked-up-backwards": (lambda x, w: x * w[-1 - x.sum(-1).gt(0).long()], [(5, 4)], (3, 4)),
    "looked-up-scalars": (lambda x, w: x * w[x.gt(0).long()], [(5,)], (3, 4)),
    "looked-up-matrices": (lambda x, w: x @ w[x[:, 0, 0].gt(0).long()], [(2, 4, 3)], (3, 4)),
    "looked-up-in-second-axis": (lambda x, w: x * w[:, x[:, 0, 0].gt(0).long()].movedim(1, 0), [(3, 2, 4)], (3, 4)),
    "looked-up-in-two-axes": (lambda x, w: x * w[x.gt(0).long(), x.gt(1).long()], [(3, 4)], (3, 4)),
    "unused": (lambda x, w: x, [(4,)], (3, 4)),
    "dead": (lambda x, w: x + 0 * w, [(4,)], (3, 4)),
    "logits-of-experts": (lambda x, w: torch.softmax(x @ w, -1)[..., :1] * x, [(4, 3)], (3, 4)),
}
OWN_WITHOUT_RULE = {
    "power",
    "addcmul",
    "lerp",
    "class-token-stack",
    "bias-rsub",
    "looked-up-in-second-axis",
    "looked-up-in-two-axes",
    "prelu",
    "prelu-one",
}


@pytest.mark.parametrize("name", OWN)
def test_parameters_by_themselves(name: str) -> None:
    function, shapes, shape = OWN[name]
    torch.manual_seed(0)
    subject = around(Own(function, *shapes), *shape)
    found = by_unit.measured(subject, subject.draw_batch(UNITS))
    assert not found.reason, found.reason
    assert found.disagreements() == {}
    assert bool(found.unknown) == (name in OWN_WITHOUT_RULE)


def test_position_embedding_on_one_row_of_ids() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.norm = nn.Embedding(6, 4), nn.LayerNorm(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(x + self.table(torch.arange(x.shape[1])[None]))

    check_layer(Positions, 3, 4, readout=True)


def test_position_embedding_on_ids_of_every_unit() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(6, 4)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.table(torch.arange(x.shape[1]).expand(len(x), -1))

    check_layer(Positions, 3, 4, readout=True)


# --- parametrisations -------------------------------------------------------------------------------------------------


def spectral(layer: nn.Module) -> nn.Module:
    return parametrizations.spectral_norm(layer).eval()


PARAMETRISED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "weight-norm": (lambda: parametrizations.weight_norm(nn.Linear(4, 5)), (3, 4)),
    "weight-norm-convolution": (lambda: parametrizations.weight_norm(nn.Conv1d(2, 3, 2)), (2, 4)),
    "orthogonal": (lambda: parametrizations.orthogonal(nn.Linear(4, 4)), (3, 4)),
    "orthogonal-tall": (lambda: parametrizations.orthogonal(nn.Linear(4, 5), orthogonal_map="cayley"), (3, 4)),
    "spectral-norm": (lambda: spectral(nn.Linear(4, 5)), (3, 4)),
    "spectral-norm-convolution": (lambda: spectral(nn.Conv2d(2, 3, 2)), (2, 3, 3)),
}


@pytest.mark.parametrize("name", PARAMETRISED)
def test_parametrised_weights(name: str) -> None:
    build, shape = PARAMETRISED[name]
    check_layer(build, *shape, readout=True)


# --- shared modules ---------------------------------------------------------------------------------------------------


def test_one_layer_at_several_depths() -> None:
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.norm = nn.Linear(4, 4), nn.LayerNorm(4)

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(3):
                x = x + torch.tanh(self.layer(self.norm(x)))
            return x

    for shape in ((4,), (3, 4)):
        check_layer(Deep, *shape, readout=True)


def test_one_layer_on_inputs_of_several_shapes() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(self.layer(x)) * self.layer(x.mean(1))[:, None]

    check_layer(Both, 3, 4, readout=True)


def test_one_convolution_on_images_of_several_sizes() -> None:
    class Pyramid(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(2, 2, 2, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x).mean((2, 3)) * torch.tanh(self.layer(F.avg_pool2d(x, 2))).mean((2, 3))

    check_layer(Pyramid, 2, 4, 4, readout=True)


def test_a_kernel_that_is_also_a_matrix() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv1d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = torch.tanh(self.layer(x))
            return y + F.linear(x.mT, self.layer.weight.squeeze(-1), self.layer.bias).mT

    check_layer(Tied, 4, 3, readout=True)


def test_an_autoencoder_with_transposed_weights() -> None:
    class Autoencoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(torch.tanh(self.layer(x)), self.layer.weight.T)

    check_layer(Autoencoder, 3, 4, readout=True)


def test_albert_like_sharing_across_depth() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = small_models.Block(4, nn.LayerNorm, causal=False, dropout=0.2)

        def forward(self, x: Tensor) -> Tensor:
            return self.block(self.block(x))

    check_layer(Shared, 3, 4, readout=True)


# --- recurrent layers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_first", [True, False], ids=["batch-first", "sequence-first"])
@pytest.mark.parametrize(
    "cell", [nn.RNN, nn.GRU, nn.LSTM, lambda *a, **k: nn.LSTM(*a, proj_size=2, **k)], ids=["rnn", "gru", "lstm", "proj"]
)
@pytest.mark.parametrize("double", [True, False], ids=["float64", "float32"])
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")
def test_recurrent(cell: Callable[..., nn.Module], batch_first: bool, double: bool) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = cell(3, 4, batch_first=batch_first)
            self.readout = nn.LazyLinear(3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.cell(x if batch_first else x.transpose(0, 1))[0]
            return self.readout(y if batch_first else y.transpose(0, 1))

    torch.manual_seed(0)
    model = Recurrent()
    model(torch.randn(2, 4, 3))
    subject = classifier(scrambled(model), lambda b: torch.randn(b, 4, 3), rows=(4,), double=double)
    found = by_unit.measured(subject, subject.draw_batch(UNITS))
    assert not found.reason, found.reason
    assert found.disagreements(1e-9 if double else 1e-5) == {}


@pytest.mark.parametrize("cell", [nn.RNNCell, nn.GRUCell, nn.LSTMCell], ids=["rnn", "gru", "lstm"])
def test_recurrent_cells(cell: Callable[..., nn.Module]) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.start, self.readout = cell(3, 4), nn.Parameter(torch.randn(4)), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            h: Any = self.start.expand(len(x), -1)
            h = (h, h) if isinstance(self.cell, nn.LSTMCell) else h
            for t in range(x.shape[1]):
                h = self.cell(x[:, t], h)
            return self.readout(h[0] if isinstance(h, tuple) else h)

    check_model(Recurrent, lambda b: torch.randn(b, 3, 3), readout=True)


# --- selections -------------------------------------------------------------------------------------------------------

NETWORK = ["table.weight", "mix.weight", "mix.bias", "readout.weight", "readout.bias"]


@pytest.mark.parametrize("freeze", [True, False], ids=["frozen", "selected"])
@pytest.mark.parametrize("twice", [True, False], ids=["twice", "once"])
@pytest.mark.parametrize(
    "names",
    [
        ["mix.weight"],
        ["mix.bias"],
        ["table.weight"],
        ["readout.weight"],
        ["readout.bias"],
        ["readout.weight", "readout.bias"],
        ["table.weight", "readout.bias"],
        ["table.weight", "readout.weight"],
        ["mix.weight", "mix.bias"],
    ],
    ids="+".join,
)
def test_selections(names: list[str], twice: bool, freeze: bool) -> None:
    torch.manual_seed(0)
    model = scrambled(Table(bias=True, twice=twice))
    if freeze:
        for name, p in model.named_parameters():
            p.requires_grad_(name in names)
    subject = classifier(model, tokens(7, 4), 7, (4,))
    check(subject, subject.draw_batch(UNITS), None if freeze else names, readout=True)


@pytest.mark.parametrize("freeze", [True, False], ids=["frozen", "selected"])
@pytest.mark.parametrize("names", [["table.weight"], ["mix.weight"], ["table.weight", "mix.weight"]], ids="+".join)
def test_selections_of_tied_parameters(names: list[str], freeze: bool) -> None:
    torch.manual_seed(0)
    model = scrambled(Table(tied=True))
    if freeze:
        for name, p in model.named_parameters():
            p.requires_grad_(name in names)
    subject = classifier(model, tokens(7, 4), 7, (4,))
    check(subject, subject.draw_batch(UNITS), None if freeze else names, readout=True)


# --- readouts ---------------------------------------------------------------------------------------------------------


class Read(nn.Module):
    """A hidden state and whatever makes outputs of it."""

    def __init__(self, readout: nn.Module, width: int = 4) -> None:
        super().__init__()
        self.body, self.readout = nn.Sequential(nn.Linear(3, width), nn.Tanh()), readout

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.body(x))


class Then(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("rank", ["full", "deficient", "zero"])
@pytest.mark.parametrize(("width", "k"), [(4, 2), (4, 4), (3, 6), (1, 3), (4, 1)])
def test_readouts_of_any_shape_and_rank(width: int, k: int, rank: str, bias: bool) -> None:
    torch.manual_seed(0)
    model = scrambled(Read(nn.Linear(width, k, bias=bias), width))
    with torch.no_grad():
        if rank == "deficient":
            model.readout.weight.copy_(torch.outer(torch.randn(k), torch.randn(width)))
        elif rank == "zero":
            model.readout.weight.zero_()
    loss = oracle.CROSS_ENTROPY if k > 1 else oracle.SQUARED_ERROR
    for rows in ((), (3,)):

        def draw(b: int, rows: tuple[int, ...] = rows) -> Any:
            x = torch.randn(b, *rows, 3).double()
            return x, small_models.labels([b, *rows], k, 0.3) if k > 1 else torch.randn(b, *rows, 1).double()

        subject = small_models.Subject(model.double(), loss, "classes last" if k > 1 else "regression", draw)
        check(subject, subject.draw_batch(UNITS), readout=True)


NOT_LINEAR: dict[str, Callable[[], nn.Module]] = {
    "scaled": lambda: nn.Sequential(nn.Linear(4, 3), Then(lambda f: 0.5 * f)),
    "divided": lambda: nn.Sequential(nn.Linear(4, 3), Then(lambda f: f / 4)),
    "capped": lambda: nn.Sequential(nn.Linear(4, 3), Then(lambda f: 2 * torch.tanh(f / 2))),
    "normalised": lambda: nn.Sequential(nn.Linear(4, 3), nn.LogSoftmax(-1)),
    "masked": lambda: nn.Sequential(nn.Linear(4, 3), Then(lambda f: f.masked_fill(torch.arange(3) == 2, -1.0))),
    "permuted": lambda: nn.Sequential(nn.Linear(4, 3), Then(lambda f: f.flip(-1))),
    "cut": lambda: nn.Sequential(nn.Linear(4, 5), Then(lambda f: f[..., :3])),
    "shifted": lambda: nn.Sequential(nn.Linear(4, 3), Own(lambda f, b: f + b, (3,))),
    "weight-norm": lambda: parametrizations.weight_norm(nn.Linear(4, 3)),
    "made-of-others": lambda: Own(lambda h, a, b: h @ (a @ b), (4, 2), (2, 3)),
    "scaled-bias": lambda: Own(lambda h, w, b: F.linear(h, w, 2 * b), (3, 4), (3,)),
    "scaled-weight": lambda: Own(lambda h, w, b: F.linear(h, 2 * w, b), (3, 4), (3,)),
    "sum-of-two": lambda: Own(lambda h, a, b: h @ a + h @ b, (4, 3), (4, 3)),
    "weight-is-bias": lambda: Own(lambda h, w: F.linear(h, w, w[:, 0]), (3, 4)),
    "raw-transposed": lambda: Own(lambda h, w: h @ w, (4, 3)),
}


@pytest.mark.parametrize("rows", [(), (3,)], ids=["one-row", "rows"])
@pytest.mark.parametrize("name", NOT_LINEAR)
def test_outputs_that_are_no_plain_linear_readout(name: str, rows: tuple[int, ...]) -> None:
    unknown = {"divided": []}.get(name, [])
    check_model(
        lambda: Read(NOT_LINEAR[name]()),
        lambda b: torch.randn(b, *rows, 3),
        rows=rows,
        readout=False,
        unknown=unknown,
    )


def test_units_in_another_axis_of_the_outputs_are_no_plain_linear_readout() -> None:
    class Reordered(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.readout = nn.Linear(3, 4), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.readout(torch.tanh(self.body(x.transpose(0, 1)))).transpose(0, 1)

    check_model(Reordered, lambda b: torch.randn(b, 4, 3), rows=(4,), readout=False)


def test_a_readout_of_which_some_rows_are_kept_is_none() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.readout = nn.Linear(3, 4), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.readout(torch.tanh(self.body(x).cumsum(1)))[:, -1]

    check_model(Last, lambda b: torch.randn(b, 4, 3), readout=False)


@pytest.mark.parametrize(
    "readout",
    [
        lambda m, h: m.readout(m.readout(h)),
        lambda m, h: m.readout(torch.tanh(h @ m.readout.weight)),
        lambda m, h: m.readout(h + m.readout.bias),
        lambda m, h: m.readout(h * m.readout.weight[0]),
    ],
    ids=["twice", "transposed-too", "bias-too", "row-too"],
)
def test_a_readout_whose_parameters_do_more_is_none(readout: Callable[[Any, Tensor], Tensor]) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.readout = nn.Linear(3, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return readout(self, torch.tanh(self.body(x)))

    for rows in ((), (3,)):
        check_model(Twice, lambda b, rows=rows: torch.randn(b, *rows, 3), k=4, rows=rows, readout=False)


def test_a_linear_model_is_a_readout_of_its_inputs() -> None:
    for shape in ((), (3,)):
        check_model(lambda: nn.Linear(3, 4), lambda b, s=shape: torch.randn(b, *s, 3), k=4, rows=shape, readout=True)


class Causal(nn.Module):
    """Returns logits of which the package compares the last with nothing: labels are shifted against them."""

    def __init__(self, tied: bool, bias: bool) -> None:
        super().__init__()
        self.model = Table(tied=tied, twice=True, bias=bias)

    def forward(self, input_ids: Tensor) -> Any:
        from types import SimpleNamespace

        return SimpleNamespace(logits=self.model(input_ids))


class ForCausalLM(Causal):
    pass


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("shift", [True, False], ids=["shift", "aligned"])
def test_a_readout_of_which_some_rows_carry_labels(shift: bool, tied: bool, bias: bool) -> None:
    torch.manual_seed(0)
    model = scrambled((ForCausalLM if shift else Causal)(tied, bias))
    subject = small_models.Subject(
        model.double(),
        oracle.CROSS_ENTROPY,
        "classes last",
        lambda b: {"input_ids": torch.randint(0, 7, (b, 4)), "labels": small_models.labels([b, 4], 7, 0.4)},
        shift=shift,
    )
    for _ in range(3):
        check(subject, subject.draw_batch(UNITS), readout=True)


@pytest.mark.parametrize("units", [2, 3, 4, 7])
def test_any_number_of_units(units: int) -> None:
    torch.manual_seed(0)
    subject = classifier(scrambled(Table(tied=True, twice=True)), tokens(7, 4), 7, (4,))
    check(subject, subject.draw_batch(units), readout=True)


# --- batches in which units could be taken for something else ---------------------------------------------------------


@pytest.mark.parametrize("length", [2, 3, 5])
@pytest.mark.parametrize("sequence_first", [True, False])
def test_as_many_units_as_something_else(length: int, sequence_first: bool) -> None:
    class Sequences(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.scale, self.readout = nn.Linear(length, 5), nn.Parameter(torch.randn(5)), nn.Linear(5, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = x.transpose(0, 1) if sequence_first else x
            y = self.readout(torch.tanh(self.body(x) * self.scale))
            return y.transpose(0, 1) if sequence_first else y

    check_model(
        Sequences,
        lambda b: torch.randn(b, length, length),
        k=5,
        rows=(length,),
        readout=not sequence_first,
    )
