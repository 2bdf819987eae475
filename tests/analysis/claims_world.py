"""Study folders in which the claims of the paper hold, do not, or cannot be told. Not a test."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.synthetic_study import SyntheticRun, with_seeds, write_study
from spectral_reach.records.results import Results
from spectral_reach.records.run_folder import RunFolder
from spectral_reach.studies.analysis.claims import ClaimsTable, Finding, evaluate

SIZES = (20_000, 30_000, 45_000, 68_000)
STEPS = 100


def family(
    name: str = "text",
    *,
    direction: float = 1.0,
    sizes: Sequence[int] = SIZES,
    seeds: Sequence[int] = (0, 1),
    **changes: Any,
) -> list[SyntheticRun]:
    """Runs whose loss falls with size and whose position goes as size to the power of minus ``direction``, all along.

    Position falls to a twentieth of its peak, with little noise, and is the same on held-out data.
    """
    runs = []
    for parameters in sizes:
        ratio = (parameters / sizes[0]) ** -direction
        settings: dict[str, Any] = {
            "steps": STEPS,
            "floor": 3.6 * (parameters / sizes[0]) ** -0.3,
            "peak": 2e-5 * ratio,
            "late_position": 1e-6 * ratio,
            "position_noise": 1e-7 * ratio,
            "batch_noise": 2e-7 * ratio,
            "seed_spread": 0.05,
            "heldout_units": 32,
            "heldout_every": 10,
            **changes,
        }
        runs.append(SyntheticRun(name=f"{name}-{parameters // 1000}k", parameters=parameters, **settings))
    return with_seeds(runs, seeds)


def of_text(folder: Path, runs: Sequence[SyntheticRun], **changes: Any) -> ClaimsTable:
    """The claims on a study scaling-text of these runs."""
    return evaluate({"scaling-text": write_study(folder / "text", {"text": runs}, study="scaling-text", **changes)})


def findings(table: ClaimsTable, claim: str, measure: str | None = None) -> list[Finding]:
    """Those of one claim, and of one measure, that were run."""
    return [f for f in table.findings if f.claim == claim and f.measure and measure in (None, f.measure)]


def write_random_features(folder: Path, *, excess: float, spread: float, draws: int = 20, unity: float = 1.0) -> Path:
    """Two exponents, whose chi_pos exceeds the prediction by this much, relatively, in each draw within ``spread``."""
    rng = np.random.default_rng(3)
    tasks = []
    for exponent in (1.0, 2.0):
        name = f"exponent-{exponent:g}"
        tasks.append(name)
        noise = rng.standard_normal(draws)
        noise = (noise - noise.mean()) / noise.std(ddof=1)  # means are what they are meant to be
        predicted = np.full(draws, 0.1)
        values = {
            "chi_loss": 1 + 0.001 * noise,
            "chi_net": unity + 0.001 * noise,
            "chi_pos": predicted * (1 + excess + spread * noise),
            "predicted_chi_pos": predicted,
            "p_network": np.full((draws, 3), 1 / 3),
            "p_limit": np.full((draws, 3), 1 / 3),
            "covariance": np.ones(3),
        }
        Results(folder).save({"name": name, "kind": "random_features", "settings": {"exponent": exponent}}, values)
    _write_header(folder, "random-features", tasks, {"seeds": draws, "exponents": [1.0, 2.0]})
    return folder


def write_convergence(folder: Path, *, exponent: float, draws: int = 4096, longest: int = 64) -> Path:
    """Hutchinson draws on one model, whose averages vary as their number to the power of ``exponent``, -1/2 to 0.

    Above -1/2 all draws of an average share a part of their deviation.
    """
    rng = np.random.default_rng(4)
    noise = rng.standard_normal(draws)
    if exponent > -0.5:
        noise = np.repeat(rng.standard_normal(-(-draws // longest)), longest)[:draws] + 0.01 * noise
    run = SyntheticRun(name="text-20k", parameters=20_000, steps=10)
    RunFolder.create(folder / "runs" / run.name, run.config())
    settings = {"run": run.name, "step": run.steps, "way": "batch", "units": 0}
    values = {"chi_net": 100 * (1 + 0.1 * noise), "seconds": np.full(draws, 0.01)}
    Results(folder).save({"name": "draws-0", "kind": "trace_draws", "settings": settings}, values)
    families = {"text": {"label": "text", "is_sweep": False, "runs": [run.name]}}
    _write_header(
        folder, "convergence", ["draws-0"], {"steps": run.steps, "averaged": longest, "compared": longest}, families
    )
    return folder


def _write_header(
    folder: Path,
    study: str,
    tasks: Sequence[str],
    settings: Mapping[str, Any],
    families: Mapping[str, Any] | None = None,
) -> None:
    header = {"format": "spectral-reach study", "version": 1, "study": study, "preset": "synthetic"}
    record = {**header, "settings": dict(settings), "families": dict(families or {}), "tasks": list(tasks)}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.json").write_text(json.dumps(record), encoding="utf-8")
