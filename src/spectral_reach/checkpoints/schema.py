"""The columns of a file of results, and how a decomposition becomes rows and comes back.

A measurement of one revision on one batch, or on a pair, is one row for each quantity:

``model``, ``revision``       what the user called them
``commit``                    the commit on the hub, or ``sha256:`` of a local folder's configuration and weights
``step``                      updates that had been made; null where it is not known
``batch``, ``against``        names of the batches: a gradient step on ``batch``, felt by ``against`` (null without one)
``loss_function``             the loss by its name; ``model`` is told as what it is, for example ``cross_entropy``
``quantity``                  see ``QUANTITIES``
``value``, ``stderr``         NaN where undefined; ``stderr`` 0 where there is no error for this batch
``undefined``                 why the value is NaN, else null
``stderr_undefined``          why the standard error is NaN, else null
``n_samples``, ``n_samples_against``, ``n_units``, ``units``, ``noise_units``, ``n_outputs``, ``probes``, ``estimator``,
``passed_over``               as in ``Decomposition``
``parameters``                what was measured, names between commas; null for all that are trainable
``seed``, ``dtype``           as they were asked for
``batch_digest``, ``against_digest``  sha256 of the batches' values
``settings``                  digest of all else that a value depends on: two rows may be compared where it is the same
``version``                   of spectral-reach

The standard errors of ``loss``, ``delta_loss``, ``chi_loss``, ``chi_net`` and ``chi_pos`` are for this batch, over
probes; those of ``chi_net_population`` and of the noise-corrected quantities over draws of the batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from spectral_reach import __version__
from spectral_reach.decomposition.result import Decomposition

VERSION = 1
KEY = b"spectral_reach_results"

# Quantity -> the fields of a decomposition with its value and its standard error ("": exact; None: not estimated).
QUANTITIES: Mapping[str, tuple[str, str | None]] = {
    "loss": ("loss", ""),
    "delta_loss": ("delta_loss", ""),
    "chi_loss": ("chi_loss", ""),
    "chi_net": ("chi_net", "chi_net_stderr"),
    "chi_net_population": ("chi_net", "chi_net_population_stderr"),
    "chi_pos": ("chi_pos", "chi_pos_stderr"),
    "delta_loss_unbiased": ("delta_loss_unbiased", "delta_loss_unbiased_stderr"),
    "chi_pos_unbiased": ("chi_pos_unbiased", "chi_pos_unbiased_stderr"),
    "gradient_noise_scale": ("gradient_noise_scale", None),
}
_NOT_ESTIMATED = "not estimated"
_COUNTS = ("n_samples", "n_samples_against", "n_units", "units", "noise_units", "n_outputs", "probes")
_WORDS = ("estimator", "passed_over")

SCHEMA = pa.schema(
    [
        ("model", pa.string()),
        ("revision", pa.string()),
        ("commit", pa.string()),
        ("step", pa.int64()),
        ("batch", pa.string()),
        ("against", pa.string()),
        ("loss_function", pa.string()),
        ("quantity", pa.string()),
        ("value", pa.float64()),
        ("stderr", pa.float64()),
        ("undefined", pa.string()),
        ("stderr_undefined", pa.string()),
        *((name, pa.int64()) for name in _COUNTS),
        *((name, pa.string()) for name in _WORDS),
        ("parameters", pa.string()),
        ("seed", pa.int64()),
        ("dtype", pa.string()),
        ("batch_digest", pa.string()),
        ("against_digest", pa.string()),
        ("settings", pa.string()),
        ("version", pa.string()),
    ],
    metadata={KEY: str(VERSION).encode()},
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """What the user calls a measurement.

    Attributes:
        model, revision, step: of the model.
        batch, against: names of the batches.
    """

    model: str
    revision: str
    step: int | None
    batch: str
    against: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """What a measurement depends on: two with the same have the same values.

    Attributes:
        commit: identity of the revision.
        batch_digest, against_digest: of the batches' values.
        settings: digest of the settings.
    """

    commit: str
    batch_digest: str
    against_digest: str | None
    settings: str


def rows_of(
    found: Decomposition,
    label: Label,
    key: Key,
    *,
    loss: str,
    parameters: Sequence[str] | None,
    seed: int,
    dtype: str,
) -> pa.Table:
    """One measurement as rows, one a quantity."""
    common = {
        **{name: getattr(label, name) for name in Label.__dataclass_fields__},
        **{name: getattr(key, name) for name in Key.__dataclass_fields__},
        **{name: getattr(found, name) for name in (*_COUNTS, *_WORDS)},
        "loss_function": loss,
        "parameters": None if parameters is None else ",".join(parameters),
        "seed": seed,
        "dtype": dtype,
        "version": __version__,
    }
    rows = []
    for quantity, (value_field, stderr_field) in QUANTITIES.items():
        value = getattr(found, value_field)
        why = found.undefined.get(value_field)
        stderr, why_stderr = 0.0 if why is None else math.nan, why
        if stderr_field is None:
            stderr, why_stderr = math.nan, _NOT_ESTIMATED
        elif stderr_field:
            stderr, why_stderr = getattr(found, stderr_field), found.undefined.get(stderr_field)
        about = {"undefined": why, "stderr_undefined": why_stderr}
        rows.append({**common, "quantity": quantity, "value": value, "stderr": stderr, **about})
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def decomposition_of(rows: Sequence[Mapping[str, Any]]) -> Decomposition:
    """The decomposition that ``rows_of`` was given, from the rows of one measurement."""
    values: dict[str, Any] = {}
    undefined: dict[str, str] = {}
    for row in rows:
        value_field, stderr_field = QUANTITIES[row["quantity"]]
        for field, value, why in (
            (value_field, row["value"], row["undefined"]),
            (stderr_field, row["stderr"], row["stderr_undefined"]),
        ):
            if field:
                values[field] = value
                if why is not None:
                    undefined[field] = why
    counted = {name: rows[0][name] for name in (*_COUNTS, *_WORDS)}
    return Decomposition(**values, **counted, undefined=undefined)
