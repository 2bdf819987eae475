"""What a ``Spectrum`` tells and keeps: files that give it back bit for bit, quantiles, ranks, tails, words, figures."""

import dataclasses
import io
import itertools
import json
import math
import random
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import aslinearoperator
from torch import nn

import spectral_reach as sr
from spectral_reach.records.errors import RecordError
from spectral_reach.spectra.power_law import LEAST_MODES, PowerLaw, fit_tail

DAMAGED = 300
SEEDS = 400


def model_and_batch() -> tuple[nn.Module, tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 5)).double()
    return model, (torch.randn(10, 6).double(), torch.randint(5, (10,)))


def of_model(**arguments: Any) -> sr.Spectrum:
    return sr.spectrum(*model_and_batch(), **arguments)


def of_fitted_model(**arguments: Any) -> sr.Spectrum:
    """Outputs that are the targets: no loss gradient."""
    model, (x, _) = model_and_batch()
    return sr.spectrum(model, (x, model(x).detach()), loss="mse", **arguments)


def diagonal(values: Any, u: Any = None, **arguments: Any) -> sr.Spectrum:
    values = np.asarray(values, dtype=float)
    return sr.kernel_decompose(np.diag(values), np.ones(len(values)) if u is None else u, **arguments)


EVERY_KIND: dict[str, Callable[[], sr.Spectrum]] = {
    "explicit": lambda: of_model(method="explicit"),
    "explicit, vectors": lambda: of_model(method="explicit", samples=4, classes=[3, 1], eigenvectors=True),
    "explicit, no gradient": lambda: of_fitted_model(method="explicit"),
    "explicit, no kernel": lambda: diagonal(np.zeros(5)),
    "lanczos": lambda: of_model(steps=6),
    "lanczos, density": lambda: of_model(steps=4, density_vectors=3),
    "lanczos, exhausted": lambda: of_model(steps=200, tolerance=0, density_vectors=1),
    "lanczos, one probe": lambda: of_model(steps=3, samples=6, probes=1),
    "lanczos, no gradient": lambda: of_fitted_model(density_vectors=2, steps=3),
    "lanczos, no kernel": lambda: diagonal(np.zeros(5), method="lanczos", density_vectors=2),
    "lanczos, outside the range": lambda: diagonal([2, 1, 0], [0, 0, 1], method="lanczos"),
    "operator": lambda: sr.kernel_decompose(
        aslinearoperator(np.diag(np.arange(1.0, 41) ** -2)), np.ones(40), steps=5, density_vectors=2
    ),
}


@pytest.fixture(params=EVERY_KIND)
def spectrum(request: pytest.FixtureRequest) -> sr.Spectrum:
    return EVERY_KIND[request.param]()


# --- files ----------------------------------------------------------------------------------------------------------


def bits(value: Any) -> Any:
    """Everything in a result, comparable; the bits of numbers, so that NaN equals NaN and 0 differs from -0."""
    if dataclasses.is_dataclass(value):
        return type(value).__name__, [(f.name, bits(getattr(value, f.name))) for f in dataclasses.fields(value)]
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, tuple):
        return [bits(each) for each in value]
    return dict(value) if hasattr(value, "items") else (type(value).__name__, value)


def test_a_file_gives_everything_back_bit_for_bit(spectrum: sr.Spectrum, tmp_path: Path) -> None:
    file = spectrum.save(tmp_path / "new" / "folder" / "spectrum.npz")
    found = sr.Spectrum.load(file)
    assert bits(found) == bits(spectrum)
    assert str(found) == str(spectrum)
    assert [each.name for each in file.parent.iterdir()] == ["spectrum.npz"]
    with np.load(file, allow_pickle=False) as stored:
        assert not any(stored[name].dtype.hasobject for name in stored.files)


