"""``sr.measure_checkpoints``: many revisions of a published model on several batches, each result kept as it comes."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from spectral_reach.checkpoints.activation_checkpointing import checkpoint_activations
from spectral_reach.checkpoints.data.options import DataOptions
from spectral_reach.checkpoints.loading import LoadOptions, load_network
from spectral_reach.checkpoints.losses import resolve
from spectral_reach.checkpoints.named_function import NamedFunction
from spectral_reach.checkpoints.placing import placed
from spectral_reach.checkpoints.plan import Measurement, Plan, make_plan
from spectral_reach.checkpoints.preference import is_preference, log_probabilities
from spectral_reach.checkpoints.processors import fingerprint, load_processor
from spectral_reach.checkpoints.request import Request, kind_named
from spectral_reach.checkpoints.revision import Revision
from spectral_reach.checkpoints.schema import SCHEMA, rows_of
from spectral_reach.checkpoints.too_little_memory import too_little_memory_told
from spectral_reach.decomposition.decompose import decompose
from spectral_reach.decomposition.result import Decomposition
from spectral_reach.measured.naming import about
from spectral_reach.measured.not_finite import NotFiniteError
from spectral_reach.measured.parameters import select_parameters

if TYPE_CHECKING:
    import pyarrow as pa

_SMALLER = "expected room for the weights: load them with --dtype bfloat16 (in Python dtype=), or on another device"
_FEWER = (
    "expected room for the activations of all units, or fewer at a time: --max-memory GIB, --micro-batch 1, "
    "--checkpointing, --max-length, --dtype bfloat16 (in Python of the same names, max_memory in bytes)"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far it is.

    Attributes:
        phase: what is being done, or has just been.
        revision: of the model.
        batch, against: names of the batches, where it is about them.
        done, total: measurements of those that were not in the file.
    """

    phase: Literal["loading", "measuring", "measured"]
    revision: str
    batch: str | None
    against: str | None
    done: int
    total: int


