"""``measure_checkpoints`` and the command: the numbers of ``decompose`` by hand, each measured once."""

import json
import math
import re
import shutil
import sys
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import Result
from small_checkpoints import (
    MARKED_TEMPLATE,
    TINY,
    VOCABULARY,
    WORDS,
    bert,
    bert_classifier,
    image_processor,
    jsonl,
    llama,
    pythia,
    tokenizer,
    vit,
)
from transformers import Olmo2Config, Olmo2ForCausalLM
from typer.testing import CliRunner

import spectral_reach as sr
from spectral_reach.checkpoints import measure_checkpoints as room
from spectral_reach.checkpoints.data.load import DataOptions, load_batch
from spectral_reach.checkpoints.kinds import Kind
from spectral_reach.checkpoints.losses import resolve
from spectral_reach.checkpoints.placing import placed
from spectral_reach.checkpoints.schema import QUANTITIES, decomposition_of
from spectral_reach.cli.app import app
from spectral_reach.cli.exits import ExitCode

UNITS = 4


def olmo2() -> Any:
    torch.manual_seed(0)
    config = Olmo2Config(
        vocab_size=VOCABULARY,
        **TINY,
        max_position_embeddings=32,
        pad_token_id=0,
        eos_token_id=4,
    )
    return Olmo2ForCausalLM(config).eval()


