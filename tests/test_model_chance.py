# Chance: what a seed draws stays what it is, whatever is imported and wherever the suite is installed.
import subprocess
import sys

from vfio_user_conformance.model.chance import Chance, just, numbers, one_of, several, together, yes_or_no


def test_a_seed_says_what_is_drawn() -> None:
    chance = Chance("1/1")
    drawn = [source(chance) for source in (numbers(-1, 2), numbers(0, 16383), one_of("a", "b", "c"), just(7))]
    drawn += [several(numbers(0, 9), 1, 4)(chance), together(yes_or_no, numbers(5, 5))(chance), chance.below(1)]
    assert drawn == [0, 10237, "c", 7, [6, 5, 1, 2], (True, 5), 0]


def test_every_value_comes() -> None:
    chance = Chance("any")
    assert {chance.below(4) for _ in range(200)} == {0, 1, 2, 3}
    assert {len(several(just(0), 0, 2)(chance)) for _ in range(200)} == {0, 1, 2}
    assert {yes_or_no(chance) for _ in range(200)} == {False, True}


def test_the_model_draws_without_hypothesis() -> None:
    """It takes constants of the modules that are imported, if these are not installed, for values worth drawing."""
    program = "import sys, vfio_user_conformance.model.explore; print('hypothesis' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
