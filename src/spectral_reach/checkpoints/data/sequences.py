"""Token ids and which of them are labels, into a unit."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from spectral_reach.checkpoints.data.conditions import Conditions
from spectral_reach.checkpoints.data.unit import Unit
from spectral_reach.measured.rows import IGNORE_INDEX


def causal_unit(ids: Sequence[int], labelled: Sequence[bool], conditions: Conditions) -> Unit:
    """A sequence for a causal language model, cut behind ``max_length``.

    ``labelled``: one entry a token. The first token is never told from others, so that its label does not count.

    Raises:
        ValueError: tokens that the model does not know, or more of them than it reads.
    """
    conditions.check_vocabulary(ids)
    room = conditions.room_for(len(ids))
    labels = [token if said else IGNORE_INDEX for token, said in zip(ids[:room], labelled[:room], strict=True)]
    return Unit(
        tensors={
            "input_ids": torch.tensor(ids[:room], dtype=torch.int64),
            "attention_mask": torch.ones(room, dtype=torch.int64),
            "labels": torch.tensor(labels, dtype=torch.int64),
        },
        n_labels=sum(map(bool, labelled[1:room])),
        is_cut=room < len(ids),
    )
