"""SimpleStories: a folder of Parquet files as on the hub, a tokenizer as that of its models, and the hub itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from small_texts import document, word_piece, write_parquet
from tokenizers import Tokenizer

from spectral_reach.records.run_folder import RunFolder
from spectral_reach.studies import data, registry, scaling_text
from spectral_reach.studies.data import cache, simplestories
from spectral_reach.studies.engines.local import run_all
from spectral_reach.studies.families import FamiliesConfig
from spectral_reach.studies.learning_rate import RateConfig
from spectral_reach.studies.study_folder import begun, write_plan
from spectral_reach.studies.training.config import MeasurementConfig
from spectral_reach.studies.training.run_config import DataConfig

TRAIN = [document(number) for number in range(40)]
TEST = [document(number) for number in range(40, 60)]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECTRAL_REACH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The layout of the data set's repository, with an empty and a missing story."""
    root = tmp_path / "SimpleStories"
    write_parquet(root / "data" / "train-00000-of-00002.parquet", TRAIN[:25])
    write_parquet(root / "data" / "train-00001-of-00002.parquet", ["", *TRAIN[25:], None])
    write_parquet(root / "data" / "test-00000-of-00001.parquet", TEST)
    return root


@pytest.fixture
def tokenizer(tmp_path: Path) -> str:
    return str(word_piece(tmp_path))


def packed(stories: list[str], tokenizer: str) -> list[int]:
    """The stream by definition: the words of each story and one [EOS]."""
    words = Tokenizer.from_file(tokenizer)
    return [token for story in stories for token in [*words.encode(story, add_special_tokens=False).ids, 1]]


def laid_end_to_end(sequences: np.ndarray) -> list[int]:
    return [*sequences[:, :-1].reshape(-1).tolist(), int(sequences[-1, -1])]


