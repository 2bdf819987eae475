"""Tiny versions of architectures that people train, and networks assembled at random, against the oracle by unit."""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import by_unit
import oracle
import pytest
import small_models
import torch
from by_unit import InDouble, check, classifier
from torch import Tensor, nn

UNITS = 4
VOCABULARY = 7
IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def randomised(model: nn.Module) -> nn.Module:
    """Away from the small initial weights, under which all logits are nearly equal."""
    for p in model.parameters():
        nn.init.normal_(p, std=0.4)
    return model.double()


def language_model(
    model: nn.Module,
    *,
    shift: bool = True,
    padded: bool = True,
    length: int = 4,
    extra: Mapping[str, Tensor] | None = None,
) -> small_models.Subject:
    def draw(b: int) -> dict[str, Tensor]:
        batch = small_models._padded(torch.randint(0, VOCABULARY, (b, length)), 0.2, left=False)
        if not padded:
            batch["attention_mask"] = torch.ones_like(batch["attention_mask"])
        return batch

    return small_models.Subject(randomised(model), oracle.CROSS_ENTROPY, "classes last", draw, shift=shift)


def decoder(**arguments: Any) -> dict[str, Any]:
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": 4,
        "intermediate_size": 5,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 2,
        "max_position_embeddings": 8,
        "tie_word_embeddings": False,
        **IDS,
        **arguments,
    }


def llama(**arguments: Any) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**decoder(**arguments)))


def gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCABULARY, n_positions=6, n_embd=4, n_layer=2, n_head=2, attn_pdrop=0.0, **IDS)
    )


def gpt_neox(parallel: bool) -> nn.Module:
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    arguments = decoder()
    del arguments["num_key_value_heads"], arguments["head_dim"]
    return GPTNeoXForCausalLM(GPTNeoXConfig(**arguments, use_parallel_residual=parallel, rotary_pct=1.0))


def of(name: str, **arguments: Any) -> Callable[[], nn.Module]:
    """The causal language model of a family with the usual names of its settings."""

    def build() -> nn.Module:
        import transformers

        return getattr(transformers, f"{name}ForCausalLM")(
            getattr(transformers, f"{name}Config")(**decoder(**arguments))
        )

    return build


CAUSAL: dict[str, tuple[Callable[[], nn.Module], bool]] = {
    "llama": (llama, True),
    "llama-tied": (lambda: llama(tie_word_embeddings=True, num_hidden_layers=2), True),
    "llama-grouped-query": (lambda: llama(num_key_value_heads=1, attention_bias=True, mlp_bias=True), True),
    "mistral": (of("Mistral", sliding_window=2), True),
    "gpt2": (gpt2, True),
    "gpt-neox": (lambda: gpt_neox(True), True),
    "gpt-neox-serial": (lambda: gpt_neox(False), True),
    "olmo2": (of("Olmo2"), True),
    "qwen2": (of("Qwen2", tie_word_embeddings=True), True),
    "qwen3": (of("Qwen3", num_key_value_heads=1), True),
    "phi3": (of("Phi3"), True),
    "gemma": (of("Gemma", tie_word_embeddings=True, pad_token_id=None), True),
    "gemma2": (
        of(
            "Gemma2",
            tie_word_embeddings=True,
            pad_token_id=None,
            final_logit_softcapping=3.0,
            attn_logit_softcapping=5.0,
        ),
        False,
    ),
    "cohere": (of("Cohere", tie_word_embeddings=True, logit_scale=0.25), False),
    "granite": (of("Granite", logits_scaling=2.0, embedding_multiplier=1.5), False),
}


@pytest.mark.parametrize("padded", [True, False], ids=["padded", "full"])
@pytest.mark.parametrize("name", CAUSAL)
def test_causal_language_models(name: str, padded: bool) -> None:
    build, readout = CAUSAL[name]
    torch.manual_seed(0)
    with InDouble():
        subject = language_model(build().eval(), padded=padded)
        check(subject, subject.draw_batch(UNITS), readout=readout)