MODELS: Mapping[str, tuple[Any, Kind, str, str]] = {
    "pythia": (pythia, Kind.CAUSAL_LM, "prose.jsonl", "code.jsonl"),
    "llama": (llama, Kind.CAUSAL_LM, "prose.jsonl", "chat.jsonl"),
    "olmo2": (olmo2, Kind.CAUSAL_LM, "prose.jsonl", "code.jsonl"),
    "bert": (bert, Kind.MASKED_LM, "prose.jsonl", "code.jsonl"),
    "bert-classifier": (bert_classifier, Kind.SEQUENCE_CLASSIFICATION, "films.jsonl", "films.jsonl?skip=4"),
    "vit": (vit, Kind.IMAGE_CLASSIFICATION, "images", "images?skip=4"),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every model, with what reads data for it; and the data."""
    from PIL import Image

    home = tmp_path_factory.mktemp("published")
    for name, (make, kind, _, _) in MODELS.items():
        make().save_pretrained(home / name)
        if kind is Kind.IMAGE_CLASSIFICATION:
            image_processor().save_pretrained(home / name)
        else:
            tokenizer(template=MARKED_TEMPLATE).save_pretrained(home / name)
    generator = torch.Generator().manual_seed(0)

    def text(length: int) -> str:
        words = WORDS[8:]
        return " ".join(words[i] for i in torch.randint(len(words), (length,), generator=generator))

    jsonl(home / "prose.jsonl", [{"text": text(4 + i)} for i in range(10)])
    jsonl(home / "code.jsonl", [{"text": text(6)} for _ in range(8)])
    films = [{"text": text(5), "label": i % 2} for i in range(10)]
    jsonl(home / "films.jsonl", films)
    chat = [
        {"messages": [{"role": "user", "content": text(3)}, {"role": "assistant", "content": text(4)}]}
        for _ in range(8)
    ]
    jsonl(home / "chat.jsonl", chat)
    pairs = [{"prompt": text(3), "chosen": text(4), "rejected": text(3)} for _ in range(6)]
    jsonl(home / "pairs.jsonl", pairs)
    for label in ("LABEL_0", "LABEL_1"):
        (home / "images" / label).mkdir(parents=True)
        for i in range(5):
            pixels = torch.randint(256, (8, 8, 3), generator=generator, dtype=torch.uint8).numpy()
            Image.fromarray(pixels).save(home / "images" / label / f"{i}.png")
    return home


def command(home: Path, *arguments: object) -> Result:
    return CliRunner().invoke(app, ["measure", *map(str, arguments)], catch_exceptions=False)


def by_hand(home: Path, name: str, spec: str, against: str | None = None, **options: Any) -> sr.Decomposition:
    """The same by ``decompose``, with the batches of the data room."""
    make, kind, _, _ = MODELS[name]
    network = make().eval()

    def batch(spec: str) -> Any:
        place, mark, query = spec.partition("?")
        reader = image_processor() if kind is Kind.IMAGE_CLASSIFICATION else tokenizer(template=MARKED_TEMPLATE)
        named = load_batch(
            "x",
            f"{home / place}{mark}{query}",
            kind=kind,
            config=network.config,
            processor=lambda: reader,
            options=DataOptions(units=UNITS),
        )
        resolved = resolve("model", kind=kind, network=network, batch=named.batch, reference=None, beta=0.1)
        return placed(resolved.batch, network)

    return sr.decompose(network, batch(spec), against=None if against is None else batch(against), probes=2, **options)


def decompositions(table: pa.Table) -> dict[tuple[str, str, str | None], sr.Decomposition]:
    rows = table.to_pylist()
    parts = [rows[i : i + len(QUANTITIES)] for i in range(0, len(rows), len(QUANTITIES))]
    return {(part[0]["revision"], part[0]["batch"], part[0]["against"]): decomposition_of(part) for part in parts}


def same(one: sr.Decomposition, other: sr.Decomposition) -> bool:
    numbers = [
        {name: repr(value) for name, value in each.as_dict().items() if name != "undefined"} for each in (one, other)
    ]
    return numbers[0] == numbers[1] and one.undefined == other.undefined


@pytest.mark.parametrize("name", MODELS)
def test_the_command_gives_the_numbers_of_decompose(home: Path, tmp_path: Path, name: str) -> None:
    _, kind, first, second = MODELS[name]
    out = tmp_path / "results.parquet"
    data = ["--data", f"a={home / first}", "--data", f"b={home / second}", "--pair", "a,b"]
    result = command(home, home / name, *data, "--units", UNITS, "--out", out, "--device", "cpu")
    assert result.exit_code == ExitCode.OK, result.output
    assert f"{home / name}: {kind}, " in result.stderr
    found = decompositions(pq.read_table(out))
    assert same(found["main", "a", None], by_hand(home, name, first))
    assert same(found["main", "b", None], by_hand(home, name, second))
    assert same(found["main", "a", "b"], by_hand(home, name, first, second))


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the revisions whose weights are loaded."""
    loaded: list[str] = []
    original = room.load_network

    def load(revision: Any, *arguments: Any) -> Any:
        loaded.append(revision.name)
        return original(revision, *arguments)

    monkeypatch.setattr(room, "load_network", load)
    return loaded


@pytest.fixture
def steps(home: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    for step in (1, 2, 10):
        llama(seed=step).save_pretrained(folder / f"step{step}")
    tokenizer(template=MARKED_TEMPLATE).save_pretrained(folder)
    return folder


def test_only_what_is_new_is_measured(home: Path, steps: Path, tmp_path: Path, loads: list[str]) -> None:
    prose, code = str(home / "prose.jsonl"), str(home / "code.jsonl")
    options: dict[str, Any] = {"out": tmp_path / "r.parquet", "units": 3}
    first = sr.measure_checkpoints(steps, revisions="step1,step2", data={"prose": prose}, **options)
    assert loads == ["step1", "step2"]
    again = sr.measure_checkpoints(steps, revisions="step1,step2", data={"prose": prose}, **options)
    assert loads == ["step1", "step2"]
    assert again.to_pylist().__repr__() == first.to_pylist().__repr__()
    # A revision more, a batch more, a pair more, another seed: each only what it adds.
    measured: list[tuple[str, str | None, str | None]] = []

    def listen(progress: room.Progress) -> None:
        if progress.phase == "measured":
            measured.append((progress.revision, progress.batch, progress.against))

    sr.measure_checkpoints(steps, revisions="all", data={"prose": prose}, progress=listen, **options)
    assert measured == [("step10", "prose", None)]
    measured.clear()
    both = {"prose": prose, "code": code}
    sr.measure_checkpoints(steps, revisions="all", data=both, progress=listen, **options)
    assert measured == [(step, "code", None) for step in ("step1", "step2", "step10")]
    measured.clear()
    sr.measure_checkpoints(steps, revisions="step2", data=both, pairs=[("code", "prose")], progress=listen, **options)
    assert measured == [("step2", "code", "prose")]
    measured.clear()
    for change in (
        {"seed": 1},
        {"probes": 3},
        {"dtype": "float64"},
        {"loss": "cross_entropy"},
        {"parameters": "lm_head"},
    ):
        sr.measure_checkpoints(
            steps, revisions="step2", data={"prose": prose}, progress=listen, **{**options, **change}
        )
        assert measured.pop() == ("step2", "prose", None), change
        assert not measured
    # Other weights under the same name.
    llama(seed=77).save_pretrained(steps / "step1")
    sr.measure_checkpoints(steps, revisions="all", data={"prose": prose}, progress=listen, **options)
    assert measured == [("step1", "prose", None)]
    table = pq.read_table(tmp_path / "r.parquet")
    assert table.num_rows == len(QUANTITIES) * (2 + 1 + 3 + 1 + 5 + 1)
    assert table.slice(0, first.num_rows).to_pylist().__repr__() == first.to_pylist().__repr__()


def test_the_same_weights_and_units_under_two_names_are_measured_once(
    home: Path, steps: Path, tmp_path: Path, loads: list[str]
) -> None:
    shutil.copytree(steps / "step1", steps / "final")
    prose = str(home / "prose.jsonl")
    table = sr.measure_checkpoints(
        steps, revisions="step1,final", data={"a": prose, "b": prose}, units=3, out=tmp_path / "r.parquet"
    )
    assert loads == ["step1"]
    found = decompositions(table)
    assert set(found) == {(revision, batch, None) for revision in ("step1", "final") for batch in "ab"}
    assert len({each.loss for each in found.values()}) == 1
    assert pq.read_table(tmp_path / "r.parquet").num_rows == table.num_rows


def test_a_model_that_has_diverged(home: Path, steps: Path, tmp_path: Path) -> None:
    broken = llama(seed=2)
    with torch.no_grad():
        broken.lm_head.weight[0, 0] = math.nan
    broken.save_pretrained(steps / "step2")
    arguments = ["--revision", "all", "--data", f"prose={home / 'prose.jsonl'}", "--units", 3]
    result = command(home, steps, *arguments, "--out", tmp_path / "r.parquet")
    assert result.exit_code == ExitCode.OK, result.output
    assert "step2 prose: the model's outputs are not finite" in result.stdout
    rows = pq.read_table(tmp_path / "r.parquet").to_pylist()
    diverged = [row for row in rows if row["revision"] == "step2"]
    assert all(math.isnan(row["value"]) and "not finite" in row["undefined"] for row in diverged)
    others = [row["value"] for row in rows if row["revision"] != "step2" and row["quantity"] == "chi_pos"]
    assert len(others) == 2
    assert all(map(math.isfinite, others))


def test_a_batch_without_a_label_is_an_error_that_names_it(home: Path, steps: Path) -> None:
    ids = torch.randint(8, VOCABULARY, (2, 5))
    batches = {"masked": {"input_ids": ids, "labels": torch.full_like(ids, -100)}}
    with pytest.raises(ValueError, match=r"model step1, batch 'masked': no unit of the batch carries a label"):
        sr.measure_checkpoints(steps, revisions="step1", data=batches)


def test_ready_batches(home: Path, steps: Path) -> None:
    ids = torch.randint(8, VOCABULARY, (3, 6), generator=torch.Generator().manual_seed(1))
    mapping = {"input_ids": ids, "labels": ids}
    table = sr.measure_checkpoints(steps, revisions="step2", data={"mine": mapping}, probes=3, seed=4)
    expected = sr.decompose(llama(seed=2), mapping, probes=3, seed=4)
    assert same(decompositions(table)["step2", "mine", None], expected)
    pair = (ids[:, :-1], ids[:, 1:])
    table = sr.measure_checkpoints(
        steps, revisions="step2", data={"mine": pair}, loss="cross_entropy", probes=3, seed=4
    )
    assert decompositions(table)["step2", "mine", None].chi_pos == pytest.approx(expected.chi_pos, rel=1e-5)
    with pytest.raises(ValueError, match="batch 'mine': the model's own loss needs a batch that is a mapping"):
        sr.measure_checkpoints(steps, revisions="step2", data={"mine": pair})


def test_selected_parameters(home: Path, steps: Path) -> None:
    prose = str(home / "prose.jsonl")
    table = sr.measure_checkpoints(steps, revisions="step1", data={"a": prose}, units=3, parameters=["lm_head"])
    assert set(table.column("parameters").to_pylist()) == {"lm_head"}
    (found,) = decompositions(table).values()
    (whole,) = decompositions(sr.measure_checkpoints(steps, revisions="step1", data={"a": prose}, units=3)).values()
    assert 0 < found.chi_net < whole.chi_net
    with pytest.raises(TypeError, match="expected names of parameters or modules: results are kept by them"):
        sr.measure_checkpoints(steps, revisions="step1", data={"a": prose}, parameters=[torch.nn.Linear(1, 1)])


def test_preferences_against_a_reference(home: Path, steps: Path, tmp_path: Path, loads: list[str]) -> None:
    data = ["--data", f"pairs={home / 'pairs.jsonl'}", "--loss", "dpo"]
    out = tmp_path / "r.parquet"
    result = command(
        home, steps, "--revision", "step*", *data, "--reference", f"{steps}@step1", "--units", 3, "--out", out
    )
    assert result.exit_code == ExitCode.OK, result.output
    # The reference once, before all others.
    assert loads == ["step1", "step1", "step2", "step10"]
    rows = pq.read_table(out).to_pylist()
    found = decompositions(pq.read_table(out))
    assert {row["loss_function"] for row in rows} == {"dpo (beta 0.1)"}
    # Of the reference itself the loss is log 2, whatever the data are.
    assert found["step1", "pairs", None].loss == pytest.approx(math.log(2), rel=1e-6)
    assert found["step2", "pairs", None].loss != pytest.approx(math.log(2), rel=1e-5)
    missing = command(home, steps, "--revision", "step1", *data, "--units", 3)
    assert missing.exit_code == ExitCode.BAD_INPUT
    assert "compares with a reference model and none is named; give --reference" in missing.stderr


def test_a_loss_of_ones_own_is_known_by_its_source(
    home: Path, steps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loads: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    source = (
        "from torch.nn.functional import cross_entropy\n\n"
        "def half(outputs, targets):\n    return {} * cross_entropy(outputs, targets)\n"
    )
    losses = []
    for module, factor in (("own_loss_a", 0.5), ("own_loss_b", 0.25), ("own_loss_a", 0.5)):
        Path(f"{module}.py").write_text(source.format(factor))
        table = sr.measure_checkpoints(
            steps,
            revisions="step1",
            data={"a": str(home / "prose.jsonl")},
            units=3,
            out="r.parquet",
            loss=f"{module}:half",
        )
        losses.append(table.column("value").to_pylist()[0])
    assert losses[0] == losses[2] == pytest.approx(2 * losses[1], rel=1e-6)
    assert loads == ["step1", "step1"]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("def f(outputs): return outputs.mean()", r"raised TypeError(.*takes 1 positional argument but 2 were given"),
        ("def f(outputs, targets): return outputs.no_such()", "raised AttributeError("),
        ("def f(outputs, targets): return (outputs - targets[:0]).mean()", "raised RuntimeError("),
        ("def f(outputs, targets): return 1.0", "returned a float; expected a scalar tensor"),
        ("def f(outputs, targets): return outputs.sum()", "the loss is not a mean over samples"),
    ],
)
def test_what_goes_wrong_in_a_loss_of_ones_own_is_told(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "own_loss_wrong", raising=False)
    Path("own_loss_wrong.py").write_text(source + "\n")
    data = ["--data", f"a={home / 'prose.jsonl'}", "--units", 3]
    result = command(home, home / "llama", *data, "--loss", "own_loss_wrong:f")
    assert result.exit_code == ExitCode.BAD_INPUT
    assert re.search(says.replace("Error(", r"Error\("), result.stderr.replace("\n", " "))


def test_classes_and_real_numbers_are_not_taken_for_each_other(home: Path, tmp_path: Path, loads: list[str]) -> None:
    films = str(jsonl(tmp_path / "films.jsonl", [{"text": "good film", "label": [0, 1]}] * 3))
    result = command(home, home / "bert-classifier", "--data", f"a={films}", "--loss", "cross_entropy")
    assert result.exit_code == ExitCode.BAD_INPUT
    assert "data 'a': the labels are real numbers and the loss is 'cross_entropy'" in result.stderr.replace("\n", " ")
    assert loads == []


def test_another_tokenizer_on_the_way_is_refused(home: Path, steps: Path, tmp_path: Path) -> None:
    tokenizer(begin=True).save_pretrained(steps / "step10")
    out = tmp_path / "r.parquet"
    with pytest.raises(ValueError, match=r"step10 has another tokenizer or image processor than .*step1, with which"):
        sr.measure_checkpoints(steps, revisions="all", data={"a": str(home / "prose.jsonl")}, units=3, out=out)
    # What had been measured before is kept.
    assert sorted(set(pq.read_table(out).column("revision").to_pylist())) == ["step1", "step2"]


def test_in_parts_and_with_activations_made_anew(home: Path, steps: Path) -> None:
    arguments: dict[str, Any] = {"revisions": "step1", "data": {"a": str(home / "prose.jsonl")}, "units": 4}
    found = [
        next(iter(decompositions(sr.measure_checkpoints(steps, **arguments, **options)).values()))
        for options in (
            {},
            {"micro_batch": 2},
            {"checkpointing": True, "estimator": "per_unit"},
            {"max_memory": 2**40},
            {"estimator": "per_unit"},
        )
    ]
    for quantity in ("loss", "chi_loss", "delta_loss", "chi_net", "chi_pos", "delta_loss_unbiased"):
        values = [getattr(each, quantity) for each in found]
        assert values[1] == pytest.approx(values[0], rel=1e-4), quantity
        assert values[3] == pytest.approx(values[0], rel=1e-4), quantity
        assert values[2] == pytest.approx(values[4], rel=1e-4), quantity
    with pytest.raises(ValueError, match="max_memory is 1 MiB, and one unit"):
        sr.measure_checkpoints(steps, **arguments, max_memory=2**20)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"pairs": [("a", "b")]}, "a pair names 'b'; expected one of the batches a"),
        ({"pairs": [("a", "a", "a")]}, "expected two names of batches"),
        ({"kind": "rnn"}, "kind is 'rnn'"),
        ({"estimator": "magic"}, "estimator='magic' is unknown"),
        ({"probes": 0}, "probes is 0"),
        ({"noise_units": 1}, "noise_units is 1"),
        ({"seed": -1}, "seed is -1"),
        ({"units": 0}, "units is 0"),
        ({"out": "r.csv"}, r"expected a name that ends in \.parquet"),
        ({"parameters": []}, "parameters is empty"),
        ({"beta": 0.5}, "beta is 0.5 and the loss 'model'; expected one with dpo only: leave it out"),
        ({"beta": 0.5, "loss": "math:pi"}, "beta is 0.5 and the loss 'math:pi'"),
        ({"reference": "x"}, "no batch holds preference pairs"),
        ({"loss": "hinge"}, "data 'a': the loss is 'hinge'; expected one of model"),
        ({"loss": "dpo"}, "data 'a': loss 'dpo' is for preference pairs and the batch holds none"),
        ({"loss": "math:pi"}, "loss 'math:pi' is a float; expected a function"),
        ({"max_length": 2, "data": {"a": "no/such/file.jsonl"}}, "data 'a': there is no"),
        ({"data": {}}, "has no data of its own; name some"),
    ],
)
def test_bad_input_is_told_before_a_network_is_loaded(
    home: Path, loads: list[str], options: Mapping[str, Any], says: str
) -> None:
    arguments: dict[str, Any] = {"data": {"a": str(home / "prose.jsonl")}, **options}
    with pytest.raises(ValueError, match=says):
        sr.measure_checkpoints(home / "llama", **arguments)
    assert loads == []