def test_a_file_is_replaced_and_may_be_named_by_a_string(tmp_path: Path) -> None:
    file = str(tmp_path / "spectrum.npz")
    for spectrum in (diagonal([3, 2]), diagonal([1, 1, 1])):
        assert spectrum.save(file) == Path(file)
        assert bits(sr.Spectrum.load(file)) == bits(spectrum)


def test_a_damaged_file_is_refused_or_gives_the_same(tmp_path: Path) -> None:
    """Any bit of it: no damage passes for another spectrum."""
    spectrum = of_model(steps=4, density_vectors=2)
    file = spectrum.save(tmp_path / "spectrum.npz")
    whole, expected = file.read_bytes(), bits(spectrum)
    choice = random.Random(0)
    cut = [whole[: len(whole) * part // 40] for part in range(40)]
    flipped = []
    for _ in range(DAMAGED):
        damaged = bytearray(whole)
        damaged[choice.randrange(len(whole))] ^= 1 << choice.randrange(8)
        flipped.append(bytes(damaged))
    refused = 0
    for damaged in cut + flipped:
        file.write_bytes(damaged)
        try:
            found = sr.Spectrum.load(file)
        except (RecordError, ValueError):
            refused += 1
        else:
            assert bits(found) == expected
    assert refused > DAMAGED / 2


def without(whole: bytes, lost: str) -> bytes:
    """The archive without one of its arrays."""
    rest = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(rest, "w") as new:
        for name in old.namelist():
            if name != f"{lost}.npy":
                new.writestr(name, old.read(name))
    return rest.getvalue()


@pytest.mark.parametrize("lost", ["p", "chi_net", "krylov_0", "krylov_exhausted", "density_exhausted"])
def test_a_lost_array_is_missed(lost: str, tmp_path: Path) -> None:
    file = of_model(steps=4, density_vectors=2).save(tmp_path / "spectrum.npz")
    file.write_bytes(without(file.read_bytes(), lost))
    with pytest.raises(ValueError, match=f"not all there: {lost} missing; make it again"):
        sr.Spectrum.load(file)


@pytest.mark.parametrize(
    "arrays",
    [
        {"p": np.ones(3)},
        {"about": np.ones(3)},
        {"about": np.array("[1]")},
        {"about": np.array("{")},
        {"about": np.array(json.dumps({"format": "spectral-reach spectrum 99"}))},
    ],
)
def test_arrays_of_something_else_or_another_version(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", **arrays)
    with pytest.raises(ValueError, match=r"no spectrum of this version: got format .*, expected 'spectral-reach spec"):
        sr.Spectrum.load(tmp_path / "other.npz")


def test_files_that_hold_no_arrays(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("p, gamma2")
    with (tmp_path / "alone.npz").open("wb") as handle:
        np.save(handle, np.ones(3))
    np.savez(tmp_path / "pickled.npz", about=np.array([{}], dtype=object))
    for name in ("text.npz", "alone.npz", "pickled.npz", "nowhere.npz", ""):
        with pytest.raises(RecordError, match=r"cannot be read as arrays: .* restore it from a copy or make it again"):
            sr.Spectrum.load(tmp_path / name)


@pytest.mark.parametrize("name", ["spectrum", "spectrum.npy", "spectrum.json", "spectrum.npz.gz"])
def test_another_suffix_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"got the file name .*; expected one that ends in \.npz"):
        diagonal([1, 1]).save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RecordError, match="cannot be written"):
        diagonal([1, 1]).save(tmp_path / "file" / "spectrum.npz")
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(RecordError, match="cannot be written"):
        diagonal([1, 1]).save(tmp_path / "folder.npz")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "folder.npz"]


# --- quantiles ------------------------------------------------------------------------------------------------------


def test_a_quantile_is_where_so_much_of_the_reduction_lies_at_and_below() -> None:
    found = diagonal([4, 3, 2, 1], np.sqrt([1 / 4, 1 / 3, 1 / 2, 1]))  # a quarter of the reduction in each mode
    expected = [(0.01, 0.1), (0.2499, 0.1), (0.2501, 0.2), (0.49, 0.2), (0.51, 0.3), (0.76, 0.4), (0.999, 0.4)]
    for q, p in expected:
        assert found.position_quantile(q) == pytest.approx(p)
        bounds = found.position_bounds(q)
        assert bounds.low == bounds.high == found.position_quantile(q)


METHODS = ["explicit", "lanczos"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("q", "error"),
    [(0, ValueError), (1.0, ValueError), (-0.5, ValueError), (math.nan, ValueError), (math.inf, ValueError)]
    + [(q, TypeError) for q in ("0.5", None, True, [0.5])],
)
def test_what_is_no_fraction(method: str, q: Any, error: type[Exception]) -> None:
    found = of_model(method=method)
    for ask in (found.position_quantile, found.position_bounds):
        with pytest.raises(error, match="expected a fraction between 0 and 1"):
            ask(q)


@pytest.mark.parametrize(
    ("steps", "error", "said"),
    [(0, ValueError, "expected 1 to 6"), (7, ValueError, "expected 1 to 6"), (-1, ValueError, "expected 1 to 6")]
    + [(steps, TypeError, "expected an integer") for steps in (2.0, "2", True)],
)
def test_steps_that_were_not_made(steps: Any, error: type[Exception], said: str) -> None:
    found = of_model(steps=6, tolerance=0)
    with pytest.raises(error, match=f"steps is {steps!r}; {said}"):
        found.position_bounds(0.5, steps)
    assert found.position_bounds(0.5, 6) == found.position_bounds(0.5)


@pytest.mark.parametrize("kind", [kind for kind in EVERY_KIND if ", no " in kind or "outside" in kind])
def test_no_reduction_no_quantile(kind: str) -> None:
    found = EVERY_KIND[kind]()
    assert not found.chi_pos > 0
    for ask in (found.position_quantile, found.position_bounds):
        with pytest.raises(ValueError, match="the loss reduction is zero"):
            ask(0.5)


# --- how many modes ---------------------------------------------------------------------------------------------------


def test_ranks_of_known_spectra() -> None:
    flat, one = diagonal(np.full(40, 0.3)), diagonal([2.0, *np.zeros(39)])
    assert flat.participation_ratio == pytest.approx(40)
    assert flat.effective_rank == pytest.approx(40)
    assert one.participation_ratio == pytest.approx(1)
    assert one.effective_rank == pytest.approx(1)
    two = diagonal([3, 1])
    assert two.participation_ratio == pytest.approx(16 / 10)
    assert two.effective_rank == pytest.approx(4 / 3**0.75)


def test_ranks_by_random_vectors() -> None:
    flat = diagonal(np.full(40, 0.3), method="lanczos", density_vectors=2)
    assert flat.participation_ratio == pytest.approx(40)
    assert flat.effective_rank == pytest.approx(40)
    assert math.isnan(diagonal(np.full(40, 0.3), method="lanczos").effective_rank)
    assert math.isnan(diagonal(np.full(40, 0.3), method="lanczos").participation_ratio)


def test_a_kernel_of_zeros_has_no_ranks() -> None:
    for method in METHODS:
        found = diagonal(np.zeros(4), method=method)
        assert math.isnan(found.participation_ratio)
        assert math.isnan(found.effective_rank)
        assert "p" in found.undefined
    found = diagonal(np.zeros(4), method="lanczos", density_vectors=2)
    assert found.density is None
    assert found.undefined["density"] == "the trace of the kernel is zero, or was estimated as such"


# --- tails ------------------------------------------------------------------------------------------------------------


def noisy_law(n: int, exponent: float, noise: float, seed: int) -> np.ndarray:
    """k^-a with independent errors of its logarithm, in descending order again, sum 1."""
    rng = np.random.default_rng(seed)
    p = np.sort(np.arange(1, n + 1) ** -exponent * np.exp(noise * rng.standard_normal(n)))[::-1]
    return p / p.sum()


def test_an_exact_law_is_found_exactly() -> None:
    for exponent in (0.5, 1.0, 3.0):
        found = diagonal(np.arange(1.0, 301) ** -exponent).tail()
        assert (found.first, found.last) == (30, 270)
        assert found.exponent == pytest.approx(exponent, abs=1e-9)
        assert found.low <= found.exponent <= found.high
        assert found.high - found.low < 1e-6
        fitted = found.factor * 50.0**-found.exponent
        assert fitted == pytest.approx(diagonal(np.arange(1.0, 301) ** -exponent).p[49], rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "noise"), [(60, 0.05), (250, 0.02), (250, 0.1), (1000, 0.05)])
