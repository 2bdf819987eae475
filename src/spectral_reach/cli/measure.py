"""``spectral-reach measure``: revisions of a model on disk or on the hub, on named batches and pairs of them."""

from __future__ import annotations

import math
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spectral_reach.cli.exits import Stopped
from spectral_reach.cli.terminal import stderr, stdout

if TYPE_CHECKING:
    from spectral_reach.checkpoints.request import Request

_NAMED = re.compile(r"([\w.-]+)=(.+)", re.DOTALL)


def measure(
    model: Annotated[
        str, typer.Argument(help="A folder (Hugging Face model, checkpoints, or a run), or a repository on the hub.")
    ],
    revision: Annotated[
        list[str] | None,
        typer.Option(
            help="Branch, tag, commit, folder of a checkpoint, or step of a run; several, patterns like 'step*', or "
            "all. More than one: between commas, or the option again.",
            show_default="the model itself, or the latest of a run",
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=FILE, NAME=FILE?text=body, NAME=hub:DATASET, or a bundled data set (digits, text:PATH). "
            "May be given several times.",
            show_default="the run's own",
        ),
    ] = None,
    pair: Annotated[
        list[str] | None, typer.Option(help="A,B: a gradient step on A, felt by B. May be given several times.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Add the results to this .parquet, and use what is there.")] = None,
    loss: Annotated[str, typer.Option(help="model (its own), cross_entropy, mse, dpo, or MODULE:FUNCTION.")] = "model",
    reference: Annotated[
        str | None, typer.Option(help="Of dpo: the model compared with, MODEL or MODEL@REVISION.")
    ] = None,
    beta: Annotated[float | None, typer.Option(help="Of dpo.", show_default="0.1")] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="causal-lm, masked-lm, sequence-classification or image-classification.",
            show_default="as config.json says",
        ),
    ] = None,
    units: Annotated[int, typer.Option(min=1, help="Sequences, images or pairs of a batch.")] = 32,
    max_length: Annotated[int | None, typer.Option(min=2, help="Cut sequences to so many tokens.")] = None,
    chat_template: Annotated[
        bool, typer.Option("--chat-template", help="Write plain prompts and completions as a chat.")
    ] = False,
    mask_probability: Annotated[float, typer.Option(help="Of masked language models.")] = 0.15,
    vocabulary: Annotated[int | None, typer.Option(min=1, help="Tokens to learn, for stdlib.")] = None,
    context: Annotated[int | None, typer.Option(min=1, help="Tokens of a sequence, for stdlib.")] = None,
    estimator: Annotated[str, typer.Option(help="Of chi_net: exact, per_unit, batch or auto.")] = "auto",
    probes: Annotated[int, typer.Option(min=1, help="Random probes; two or more give a standard error.")] = 2,
    noise_units: Annotated[
        int | None,
        typer.Option(min=2, help="Noise-corrected values from so many units' gradients.", show_default="all"),
    ] = None,
    parameters: Annotated[
        list[str] | None,
        typer.Option(help="Name of a parameter or module to measure alone. May be given several times."),
    ] = None,
    micro_batch: Annotated[
        int | None, typer.Option(min=1, help="Units a forward and backward pass.", show_default="all at once")
    ] = None,
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="Recompute activations in the backward pass: the least memory.")
    ] = False,
    offload: Annotated[
        bool, typer.Option("--offload", help="Keep sums of gradients in the host's memory, not on the GPU.")
    ] = False,
    max_memory: Annotated[
        float | None, typer.Option(help="GiB on the device, weights included; as many units at a time as fit.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of units, masks and probes.")] = 0,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, float64 or auto (as saved).")] = "float32",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run Python code that comes with the model.")
    ] = False,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Read weights from a pickle (tensors only) if need be.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what there is to do, and end.")] = False,
) -> None:
    """Take the loss change of a model apart: loss, network and position, with error bars."""
    named = _data(data or [])
    pairs = [_pair(each) for each in pair or []]
    if max_memory is not None and not 0 < max_memory < math.inf:
        raise ValueError(f"--max-memory is {max_memory:g}; expected GiB above 0, for example 40.")
    with stderr().status(f"Looking at {model}"):
        from spectral_reach.checkpoints.data.options import DataOptions
        from spectral_reach.checkpoints.loading import LoadOptions
        from spectral_reach.checkpoints.measure_checkpoints import execute
        from spectral_reach.checkpoints.plan import make_plan
        from spectral_reach.checkpoints.request import Request, kind_named
        from spectral_reach.cli.measure_display import MeasureDisplay, plan_lines, show

        of_stdlib = {"vocabulary": vocabulary, "context": context}
        request = Request(
            model=model,
            data=named,
            revisions=revision or None,
            pairs=pairs,
            out=out,
            loss=loss,
            reference=reference,
            beta=beta,
            kind=kind_named(kind),
            estimator=estimator,
            probes=probes,
            noise_units=noise_units,
            parameters=parameters or None,
            micro_batch=micro_batch,
            checkpointing=checkpointing,
            offload=offload,
            max_memory=None if max_memory is None else int(max_memory * 2**30),
            data_options=DataOptions(
                units=units,
                seed=seed,
                max_length=max_length,
                chat_template=chat_template,
                mask_probability=mask_probability,
            ),
            data_set_options={name: value for name, value in of_stdlib.items() if value is not None},
            load=LoadOptions(
                dtype=dtype, device=device, trust_remote_code=trust_remote_code, allow_pickle=allow_pickle
            ),
        )
        plan = make_plan(request)
        lines = list(plan_lines(plan))
    for line in lines:
        (stdout() if dry_run else stderr()).print(line, markup=False)
    if dry_run:
        return
    with _resumable(request), MeasureDisplay(len(plan.to_do), stderr()) as display:
        table = execute(plan, display)
    show(table, plan, stdout())
    if out is not None:
        stdout().print(f"Written to {out}", markup=False)


def _data(given: Sequence[str]) -> Mapping[str, str]:
    """``NAME=SPEC`` by name; a spec without a name is its own."""
    found: dict[str, Any] = {}
    for each in given:
        match = _NAMED.fullmatch(each)
        name, spec = match.groups() if match else (each, each)
        if name in found:
            raise ValueError(f"--data names {name!r} twice; expected another name for each batch: --data NAME=FILE.")
        found[name] = spec
    return found


def _pair(given: str) -> tuple[str, str]:
    names = [name.strip() for name in given.split(",")]
    if len(names) != 2 or not all(names):
        raise ValueError(f"--pair is {given!r}; expected two names of --data with a comma between them: A,B.")
    return names[0], names[1]


@contextmanager
def _resumable(request: Request) -> Iterator[None]:
    """Tell whoever presses Ctrl-C what is kept and how to go on.

    Raises:
        Stopped: Ctrl-C, with a file that keeps what has been measured.
    """
    try:
        yield
    except KeyboardInterrupt:
        if request.out is None:
            raise
        raise Stopped(
            f"What has been measured is kept in {request.out}.", shlex.join(["spectral-reach", *sys.argv[1:]])
        ) from None
