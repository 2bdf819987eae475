"""What a request comes to: each measurement with its name and its key, and whether the file has it already."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spectral_reach.checkpoints.batches import Batches, batches_of
from spectral_reach.checkpoints.data.load import NamedBatch
from spectral_reach.checkpoints.kinds import Kind, kind_of
from spectral_reach.checkpoints.loading import load_config
from spectral_reach.checkpoints.losses import check_loss
from spectral_reach.checkpoints.named_function import import_function
from spectral_reach.checkpoints.preference import is_preference
from spectral_reach.checkpoints.request import Request
from spectral_reach.checkpoints.results import Results
from spectral_reach.checkpoints.revision import Revision
from spectral_reach.checkpoints.revisions import find_revisions
from spectral_reach.checkpoints.run_network import kind_of_run
from spectral_reach.checkpoints.schema import Key, Label
from spectral_reach.checkpoints.settings import Settings, names_of
from spectral_reach.measured.naming import about


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """One revision on one batch, or on a pair.

    Attributes:
        revision: of the model.
        batch: makes the step.
        against: feels it; None where that is the same batch.
        label: what the user calls it.
        key: what its values depend on.
    """

    revision: Revision
    batch: NamedBatch
    against: NamedBatch | None
    label: Label
    key: Key


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """All that is asked for, checked as far as it can be without the weights.

    Attributes:
        request: what was asked.
        kind: what the networks are loaded as.
        settings: what all values depend on.
        revisions: in the order in which they are measured.
        batches: on which.
        measurements: a revision after the other, batches before pairs.
        results: the file, as it was read.
        reference: of a preference loss.
    """

    request: Request
    kind: Kind
    settings: Settings
    revisions: tuple[Revision, ...]
    batches: Batches
    measurements: tuple[Measurement, ...]
    results: Results
    reference: Revision | None

    @property
    def to_do(self) -> tuple[Measurement, ...]:
        """What is not in the file, each once: two names of the same thing are measured together."""
        missing = {each.key: each for each in reversed(self.measurements) if each.key not in self.results}
        return tuple(each for each in self.measurements if missing.get(each.key) is each)

    def tokens(self) -> Mapping[str, int]:
        """How many tokens each batch holds, padding included; batches of something else are left out."""
        found = {}
        for name, named in self.batches.by_name.items():
            inputs = named.batch.get("input_ids") if isinstance(named.batch, Mapping) else named.batch[0]
            if inputs is not None and not inputs.dtype.is_floating_point:
                found[name] = int(inputs.numel())
        return found


def make_plan(request: Request) -> Plan:
    """Find the revisions, make the batches, and look into the file.

    Raises:
        ValueError, TypeError: something that is asked for is not there, or does not go together.
        RecordError: the file of results cannot be read.
        ConnectionError: the hub cannot be reached.
        ImportError: a package is not installed; the message says which extra brings it.
    """
    results = Results(request.out)
    results.read()
    revisions = tuple(find_revisions(request.model, request.revisions))
    config = load_config(revisions[0], request.load)
    kind = _kind(request, revisions[0], config)
    batches = batches_of(request, revisions[0], kind, config)
    reference = _reference(request, batches)
    for name, named in batches.by_name.items():
        with about(f"data {name!r}"):
            check_loss(
                request.loss,
                kind=kind,
                batch=named.batch,
                has_reference=reference is not None,
                beta=request.beta_of_dpo,
            )
    settings = _settings(request, kind, reference)
    return Plan(
        request=request,
        kind=kind,
        settings=settings,
        revisions=revisions,
        batches=batches,
        measurements=_measurements(request, settings, revisions, batches),
        results=results,
        reference=reference,
    )


def _kind(request: Request, revision: Revision, config: Any) -> Kind:
    if revision.run is None:
        return request.kind or kind_of(config)
    if request.kind is not None:
        raise ValueError(f"{request.model} is a run folder, which says itself what it holds; leave out the kind")
    return kind_of_run(revision)


def _measurements(
    request: Request, settings: Settings, revisions: tuple[Revision, ...], batches: Batches
) -> tuple[Measurement, ...]:
    names: list[tuple[str, str | None]] = [(name, None) for name in batches.by_name]
    for pair in request.pairs:
        if missing := [name for name in pair if name not in batches.by_name]:
            known = ", ".join(batches.by_name)
            raise ValueError(f"a pair names {missing[0]!r}; expected one of the batches {known}")
        names.append(pair)
    names = list(dict.fromkeys(names))
    found = []
    for revision in revisions:
        commit = revision.identity()
        for name, against in names:
            batch, other = batches.by_name[name], None if against is None else batches.by_name[against]
            label = Label(model=revision.model, revision=revision.name, step=revision.step, batch=name, against=against)
            key = Key(
                commit=commit,
                batch_digest=batch.digest,
                against_digest=None if other is None else other.digest,
                settings=settings.digest,
            )
            found.append(Measurement(revision=revision, batch=batch, against=other, label=label, key=key))
    return tuple(found)


def _settings(request: Request, kind: Kind, reference: Revision | None) -> Settings:
    settings = Settings(
        kind=kind,
        loss=request.loss,
        estimator=request.estimator,
        probes=request.probes,
        noise_units=request.noise_units,
        parameters=names_of(request.parameters),
        seed=request.data_options.seed,
        dtype=request.load.dtype,
        in_parts=request.in_parts,
    )
    if ":" in request.loss:
        settings = replace(settings, loss_digest=_source_digest(request.loss))
    if reference is not None:
        settings = replace(settings, reference=reference.identity())
    return replace(settings, beta=request.beta_of_dpo) if request.loss == "dpo" else settings


def _source_digest(name: str) -> str:
    """sha256 of the file of ``module:function``: values of an earlier version of it are not taken for its own."""
    function: Any = import_function(name)
    try:
        file = inspect.getsourcefile(inspect.unwrap(function))
    except TypeError:
        file = None  # built in, or a callable object
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""


def _reference(request: Request, batches: Batches) -> Revision | None:
    """The reference model of a preference loss: a folder, the name of a repository, or either with ``@REVISION``."""
    if not any(is_preference(named.batch) for named in batches.by_name.values()):
        if request.reference is not None:
            raise ValueError("a reference model is named and no batch holds preference pairs; leave out --reference")
        return None
    if request.reference is None:
        return None  # told by check_loss, which knows what it is for
    model, mark, name = request.reference.rpartition("@")
    if not mark or Path(request.reference).exists():
        model, name = request.reference, ""
    found = find_revisions(model, name or None)
    if len(found) != 1:
        raise ValueError(f"the reference {request.reference!r} is {len(found)} revisions; expected one")
    return found[0]
