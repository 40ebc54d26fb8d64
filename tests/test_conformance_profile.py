# The files that say what is known about a target.
import contextlib
import copy
import tomllib
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from vfio_user_conformance import profile
from vfio_user_conformance.profile import HAZARDS, Scratch, load, path_of, update_known
from vfio_user_conformance.verdict import Known, Outcome
from vfio_user_proto.errors import UsageError

TARGETS = sorted(path_of("builtin").parent.glob("*.toml"))


@pytest.mark.parametrize("path", TARGETS, ids=lambda path: path.stem)
def test_the_files_that_come_along_can_be_read(path: Path) -> None:
    assert load(str(path)).name
    assert load(path.stem) == load(str(path))


def test_the_built_in_target_allows_everything_and_has_scratch_bytes() -> None:
    profile = load("builtin")

    assert profile.allow == set(HAZARDS)
    assert profile.scratch == Scratch(0, 0x800, 2048)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name = ", "Invalid value"),
        ("colour = 'red'", "unknown 'colour'"),
        ("allow = ['fire']", "'fire' is none of reset"),
        ("[scratch]\nregion = 0", "lacks offset"),
        ("name = 5", "the file has the name 5, which is no text"),
        ("version = 1.5", "the file has the version 1.5, which is no text"),
        ("allow = 'all'", "allow is 'all', which is no list of texts"),
        ("allow = [['all']]", "which is no list of texts"),
        ("scratch = 5", r"\[scratch\] is no table"),
        (
            "[scratch]\nregion = 0\noffset = '0x800'\nsize = 4",
            "has the offset '0x800', which is no whole number of 64 bits",
        ),
        ("[scratch]\nregion = 0\noffset = 0\nsize = -1", "has the size -1, which is no whole number"),
        ("[scratch]\nregion = true\noffset = 0\nsize = 1", "has the region True, which is no whole number"),
        ("[scratch]\nregion = 0\noffset = 0\nsize = 0", "has the size 0; leave it out"),
        ("[scratch]\nregion = 0\noffset = 0\nsize = 1\nkeeps = 1", "has keeps = 1, which is neither true nor false"),
        ("known = 5", r"\[\[known\]\] is no list of tables"),
        ("known = ['a/b']", r"\[\[known\]\] is no table"),
        (
            "[[known]]\ncase = 'a/b'\nclass = 'fail'\nreason = 'x'\nsometimes = 'pass'",
            "sometimes is 'pass', which is no list",
        ),
        ("[[known]]\ncase = 'a/b'\nclass = ['fail']\nreason = 'x'", "has the class .'fail'., which is no text"),
        ("[[known]]\ncase = 'a/b'\nclass = 'fail'", "lacks reason"),
        ("[[known]]\ncase = 'a/b'\nclass = 'fail'\nreason = ' '", "'a/b' needs a reason"),
        (
            "[[known]]\ncase = 'a/b'\nclass = 'pass'\nreason = 'x'",
            "'a/b' has the class 'pass', which is none of crash, desync, deviation, error, fail, hang, not-reached$",
        ),
        ("[[known]]\ncase = 'a/b'\nclass = 'fail'\nreason = 5", "has the reason 5, which is no text"),
        (
            "[[known]]\ncase = 'a/b'\nclass = 'fail'\nreason = 'x'\nsometimes = ['sad']",
            "'a/b' is sometimes 'sad', which is none of crash, desync, deviation, erratum, .*, pass, ",
        ),
        ("[[known]]\ncase = 'a/b'\nreason = 'x'", "lacks class"),
        (
            "[[known]]\ncase = 'a/b'\nclass = 'fail'\nreason = 'x'\nexpires = '2027-01-01'",
            "expires on a day, such as 2027-01-01, without quotes",
        ),
        (
            "[[known]]\ncase = 'a/b'\nclass = 'fail'\nreason = 'x'\nexpires = 2027-01-01T00:00:00",
            "expires on a day",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_one_sentence(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "target.toml"
    path.write_text(text)

    with pytest.raises(UsageError, match=f"target.toml: .*{problem}"):
        load(str(path))


def leaves(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each table or list with the key of each value in it."""
    if isinstance(value, (dict, list)):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield value, key
            yield from leaves(each)


@pytest.mark.parametrize("odd", [5, -1, 1.5, True, "x", [], ["x"], {}, {"x": 1}, date(2027, 1, 1)], ids=repr)
def test_a_value_of_another_type_is_one_sentence_wherever_it_is(odd: object) -> None:
    """Whatever a file holds, reading it ends well or in the ValueError that becomes a sentence."""
    entry = {"case": "a/b", "class": "fail", "reason": "x", "link": "y", "sometimes": ["pass"]}
    whole = {**tomllib.loads(path_of("builtin").read_text()), "version": "1", "known": [entry]}
    count = sum(1 for _ in leaves(whole))
    assert count > 200
    for number in range(count):
        content = copy.deepcopy(whole)
        place, key = list(leaves(content))[number]
        place[key] = odd
        with contextlib.suppress(ValueError):
            profile.parse(content)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(UsageError, match=r"nowhere.toml: No such file"):
        load("nowhere.toml")
    with pytest.raises(UsageError, match="quux: no such profile comes with the suite, but builtin, "):
        load("quux")


def test_known_findings_replace_those_of_the_file_and_leave_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "target.toml"
    path.write_text('# a comment\nname = "mine"\n\n[[known]]\ncase = "old"\nclass = "fail"\nreason = "x"\n')
    known = (
        Known("a/*", Outcome.DESYNC, 'says "no"\\\nand\ttabs'),
        Known("b/c", Outcome.FAIL, "a bug", "https://example.org/1", date(2027, 1, 1)),
        Known("b/d", Outcome.HANG, "a race", sometimes=frozenset({Outcome.PASS, Outcome.NOT_REACHED})),
    )

    update_known(path, known)

    assert load(str(path)).known == known
    assert path.read_text().startswith('# a comment\nname = "mine"\n')


def test_known_findings_can_be_written_into_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "known.toml"
    path.write_text("")
    update_known(path, (Known("a/b", Outcome.FAIL, "x"),))

    assert len(load(str(path)).known) == 1
    with pytest.raises(UsageError, match="Is a directory"):
        update_known(tmp_path, ())
