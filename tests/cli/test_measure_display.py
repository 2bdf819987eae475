"""What ``measure`` shows: a bar on a terminal, lines elsewhere, a table with error bars and reasons."""

import io
import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import torch
from rich.console import Console

import spectral_reach as sr
from spectral_reach.checkpoints.measure_checkpoints import Progress
from spectral_reach.checkpoints.schema import Key, Label, rows_of
from spectral_reach.cli.measure_display import MeasureDisplay, show


def at_work(display: MeasureDisplay) -> None:
    with display:
        display(Progress(phase="loading", revision="step1", batch=None, against=None, done=0, total=2))
        for done, against in ((1, None), (2, "code")):
            about: dict[str, Any] = {"revision": "step1", "batch": "prose", "against": against, "total": 2}
            display(Progress(phase="measuring", done=done - 1, **about))
            display(Progress(phase="measured", done=done, **about))


def console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=120, highlight=False)


def written(to: Console) -> str:
    assert isinstance(to.file, io.StringIO)
    return to.file.getvalue()


def test_a_bar_on_a_terminal() -> None:
    to = console(terminal=True)
    at_work(MeasureDisplay(2, to))
    assert "step1 prose,code" in written(to)
    assert "2/2" in written(to)


def test_a_line_a_measurement_elsewhere() -> None:
    to = console(terminal=False)
    at_work(MeasureDisplay(2, to))
    first, second = written(to).splitlines()
    assert first.startswith("step1 prose  1 of 2, about ")
    assert second == "step1 prose,code  2 of 2"


def test_a_table_with_errors_and_reasons() -> None:
    torch.manual_seed(0)
    found = sr.decompose(
        torch.nn.Linear(3, 4), (torch.randn(6, 3), torch.randint(4, (6,))), probes=2, estimator="batch"
    )
    label = Label(model="m", revision="step1", step=1, batch="prose", against=None)
    key = Key(commit="c", batch_digest="b", against_digest=None, settings="s")
    diverged = sr.Decomposition.undefined_everywhere("it diverged", "batch")
    about: dict[str, Any] = {"loss": "cross_entropy", "parameters": None, "seed": 0, "dtype": "float32"}
    table = pa.concat_tables(
        [
            rows_of(found, label, key, **about),
            rows_of(diverged, replace(label, revision="step2", against="code"), key, **about),
        ]
    )
    to = console(terminal=False)
    show(table, SimpleNamespace(measurements=()), to)  # type: ignore[arg-type] # of the plan only one is looked at
    lines = written(to).splitlines()
    assert [word for word in lines[0].split() if word != "unbiased"][:4] == ["revision", "batch", "loss", "chi_loss"]
    row = next(line for line in lines if line.startswith("step1"))
    assert f"{found.chi_net:.4g} ± {found.chi_net_stderr:.1g}" in row
    assert f"{found.chi_pos_unbiased:.4g} ± {found.chi_pos_unbiased_stderr:.1g}" in row
    broken = next(line for line in lines if line.startswith("step2"))
    assert broken.split()[1:] == ["prose,code", *["nan"] * 5]
    assert lines[-1] == "step2 prose,code: it diverged"
    assert math.isfinite(found.chi_pos)
