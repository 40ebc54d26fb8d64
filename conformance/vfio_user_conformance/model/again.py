"""A sequence done once more on a fresh target."""

from collections.abc import Sequence

from vfio_user_conformance.driver import Bench
from vfio_user_conformance.model.rule import Move
from vfio_user_conformance.model.trial import Found, Key, Trial
from vfio_user_proto.errors import TargetError


def every(bench: Bench, moves: Sequence[Move]) -> list[Found]:
    """All that is found on the way. Raises TargetError where there is no target."""
    seen = list[Found]()

    def tell(found: Found) -> bool:
        seen.append(found)
        return False

    trial = Trial(bench, tell)
    for move in moves:
        trial.do(move)
    trial.close()
    return seen


def again(bench: Bench, moves: Sequence[Move], key: Key) -> Found | None:
    """The finding ``key``, where it comes again; nothing is done after it. None also where there is no target any more."""
    try:
        trial = Trial(bench, lambda found: found.key == key)
        try:
            for move in moves:
                trial.do(move)
            trial.close()
        except Found as found:
            trial.close()
            return found
    except TargetError:
        return None
    return None
