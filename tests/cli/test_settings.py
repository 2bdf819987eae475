"""``--set``: settings by path."""

import pytest

from spectral_reach.cli.settings import of_studies, parse


def test_paths_become_groups_and_values_are_json() -> None:
    assert parse(["a.b.c=1", "a.b.d=[1, 2]", "a.e=null", "f=1e-3", "g=true", "h=cosine", "i=x=y"]) == {
        "a": {"b": {"c": 1, "d": [1, 2]}, "e": None},
        "f": 1e-3,
        "g": True,
        "h": "cosine",
        "i": "x=y",
    }


@pytest.mark.parametrize(
    ("assignments", "says"),
    [
        (["steps"], r"got 'steps'; expected PATH=VALUE"),
        (["=3"], r"got '=3'; expected PATH=VALUE"),
        (["a..b=3"], r"got 'a\.\.b=3'; expected PATH=VALUE"),
        (["a=1", "a=2"], r"--set a comes twice"),
        (["a=1", "a.b=2"], r"a has been set to 1 already"),
        (["a.b=2", "a=1"], r"--set a comes twice"),
    ],
)
def test_a_wrong_assignment_is_refused(assignments: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse(assignments)


def test_changes_go_to_the_study_that_they_name() -> None:
    settings = of_studies(("vit", "probes"), "toy", parse(["vit.seeds=[1]", "vit.threads=2"]))
    assert settings == {"vit": {"preset": "toy", "seeds": [1], "threads": 2}, "probes": {"preset": "toy"}}
    with pytest.raises(ValueError, match=r"--set got a setting of 'music'; expected STUDY.PATH=VALUE with one of the"):
        of_studies(("vit",), "toy", parse(["music.seeds=[1]"]))
    with pytest.raises(ValueError, match=r"--set vit=3 sets a whole study; expected vit.SETTING=VALUE"):
        of_studies(("vit",), "toy", parse(["vit=3"]))
