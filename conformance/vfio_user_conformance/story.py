"""Cases that are told in several exchanges: each is answered and judged before the next begins."""

from collections.abc import Generator
from typing import Any

from vfio_user_conformance.case import Case
from vfio_user_conformance.facts import Facts
from vfio_user_conformance.peer import Seen
from vfio_user_conformance.steps import Exchange
from vfio_user_conformance.words import listed


def story(ident: str, requirement: str, *exchanges: Exchange, **more: Any) -> Case:
    """A case whose exchanges follow one another; ``more`` is as in ``Case``."""

    def script(_facts: Facts) -> Generator[Exchange, Seen, None]:
        yield from (each for each in exchanges)  # a generator, since it is told what was seen

    return Case(
        ident=ident,
        requirement=requirement,
        stimulus="; then ".join(listed(each.steps, "; then ") for each in exchanges if each.steps),
        expect="; then ".join(listed(each.expect, "; then ") for each in exchanges if each.expect),
        script=script,
        **more,
    )
