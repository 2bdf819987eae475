"""Models on the hub, from a hub of this machine: revisions, commits, the cache, and what a refusal says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from fake_hub import FakeHub
from small_checkpoints import jsonl, llama, tokenizer

import spectral_reach as sr
from spectral_reach.cli.exits import ExitCode

PROCESS = Path(__file__).with_name("commands_process.py")
STEPS = {"main": 3, "step10": 3, "step2": 2, "step1": 1}
TEXTS = ["the cat sat on the mat", "a dog ran and slept", "one two three", "is it a good film"]

Done = tuple[int, str, str]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("hub")
    for name, seed in STEPS.items():
        llama(seed=seed).save_pretrained(home / name)
        tokenizer().save_pretrained(home / name)
    jsonl(home / "prose.jsonl", [{"text": text} for text in TEXTS])
    return home


def run(home: Path, endpoint: str, *commands: list[str], cache: str = "cache", offline: bool = False) -> list[Done]:
    """The commands one after the other in a process that knows this hub."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home / cache),
        "HF_HUB_OFFLINE": str(int(offline)),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1",
    }
    done = subprocess.run(
        [sys.executable, str(PROCESS)],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        cwd=home,
        env=environment,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return [(code, out, err) for code, out, err in json.loads(done.stdout)]


def measure(model: str, *options: str) -> list[str]:
    return ["measure", model, "--data", "prose=prose.jsonl", "--units", "4", *options]


@pytest.fixture(scope="module")
def served(home: Path) -> tuple[FakeHub, list[Done]]:
    """Everything that needs this hub to be there, in one process: it takes seconds to start."""
    revisions = {"main": home / "main", "step1": home / "step1"}
    hub = FakeHub(
        {"lab/tiny": {name: home / name for name in STEPS}, "lab/gated": revisions, "lab/broken": revisions},
        gated=("lab/gated",),
        broken=("lab/broken",),
    )
    out = ["--out", "hub.parquet"]
    with hub.serving() as endpoint:
        done = run(
            home,
            endpoint,
            measure("lab/tiny", "--revision", "step*", *out),
            measure("lab/tiny", "--revision", "step1,step2", "--revision", "step10", *out),
            measure("lab/tiny", "--revision", hub.commit(home / "step2"), *out),
            measure("lab/tiny", *out),
            measure("lab/nothing"),
            measure("lab/tiny", "--revision", "step7"),
            measure("lab/tiny", "--revision", "epoch*"),
            measure("lab/gated"),
            measure("lab/broken"),
        )
    return hub, done


def test_revisions_of_a_repository(home: Path, served: tuple[FakeHub, list[Done]]) -> None:
    hub, (steps, again, by_commit, whole, *_) = served
    commit = hub.commit(home / "step2")
    for code, _, err in (steps, again, by_commit, whole):
        assert code == ExitCode.OK, err
    assert "3 revisions (step1, step2, step10)" in steps[2]
    assert "3 measurements, 0 of them are in hub.parquet: 3 to make" in steps[2]
    assert "3 measurements, 3 of them are in hub.parquet: 0 to make" in again[2]
    # The same commit, once by its name and once as main, which step10 is too.
    assert "1 measurement, 1 of them are in hub.parquet: 0 to make" in by_commit[2]
    assert "1 measurement, 1 of them are in hub.parquet: 0 to make" in whole[2]
    # Each file of weights was fetched once, by its commit.
    fetched = [each for each in hub.requests if each.startswith("GET") and each.endswith("model.safetensors")]
    assert sorted(fetched) == sorted(
        f"GET /lab/tiny/resolve/{hub.commit(home / name)}/model.safetensors" for name in ("step1", "step2", "step10")
    )
    table = pq.read_table(home / "hub.parquet")
    rows = [row for row in table.to_pylist() if row["quantity"] == "chi_pos"]
    assert [(row["revision"], row["step"]) for row in rows] == [
        ("step1", 1),
        ("step2", 2),
        ("step10", 10),
        (commit, None),
        ("main", None),
    ]
    assert [row["commit"] for row in rows[:3]] == [hub.commit(home / f"step{step}") for step in (1, 2, 10)]
    # The numbers are those of the folder that the hub serves.
    local = sr.measure_checkpoints(home / "step2", data={"prose": str(home / "prose.jsonl")}, units=4)
    expected = {row["quantity"]: row["value"] for row in local.to_pylist()}
    found = {row["quantity"]: row["value"] for row in table.to_pylist() if row["revision"] == "step2"}
    assert found == expected


def test_refusals(served: tuple[FakeHub, list[Done]]) -> None:
    _, (*_, nobody, revision, pattern, gated, broken) = served
    for code, out, _ in (nobody, revision, pattern, gated, broken):
        assert (code, out) == (ExitCode.BAD_INPUT, "")
    assert "lab/nothing is no repository on the hub that you may read, and there is no folder of this name" in nobody[2]
    assert "lab/tiny has no revision 'step7' on the hub; expected a branch, a tag or a commit" in revision[2]
    assert "lab/tiny on the hub has no revision that matches 'epoch*'; it has step1, step2, step10, main." in pattern[2]
    assert "lab/gated is gated" in gated[2]
    assert "`hf auth login`" in gated[2]
    assert "The hub answered 500 about lab/broken" in broken[2]


@pytest.mark.slow
def test_without_a_network_the_cache_serves_what_it_holds(home: Path) -> None:
    hub = FakeHub({"lab/tiny": {"step1": home / "step1", "main": home / "main"}})
    with hub.serving() as endpoint:
        ((code, _, err),) = run(home, endpoint, measure("lab/tiny", "--revision", "step1"), cache="offline")
        assert code == ExitCode.OK, err
    commands = [
        measure("lab/tiny", "--revision", "step1", "--revision", hub.commit(home / "step1")),
        measure("lab/tiny", "--revision", "step1,main"),
        measure("lab/tiny", "--revision", "all"),
    ]
    offline = run(home, endpoint, *commands, cache="offline", offline=True)
    unreachable = run(home, endpoint, *commands, cache="offline")
    for cached, missing, listed in (offline, unreachable):
        assert cached[0] == ExitCode.OK, cached[2]
        assert "2 revisions (step1, " in cached[2]
        for each in (missing, listed):
            assert each[0] == ExitCode.FAILED
    assert "lab/tiny has to be asked for on the hub, and HF_HUB_OFFLINE says not to" in offline[1][2]
    assert "The hub cannot be reached for lab/tiny" in unreachable[1][2]
    assert "Check the network, or name a folder" in unreachable[2][2]