@pytest.mark.parametrize("exponent", [1.0, 2.0])
def test_the_interval_has_the_exponent_in_it(n: int, noise: float, exponent: float) -> None:
    """95% or a little more, over many seeds; and not by being wide: some times the noise of a mean of the modes."""
    fits = [fit_tail(noisy_law(n, exponent, noise, seed), 0.0) for seed in range(SEEDS)]
    covered = np.mean([fit.low <= exponent <= fit.high for fit in fits])
    assert 0.95 - 3 * math.sqrt(0.05 * 0.95 / SEEDS) < covered < 1
    assert np.median([fit.high - fit.low for fit in fits]) < 16 * noise / math.sqrt(0.8 * n)


def test_a_bent_tail_has_an_interval_that_tells() -> None:
    """log p = -log k - c log^2 k: the exponent 1 + 2 c log k runs along the range."""
    k = np.arange(1.0, 1001)
    found = fit_tail(np.exp(-np.log(k) - 0.1 * np.log(k) ** 2), 0.0, 50, 900)
    edges = np.geomspace(50, 900, 9)
    halves = [1 + 0.2 * math.log(math.sqrt(a * b)) for a, b in ((edges[0], edges[4]), (edges[4], edges[8]))]
    assert halves[1] - halves[0] > 0.25
    assert found.low < halves[0] + 0.01
    assert found.high > halves[1] - 0.01