def test_gpt2_with_dropout() -> None:
    torch.manual_seed(0)
    with InDouble():
        subject = language_model(gpt2().train())
        check(subject, subject.draw_batch(UNITS), readout=True)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_bert_masked_lm(tied: bool) -> None:
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=4,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=5,
        max_position_embeddings=6,
        type_vocab_size=2,
        attention_probs_dropout_prob=0.0,
        tie_word_embeddings=tied,
        pad_token_id=0,
    )
    subject = language_model(BertForMaskedLM(config).train(), shift=False)
    check(subject, subject.draw_batch(UNITS), readout=True)


def test_albert_shares_its_layers() -> None:
    from transformers import AlbertConfig, AlbertForMaskedLM

    torch.manual_seed(0)
    config = AlbertConfig(
        vocab_size=VOCABULARY,
        embedding_size=3,
        hidden_size=4,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=5,
        max_position_embeddings=6,
        attention_probs_dropout_prob=0.0,
        hidden_dropout_prob=0.0,
        **IDS,
    )
    subject = language_model(AlbertForMaskedLM(config).eval(), shift=False)
    check(subject, subject.draw_batch(UNITS), readout=True)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_t5(tied: bool) -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    config = T5Config(
        vocab_size=VOCABULARY,
        d_model=4,
        d_kv=2,
        d_ff=5,
        num_layers=1,
        num_heads=2,
        dropout_rate=0.0,
        relative_attention_num_buckets=4,
        feed_forward_proj="relu" if tied else "gated-gelu",
        tie_word_embeddings=tied,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
    model = randomised(T5ForConditionalGeneration(config).eval())

    def draw(b: int) -> dict[str, Tensor]:
        return {
            **small_models._padded(torch.randint(0, VOCABULARY, (b, 3)), 0.0, left=False),
            "decoder_input_ids": torch.randint(0, VOCABULARY, (b, 4)),
            "labels": small_models.labels([b, 4], VOCABULARY, 0.2),
        }

    subject = small_models.Subject(model, oracle.CROSS_ENTROPY, "classes last", draw)
    with InDouble():
        check(subject, subject.draw_batch(UNITS))


# --- images -----------------------------------------------------------------------------------------------------------


class Logits(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x).logits


def vit() -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    return ViTForImageClassification(
        ViTConfig(
            hidden_size=4,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=5,
            image_size=4,
            patch_size=2,
            num_channels=1,
            num_labels=3,
        )
    )


def resnet(layer_type: str) -> nn.Module:
    from transformers import ResNetConfig, ResNetForImageClassification

    return ResNetForImageClassification(
        ResNetConfig(
            num_channels=1,
            embedding_size=2,
            hidden_sizes=[4, 4],
            depths=[1, 1],
            layer_type=layer_type,
            downsample_in_first_stage=True,
            num_labels=3,
        )
    )


def convnext() -> nn.Module:
    from transformers import ConvNextConfig, ConvNextForImageClassification

    return ConvNextForImageClassification(
        ConvNextConfig(
            num_channels=1,
            patch_size=2,
            num_stages=2,
            hidden_sizes=[2, 4],
            depths=[1, 1],
            layer_scale_init_value=0.5,
            num_labels=3,
        )
    )


IMAGES: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "vit": (vit, 4),
    "resnet-basic": (lambda: resnet("basic"), 8),
    "resnet-bottleneck": (lambda: resnet("bottleneck"), 8),
    "convnext": (convnext, 8),
}


@pytest.mark.parametrize("training", [True, False], ids=["training", "eval"])
@pytest.mark.parametrize("name", IMAGES)
def test_image_classifiers(name: str, training: bool) -> None:
    build, size = IMAGES[name]
    torch.manual_seed(0)
    model = Logits(build()).train(training)
    subject = classifier(randomised(model), lambda b: torch.randn(b, 1, size, size))
    for buffer in (b for name, b in model.named_buffers() if name.endswith("running_var")):
        buffer.uniform_(0.5, 2)
    check(subject, subject.draw_batch(UNITS), readout=True)


# --- other families ---------------------------------------------------------------------------------------------------


