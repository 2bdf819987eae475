"""Is a held-out position higher because the files are new, or because they are few?

    python benchmarks/heldout_control.py reproduction/all-quick/scaling-text

The mean gradient of a few files is longer than that of all: their own peculiarities do not average out. So the held-out
files of the study's finished runs on the standard library are compared with as many random training files at a time,
taken as a set in the same way: squared norm of the set's mean loss gradient over the mean squared gradient at the
outputs, which is spectral position up to chi_net and constants that all sets share.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from spectral_reach.records.run_folder import RunFolder
from spectral_reach.studies.data.tokens import TokenData
from spectral_reach.studies.training.run_config import RunConfig
from spectral_reach.studies.training.snapshot import model_of

BATCH = 64
END_OF_FILE = 0  # the first token of the tokenizer that the standard library has learnt


def files_of(windows: NDArray[np.uint16]) -> NDArray[np.int64]:
    """(n) which file each window begins in; the last token of a window is the first of the next."""
    before = np.concatenate([[0], np.cumsum((windows[:, 1:] == END_OF_FILE).sum(axis=1))[:-1]])
    return before.astype(np.int64)


def position(model: torch.nn.Module, windows: NDArray[np.uint16]) -> float:
    """Squared norm of the mean loss gradient of the windows, over the mean squared loss gradient at the outputs."""
    model.zero_grad(set_to_none=True)
    at_outputs = 0.0
    for first in range(0, len(windows), BATCH):
        tokens = torch.from_numpy(windows[first : first + BATCH].astype(np.int64))
        logits = model(input_ids=tokens[:, :-1]).logits
        targets = tokens[:, 1:]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
        (loss / (len(windows) * targets.shape[1])).backward()
        with torch.no_grad():
            off = logits.softmax(-1)
            off.scatter_add_(-1, targets[..., None], torch.full_like(off[..., :1], -1.0))
            at_outputs += float((off**2).sum()) / (len(windows) * targets.shape[1])
    squared = sum(float((p.grad**2).sum()) for p in model.parameters() if p.grad is not None)
    return squared / at_outputs


def compare(run: Path, sets: int, seed: int) -> tuple[float, NDArray[np.float64], int]:
    """Position of the held-out files, of ``sets`` random sets of as many training files, and how many files that is."""
    folder = RunFolder.open(run)
    config = RunConfig.from_dict(folder.config)
    data = config.data.load()
    assert isinstance(data, TokenData)
    model = model_of(config)
    checkpoint = folder.checkpoints.latest()
    assert checkpoint is not None
    checkpoint.load_weights(model)
    files = int(data.facts["files_heldout"])
    place = files_of(data.train)
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(sets):
        chosen = rng.choice(np.unique(place), size=files, replace=False)
        found.append(position(model, data.train[np.isin(place, chosen)]))
    return position(model, data.heldout), np.array(found), files


def main() -> None:
    """A line a run, then a line a size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="folder of a study scaling-text on the standard library")
    parser.add_argument("--sets", type=int, default=8, help="of training files, for each run")
    arguments = parser.parse_args()
    ratios: dict[int, list[float]] = {}
    for run in sorted((arguments.study / "runs").iterdir()):
        folder = RunFolder.open(run)
        if not folder.is_finished:
            continue
        heldout, sets, files = compare(run, arguments.sets, seed=int(folder.config["training"]["seed"]))
        ratio = heldout / sets.mean()
        ratios.setdefault(int(folder.config["facts"]["parameters"]), []).append(ratio)
        print(
            f"{run.name}: held-out over training, {files} files each: {ratio:.2f} "
            f"({heldout / sets.max():.2f} to {heldout / sets.min():.2f} over {len(sets)} sets)",
            flush=True,
        )
    for parameters, found in sorted(ratios.items()):
        print(f"{parameters:,} parameters: {np.mean(found):.2f} +- {np.std(found, ddof=1) / len(found) ** 0.5:.2f}")


if __name__ == "__main__":
    main()