def measure_checkpoints(
    model: str | Path,
    *,
    data: Mapping[str, Any] | None = None,
    revisions: str | Sequence[str] | None = None,
    pairs: Sequence[tuple[str, str]] = (),
    out: Path | str | None = None,
    loss: str = "model",
    reference: str | Path | None = None,
    beta: float | None = None,
    kind: str | None = None,
    units: int = 32,
    max_length: int | None = None,
    chat_template: bool = False,
    mask_probability: float = 0.15,
    estimator: str = "auto",
    probes: int = 2,
    noise_units: int | None = None,
    parameters: str | Sequence[str] | None = None,
    micro_batch: int | None = None,
    checkpointing: bool = False,
    offload: bool = False,
    max_memory: int | None = None,
    seed: int = 0,
    dtype: str = "float32",
    device: str = "auto",
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> pa.Table:
    """Measure revisions of a model of transformers, or of a run folder, on named batches and pairs of them.

    One revision is in memory at a time. With ``out`` each measurement is on disk as soon as it is made, and one that
    is there already, for the same weights, batches and settings, is not made again. A model that gives infinities or
    NaN has rows of NaN with the reason.

    Args:
        model: a folder (a Hugging Face model, several checkpoints, a run), or the name of a repository on the hub.
        data: name -> what the batch is: a file, ``"FILE?text=body"``, ``"hub:DATASET"``, a bundled data set such as
            ``"digits"``, or a ready batch as ``sr.decompose`` takes it. None for a run folder's own.
        revisions: names, patterns, ``"all"``, several of these or between commas; on the hub branches, tags or
            commits. None for the folder's own weights, a run's latest checkpoint, or the default branch.
        pairs: names (A, B): a gradient step on A, felt by B. Beside the batches each by itself.
        out: Parquet file that results are added to; its columns are those of ``checkpoints.schema``.
        loss: ``"model"`` for its own, ``"cross_entropy"``, ``"mse"``, ``"dpo"``, or ``"module:function"``.
        reference: model that a preference loss compares with, ``MODEL`` or ``MODEL@REVISION``.
        beta: of ``"dpo"``; None for 0.1. Of other losses it is an error.
        kind: ``"causal-lm"``, ``"masked-lm"``, ``"sequence-classification"`` or ``"image-classification"``; None to
            tell it from the configuration.
        units: sequences, images or pairs of a batch that is made from ``data``.
        max_length, chat_template, mask_probability: of such a batch; see ``DataOptions``.
        estimator, probes, noise_units: as in ``sr.decompose``.
        parameters: names of parameters or modules; None for all that are trainable.
        micro_batch, offload, max_memory: as in ``sr.decompose``.
        checkpointing: measure with activation checkpointing, which is switched on for models that know it; one unit
            at a time, unless the estimator is ``"batch"``.
        seed: of the choice of units, of masks, and of probes.
        dtype: ``"float32"``, ``"bfloat16"``, ``"float64"``, or ``"auto"`` for that of the file.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        trust_remote_code: run Python files that come with the model.
        allow_pickle: read a pickle where there are no safetensors, with ``weights_only``.
        progress: called before and after each measurement.

    Returns:
        The rows that were asked for, whether computed now or found.

    Raises:
        ValueError, TypeError: what was got, what was expected and what to do.
        RecordError: ``out`` cannot be read or written; it is left as it was.
        ConnectionError: the hub cannot be reached.
        ImportError: a package is not installed; the message says which extra brings it.
    """
    request = Request(
        model=str(model),
        data={} if data is None else data,
        revisions=revisions,
        pairs=[tuple(pair) for pair in pairs],  # type: ignore[misc] # their length is checked there
        out=None if out is None else Path(out),
        loss=loss,
        reference=None if reference is None else str(reference),
        beta=beta,
        kind=kind_named(kind),
        estimator=estimator,
        probes=probes,
        noise_units=noise_units,
        parameters=parameters,
        micro_batch=micro_batch,
        checkpointing=checkpointing,
        offload=offload,
        max_memory=max_memory,
        data_options=DataOptions(
            units=units,
            seed=seed,
            max_length=max_length,
            chat_template=chat_template,
            mask_probability=mask_probability,
        ),
        load=LoadOptions(dtype=dtype, device=device, trust_remote_code=trust_remote_code, allow_pickle=allow_pickle),
    )
    return execute(make_plan(request), progress)


def execute(plan: Plan, progress: Callable[[Progress], None] | None = None) -> pa.Table:
    """Measure what is not in the file yet. Returns and raises as ``measure_checkpoints``."""
    import pyarrow as pa

    to_do = plan.to_do
    plan.results.make_folder()
    told = _Teller(progress, len(to_do))
    references = _reference_log_probabilities(plan) if to_do else {}
    for revision, measurements in groupby(to_do, key=lambda each: each.revision):
        _measure_revision(plan, revision, list(measurements), references, told)
        _free_memory()
    found = [(each, plan.results.find(each.key, each.label)) for each in plan.measurements]
    # The same weights or units under another name: measured once, and found under both.
    renamed = [rows for each, rows in found if not plan.results.has(each.key, each.label)]
    if renamed:
        plan.results.append(pa.concat_tables(renamed))
    return pa.concat_tables([SCHEMA.empty_table(), *(rows for _, rows in found)])


class _Teller:
    """Counts, and says what happens to whoever listens."""

    def __init__(self, listener: Callable[[Progress], None] | None, total: int) -> None:
        self._listener = listener
        self._total = total
        self._done = 0

    def tell(
        self, phase: Literal["loading", "measuring", "measured"], revision: Revision, each: Measurement | None = None
    ) -> None:
        self._done += phase == "measured"
        if self._listener is not None:
            batch, against = (None, None) if each is None else (each.label.batch, each.label.against)
            self._listener(
                Progress(
                    phase=phase,
                    revision=revision.name,
                    batch=batch,
                    against=against,
                    done=self._done,
                    total=self._total,
                )
            )


def _measure_revision(
    plan: Plan,
    revision: Revision,
    measurements: Sequence[Measurement],
    references: Mapping[str, Tensor],
    told: _Teller,
) -> None:
    told.tell("loading", revision)
    _check_processor(plan, revision)
    with too_little_memory_told(f"{revision.label}: {_SMALLER}"):
        network: Any = load_network(revision, plan.kind, plan.request.load)
    if plan.request.checkpointing:
        checkpoint_activations(network, revision.label)
    for each in measurements:
        told.tell("measuring", revision, each)
        where = f"{revision.label}, batch {each.batch.name!r}"
        with (
            about(where if each.against is None else f"{where} against {each.against.name!r}"),
            too_little_memory_told(_FEWER),
        ):
            found, loss = _measured(plan, network, each, references)
        request = plan.request
        plan.results.append(
            rows_of(
                found,
                each.label,
                each.key,
                loss=loss,
                parameters=plan.settings.parameters,
                seed=request.data_options.seed,
                dtype=request.load.dtype,
            )
        )
        told.tell("measured", revision, each)


def _measured(
    plan: Plan, network: Any, each: Measurement, references: Mapping[str, Tensor]
) -> tuple[Decomposition, str]:
    """The decomposition, and the name of the loss."""
    request = plan.request

    def resolved(named: Any) -> Any:
        return resolve(
            plan.batches.loss_of(named.name, request.loss),
            kind=plan.kind,
            network=network,
            batch=named.batch,
            reference=references.get(named.digest),
            beta=request.beta_of_dpo,
        )

    batch = resolved(each.batch)
    against = None if each.against is None else resolved(each.against)
    if against is not None and against.name != batch.name:
        raise ValueError(
            f"the loss is {batch.name} on the one batch and {against.name} on the other; expected one loss of both: "
            "pair batches of the same kind, or name a loss"
        )
    loss = batch.loss
    if ":" in request.loss and callable(loss):
        loss = NamedFunction(request.loss, loss)
    names = plan.settings.parameters
    selection = None if names is None else list(select_parameters(network, names).values())
    try:
        found = decompose(
            batch.network,
            placed(batch.batch, network),
            loss=loss,
            against=None if against is None else placed(against.batch, network),
            estimator=request.estimator,
            probes=request.probes,
            noise_units=request.noise_units,
            parameters=selection,
            seed=request.data_options.seed,
            micro_batch=request.units_at_a_time,
            checkpointing=request.checkpointing,
            offload=request.offload,
            max_memory=request.max_memory,
        )
    except NotFiniteError as error:
        # One diverged revision is no reason to end: its rows say what happened.
        found = Decomposition.undefined_everywhere(str(error), request.estimator)
    return found, batch.name


def _check_processor(plan: Plan, revision: Revision) -> None:
    """Refuse a revision with another tokenizer than the one that the batches were made with."""
    first = plan.revisions[0]
    if plan.batches.made_with is None or revision is first:
        return
    if fingerprint(load_processor(revision, plan.kind, plan.request.load)) != plan.batches.made_with:
        raise ValueError(
            f"{revision.label} has another tokenizer or image processor than {first.label}, with which the batches "
            "were made; expected the same, or values could not be compared. Measure it by itself, or give ready "
            "batches."
        )


def _reference_log_probabilities(plan: Plan) -> dict[str, Tensor]:
    """By the digest of a batch, (B, 2): computed once, before any revision is loaded."""
    if plan.reference is None:
        return {}
    pairs = [named for named in plan.batches.by_name.values() if is_preference(named.batch)]
    network = load_network(plan.reference, plan.kind, plan.request.load)
    found = {named.digest: log_probabilities(network, named.batch) for named in pairs}
    del network
    _free_memory()
    return found


def _free_memory() -> None:
    # Networks hold themselves in cycles: without this two of them are in memory for a while.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