def test_preferences_without_a_reference_are_told_before_a_network_is_loaded(home: Path, loads: list[str]) -> None:
    with pytest.raises(ValueError, match="data 'p': a preference loss compares with a reference model and none is"):
        sr.measure_checkpoints(home / "llama", data={"p": str(home / "pairs.jsonl")}, loss="dpo")
    assert loads == []


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.\nMore."), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 20 bytes."), True),
        (RuntimeError("something else"), False),
    ],
)
@pytest.mark.parametrize("where", ["load_network", "decompose"])
def test_memory_that_runs_out(
    home: Path, error: Exception, told: bool, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(room, where, fail)
    kind, says = (ValueError, r"llama.*memory\b|memory ran out .*llama") if told else (RuntimeError, "something else")
    with pytest.raises(kind, match=says) as caught:
        sr.measure_checkpoints(home / "llama", data={"a": str(home / "prose.jsonl")}, units=3)
    if told:
        assert ("--max-memory GIB" in str(caught.value)) == (where == "decompose")


def test_a_loss_is_named(home: Path) -> None:
    with pytest.raises(TypeError, match="loss is a function; expected a name"):
        sr.measure_checkpoints(home / "llama", data={}, loss=torch.nn.functional.cross_entropy)  # type: ignore[arg-type]


def test_a_model_that_says_nothing_of_its_kind(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "llama"
    shutil.copytree(home / "llama", folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": None}))
    data = ["--data", f"a={home / 'prose.jsonl'}", "--units", 3]
    result = command(home, folder, *data)
    assert result.exit_code == ExitCode.BAD_INPUT
    assert "say what the network is with --kind" in result.stderr
    assert command(home, folder, *data, "--kind", "causal-lm").exit_code == ExitCode.OK


def test_one_revision_is_in_memory_at_a_time(home: Path, steps: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = room.load_network
    loaded: list[weakref.ref[Any]] = []
    alive: list[int] = []

    def load(*arguments: Any) -> Any:
        alive.append(sum(each() is not None for each in loaded))
        network = original(*arguments)
        loaded.append(weakref.ref(network))
        return network

    monkeypatch.setattr(room, "load_network", load)
    pairs, prose = str(home / "pairs.jsonl"), str(home / "prose.jsonl")
    sr.measure_checkpoints(steps, revisions="all", data={"a": prose}, units=3)
    reference = f"{steps}@step1"
    sr.measure_checkpoints(steps, revisions="step2", data={"p": pairs}, units=3, loss="dpo", reference=reference)
    assert alive == [0] * 5
