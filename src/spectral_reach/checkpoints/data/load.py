"""A spec into a named batch: random units of a user's data, the same for every revision and on every machine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from spectral_reach.checkpoints.data.conditions import Conditions
from spectral_reach.checkpoints.data.contents import Content, content_of
from spectral_reach.checkpoints.data.digest import digest_of
from spectral_reach.checkpoints.data.options import DataOptions
from spectral_reach.checkpoints.data.random_order import random_order
from spectral_reach.checkpoints.data.rows import Rows, open_rows
from spectral_reach.checkpoints.data.spec import Spec
from spectral_reach.checkpoints.data.tokenization import settings_kept
from spectral_reach.checkpoints.data.unit import Unit, collate
from spectral_reach.checkpoints.kinds import Kind
from spectral_reach.measured.naming import about

__all__ = ["DataOptions", "NamedBatch", "digest_of", "load_batch"]


@dataclass(frozen=True, kw_only=True, slots=True)
class NamedBatch:
    """A batch with a name.

    Attributes:
        name: what the user calls it.
        batch: a mapping that the model takes by keyword, with ``labels``, or (inputs, targets); on the CPU. That of
            preference pairs has a second axis of chosen and rejected, and goes through ``losses.resolve``.
        digest: sha256 over its names, dtypes, shapes and values.
        description: a line for the terminal.
    """

    name: str
    batch: Any
    digest: str
    description: str


def load_batch(
    name: str, spec: str, *, kind: Kind, config: Any, processor: Callable[[], Any], options: DataOptions
) -> NamedBatch:
    """The batch that ``spec`` describes: labelled units in an order that the seed alone decides, each once.

    Units without a label are passed over. Where there are fewer units than asked for, all of them are taken, and the
    description says so.

    Args:
        name: what the user calls the batch; errors begin with it.
        spec: ``PATH?column=name``, see ``Spec``.
        kind: of the model.
        config: the model's transformers configuration.
        processor: loads its tokenizer or image processor; called once, and only if it is needed.
        options: how many units, and how they are cut and masked.

    Raises:
        ValueError: what was got, what was expected and what to do, beginning with the name of the batch.
        ImportError: a package is missing; the message says which extra brings it.
    """
    with about(f"data {name!r}"), ExitStack() as stack:

        def loaded() -> Any:
            found = processor()
            stack.enter_context(settings_kept(found))
            return found

        parsed = Spec.parse(spec)
        rows = open_rows(parsed)
        content, columns = content_of(rows, parsed, kind)
        conditions = Conditions(kind, config, loaded, options)
        chosen = _choose(rows, content, columns, conditions, parsed)
        _check_end_can_be_found(conditions, len(chosen.units))
        batch = collate(chosen.units, conditions.pad_id)
        return NamedBatch(
            name=name, batch=batch, digest=digest_of(batch), description=chosen.described(content, parsed, options)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Chosen:
    units: list[Unit]
    unlabelled: int

    def described(self, content: Content, spec: Spec, options: DataOptions) -> str:
        count, cut = len(self.units), sum(unit.is_cut for unit in self.units)
        tokens = [unit.tensors["input_ids"].shape[-1] for unit in self.units if "input_ids" in unit.tensors]
        labels = sum(unit.n_labels for unit in self.units)
        named = content.units if count > 1 else content.units.removesuffix("s")
        parts = [f"{count:,} {named}" + (f" of up to {max(tokens):,} tokens" if tokens else "")]
        parts.append(f"{labels:,} label{'s' * (labels != 1)}")
        parts.append(f"from {spec.short_name}")
        notes = []
        if count < options.units:
            notes.append(f"all there are, {options.units:,} were asked for")
        if cut:
            notes.append(f"{cut:,} cut to {options.max_length:,} tokens")
        if self.unlabelled:
            notes.append(f"{self.unlabelled:,} without a label passed over")
        return ", ".join(parts) + (f" ({'; '.join(notes)})" if notes else "")


def _choose(rows: Rows, content: Content, columns: Any, conditions: Conditions, spec: Spec) -> _Chosen:
    options = conditions.options
    encode = content.encoder(conditions, rows, columns)
    units: list[Unit] = []
    unlabelled, left_out = 0, 0
    for index in random_order(len(rows), options.seed):
        with about(rows.where(index)):
            values = rows.row(index, columns.values())
            by_role = {role: values[column] for role, column in columns.items() if column in values}
            for role in content.required:
                if by_role.get(role) is None:
                    raise ValueError(f"it has no value for {columns[role]!r}; expected one in every row")
            unit = encode(by_role, index)
        if not unit.n_labels:
            unlabelled += 1
        elif left_out < spec.skip:
            left_out += 1
        else:
            units.append(unit)
        if len(units) == options.units:
            break
    if not units and left_out:
        raise ValueError(f"{spec.place} has {left_out} labelled units and skip={spec.skip} leaves out all of them")
    if not units:
        raise ValueError(
            f"none of the {len(rows):,} rows of {spec.place} has a label (all are masked, or cut off by max_length); "
            "expected a label or more: look at what the columns hold, and at --max-length"
        )
    return _Chosen(units=units, unlabelled=unlabelled)


def _check_end_can_be_found(conditions: Conditions, count: int) -> None:
    """A classifier made of a causal model reads its label at the last token that is no padding token."""
    if conditions.kind is not Kind.SEQUENCE_CLASSIFICATION or count == 1:
        return
    if getattr(conditions.text_config, "pad_token_id", None) is None:
        raise ValueError(
            "config.json has no pad_token_id, without which a classifier cannot tell where sequences of a batch end; "
            "put the padding token that it was trained with into config.json, or ask for --units 1"
        )