@pytest.mark.parametrize("ends_itself", [True, False])
def test_stories_are_packed_with_one_end_token_each(folder: Path, tmp_path: Path, ends_itself: bool) -> None:
    tokenizer = str(word_piece(tmp_path, ends_itself=ends_itself))
    loaded = data.load("simplestories", folder=str(folder), tokenizer=tokenizer, context=32)
    for part, stories in (("train", TRAIN), ("heldout", TEST)):
        expected = packed(stories, tokenizer)
        sequences = getattr(loaded, part)
        assert sequences.shape == ((len(expected) - 1) // 32, 33)
        assert laid_end_to_end(sequences) == expected[: sequences.shape[0] * 32 + 1]
        assert loaded.target_counts[part][1] == (sequences[:, 1:] == 1).sum() > 0
    assert loaded.facts["documents_train"] == 40
    assert loaded.facts["documents_heldout"] == 20
    assert loaded.facts["documents_empty"] == 2
    assert loaded.facts["end_of_document"] == "[EOS]"
    assert loaded.dimensions == {"vocabulary": Tokenizer.from_file(tokenizer).get_vocab_size(), "context": 32}
    assert "40 stories and 20 held out" in loaded.description


def test_sequences_predict_512_tokens_by_default(folder: Path, tokenizer: str) -> None:
    assert data.load("simplestories", folder=str(folder), tokenizer=tokenizer).context == 512


def test_some_of_the_training_stories_are_the_first(folder: Path, tokenizer: str) -> None:
    every = data.load("simplestories", folder=str(folder), tokenizer=tokenizer, context=8)
    some = data.load("simplestories", folder=str(folder), tokenizer=tokenizer, context=8, stories=30)
    # Row 26 of the second file is the empty story.
    expected = packed(TRAIN[:29], tokenizer)
    assert laid_end_to_end(some.train) == expected[: some.units("train") * 8 + 1]
    np.testing.assert_array_equal(some.heldout, every.heldout)
    assert some.content_hash != every.content_hash


def test_the_second_time_nothing_is_read(folder: Path, tokenizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = data.load("simplestories", folder=str(folder), tokenizer=tokenizer, context=16)
    monkeypatch.setattr(simplestories, "_tokenise", None)
    monkeypatch.setattr("spectral_reach.studies.data.file_hashes.sha256_of_file", None)
    again = data.load("simplestories", folder=str(folder), tokenizer=tokenizer, context=24)
    assert again.content_hash == first.content_hash
    assert again.context == 24
    assert len(list(cache.cache_root().glob("simplestories-*"))) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context": 0}, "context is 0; expected at least 1"),
        ({"context": 10**5}, "too short for one sequence of 100000"),
        ({"stories": 0}, "stories is 0; expected at least 1"),
        ({"stories": "all"}, "stories is 'all', a str; expected a whole number"),
        ({"revision": ""}, "revision is empty"),
        ({"folder": "/nowhere/at/all"}, "folder is '/nowhere/at/all', which does not exist; expected a folder of the"),
        ({"tokenizer": "/nowhere/t.json"}, "tokenizer is '/nowhere/t.json', which does not exist"),
        ({"tokenizer": simplestories.TOKENIZER}, "'SimpleStories/SimpleStories-1.25M', which could not be loaded"),
    ],
)
def test_impossible_options_are_named(folder: Path, tokenizer: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        data.load("simplestories", **{"folder": str(folder), "tokenizer": tokenizer, "context": 16, **options})


def test_a_folder_without_a_split_is_told(folder: Path, tokenizer: str) -> None:
    (folder / "data" / "test-00000-of-00001.parquet").unlink()
    told = r"holds no test\*\.parquet; expected the Parquet files of .*Download its folder data"
    with pytest.raises(ValueError, match=told):
        data.load("simplestories", folder=str(folder), tokenizer=tokenizer)
    write_parquet(folder / "data" / "test-00000-of-00001.parquet", ["", None])
    with pytest.raises(ValueError, match="has no story in its split test; expected some"):
        data.load("simplestories", folder=str(folder), tokenizer=tokenizer)


def test_a_file_of_other_columns_is_named(folder: Path, tokenizer: str) -> None:
    write_parquet(folder / "data" / "train-00001-of-00002.parquet", TRAIN, "text")
    with pytest.raises(ValueError, match=r"train-00001-of-00002\.parquet has the columns number, text; expected story"):
        data.load("simplestories", folder=str(folder), tokenizer=tokenizer)


def test_without_a_network_the_remedy_is_told(tokenizer: str) -> None:
    told = r"\(revision 'main'\) could not be read from the Hugging Face hub: .*offline.* give the option folder"
    with pytest.raises(ValueError, match=told):
        data.load("simplestories", tokenizer=tokenizer)
    told = rf"\(revision '{COMMIT}'\) could not be read from the Hugging Face hub: .* give the option folder"
    with pytest.raises(ValueError, match=told):
        data.load("simplestories", tokenizer=tokenizer, revision=COMMIT)


def test_without_datasets_the_extra_is_named(tokenizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        ImportError, match=r"needs datasets, which is not installed: pip install 'spectral-reach\[data\]"
    ):
        data.load("simplestories", tokenizer=tokenizer, revision=COMMIT)


class Hub:
    """The hub's answers, from the real classes of datasets; and what it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, column: str = "story") -> None:
        import datasets
        import huggingface_hub

        self.asked: list[tuple[str, ...]] = []
        self.given = 0

        def rows(stories: list[str]) -> Iterator[dict[str, str]]:
            for story in stories:
                self.given += 1
                yield {"topic": "cats", column: story}

        def load_dataset(name: str, *, split: str, streaming: bool, revision: str) -> datasets.IterableDataset:
            assert streaming
            self.asked.append((name, split, revision))
            stories = {"train": TRAIN, "test": TEST}[split]
            return datasets.IterableDataset.from_generator(rows, gen_kwargs={"stories": stories})

        def dataset_info(api: object, name: str, *, revision: str) -> SimpleNamespace:
            self.asked.append((name, revision))
            return SimpleNamespace(sha=COMMIT)

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)


def test_the_hub_is_streamed_at_one_commit(folder: Path, tokenizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(monkeypatch)
    loaded = data.load("simplestories", tokenizer=tokenizer, context=16)
    name = simplestories.HUB_NAME
    assert hub.asked == [(name, "main"), (name, "train", COMMIT), (name, "test", COMMIT)]
    local = data.load("simplestories", folder=str(folder), tokenizer=tokenizer, context=16)
    np.testing.assert_array_equal(loaded.train, local.train)
    np.testing.assert_array_equal(loaded.heldout, local.heldout)
    assert loaded.facts["revision"] == COMMIT
    # Given the commit, the tokens in the cache need no network.
    again = data.load("simplestories", tokenizer=tokenizer, context=16, revision=COMMIT)
    assert again.content_hash == loaded.content_hash
    assert len(hub.asked) == 3


@pytest.fixture
def hub_tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The tokenizer of the models as the hub's own library keeps it once it was read, for this process and others."""
    from huggingface_hub import constants

    kept = tmp_path / "hf" / "hub" / f"models--{simplestories.TOKENIZER.replace('/', '--')}"
    files = kept / "snapshots" / COMMIT
    files.mkdir(parents=True)
    word_piece(tmp_path).rename(files / "tokenizer.json")
    (files / "config.json").write_text('{"model_type": "llama"}')
    (files / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "[EOS]", "unk_token": "[UNK]"}'
    )
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return simplestories.TOKENIZER


def study_of(options: dict[str, object]) -> FamiliesConfig:
    """One run of two steps."""
    toy = scaling_text.toy()
    family = replace(
        toy.families["text"],
        data=DataConfig(name="simplestories", options=options),
        widths=(16,),
        rates=RateConfig(),
        training=replace(
            toy.families["text"].training,
            steps=2,
            batch_size=2,
            warmup_steps=1,
            heldout_units=4,
            heldout_every=2,
            checkpoint_every=2,
        ),
        measurement=MeasurementConfig(per_decade=1, width=1, units=2, late_measurements=0, late_units=2),
    )
    return replace(toy, families={"text": family}, seeds=(0,))


