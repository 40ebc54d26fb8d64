# What runs the commands of the pages: a page that is wrong is put right, and what it leaves open stays open.
from pathlib import Path

import pytest
from pages import page_as_it_should_be


def console(*lines: str) -> str:
    return "\n".join(["```console", *lines, "```", ""])


@pytest.mark.parametrize("shown", [["2"], ["1", "2"], [], ["1", "…", "2"], ["1…2"]])
def test_what_a_command_does_not_print_is_replaced(shown: list[str], tmp_path: Path) -> None:
    page = page_as_it_should_be("Words.\n\n" + console("$ echo 1", *shown, "$ echo 3", "3"), tmp_path)

    assert page == "Words.\n\n" + console("$ echo 1", "1", "$ echo 3", "3")


@pytest.mark.parametrize(
    "shown", [["1", "2", "3"], ["1", "…"], ["…", "3"], ["1", "…", "3"], ["1", "2", "…", "3"], ["…", "…3"]]
)
def test_what_a_page_leaves_open_stays_open(shown: list[str], tmp_path: Path) -> None:
    page = console("$ printf '1\\n2\\n3\\n'", *shown)

    assert page_as_it_should_be(page, tmp_path) == page


def test_a_file_of_the_page_is_there_for_the_commands_below(tmp_path: Path) -> None:
    page = "```sh\n# my-words.sh\necho one\n```\n" + console(
        "$ sh my-words.sh", "one", "$ cat no-such-file; echo $?", "…", "1"
    )

    assert page_as_it_should_be(page, tmp_path) == page


def test_what_runs_in_the_background_has_printed_its_lines_and_is_ended(tmp_path: Path) -> None:
    command = "$ sh -c 'echo $$; exec sleep 60' &"
    page = page_as_it_should_be(console(command, "some number", "$ echo 1", "1"), tmp_path)
    pid = page.splitlines()[2]

    assert page == console(command, pid, "$ echo 1", "1")
    assert not Path(f"/proc/{pid}").exists()
