"""A library of Python sources small enough to tokenise in a blink, shaped like the real one."""

from pathlib import Path

from spectral_reach.studies.data.batches import Batch
from spectral_reach.studies.data.stdlib import Source

FILES = 80


def write_library(root: Path) -> Path:
    """Sources at two depths, and beside them what must be left out."""
    (root / "package").mkdir(parents=True)
    for number in range(FILES):
        folder = root / "package" if number % 2 else root
        body = "".join(f"    if value == {number * line}:\n        return 'case {line} é'\n" for line in range(12))
        (folder / f"module_{number}.py").write_text(f"def function_{number}(value):\n{body}", encoding="utf-8")
    for left_out in ("test", "package/tests", "site-packages/x", "dist-packages", "idlelib/idle_test", "config-3"):
        (root / left_out).mkdir(parents=True)
        (root / left_out / "excluded.py").write_text("excluded = True\n")
    (root / "_sysconfigdata_linux.py").write_text("excluded = 'where it was built'\n")
    (root / "data.txt").write_text("excluded: no source")
    return root


def paths(sources: list[Source], *, held_out: bool) -> set[str]:
    return {s.path for s in sources if s.held_out is held_out}


def rows(batch: Batch) -> list[tuple[int, ...]]:
    """Each sequence of a batch, put together again."""
    inputs, targets = batch
    return [(*i, t[-1]) for i, t in zip(inputs.tolist(), targets.tolist(), strict=True)]