@pytest.mark.slow
def test_a_worker_without_a_network_trains_on_what_was_planned(
    hub_tokenizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as planning:
        hub = Hub(planning)
        plan = study_of({"context": 16}).plan("scaling-text")
    name = simplestories.HUB_NAME
    assert hub.asked == [(name, "main"), (name, "train", COMMIT), (name, "test", COMMIT)]
    assert plan.settings["families"]["text"]["data"] == {"name": "simplestories", "context": 16}
    (folder,) = write_plan(tmp_path / "study", plan)
    run = RunFolder.open(folder)
    assert run.config["data"] == {"name": "simplestories", "context": 16, "revision": COMMIT}
    run_all([folder], workers=1)
    assert run.is_finished


def test_a_study_goes_on_without_a_network_and_with_the_stories_that_it_was_planned_with(
    hub_tokenizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_of({"context": 16})
    with monkeypatch.context() as planning:
        Hub(planning)
        plan = study.plan("scaling-text")
    out = tmp_path / "study"
    (folder,) = write_plan(out, plan)
    before = begun(out)
    assert before is not None
    assert before.data == {"text": {"name": "simplestories", "context": 16, "revision": COMMIT}}
    # The branch `main` cannot be asked for now; it might stand for another commit.
    again = study.plan("scaling-text", begun=before)
    assert again == plan
    assert write_plan(out, again) == [folder]
    with pytest.raises(ValueError, match=r"\(revision 'main'\) could not be read"):
        study_of({"context": 8}).plan("scaling-text", begun=before)


def test_the_command_plans_a_study_that_has_begun_from_its_folder(
    hub_tokenizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = registry.find("scaling-text")
    settings = {"preset": "toy", "families": {"text": {"data": {"name": "simplestories", "context": 16}}}}
    with monkeypatch.context() as planning:
        Hub(planning)
        plan = study.plan_for(settings, tmp_path / "study")
    write_plan(tmp_path / "study", plan)
    assert study.plan_for(settings, tmp_path / "study") == plan


def test_local_copies_are_named_from_the_root(
    folder: Path, tokenizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"folder": folder.name, "tokenizer": Path(tokenizer).name, "context": 16}
    plan = study_of(given).plan("scaling-text")
    assert plan.settings["families"]["text"]["data"] == {"name": "simplestories", **given}
    (run,) = plan.runs
    assert run.data.options == {"folder": str(folder), "tokenizer": tokenizer, "context": 16}
    monkeypatch.chdir("/")
    assert run.data.load().content_hash == run.facts["data_hash"]
    # A name on the hub is none of a file.
    assert data.resolved("simplestories", {"tokenizer": "a/b", "revision": COMMIT}) == {
        "tokenizer": "a/b",
        "revision": COMMIT,
    }


def test_a_plan_without_a_network_names_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"\(revision 'main'\) could not be read .* give the option folder"):
        study_of({}).plan("scaling-text")


def test_an_outline_has_the_vocabulary_of_a_local_tokenizer(tokenizer: str) -> None:
    outlined = data.outline("simplestories", context=16, stories=32, tokenizer=tokenizer)
    assert outlined.dimensions == {"vocabulary": Tokenizer.from_file(tokenizer).get_vocab_size(), "context": 16}
    assert outlined.units("train") == 500
    assert data.outline("simplestories").dimensions == {"vocabulary": 4096, "context": 512}
    every = data.outline("simplestories", stories=10**9).units("train")
    assert every == data.outline("simplestories").units("train")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context": 0}, "context is 0; expected at least 1 token"),
        ({"context": "16"}, "context is '16', a str; expected a whole number"),
        ({"stories": 0}, "stories is 0; expected at least 1"),
        ({"revision": ""}, "revision is empty"),
        ({"folder": 3}, "folder is 3, a int; expected text"),
        ({"tokenizer": "/nowhere/t.json"}, "tokenizer is '/nowhere/t.json', which does not exist"),
        ({"tokenizer": "a/b"}, "tokenizer is 'a/b', neither a file nor a folder; a dry run asks no hub"),
    ],
)
def test_an_outline_refuses_impossible_options_too(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        data.outline("simplestories", **options)


def test_no_more_is_streamed_than_is_asked_for(tokenizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(monkeypatch)
    loaded = data.load("simplestories", tokenizer=tokenizer, context=16, stories=10)
    assert loaded.facts["documents_train"] == 10
    assert hub.given <= 10 + 1 + len(TEST)


def test_a_hub_with_another_column_is_told(tokenizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Hub(monkeypatch, column="text")
    with pytest.raises(ValueError, match=r"rows hold topic, text, no story\. Expected its splits train and test"):
        data.load("simplestories", tokenizer=tokenizer)


def test_the_folder_can_follow_the_name() -> None:
    assert data.parse_name("simplestories") == ("simplestories", {})
    assert data.parse_name("simplestories:/a/copy") == ("simplestories", {"folder": "/a/copy"})
