"""The learning rate of a run that takes the best one of a small sweep, and a record of how it was chosen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spectral_reach.records.atomic import write_json_atomically
from spectral_reach.records.errors import RecordError
from spectral_reach.records.run_folder import RunFolder

FILE = "learning_rate.json"


def chosen_rate(folder: RunFolder, sweep: Sequence[str]) -> float:
    """The rate of the run with the lowest final held-out loss among the ``sweep``, run folders beside ``folder``.

    Writes ``learning_rate.json`` into ``folder``: the rate, the run that it comes from, and every run's rate and loss.
    A run that diverged has lost; of equal losses the lower rate wins.

    Raises:
        RecordError: a run of the sweep is not finished.
        ValueError: all have diverged.
    """
    tried = [_result(folder.path.parent / name) for name in sweep]
    finite = [each for each in tried if each["heldout_loss"] is not None]
    if not finite:
        raise ValueError(
            f"No run of the learning-rate sweep {', '.join(sweep)} has a finite held-out loss; expected at least one: "
            "choose lower rates in a new folder."
        )
    best = min(finite, key=lambda each: (each["heldout_loss"], each["learning_rate"]))
    write_json_atomically(
        folder.path / FILE, {"learning_rate": best["learning_rate"], "from": best["run"], "sweep": tried}
    )
    return float(best["learning_rate"])


def read_chosen_rate(run: Path) -> float | None:
    """What ``chosen_rate`` has put down in the run folder ``run``; None if nothing.

    Raises:
        RecordError: the record is damaged.
    """
    file = run / FILE
    if not file.exists():
        return None
    try:
        return float(json.loads(file.read_text(encoding="utf-8"))["learning_rate"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordError(
            f"{file} cannot be read: {error!r}. Restore it from a copy, or delete the run folder."
        ) from error


def _result(path: Path) -> dict[str, Any]:
    folder = RunFolder.open(path)
    summary = folder.summary
    if summary is None:
        raise RecordError(f"{path} is not finished; expected every run of the sweep to be: run those first.")
    loss = summary["heldout_loss"]
    return {"run": path.name, "learning_rate": folder.config["training"]["learning_rate"], "heldout_loss": loss}
