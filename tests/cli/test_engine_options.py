"""Who executes the runs, as the command line says it: what goes together, and the command that goes on."""

import shlex
import sys

import pytest

from spectral_reach.cli.engine import as_arguments, engine_options
from spectral_reach.studies.engines import options as of_engines
from spectral_reach.studies.engines import resources
from spectral_reach.studies.engines.options import EngineOptions
from spectral_reach.studies.engines.registry import engine


@pytest.mark.parametrize(
    ("typed", "options"),
    [
        ("", EngineOptions()),
        ("--workers 3", EngineOptions(workers=3)),
        ("--engine ray", EngineOptions(engine="ray")),
        (
            "--engine ray --workers 2 --address 10.0.0.1:6379 --cpus-per-run 1.5 --gpus-per-run 0.25",
            EngineOptions(engine="ray", workers=2, address="10.0.0.1:6379", cpus_per_run=1.5, gpus_per_run=0.25),
        ),
    ],
)
def test_the_command_that_goes_on_has_the_same_options(typed: str, options: EngineOptions) -> None:
    assert shlex.join(as_arguments(options)) == typed


def test_options_are_those_of_the_command() -> None:
    assert engine_options("ray", 2, "auto", 3.0, 1.0) == EngineOptions(
        engine="ray", workers=2, address="auto", cpus_per_run=3.0, gpus_per_run=1.0
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"engine": "slurm"}, "engine is 'slurm'; expected local or inline or ray"),
        ({"workers": 0}, "workers is 0; expected at least 1 run at a time"),
        ({"address": "auto"}, "--address is auto with the engine 'local'; expected it with Ray only: add --engine ray"),
        ({"cpus_per_run": 1.0}, "--cpus-per-run is 1.0 with the engine 'local'"),
        ({"gpus_per_run": 0.0}, "--gpus-per-run is 0.0 with the engine 'local'"),
        ({"engine": "ray", "cpus_per_run": 0.0}, "cpus-per-run is 0; expected more than 0 cores"),
        ({"engine": "ray", "cpus_per_run": float("nan")}, "cpus-per-run is nan; expected more than 0 cores"),
        ({"engine": "ray", "gpus_per_run": -1.0}, "gpus-per-run is -1; expected a share of one GPU, or a whole number"),
        ({"engine": "ray", "gpus_per_run": 1.5}, "gpus-per-run is 1.5; expected a share of one GPU, or a whole number"),
    ],
)
def test_what_does_not_go_together(options: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        EngineOptions(**options)  # type: ignore[arg-type]


def test_threads_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (resources, of_engines):
        monkeypatch.setattr(module, "available_cores", lambda: 8)
    assert [EngineOptions().at_once(threads) for threads in (1, 3, 16)] == [8, 2, 1]
    assert [EngineOptions(engine=name, workers=5).at_once(3) for name in ("local", "ray")] == [5, 5]
    assert EngineOptions(engine="ray").at_once(3) is None
    assert [EngineOptions(workers=workers).at_once(3, devices=4) for workers in (None, 5)] == [4, 5]
    assert EngineOptions().task_threads == 8
    assert EngineOptions(workers=3).task_threads == 3
    assert EngineOptions(engine="ray", workers=100).task_threads == 8


def test_an_engine_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModuleNotFoundError, match="ray is not installed"):
        engine(EngineOptions(engine="ray"))