def test_what_is_below_rounding_takes_no_part() -> None:
    p = np.arange(1.0, 401) ** -2
    p[200:] = 1e-9 * np.arange(200, 0, -1)
    found = fit_tail(p, 2e-6)
    assert found.last == 200
    assert found.exponent == pytest.approx(2, abs=1e-6)
    assert fit_tail(p, 2e-6, 20, 400).last == 200


def test_the_rounding_of_an_explicit_spectrum_is_such_a_floor() -> None:
    x = np.linspace(0, 1, 80)
    found = sr.kernel_decompose(np.exp(-((x[:, None] - x) ** 2) / 2), np.cos(x))
    assert found.rounding > 0
    assert "modes above rounding are too few for an exponent" in found.tail().undefined
    assert "tail exponent" not in str(found)


@pytest.mark.parametrize(("modes", "asked"), [(40, {}), (200, {"first": 100, "last": 130}), (200, {"first": 180})])
def test_too_few_modes_have_no_exponent(modes: int, asked: dict[str, int]) -> None:
    found = fit_tail(np.arange(1.0, modes + 1) ** -1, 0.0, **asked)
    assert all(math.isnan(each) for each in (found.exponent, found.low, found.high, found.factor))
    assert f"{found.last - found.first + 1} modes above rounding are too few" in found.undefined
    assert f"{LEAST_MODES} are needed" in found.undefined


def test_just_enough_modes() -> None:
    for first in (1, 100):
        found = fit_tail(np.arange(1.0, 501) ** -1.5, 0.0, first, first + LEAST_MODES - 1)
        assert isinstance(found, PowerLaw)
        assert found.undefined == ""
        assert found.exponent == pytest.approx(1.5, abs=1e-6)


