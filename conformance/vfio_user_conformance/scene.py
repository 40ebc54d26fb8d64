"""What is kept of a case that waited in vain, so that it gets all of its time while others run."""

import time
from dataclasses import dataclass, field, replace

from vfio_user_conformance.case import Case
from vfio_user_conformance.session import Session
from vfio_user_conformance.target import Target
from vfio_user_conformance.verdict import Outcome, Result


@dataclass(eq=False)
class Scene:
    """A case whose ``result`` holds unless the target still does what was waited for, within ``seconds`` from now.

    Everything is left as it is: the program runs, the connection is open, descriptors are watched. Nothing else uses them.
    """

    case: Case
    result: Result
    session: Session
    target: Target
    seconds: float
    _since: float = field(default_factory=time.monotonic)
    _unread: int = 0

    def __post_init__(self) -> None:
        self._unread = self.session.unread()

    def is_due(self) -> bool:
        return time.monotonic() >= self._since + self.seconds

    def changed(self) -> bool:
        """Whether it does so when its time is over, or sooner; waits for either."""
        left = max(self._since + self.seconds - time.monotonic(), 0)
        if self.result.outcome is Outcome.HANG:
            return self.session.stirs(left) or self.session.unread() != self._unread or self.target.ended(0) is not None
        first, *others = self.session.held
        return first.wait_released(left) or any(each.released() for each in others)

    def told(self) -> Result:
        """The result, with what the program has printed since."""
        return replace(self.result, stderr=self.target.stderr())

    def close(self) -> None:
        """Give up the connection and the program."""
        self.session.close()
        self.target.discard()
