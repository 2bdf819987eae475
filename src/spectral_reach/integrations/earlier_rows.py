"""Rows that an earlier training has left where the next one is to write its own."""

from __future__ import annotations

from pathlib import Path

from spectral_reach.records.run_folder import RunFolder


def make_room(folder: str | Path, step: int) -> None:
    """Make ready for a training that goes on after ``step`` updates.

    At 0 it is another training than the one whose rows there are: they are put aside as ``NAME-1``, ``NAME-2``, ...
    Later it takes its steps from a checkpoint on anew, and measures them anew: rows from there on are dropped.

    Raises:
        RunFolderBusyError: the earlier training still writes them.
        RecordError: they cannot be moved or written.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        return
    run = RunFolder.open(folder)
    with run.lock():
        tables = (run.measurements, run.updates, *run.named_measurements.values())
        if step:
            for table in tables:
                table.truncate_from(step)
        elif any(map(len, tables)):
            number = 1
            while (aside := folder.with_name(f"{folder.name}-{number}")).exists():
                number += 1
            folder.rename(aside)
