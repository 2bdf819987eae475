"""What a spectrum costs: seconds and peak memory, side by side with a training step and with torch.func's Jacobians.

    python benchmarks/spectrum.py              # the reference sizes, about a quarter of an hour on two cores
    python benchmarks/spectrum.py --large      # and 10,240 modes, about as long again
    python benchmarks/spectrum.py --toy        # seconds, for CI

Every piece of work runs in a process of its own, so that its peak memory is its own; see ``peak_memory``. Product and
training step are timed in turns in one process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from peak_memory import give_back, resident
from timing import interleaved, median_ratio
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

import spectral_reach as sr
from spectral_reach.studies.models.llama import LlamaConfig

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class Size:
    """A Llama with random weights, sequences of random tokens, and chosen outputs: (positions, classes) of all.

    ``samples`` and ``classes`` are numbers of random ones; None for all.
    """

    vocabulary: int
    context: int
    width: int
    depth: int
    heads: int
    mlp_width: int
    sequences: int
    samples: int | None = None
    classes: int | None = None

    def build(self) -> tuple[nn.Module, Batch]:
        """The model and its batch, the same every time."""
        shape = LlamaConfig(
            vocabulary=self.vocabulary,
            context=self.context,
            width=self.width,
            depth=self.depth,
            heads=self.heads,
            mlp_width=self.mlp_width,
        )
        random = torch.Generator().manual_seed(0)
        tokens = torch.randint(self.vocabulary, (self.sequences, self.context + 1), generator=random)
        return shape.build(0), (tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())


REFERENCE = {
    # 1.84M parameters, 2.1 million outputs.
    "lanczos": Size(vocabulary=4096, context=64, width=128, depth=4, heads=4, mlp_width=344, sequences=8),
    # 3.79M parameters; the paper's output space is 256 positions x 40 entries of the vocabulary.
    "explicit": Size(
        vocabulary=4096, context=256, width=192, depth=5, heads=6, mlp_width=512, sequences=1, samples=256, classes=10
    ),
    "large": Size(
        vocabulary=4096, context=256, width=192, depth=5, heads=6, mlp_width=512, sequences=1, samples=256, classes=40
    ),
    # The same model where its Jacobian still fits into memory as a whole.
    "compared": Size(
        vocabulary=4096, context=32, width=192, depth=5, heads=6, mlp_width=512, sequences=4, samples=128, classes=2
    ),
}
TOY = {
    "lanczos": Size(vocabulary=64, context=8, width=16, depth=1, heads=2, mlp_width=32, sequences=2),
    "explicit": Size(
        vocabulary=64, context=8, width=16, depth=1, heads=2, mlp_width=32, sequences=1, samples=8, classes=4
    ),
    "large": Size(
        vocabulary=64, context=8, width=16, depth=1, heads=2, mlp_width=32, sequences=1, samples=8, classes=8
    ),
    "compared": Size(
        vocabulary=64, context=8, width=16, depth=1, heads=2, mlp_width=32, sequences=2, samples=16, classes=2
    ),
}
BUDGET = {"explicit": 4 * 2**30, "large": 8 * 2**30, "compared": 2**30}
LANCZOS_STEPS = 64


def products(size: Size, rounds: int) -> dict[str, Any]:
    """One product with the kernel, in training steps: the two in turns."""
    from spectral_reach.jacobian.jacobian import PlainJacobian
    from spectral_reach.spectra.flat import FlatJacobian
    from spectral_reach.spectra.prepared import prepared

    model, batch = size.build()
    trained, _ = size.build()
    optimiser = torch.optim.AdamW(trained.parameters(), lr=1e-3)

    def training_step(_: int) -> None:
        loss = F.cross_entropy(trained(batch[0]).logits.flatten(0, 1), batch[1].flatten())
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()

    with prepared(model, batch, "cross_entropy", None, None, None, 0) as ready:
        jacobian = FlatJacobian(PlainJacobian(ready.linearisation, ready.space, ready.random))
        u = torch.randn(jacobian.shape[0])
        times, _ = interleaved({"product": lambda _: jacobian.push(jacobian.pull(u)), "step": training_step}, rounds)
    return {
        "outputs": jacobian.shape[0],
        "parameters": jacobian.shape[1],
        "product_s": times["product"].median,
        "step_s": times["step"].median,
        "ratio": median_ratio(times["product"], times["step"]),
        "scatter": max(each.scatter for each in times.values()),
    }


def lanczos(size: Size) -> dict[str, Any]:
    """All steps, whatever they have proven on the way."""
    model, batch = size.build()
    found, cost = _measured(lambda: sr.spectrum(model, batch, steps=LANCZOS_STEPS, tolerance=0))
    return {"steps": found.steps, **cost}


def explicit(size: Size, budget: int) -> dict[str, Any]:
    """Every mode, by ``sr.spectrum``."""
    model, batch = size.build()
    found, cost = _measured(
        lambda: sr.spectrum(
            model, batch, method="explicit", samples=size.samples, classes=size.classes, memory_budget=budget
        )
    )
    return {"modes": found.n_modes, "p": found.p[:8].tolist(), **cost}


def contracted(size: Size) -> dict[str, Any]:
    """The usual way: Jacobians of each sequence by torch.func, contracted parameter by parameter."""
    model, batch = size.build()
    n_classes = size.classes or size.vocabulary
    # The same outputs as ``sr.spectrum`` draws, so that both find the same eigenvalues.
    chosen = _classes(size)
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def outputs(theta: dict[str, Tensor], tokens: Tensor) -> Tensor:
        return functional_call(model, theta, (tokens.unsqueeze(0),)).logits[0][:, chosen].flatten()

    def work() -> Tensor:
        J = vmap(jacrev(outputs), (None, 0))(parameters, batch[0])
        modes = size.sequences * size.context * n_classes
        kernel = torch.zeros(modes, modes, dtype=torch.float64)
        for part in J.values():
            rows = part.reshape(modes, -1)
            kernel += (rows @ rows.mT).double()
        return torch.linalg.eigvalsh(kernel).flip(0)

    values, cost = _measured(work)
    return {"modes": len(values), "p": (values / values.sum())[:8].tolist(), **cost}


def _classes(size: Size) -> Tensor:
    from spectral_reach.spectra.prepared import prepared

    model, batch = size.build()
    with prepared(model, batch, "cross_entropy", None, size.samples, size.classes, 0) as ready:
        return ready.space.classes


def _measured(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """The result, seconds, and bytes beyond what was resident before."""
    give_back()
    before = resident(reset=True)
    start = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - start
    return result, {"seconds": seconds, "peak_bytes": resident(reset=False) - before}


def _in_a_process(piece: str, arguments: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, "--piece", piece, "--threads", str(arguments.threads)]
    command += ["--rounds", str(arguments.rounds), *(["--toy"] if arguments.toy else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{piece} failed in a process of its own:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _piece(piece: str, sizes: dict[str, Size], rounds: int) -> dict[str, Any]:
    if piece == "products":
        return products(sizes["lanczos"], rounds)
    if piece == "lanczos":
        return lanczos(sizes["lanczos"])
    if piece == "contracted":
        return contracted(sizes["compared"])
    return explicit(sizes[piece], BUDGET[piece])


def _table(found: dict[str, dict[str, Any]]) -> str:
    def cost(piece: str) -> str:
        return f"{found[piece]['seconds']:.1f} s, {found[piece]['peak_bytes'] / 2**30:.2f} GiB"

    product = found["products"]
    rows = [
        (
            f"one product with the kernel, {product['outputs']:,} outputs, {product['parameters']:,} parameters",
            f"{product['product_s'] * 1e3:.0f} ms, {product['ratio']:.2f} training steps of "
            f"{product['step_s'] * 1e3:.0f} ms (quartiles ±{product['scatter']:.0%})",
        ),
        (f"{found['lanczos']['steps']} Lanczos steps over them, with the trace", cost("lanczos")),
    ]
    rows += [(f"every mode of {found[p]['modes']:,}", cost(p)) for p in ("explicit", "large") if p in found]
    ours, theirs = found["compared"], found["contracted"]
    rows.append((f"every mode of {ours['modes']:,}, ours", cost("compared")))
    rows.append((f"every mode of {theirs['modes']:,}, vmap(jacrev)", cost("contracted")))
    rows.append(
        (
            "vmap(jacrev) against ours",
            f"{theirs['seconds'] / ours['seconds']:.1f} times the time, "
            f"{theirs['peak_bytes'] / max(1, ours['peak_bytes']):.1f} times the memory",
        )
    )
    return "\n".join(f"| {what} | {value} |" for what, value in [("what", "cost"), ("---", "---"), *rows])


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--toy", action="store_true", help="sizes that take seconds")
    parser.add_argument("--large", action="store_true", help="the paper's 10,240 modes too")
    parser.add_argument("--rounds", type=int, default=15, help="of the products")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, help="write the numbers here (.json)")
    parser.add_argument("--piece", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.piece:
        print(json.dumps(_piece(arguments.piece, TOY if arguments.toy else REFERENCE, arguments.rounds)))
        return
    pieces = ["products", "lanczos", "explicit", *(["large"] if arguments.large else []), "compared", "contracted"]
    found = {}
    for piece in pieces:
        print(f"{piece} ...", file=sys.stderr, flush=True)
        found[piece] = _in_a_process(piece, arguments)
    for ours, theirs in zip(found["compared"]["p"], found["contracted"]["p"], strict=True):
        assert abs(ours - theirs) < 1e-4, "the two ways do not decompose the same kernel"
    print(_table(found))
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    _main()
