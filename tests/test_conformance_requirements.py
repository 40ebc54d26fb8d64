# The requirements that the package carries are those of the document.
import re
from pathlib import Path

import pytest

from vfio_user_conformance.expect import LAYOUTS
from vfio_user_conformance.requirements import REQUIREMENTS

DOCUMENT = Path(__file__).resolve().parents[1] / "spec" / "vfio-user.rst"


def test_requirements_are_those_of_the_document() -> None:
    if not DOCUMENT.exists():
        pytest.skip("the document is part of the checkout, not of the package")
    text = DOCUMENT.read_text()
    found = re.findall(r"^\.\. requirement:: (\S+)\n   :level: (\w+)\n   :side: (\w+)", text, re.MULTILINE)

    assert [(each.ident, each.level, each.side) for each in REQUIREMENTS.values()] == found


def test_every_requirement_is_a_sentence_with_a_level_and_a_side() -> None:
    for requirement in REQUIREMENTS.values():
        assert requirement.text.endswith(".")
        assert requirement.level in ("must", "should", "info")
        assert requirement.side in ("server", "client", "both")


def test_layouts_name_requirements() -> None:
    assert set(LAYOUTS.values()) <= set(REQUIREMENTS)
