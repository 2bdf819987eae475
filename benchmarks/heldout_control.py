"""Does held-out text lie higher in the spectrum because its files are new, or because they are few?

    python benchmarks/heldout_control.py reproduction/all-quick/scaling-text --runs text-016k-seed0 text-890k-seed0

Sequences of one file have gradients alike. So the mean gradient of a few files is longer than that of all, whatever
files they are, and the position of a set of them seems to be higher. For final models of a study on the standard
library, sets of equally many sequences are compared: from the held-out files, from as many random training files, from
26, and from all of them. The statistic is the squared norm of a set's mean loss gradient over the mean squared loss
gradient at the outputs: spectral position up to chi_net, which all sets share, and raised by gradient noise alike.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from spectral_reach.records.run_folder import RunFolder
from spectral_reach.studies.data.tokens import TokenData
from spectral_reach.studies.training.run_config import RunConfig
from spectral_reach.studies.training.snapshot import model_of

BATCH = 64
FEW = 26
END_OF_FILE = 0  # the first token of the tokenizer that the standard library has learnt

Windows = NDArray[np.uint16]


def files_of(windows: Windows) -> NDArray[np.int64]:
    """(n) which file each window begins in; the last token of a window is the first of the next."""
    before = np.concatenate([[0], np.cumsum((windows[:, 1:] == END_OF_FILE).sum(axis=1))[:-1]])
    return before.astype(np.int64)


def position(model: torch.nn.Module, windows: Windows) -> float:
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


def compare(run: Path, *, sets: int, sequences: int, seed: int) -> dict[str, NDArray[np.float64]]:
    """Positions of ``sets`` sets of each kind, by what their sequences were drawn from."""
    folder = RunFolder.open(run)
    config = RunConfig.from_dict(folder.config)
    data = config.data.load()
    assert isinstance(data, TokenData)
    model = model_of(config)
    checkpoint = folder.checkpoints.latest()
    assert checkpoint is not None
    checkpoint.load_weights(model)
    heldout = int(data.facts["files_heldout"])
    place = files_of(data.train)
    rng = np.random.default_rng(seed)

    def of_files(count: int) -> Windows:
        for _ in range(100):
            chosen = rng.choice(np.unique(place), size=count, replace=False)
            rows = np.flatnonzero(np.isin(place, chosen))
            if len(rows) >= sequences:  # else these files are too small
                return data.train[np.sort(rng.choice(rows, size=sequences, replace=False))]
        raise ValueError(
            f"{count} training files hold fewer than {sequences} sequences; expected more: give --sequences"
        )

    def of(windows: Windows) -> Windows:
        return windows[np.sort(rng.choice(len(windows), size=sequences, replace=False))]

    kinds: dict[str, Callable[[], Windows]] = {
        "all training files": lambda: of(data.train),
        f"{FEW} training files": lambda: of_files(FEW),
        f"{heldout} training files": lambda: of_files(heldout),
        f"the {heldout} held-out files": lambda: of(data.heldout),
    }
    return {kind: np.array([position(model, draw()) for _ in range(sets)]) for kind, draw in kinds.items()}


def main() -> None:
    """For each run a line a kind: its position over that of all training files, with the standard error over sets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="folder of a study scaling-text on the standard library")
    parser.add_argument("--runs", nargs="+", required=True, help="finished runs of it; some minutes each")
    parser.add_argument("--sets", type=int, default=6, help="of each kind; 2 at least")
    parser.add_argument("--sequences", type=int, default=1500, help="of a set")
    arguments = parser.parse_args()
    if arguments.sets < 2:
        parser.error(f"--sets is {arguments.sets}; expected 2 or more, for the error of their mean")
    for seed, name in enumerate(arguments.runs):
        found = compare(arguments.study / "runs" / name, sets=arguments.sets, sequences=arguments.sequences, seed=seed)
        reference = next(iter(found.values())).mean()
        print(f"{name}, {arguments.sets} sets of {arguments.sequences:,} sequences of each kind", flush=True)
        for kind, values in found.items():
            error = values.std(ddof=1) / len(values) ** 0.5
            print(f"  {kind}: {values.mean() / reference:.2f} +- {error / reference:.2f}", flush=True)


if __name__ == "__main__":
    main()
