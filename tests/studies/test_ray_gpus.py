"""Which GPUs runs are given on Ray. The cluster is a stand-in that says what it has and executes nothing."""

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from small_runs import folder_of, small_run

from spectral_reach.studies.engines.ray import run_all
from spectral_reach.studies.engines.ray_worker import Outcome


@dataclass(kw_only=True)
class Cluster:
    """What is there, and what each run was given of it by the name of its folder."""

    gpus: float
    gpus_given: dict[str, float] = field(default_factory=dict)
    variables: dict[str, dict[str, str]] = field(default_factory=dict)
    directories: set[Path] = field(default_factory=set)

    def remote(self, *, num_gpus: float, **_: Any) -> Callable[[type], Any]:
        def worker(variables: dict[str, str], directory: Path) -> SimpleNamespace:
            def execute(folder: Path, patience: float) -> Outcome:
                self.gpus_given[folder.name] = num_gpus
                self.variables[folder.name] = variables
                self.directories.add(directory)
                return Outcome()

            return SimpleNamespace(execute=SimpleNamespace(remote=execute), latest=SimpleNamespace(remote=lambda: None))

        def actor(_: type) -> SimpleNamespace:
            return SimpleNamespace(
                options=lambda runtime_env: SimpleNamespace(
                    remote=lambda directory: worker(runtime_env["env_vars"], directory)
                )
            )

        return actor


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    there, ray = Cluster(gpus=2.0), ModuleType("ray")
    vars(ray).update(
        __spec__=ModuleSpec("ray", None),
        is_initialized=lambda: True,
        # Like Ray, it does not name what it has nothing of.
        cluster_resources=lambda: {"CPU": 8.0, **({"GPU": there.gpus} if there.gpus else {})},
        nodes=lambda: [{"Alive": True, "Resources": {"CPU": 8.0, "GPU": there.gpus}}],
        remote=there.remote,
        wait=lambda answers, **_: (answers, []),
        get=lambda answer: answer,
        kill=lambda actor: None,
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return there


def folders_of(tmp_path: Path, *devices: str) -> list[Path]:
    return [folder_of(small_run(f"on-{each}", device=each), tmp_path / each).path for each in devices]


@pytest.mark.parametrize(
    ("gpus", "asked", "given"),
    [
        (2.0, None, {"auto": 1.0, "cpu": 0.0}),
        (2.0, 0.5, {"auto": 0.5, "cpu": 0.0}),
        (2.0, 0.0, {"auto": 0.0, "cpu": 0.0}),
        (0.0, None, {"auto": 0.0, "cpu": 0.0}),
    ],
)
def test_runs_that_may_use_a_gpu_have_one_where_there_are_any_unless_told_otherwise(
    gpus: float, asked: float | None, given: dict[str, float], cluster: Cluster, tmp_path: Path
) -> None:
    cluster.gpus = gpus
    run_all(folders_of(tmp_path, "auto", "cpu"), gpus_per_run=asked)
    assert cluster.gpus_given == given
    # Ray says which GPU; what has none is shown none.
    shown = {name: variables.get("CUDA_VISIBLE_DEVICES") for name, variables in cluster.variables.items()}
    assert shown == {name: None if share else "" for name, share in given.items()}
    assert cluster.directories == {Path.cwd()}


@pytest.mark.parametrize(
    ("gpus", "asked", "because"),
    [(2.0, 0.0, "--gpus-per-run is 0"), (0.0, None, "the Ray cluster has none now, and --gpus-per-run is not given")],
)
def test_a_run_that_insists_on_cuda_is_refused_before_any_begins(
    gpus: float, asked: float | None, because: str, cluster: Cluster, tmp_path: Path
) -> None:
    cluster.gpus = gpus
    with pytest.raises(
        ValueError, match=f"Run 'on-cuda' has the device 'cuda', and Ray would give it no GPU: {because}"
    ):
        run_all(folders_of(tmp_path, "auto", "cuda"), gpus_per_run=asked)
    assert not cluster.gpus_given


def test_a_run_that_insists_on_cuda_waits_for_the_gpu_that_was_asked_for(
    cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.gpus = 0.0
    with caplog.at_level(logging.WARNING):
        run_all(folders_of(tmp_path, "cuda"), gpus_per_run=1.0)
    assert (
        "No node of the Ray cluster has 1 CPUs and 1 GPUs, which a run takes: it waits until one joins" in caplog.text
    )
    assert cluster.gpus_given == {"cuda": 1.0}
