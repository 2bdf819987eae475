"""``--set``: settings by path."""

import pytest

from spectral_reach.cli.settings import parse


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