@pytest.mark.parametrize(
    ("first", "last", "error", "said"),
    [
        (0, 50, ValueError, r"range is 0 to 50; expected 1 <= first < last <= 100"),
        (-1, None, ValueError, r"range is -1 to 90; expected 1 <= first < last <= 100"),
        (60, 50, ValueError, r"range is 60 to 50"),
        (50, 50, ValueError, r"range is 50 to 50"),
        (1, 101, ValueError, r"range is 1 to 101"),
        (1.0, 50, TypeError, r"first is 1\.0; expected an integer"),
        (1, "50", TypeError, r"last is '50'; expected an integer"),
        (True, 50, TypeError, r"first is True; expected an integer"),
    ],
)
def test_ranges_that_are_none(first: Any, last: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        diagonal(np.arange(1.0, 101) ** -1).tail(first, last)


def test_a_tail_needs_every_mode() -> None:
    with pytest.raises(ValueError, match=r"the tail's exponent needs every mode; expected .* method='explicit'"):
        of_model(steps=3).tail()


# --- words and figures ------------------------------------------------------------------------------------------------


def test_words_name_what_there_is(spectrum: sr.Spectrum) -> None:
    words = str(spectrum)
    lines = words.splitlines()
    assert lines[0].startswith("Spectrum: ")
    assert f"{spectrum.n_modes:,} outputs" in lines[0]
    assert [line.split()[0] for line in lines[1:4]] == ["chi_loss", "chi_net", "chi_pos"]
    for name, why in spectrum.undefined.items():
        assert f"  {name} is undefined: {why}" in lines
    assert ("of the reduction" in words) == (spectrum.chi_pos > 0)
    assert all(len(line) <= 120 for line in lines)


def test_words_say_whether_it_is_certain_and_exact() -> None:
    assert "exhausted: exact" in str(of_model(steps=200, tolerance=0))
    short = str(of_model(steps=2, tolerance=0.01))
    assert "2 Lanczos steps" in short
    assert "not within the tolerance of 0.01 yet: more steps narrow the bounds" in short
    assert "?]" in short or "]" in short
    assert "not within" not in str(of_model(method="explicit"))
    assert "these outputs hold" in str(of_model(method="explicit", classes=2))


def drawn(spectrum: sr.Spectrum) -> tuple[Any, bytes]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure, file = spectrum.plot(), io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)
    return figure, file.getvalue()


def test_every_kind_is_drawn_without_a_warning(spectrum: sr.Spectrum) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure, png = drawn(spectrum)
    assert png.startswith(b"\x89PNG")
    words = " ".join(text.get_text() for axes in figure.axes for text in axes.texts)
    assert ("no loss reduction" in words) == (not spectrum.chi_pos > 0)


def test_no_words_lie_on_data_or_on_each_other(spectrum: sr.Spectrum) -> None:
    figure, _ = drawn(spectrum)
    renderer = figure.canvas.get_renderer()
    for axes in figure.axes:
        boxes = [axes.xaxis.label.get_window_extent(renderer), axes.yaxis.label.get_window_extent(renderer)]
        boxes += [text.get_window_extent(renderer) for text in axes.texts if text.get_text()]
        boxes += [legend.get_window_extent(renderer) for legend in [axes.get_legend()] if legend is not None]
        boxes = [box for box in boxes if box.width > 0 and box.height > 0]
        assert [(a, b) for a, b in itertools.combinations(boxes, 2) if a.overlaps(b)] == []
        for line in axes.lines:
            points = line.get_transform().transform(line.get_xydata())
            inside = [
                box for box in boxes if len(points) > 2 and box.count_contains(points[np.isfinite(points).all(1)])
            ]
            assert inside == []


def test_plotting_leaves_matplotlib_as_it_was() -> None:
    import matplotlib

    with matplotlib.rc_context():
        before = dict(matplotlib.rcParams)
        diagonal([2, 1, 1]).plot()
        assert dict(matplotlib.rcParams) == before
