"""Is ``max_memory`` kept? Peak memory of ``sr.decompose(max_memory=...)`` on random Llamas, a process each.

    python benchmarks/micro_batch_memory.py                 # 8M to 520M parameters, about fifteen minutes on 2 cores
    python benchmarks/micro_batch_memory.py --sizes 8 60

For each model the peak of the process (VmHWM, Linux) stands beside what was allowed and planned, with the numbers of
the measurement, which do not depend on the memory.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

WIDTHS = {8: (256, 6), 60: (640, 10), 160: (1024, 11), 520: (1536, 17)}
"""Millions of parameters -> width and layers, with 8,192 tokens."""
GIB = 2**30


def main() -> None:
    """Print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--sizes", type=int, nargs="+", default=list(WIDTHS), choices=list(WIDTHS))
    arguments.add_argument("--units", type=int, default=8)
    arguments.add_argument("--tokens", type=int, default=512)
    arguments.add_argument("--ways", nargs="+", help="some of them")
    arguments.add_argument("--one", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.one:
        print(json.dumps(measured(**json.loads(given.one))))
        return
    print("| parameters | way | allowed | planned | peak | kept | s | chi_net | delta_loss | chi_pos_unbiased |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for size in given.sizes:
        base = run({"size": size, "units": given.units, "tokens": given.tokens, "way": "load"})
        weights = 4 * base["parameters"]
        for way, allowed in {
            "all at once": None,
            "roomy": base["peak"] + 8 * weights + 4 * GIB // 4,
            "tight": 0,
            "tight, checkpointing": 0,
        }.items():
            if (way == "all at once" and size > 60) or (given.ways and way not in given.ways):
                continue
            found = run({"size": size, "units": given.units, "tokens": given.tokens, "way": way, "allowed": allowed})
            allowed = found.get("allowed", allowed)
            told = ["-" if each is None else f"{each / GIB:.2f} GiB" for each in (allowed, found.get("planned"))]
            if "error" in found:
                print(f"| {base['parameters'] / 1e6:.0f}M | {way} | {told[0]} | {found['error']} |", flush=True)
                continue
            kept = "-" if allowed is None else "yes" if found["peak"] <= allowed else "NO"
            numbers = " | ".join(f"{found[name]:.8g}" for name in ("chi_net", "delta_loss", "chi_pos_unbiased"))
            print(
                f"| {base['parameters'] / 1e6:.0f}M | {way}, {found['micro_batch']} at a time | {told[0]} | "
                f"{told[1]} | {found['peak'] / GIB:.2f} GiB | {kept} | {found['seconds']:.0f} | {numbers} |",
                flush=True,
            )


def run(settings: dict[str, object]) -> dict[str, float]:
    """``measured`` in a process of its own."""
    command = [sys.executable, str(Path(__file__)), "--one", json.dumps(settings)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def measured(*, size: int, units: int, tokens: int, way: str, allowed: int | None = None) -> dict[str, object]:
    """Peak bytes of this process, and the numbers."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    import spectral_reach as sr
    from spectral_reach.decomposition import decompose as module

    width, layers = WIDTHS[size]
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=8192,
        hidden_size=width,
        intermediate_size=8 * width // 3 // 64 * 64,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        max_position_embeddings=tokens,
    )
    model = LlamaForCausalLM(config).eval()
    parameters = sum(p.numel() for p in model.parameters())
    checkpointing = "checkpointing" in way
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        for layer in model.model.layers:
            layer.training = True
    ids = torch.randint(0, config.vocab_size, (units, tokens))
    batch = {"input_ids": ids, "labels": ids}
    plans: list[object] = []
    original = module.plan

    def plan(*arguments: object, **options: object) -> object:
        plans.append(original(*arguments, **options))
        return plans[-1]

    module.plan = plan
    found: dict[str, object] = {"parameters": parameters, "micro_batch": units}
    if way != "load":
        if allowed == 0:
            allowed = least(lambda: sr.decompose(model, batch, max_memory=1, checkpointing=checkpointing))
            found["allowed"] = allowed
        began = time.perf_counter()
        try:
            result = sr.decompose(model, batch, max_memory=allowed, checkpointing=checkpointing)
        except ValueError as error:
            return {"error": str(error), **found}
        found |= {name: getattr(result, name) for name in ("chi_net", "delta_loss", "chi_pos_unbiased")}
        found["seconds"] = time.perf_counter() - began
        if plans:
            found |= {"planned": plans[0].peak, "micro_batch": plans[0].micro_batch}
    return {**found, "peak": peak()}


def least(measure: Callable[[], object]) -> int:
    """Bytes that its refusal asks for, and a little more, for it rounds and a process grows."""
    try:
        measure()
    except ValueError as error:
        amount, unit = re.search(r"expected ([\d.]+) (MiB|GiB) or more", str(error)).groups()
        return 2**24 + int(1.01 * float(amount) * {"MiB": 2**20, "GiB": GIB}[unit])
    raise AssertionError("one byte was enough")


def peak() -> int:
    """Of this process, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


if __name__ == "__main__":
    main()
