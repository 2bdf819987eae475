"""A model of billions of parameters on one GPU: time and peak memory of ``sr.decompose`` in micro-batches.

    python benchmarks/large_model.py                      # 6.7B, as Llama 2 7B, random weights in bfloat16: 80 GB
    python benchmarks/large_model.py --width 1024 --layers 8 --tokens 512

First a small model in float64 on both devices: its probes are the same, and so are its numbers.
"""

from __future__ import annotations

import argparse
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import spectral_reach as sr
from spectral_reach.decomposition.memory import told


def main() -> None:
    """Print a table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--width", type=int, default=4096)
    arguments.add_argument("--layers", type=int, default=32)
    arguments.add_argument("--tokens", type=int, default=4096)
    arguments.add_argument("--long", type=int, default=16384, help="tokens with checkpointing")
    arguments.add_argument("--units", type=int, default=8)
    given = arguments.parse_args()
    torch.set_num_threads(16)
    if torch.cuda.is_available():
        print(torch.cuda.get_device_name(), torch.__version__)
        compare_devices()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = llama(given.width, given.layers, max(given.tokens, given.long), device)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters / 1e9:.2f}B parameters, {told(used(device))} in use")
    for way, units, tokens, options in (
        ("8 noise units", given.units, given.tokens, {"micro_batch": 1}),
        ("2 noise units", given.units, given.tokens, {"micro_batch": 1, "noise_units": 2}),
        ("off-loaded", 2, given.tokens, {"micro_batch": 1, "noise_units": 2, "offload": True}),
        ("checkpointing", 2, given.long, {"micro_batch": 1, "noise_units": 2, "checkpointing": True}),
    ):
        torch.manual_seed(1)
        ids = torch.randint(0, 32000, (units, tokens), device=device)
        for layer in model.model.layers:
            layer.training = "checkpointing" in options
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        try:
            result = sr.decompose(model, {"input_ids": ids, "labels": ids}, **options)
        except torch.OutOfMemoryError as error:
            print(f"{way}: {units} x {tokens}: {str(error)[:120]}", flush=True)
            torch.cuda.empty_cache()
            continue
        peak = told(torch.cuda.max_memory_allocated()) if device == "cuda" else "-"
        print(
            f"{way}: {units} x {tokens} tokens, {time.perf_counter() - began:.1f} s, peak {peak}, chi_net "
            f"{result.chi_net:.6g} +- {result.chi_net_population_stderr:.2g}, delta_loss {result.delta_loss:.6g}, "
            f"chi_pos_unbiased {result.chi_pos_unbiased:.3g} +- {result.chi_pos_unbiased_stderr:.2g}",
            flush=True,
        )
        torch.cuda.empty_cache()


def compare_devices() -> None:
    """The same numbers on both, in float64, whole and in parts."""
    model = llama(64, 2, 64, "cpu").double()
    ids = torch.randint(0, 32000, (6, 32), generator=torch.Generator().manual_seed(0))
    for options in ({}, {"micro_batch": 1}, {"micro_batch": 4}, {"estimator": "batch", "probes": 2}):
        found = [
            sr.decompose(model.to(device), {"input_ids": ids.to(device), "labels": ids.to(device)}, **options)
            for device in ("cpu", "cuda")
        ]
        worst = max(
            abs(getattr(found[1], name) / getattr(found[0], name) - 1)
            for name in ("loss", "chi_loss", "chi_net", "delta_loss", "chi_pos", "chi_pos_unbiased")
        )
        print(f"CPU and CUDA, float64, {options}: largest relative difference {worst:.1e}")


def llama(width: int, layers: int, tokens: int, device: str) -> LlamaForCausalLM:
    """Random weights; in bfloat16 on a GPU."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32000,
        hidden_size=width,
        intermediate_size=11008 * width // 4096,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 128),
        max_position_embeddings=tokens,
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16 if device == "cuda" else torch.float32)
    try:
        with torch.device(device):
            model = LlamaForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(before)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model


def used(device: str) -> int:
    """Bytes."""
    return torch.cuda.memory_allocated() if device == "cuda" else 0


if __name__ == "__main__":
    main()
