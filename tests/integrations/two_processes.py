"""One of several processes that train together, for ``test_two_processes.py``: FRAMEWORK FOLDER, started by torchrun.

Trains without and with the callback and leaves what it has seen in ``FOLDER/RANK.json``.
"""

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import torch

warnings.simplefilter("ignore")


def huggingface(out: Path) -> dict[str, Any]:
    import test_huggingface as its

    from spectral_reach.integrations.huggingface import SpectralCallback

    options = {"ddp_backend": "gloo", "gradient_accumulation_steps": 2, "max_steps": 4}
    _, plain = its.train(out / "plain", **options)
    watch = its.Watch()
    batches = {"heldout": its.stacked(80, 82)}
    callback = SpectralCallback(schedule=2, updates=1, batches=batches, pairs=[("training", "heldout")])
    trainer, watched = its.train(out / "watched", watch, callback, **options)
    assert trainer.args.world_size == 2
    return seen(plain, watched, callback, {step: found.as_dict() for step, found in watch.found.items()})


def lightning(out: Path) -> dict[str, Any]:
    import test_lightning as its

    from spectral_reach.integrations.lightning import SpectralCallback

    options = {"devices": 2, "strategy": "ddp", "max_steps": 4}
    _, plain = its.train(out / "plain", **options)
    watch = its.Watch()
    batches = {"heldout": its.drawn(100)}
    callback = SpectralCallback(schedule=2, updates=1, batches=batches, pairs=[("training", "heldout")])
    trainer, watched = its.train(out / "watched", watch, callback, **options)
    assert trainer.world_size == 2
    return seen(plain, watched, callback, {step: found.as_dict() for step, found in watch.found.items()})


def seen(plain: Any, watched: Any, callback: Any, by_hand: dict[int, dict[str, Any]]) -> dict[str, Any]:
    states = plain.state_dict(), watched.state_dict()
    return {
        "differing": [name for name, value in states[0].items() if not value.equal(states[1][name])],
        "weights": sum(float(p.double().sum()) for p in watched.parameters()),
        "random": float(torch.rand(())),
        "has_tracker": callback.tracker is not None,
        "by_hand": {step: {name: repr(value) for name, value in found.items()} for step, found in by_hand.items()},
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    framework, folder = sys.argv[1], Path(sys.argv[2])
    result = {"huggingface": huggingface, "lightning": lightning}[framework](folder)
    (folder / f"{os.environ['RANK']}.json").write_text(json.dumps(result))
