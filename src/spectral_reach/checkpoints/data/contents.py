"""Which columns make which content, and which models read it. A new content is one file and an entry here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from spectral_reach.checkpoints.data.chat import Chat
from spectral_reach.checkpoints.data.class_labels import ClassLabels
from spectral_reach.checkpoints.data.classification import TextClassification
from spectral_reach.checkpoints.data.completions import Completions
from spectral_reach.checkpoints.data.conditions import Conditions
from spectral_reach.checkpoints.data.images import ImageClassification
from spectral_reach.checkpoints.data.language import LanguageModelling
from spectral_reach.checkpoints.data.masking import MaskedLanguageModelling
from spectral_reach.checkpoints.data.preferences import Preferences
from spectral_reach.checkpoints.data.rows import Rows
from spectral_reach.checkpoints.data.spec import Spec
from spectral_reach.checkpoints.data.token_ids import TokenIds
from spectral_reach.checkpoints.data.unit import Unit
from spectral_reach.checkpoints.kinds import Kind

Encode = Callable[[Mapping[str, Any], int], Unit]
"""The values of a row by role, and its number, into a unit."""

Columns = Mapping[str, str]
"""Role -> column."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """What a table may hold.

    Attributes:
        units: what a unit is called.
        kind: the models that read it.
        required: roles that it needs a column for.
        optional: roles that it has a use for.
        encoder: how its rows become units.
    """

    units: str
    kind: Kind
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    encoder: Callable[[Conditions, Rows, Columns], Encode]

    def columns(self, named: Columns) -> Columns:
        """The column of each of its roles, named or of the role's own name. Rows may lack those of optional roles."""
        return {role: named.get(role, role) for role in (*self.required, *self.optional)}


def _labels(conditions: Conditions, rows: Rows, column: str) -> ClassLabels:
    return ClassLabels(conditions.config, rows.class_names(column))


# Where several fit, the first one counts.
_CONTENTS = (
    Content(
        units="sequences",
        kind=Kind.CAUSAL_LM,
        required=("input_ids",),
        optional=("labels", "attention_mask"),
        encoder=lambda conditions, rows, columns: TokenIds(conditions, None),
    ),
    Content(
        units="preference pairs",
        kind=Kind.CAUSAL_LM,
        required=("chosen", "rejected"),
        optional=("prompt",),
        encoder=lambda conditions, rows, columns: Preferences(conditions),
    ),
    Content(
        units="completions",
        kind=Kind.CAUSAL_LM,
        required=("prompt", "completion"),
        encoder=lambda conditions, rows, columns: Completions(conditions),
    ),
    Content(
        units="conversations",
        kind=Kind.CAUSAL_LM,
        required=("messages",),
        encoder=lambda conditions, rows, columns: Chat(conditions),
    ),
    Content(
        units="sequences",
        kind=Kind.CAUSAL_LM,
        required=("text",),
        encoder=lambda conditions, rows, columns: LanguageModelling(conditions),
    ),
    Content(
        units="sequences",
        kind=Kind.MASKED_LM,
        required=("input_ids",),
        optional=("labels", "attention_mask"),
        encoder=lambda conditions, rows, columns: TokenIds(conditions, None),
    ),
    Content(
        units="sequences",
        kind=Kind.MASKED_LM,
        required=("text",),
        encoder=lambda conditions, rows, columns: MaskedLanguageModelling(conditions),
    ),
    Content(
        units="sequences",
        kind=Kind.SEQUENCE_CLASSIFICATION,
        required=("input_ids", "labels"),
        optional=("attention_mask",),
        encoder=lambda conditions, rows, columns: TokenIds(conditions, _labels(conditions, rows, columns["labels"])),
    ),
    Content(
        units="texts",
        kind=Kind.SEQUENCE_CLASSIFICATION,
        required=("text", "label"),
        optional=("text_pair",),
        encoder=lambda conditions, rows, columns: TextClassification(
            conditions, _labels(conditions, rows, columns["label"])
        ),
    ),
    Content(
        units="images",
        kind=Kind.IMAGE_CLASSIFICATION,
        required=("image", "label"),
        encoder=lambda conditions, rows, columns: ImageClassification(
            conditions, _labels(conditions, rows, columns["label"]), rows.folder
        ),
    ),
)


def content_of(rows: Rows, spec: Spec, kind: Kind) -> tuple[Content, Columns]:
    """What the columns of a table are for a model of this kind, and the column of each role.

    Columns that the user has named decide where several contents fit.

    Raises:
        ValueError: a column that the user named is not there, or no content of this kind fits.
    """
    has = f"the columns of {spec.place} are {', '.join(rows.columns) or 'none'}"
    for role, column in spec.columns.items():
        if column not in rows.columns:
            raise ValueError(f"{role}={column}: {has}; name one of these")
    found = {*rows.columns, *spec.columns}
    of_kind = [content for content in _CONTENTS if content.kind is kind]
    for content in of_kind:
        roles = {*content.required, *content.optional}
        if found >= set(content.required) and roles >= spec.columns.keys():
            return content, content.columns(spec.columns)
    wanted = " or ".join(" + ".join(content.required) for content in of_kind)
    example = of_kind[-1].required[0]
    raise ValueError(
        f"{has}; a {kind} model reads {wanted}: name the columns that are meant, as in "
        f"{spec.place}?{example}=COLUMN, or data of the kind that the model was trained on"
    )
