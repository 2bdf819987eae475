"""docs/architecture.md as a test: every import in the source is read; one that points the wrong way fails."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src"
MODULES = sorted(SOURCE.rglob("*.py"))

CORE = ("measured", "jacobian", "estimators", "decomposition", "spectra")
# Room -> the rooms that it may import besides itself. "studies.analysis" is one room inside another.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "measured": (),
    "jacobian": ("measured",),
    "estimators": ("measured", "jacobian"),
    "decomposition": ("measured", "jacobian", "estimators"),
    "spectra": ("measured", "jacobian", "estimators"),
    "records": (),
    "tracking": (*CORE, "records"),
    "sinks": ("decomposition", "records", "tracking"),
    "integrations": ("measured", "records", "tracking", "sinks"),
    "theory": CORE,
    "checkpoints": (*CORE, "records", "studies"),
    "studies": (*CORE, "records", "tracking", "theory"),
    "figures": ("spectra", "records", "studies.analysis"),
    "reports": ("records", "studies", "figures"),
    "cli": (*CORE, "records", "tracking", "studies", "checkpoints", "figures", "reports"),
}
# Room -> third-party packages that it may import at all, for rooms that promise to need little.
MAY_NEED = {room: {"torch", "numpy"} for room in CORE} | {
    "estimators": {"torch", "numpy", "scipy"},  # Student's factor
    "theory": {"torch", "numpy", "scipy"},
    "spectra": {"torch", "numpy", "scipy", "rich", "matplotlib"},  # operators; a bar for long work; what `plot` returns
    "records": {"torch", "numpy", "pyarrow", "filelock", "safetensors"},
    "tracking": {"torch", "numpy"},
    "sinks": {"torch", "wandb", "trackio"},
    "integrations": {"torch", "transformers", "lightning"},
    "checkpoints": {"torch", "numpy", "pyarrow", "filelock", "huggingface_hub", "transformers", "datasets", "PIL"},
    "reports": {"numpy", "torch", "plotly"},  # torch: the names of this machine's devices
    "cli": {"typer", "rich", "torch", "pyarrow", "transformers"},
}
# Packages that take a second to load or come with an extra: imported at the top of a module only where that
# module is about them, inside functions elsewhere.
HEAVY = {
    "transformers",
    "tokenizers",
    "sklearn",
    "matplotlib",
    "mpl_toolkits",
    "scipy",
    "plotly",
    "ray",
    "datasets",
    "PIL",
    "wandb",
    "trackio",
    "lightning",
}
MAY_OPEN_WITH_HEAVY = ("studies.data", "studies.models", "figures", "integrations")
# Methods of a result that lead to a room on its right, where users look for them.
DOORS = {("spectra.result", "records.arrays"), ("spectra.result", "figures.spectrum_panels")}
# Formats that run code when they are read (promise 6 in the design: safe by default).
UNSAFE = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


@dataclass(frozen=True)
class Import:
    target: str
    line: int
    at_top: bool


def imports_of(tree: ast.Module, module: str, is_package: bool) -> Iterator[Import]:
    """Every import of a module as an absolute dotted name; ``from a import b`` counts as ``a.b``."""
    package = module.split(".") if is_package else module.split(".")[:-1]

    def visit(node: ast.AST, at_top: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, at_top)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield Import(f"{stem}.{alias.name}", node.lineno, at_top)
        else:
            for_types_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
            nested = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or for_types_only
            for child in ast.iter_child_nodes(node):
                yield from visit(child, at_top and not nested)

    yield from visit(tree, True)


def is_within(name: str, room: str) -> bool:
    return name == room or name.startswith(room + ".")


def complaints(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """What is wrong with the imports of the module called ``module`` (``spectral_reach....``)."""
    own = module.removeprefix("spectral_reach").removeprefix(".")
    room = own.split(".")[0]
    found = []
    for imported in imports_of(ast.parse(source), module, is_package):
        top = imported.target.split(".")[0]
        where = f"{module}:{imported.line} imports {imported.target}"
        if top in UNSAFE:
            found.append(f"{where}: a format that runs code when it is read")
        if top == "spectral_reach":
            inner = imported.target.removeprefix("spectral_reach").removeprefix(".")
            allowed = (room, *MAY_IMPORT[room]) if room else tuple(MAY_IMPORT)
            # The version belongs to no room; the other names of the facade must come from their rooms.
            is_version = inner == "__version__"
            is_door = not imported.at_top and any(own == a and is_within(inner, b) for a, b in DOORS)
            if not is_version and not is_door and not any(is_within(inner, each) for each in allowed):
                found.append(f"{where}: {room or 'the package'} may import {', '.join(allowed)} only")
        elif top not in sys.stdlib_module_names:
            if room in MAY_NEED and top not in MAY_NEED[room]:
                found.append(f"{where}: {room} may need {', '.join(sorted(MAY_NEED[room]))} only")
            if not room:
                found.append(f"{where}: importing the package must cost nothing")
            if top in HEAVY and imported.at_top and not any(is_within(own, r) for r in MAY_OPEN_WITH_HEAVY):
                found.append(f"{where} at the top: import it in the function that needs it")
    return found


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_point_the_right_way(path: Path) -> None:
    found = complaints(path.read_text("utf-8"), module_name(path), is_package=path.name == "__init__.py")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_module_is_short_enough_to_read(path: Path) -> None:
    lines = len(path.read_text("utf-8").splitlines())
    assert lines <= 400, f"{path.name} has {lines} lines: it holds more than one concept"


def test_every_folder_is_a_room_of_the_architecture() -> None:
    rooms = {p.parent.name for p in (SOURCE / "spectral_reach").glob("*/__init__.py")}
    assert rooms == set(MAY_IMPORT)
    page = (SOURCE.parent / "docs" / "architecture.md").read_text("utf-8")
    assert [room for room in sorted(rooms) if f"`{room}/`" not in page] == []


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        (
            "spectral_reach.measured.outputs",
            "from spectral_reach.jacobian import products",
            "measured may import",
        ),
        ("spectral_reach.measured.outputs", "from ..jacobian import products", "measured may import"),
        ("spectral_reach.decomposition.lnp", "def f():\n    import pyarrow", "decomposition may need"),
        ("spectral_reach.records.table", "import spectral_reach.tracking.tracker", "records may import"),
        ("spectral_reach.records.table", "from spectral_reach import decompose", "records may import"),
        ("spectral_reach.figures.fig1", "from spectral_reach.studies import scaling", "figures may import"),
        ("spectral_reach.cli.study", "def f():\n    import matplotlib.pyplot", "cli may need"),
        ("spectral_reach.studies.scaling", "import transformers", "in the function that needs it"),
        ("spectral_reach.studies.scaling", "import pickle", "runs code"),
        ("spectral_reach", "import torch", "must cost nothing"),
    ],
)
def test_a_wrong_import_is_found(module: str, source: str, complaint: str) -> None:
    found = complaints(source, module)
    assert len(found) >= 1
    assert complaint in found[0]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "spectral_reach.figures.fig1",
            "from spectral_reach.studies.analysis import summary\nimport matplotlib",
        ),
        ("spectral_reach.studies.scaling", "def f():\n    import transformers"),
        ("spectral_reach.studies.scaling", "if TYPE_CHECKING:\n    import transformers"),
        ("spectral_reach.records.run_folder", "from spectral_reach import __version__"),
        ("spectral_reach.measured.outputs", "import math\nimport torch\nfrom .rows import rows"),
    ],
)
def test_a_right_import_is_left_alone(module: str, source: str) -> None:
    assert complaints(source, module) == []