class Recurrent(nn.Module):
    def __init__(self, tied: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCABULARY, 4)
        self.cell = nn.LSTM(4, 4, num_layers=2, batch_first=True)
        self.readout = nn.Linear(4, VOCABULARY)
        if tied:
            self.readout.weight = self.table.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.cell(self.table(x))[0])


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_an_lstm_language_model(tied: bool) -> None:
    torch.manual_seed(0)
    subject = classifier(randomised(Recurrent(tied)), lambda b: torch.randint(0, VOCABULARY, (b, 4)), VOCABULARY, (4,))
    check(subject, subject.draw_batch(UNITS))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Mixtral", "Qwen2Moe", "Olmoe"])
@pytest.mark.parametrize("experts", ["eager", "batched_mm"])
def test_a_mixture_of_experts_is_right_or_says_why_not(name: str, experts: str) -> None:
    """Which experts a token meets depends on the data, so a batch and a part of it may do other operations."""
    torch.manual_seed(0)
    arguments = {
        "num_local_experts": 2,
        "num_experts": 2,
        "num_experts_per_tok": 1,
        "moe_intermediate_size": 3,
        "shared_expert_intermediate_size": 3,
        "output_router_logits": False,
        "experts_implementation": experts,
    }
    with InDouble():
        subject = language_model(of(name, **arguments)().eval())
        found = by_unit.measured(subject, subject.draw_batch(UNITS))
    if experts == "batched_mm":
        assert not found.reason, found.reason
        # With one expert a token the router has no gradient, which so says nothing about the order of its rows.
        assert all(name.endswith("mlp.gate.weight") for name in found.unknown), found.unknown
    assert found.reason or found.disagreements() == {}


# peft asks transformers for an attribute by its older name.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_a_llama_with_low_rank_adapters() -> None:
    import peft  # takes a while

    torch.manual_seed(0)
    config = peft.LoraConfig(r=2, lora_alpha=3, target_modules=["q_proj", "v_proj", "down_proj"], lora_dropout=0.0)
    subject = language_model(peft.get_peft_model(llama(), config).eval())
    for p in subject.model.parameters():
        assert p.dtype == torch.float64
    with InDouble():
        check(subject, subject.draw_batch(UNITS), readout=True)


class LowRank(nn.Module):
    """A frozen linear layer and what is added to it, as peft does it."""

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)
        self.dropout = nn.Dropout(0.2)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + 1.5 * self.up(self.down(self.dropout(x)))


