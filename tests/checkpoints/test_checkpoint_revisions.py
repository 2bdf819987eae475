"""Which revisions a folder has, in which order, at which step, and what tells that one has changed."""

import json
import os
import shutil
from pathlib import Path

import pytest
from small_checkpoints import llama, tokenizer

from spectral_reach.checkpoints.revision import in_order, step_of
from spectral_reach.checkpoints.revisions import find_revisions


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a Trainer leaves: checkpoints, and the model at the end beside them."""
    folder = tmp_path_factory.mktemp("models") / "run"
    for step in (10, 2, 500):
        llama(seed=step).save_pretrained(folder / f"checkpoint-{step}")
        (folder / f"checkpoint-{step}" / "optimizer.pt").write_bytes(b"state")
    (folder / "logs").mkdir()
    llama(seed=500).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def names(folder: Path, wanted: str | list[str] | None) -> list[str]:
    return [each.name for each in find_revisions(folder, wanted)]


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("step1000", 1000),
        ("checkpoint-500", 500),
        ("step1000-tokens4B", 1000),
        ("stage1-step12000-tokens51B", 12000),
        ("iter_0000300", 300),
        ("main", None),
        ("v1.0", None),
        ("1f2e3d", None),
    ],
)
def test_the_step_in_a_name(name: str, step: int | None) -> None:
    assert step_of(name) == step


def test_natural_order() -> None:
    wanted = [
        "stage1-step2",
        "stage1-step10",
        "stage2-step1",
        "step0",
        "step2",
        "step10",
        "step100",
        "main",
        "v2",
        "v10",
    ]
    shuffled = sorted(wanted)
    assert shuffled != wanted
    assert sorted(shuffled, key=in_order) == wanted


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (None, ["main"]),
        ("all", ["checkpoint-2", "checkpoint-10", "checkpoint-500", "main"]),
        ("checkpoint-*", ["checkpoint-2", "checkpoint-10", "checkpoint-500"]),
        ("checkpoint-?0", ["checkpoint-10"]),
        ("checkpoint-500,checkpoint-2", ["checkpoint-2", "checkpoint-500"]),
        (
            ["checkpoint-10", " main , checkpoint-2", "checkpoint-*0"],
            ["checkpoint-2", "checkpoint-10", "checkpoint-500", "main"],
        ),
    ],
)
def test_which_are_chosen(checkpoints: Path, wanted: str | list[str] | None, found: list[str]) -> None:
    assert names(checkpoints, wanted) == found


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ("checkpoint-3", r"has no revision 'checkpoint-3'; it has checkpoint-2, checkpoint-10, checkpoint-500, main\."),
        ("step*", r"has no revision that matches 'step\*'; it has checkpoint-2"),
        ("logs", "has no revision 'logs'"),
        ("", "revisions is ''; expected names"),
        ("main,,", "revisions is 'main,,'; expected names"),
        ([], r"revisions is \[\]; expected names"),
    ],
)
def test_one_that_there_is_not(checkpoints: Path, wanted: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        find_revisions(checkpoints, wanted)


def test_a_folder_of_checkpoints_alone_has_to_be_told_which(checkpoints: Path, tmp_path: Path) -> None:
    shutil.copytree(checkpoints / "checkpoint-2", tmp_path / "step2")
    with pytest.raises(ValueError, match=r"no config\.json of its own but checkpoints: step2\. Name some of them"):
        find_revisions(tmp_path)
    assert names(tmp_path, "all") == ["step2"]


def test_adapters_are_no_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match="holds adapters of PEFT and no whole model"):
        find_revisions(tmp_path)


@pytest.mark.parametrize("model", ["/nowhere/at/all", "./nowhere", "~/nowhere-of-a-toaster", "a/b/c"])
def test_a_path_is_not_asked_for_on_the_hub(model: str) -> None:
    with pytest.raises(ValueError, match="is no folder; expected a run folder, or a Hugging Face folder"):
        find_revisions(model)


def test_identity_is_of_contents_and_not_of_places(checkpoints: Path, tmp_path: Path) -> None:
    two, ten = (find_revisions(checkpoints, name)[0] for name in ("checkpoint-2", "checkpoint-10"))
    assert two.identity() != ten.identity()
    assert two.identity().startswith("sha256:")
    shutil.copytree(two.source, tmp_path / "copy")
    (copy,) = find_revisions(tmp_path / "copy")
    assert copy.identity() == two.identity()
    # What is not the model does not count.
    (tmp_path / "copy" / "optimizer.pt").write_bytes(b"another state")
    (tmp_path / "copy" / "README.md").write_text("new")
    assert copy.identity() == two.identity()


@pytest.mark.parametrize("change", ["weights", "config", "code"])
def test_identity_changes_with_the_model(checkpoints: Path, tmp_path: Path, change: str) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(checkpoints / "checkpoint-2", folder)
    (revision,) = find_revisions(folder)
    before = revision.identity()
    if change == "weights":
        # One bit of a weight, the same size, and the time of change put back by less than a second.
        file = folder / "model.safetensors"
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        stat = file.stat()
        file.write_bytes(content)
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    elif change == "config":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-5}))
    else:
        (folder / "modeling_own.py").write_text("")
    assert revision.identity() != before
