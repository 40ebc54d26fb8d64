"""Which functions of the right server a case reaches: a fault that replaces none of them makes no difference to the case."""

import mmap
from collections.abc import Callable
from functools import wraps
from types import FunctionType
from typing import Any, Final

from vfio_user_conformance.case import Case
from vfio_user_conformance.driver import Bench
from vfio_user_conformance.facts import Facts
from vfio_user_conformance.target import Serve
from vfio_user_proto.connection import Connection
from vfio_user_proto.dirty import DirtyLog
from vfio_user_proto.faults import Fault
from vfio_user_proto.interrupts import Interrupts
from vfio_user_proto.iofds import IoFdRegion
from vfio_user_proto.memory import DmaMap
from vfio_user_proto.responder import Responder
from vfio_user_proto.session import Options, Session
from vfio_user_proto.unix import Stream

# The classes that faults derive others from. Connections and streams are no part of it: every byte passes them.
_KINDS: Final[tuple[type, ...]] = (Responder, Session, Interrupts, DmaMap, DirtyLog, IoFdRegion)
Place = tuple[type, str]
PLACES: Final[tuple[Place, ...]] = tuple(
    (kind, name) for kind in _KINDS for name, value in vars(kind).items() if isinstance(value, FunctionType)
)


class _Own:
    """A class that adds nothing: some of what every class has of its own comes with a statement, and with annotations."""

    nothing: None


_OWN: Final = frozenset(vars(_Own))


def replaced(fault: Fault) -> frozenset[Place] | None:
    """The functions in whose place a fault has others; None where it may make a difference to any message."""
    if (fault.outgoing, fault.connection, fault.stream) != (None, Connection, Stream):
        return None
    others: tuple[type, ...] = getattr(fault.responder, "replaces", ())
    found = {place for kind in (fault.responder, *others) for place in _overridden(kind)}
    if others:  # puts the others in their places
        found.discard((Responder, "__init__"))
    return frozenset(found) if found <= set(PLACES) else None


def _overridden(kind: type) -> set[Place]:
    base = next(each for each in kind.__mro__ if each in _KINDS)
    derived = kind.__mro__[: kind.__mro__.index(base)]
    return {(base, name) for each in derived for name in vars(each).keys() - _OWN if hasattr(base, name)}


class Reach:
    """What cases reach on the right server; each is run once, when it is first asked for.

    ``bench`` makes what cases run on out of a function that serves.
    """

    def __init__(self, bench: Callable[[Serve], Bench], serve: Serve) -> None:
        self._marks: Final = mmap.mmap(-1, len(PLACES))
        self._bench: Final = bench(_marking(serve, self._marks))
        self._of: Final[dict[str, frozenset[Place]]] = {}

    @property
    def facts(self) -> Facts:
        """What the right server says of itself."""
        return self._bench.facts

    def of(self, case: Case) -> frozenset[Place]:
        """The functions that are called when this case is run."""
        if case.ident not in self._of:
            self._marks[:] = bytes(len(PLACES))
            self._bench.run(case)
            marked = zip(PLACES, self._marks[:], strict=True)
            self._of[case.ident] = frozenset(place for place, mark in marked if mark)
        return self._of[case.ident]

    def close(self) -> None:
        self._bench.target.close()
        self._marks.close()


def _marking(serve: Serve, marks: mmap.mmap) -> Serve:
    """``serve``, which is called in a process of its own, with a mark in shared memory for each function that is called."""

    def marking(path: str) -> int:
        for number, (kind, name) in enumerate(PLACES):
            setattr(kind, name, _marked(vars(kind)[name], marks, number))
        setattr(Options, "plain", False)  # noqa: B010  # or else region accesses would pass none of them
        return serve(path)

    return marking


def _marked(function: Callable[..., Any], marks: mmap.mmap, number: int) -> Callable[..., Any]:
    @wraps(function)
    def marked(*positional: Any, **named: Any) -> Any:
        marks[number] = 1
        return function(*positional, **named)

    return marked