@pytest.mark.parametrize("training", [True, False], ids=["training", "eval"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_a_llama_with_adapters_of_our_own(tied: bool, training: bool) -> None:
    torch.manual_seed(0)
    with InDouble():
        model = llama(num_hidden_layers=2, tie_word_embeddings=tied).requires_grad_(False)
        shared = None
        for layer in model.model.layers:
            for name in ("q_proj", "v_proj"):
                setattr(layer.self_attn, name, LowRank(getattr(layer.self_attn, name), 2))
            # One adapter for all layers.
            shared = shared or layer.self_attn.q_proj.down
            layer.self_attn.q_proj.down = shared
        subject = language_model(model.train(training))
        check(subject, subject.draw_batch(UNITS), readout=True)


class Raw(nn.Module):
    """A transformer of raw parameters and einsum."""

    def __init__(self) -> None:
        super().__init__()
        shapes = {
            "table": (VOCABULARY, 4),
            "positions": (1, 6, 4),
            "first": (1, 1, 4),
            "qkv": (3, 2, 4, 2),
            "out": (2, 2, 4),
            "up": (4, 5),
            "down": (5, 4),
            "gain": (4,),
            "shift": (5,),
            "temperature": (),
        }
        for name, shape in shapes.items():
            setattr(self, name, nn.Parameter(0.5 * torch.randn(shape)))

    def forward(self, tokens: Tensor) -> Tensor:
        x = torch.cat([self.first.expand(len(tokens), -1, -1), self.table[tokens]], 1)
        x = x + self.positions[:, : x.shape[1]]
        q, k, v = (torch.einsum("bti,hio->bhto", self.gain * x, w) for w in self.qkv)
        scores = torch.einsum("bhto,bhso->bhts", q, k) * self.temperature.exp()
        x = x + torch.einsum("bhts,bhso->btho", scores.softmax(-1), v).flatten(2) @ self.out.flatten(0, 1)
        x = x + torch.tanh(x @ self.up + self.shift) @ self.down
        return torch.einsum("bti,vi->btv", x[:, 1:], self.table)


def test_a_module_of_raw_parameters() -> None:
    torch.manual_seed(0)
    subject = classifier(Raw(), lambda b: torch.randint(0, VOCABULARY, (b, 4)), VOCABULARY, (4,), ignored=0.0)
    check(subject, subject.draw_batch(UNITS), readout=False)


# --- assembled at random ----------------------------------------------------------------------------------------------


class Residual(nn.Module):
    def __init__(self, layer: nn.Module, *, scaled: bool) -> None:
        super().__init__()
        self.layer = layer
        self.scale = nn.Parameter(0.5 + torch.rand(4)) if scaled else 1

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.layer(x)


class Along(nn.Module):
    """A layer for (B, channels, places) on (B, places, channels)."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.mT.contiguous()).mT


class SequenceFirst(Along):
    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x.transpose(0, 1))
        return (y[0] if isinstance(y, tuple) else y).transpose(0, 1)


class First(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0]


class SelfAttention(nn.MultiheadAttention):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x, x, x, need_weights=False)[0]


class Function(nn.Module):
    """Whatever is made of x and parameters of these shapes."""

    def __init__(self, function: Callable[..., Tensor], *shapes: Sequence[int]) -> None:
        super().__init__()
        self.p = nn.ParameterList([nn.Parameter(0.5 * torch.randn(shape)) for shape in shapes])
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.p)


# (B, T, 4) to (B, T, 4), with T as it was or longer.
ON_SEQUENCES: list[Callable[[random.Random], nn.Module]] = [
    lambda choice: nn.Linear(4, 4, bias=choice.random() < 0.5),
    lambda choice: nn.Sequential(nn.Linear(4, 3), small_models.activation(choice), nn.Linear(3, 4)),
    lambda choice: nn.LayerNorm(4, bias=choice.random() < 0.5),
    lambda choice: nn.RMSNorm(4),
    lambda choice: Residual(nn.Linear(4, 4), scaled=choice.random() < 0.5),
    lambda choice: small_models.Block(4, choice.choice([nn.LayerNorm, nn.RMSNorm]), choice.random() < 0.5, 0.2),
    lambda choice: SelfAttention(4, 2, batch_first=True, bias=choice.random() < 0.5, add_bias_kv=choice.random() < 0.3),
    lambda choice: SequenceFirst(SelfAttention(4, 2, add_zero_attn=choice.random() < 0.5)),
    lambda choice: SequenceFirst(nn.Linear(4, 4)),
    lambda choice: SequenceFirst(choice.choice([nn.GRU, nn.LSTM, nn.RNN])(4, 4)),
    lambda choice: First(choice.choice([nn.GRU, nn.LSTM])(4, 2, batch_first=True, bidirectional=True)),
    lambda choice: Along(nn.Conv1d(4, 4, 3, padding=1, groups=choice.choice([1, 2, 4]), bias=choice.random() < 0.5)),
    lambda choice: Along(nn.Conv1d(4, 4, 3, padding=2, dilation=2, padding_mode="circular")),
    lambda choice: Along(nn.ConvTranspose1d(4, 4, 3, padding=1, groups=choice.choice([1, 2]))),
    lambda choice: Along(nn.GroupNorm(choice.choice([1, 2]), 4)),
    lambda choice: Along(nn.BatchNorm1d(4)),
    lambda choice: Along(nn.InstanceNorm1d(4, affine=True)),
    lambda choice: nn.Dropout(0.2),
    lambda choice: LowRank(nn.Linear(4, 4), 2),
    lambda choice: Function(lambda x, p: x + p[: x.shape[1]], (9, 4)),
    lambda choice: Function(lambda x, p: torch.cat([p.expand(len(x), -1, -1), x], 1), (1, 1, 4)),
    lambda choice: Function(lambda x, w: torch.einsum("bti,ij->btj", x, w), (4, 4)),
    lambda choice: Function(lambda x, w, b: torch.tanh(x @ w) @ w.T + b, (4, 3), (4,)),
    lambda choice: Function(lambda x, w, s: torch.tanh(x) @ (w * s.exp()), (4, 4), ()),
    lambda choice: Function(lambda x, b: torch.where(x > 0, x, b) / (1 + b.square()), (4,)),
    lambda choice: Function(lambda x, w: x + w[x.gt(0).sum(-1)], (5, 4)),
]
# (B, 4, H, W) to (B, 4, H, W).
ON_IMAGES: list[Callable[[random.Random], nn.Module]] = [
    lambda choice: nn.Conv2d(4, 4, 3, padding=1, groups=choice.choice([1, 2, 4]), bias=choice.random() < 0.5),
    lambda choice: nn.Conv2d(4, 4, 3, padding="same", dilation=2),
    lambda choice: nn.Sequential(nn.Conv2d(4, 3, 2, stride=2), nn.Tanh(), nn.ConvTranspose2d(3, 4, 2, stride=2)),
    lambda choice: nn.Conv2d(4, 4, (1, 3), padding=(0, 1), padding_mode="reflect"),
    lambda choice: nn.GroupNorm(2, 4),
    lambda choice: nn.BatchNorm2d(4),
    lambda choice: nn.InstanceNorm2d(4, affine=True),
    lambda choice: nn.Dropout(0.2),
    lambda choice: nn.Sequential(nn.Flatten(2), Along(nn.Linear(4, 4)), nn.Unflatten(2, (4, 4))),
    lambda choice: Function(lambda x, s: x * s[:, None, None], (4,)),
    lambda choice: Function(lambda x, b: x + b, (1, 4, 4, 4)),
]


class Assembled(nn.Module):
    def __init__(self, choice: random.Random, images: bool, tokens: bool, pooled: bool) -> None:
        super().__init__()
        self.tokens, self.pooled, self.images = tokens, pooled, images
        if tokens:
            self.into: nn.Module = nn.Embedding(VOCABULARY, 4, padding_idx=choice.choice([None, 0]))
        else:
            self.into = nn.Conv2d(1, 4, 1) if images else nn.Linear(3, 4)
        layers = [make(choice) for make in choice.sample(ON_IMAGES if images else ON_SEQUENCES, choice.randint(2, 4))]
        self.layers = nn.ModuleList(layers)
        self.order = [*range(len(layers)), *([0] if choice.random() < 0.3 else [])]
        k = VOCABULARY if tokens else 3
        self.readout = nn.Linear(4, k, bias=choice.random() < 0.5)
        if tokens and choice.random() < 0.5:
            self.readout.weight = self.into.weight
        self.cap = choice.random() < 0.2

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[1]
        x = self.into(x)
        for place in self.order:
            x = torch.tanh(self.layers[place](x)).contiguous()
        if self.images:
            x = x.flatten(2).mT
        x = x.mean(1) if self.pooled else x[:, -length:]
        y = self.readout(x)
        return 2 * torch.tanh(y / 2) if self.cap else y


@pytest.mark.parametrize("number", range(40))
def test_networks_assembled_at_random(number: int) -> None:
    torch.manual_seed(number)
    choice = random.Random(number)
    images = choice.random() < 0.35
    tokens = not images and choice.random() < 0.6
    pooled = images or choice.random() < 0.4
    model = Assembled(choice, images, tokens, pooled)
    length = choice.randint(2, 4)

    def inputs(b: int) -> Tensor:
        if tokens:
            return torch.randint(0, VOCABULARY, (b, length))
        return torch.randn(b, 1, 4, 4) if images else torch.randn(b, length, 3)

    subject = classifier(randomised(model), inputs, VOCABULARY if tokens else 3, () if pooled else (length,))
    model(subject.draw_batch(8)[0])  # running statistics that are not 0 and 1
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    chosen = None if choice.random() < 0.7 else choice.sample(names, choice.randint(1, len(names)))
    chosen = chosen and [name for name in names if name in chosen]
    for training in (True, False):
        model.train(training)
        check(subject, subject.draw_batch(choice.randint(2, 5)), chosen)
