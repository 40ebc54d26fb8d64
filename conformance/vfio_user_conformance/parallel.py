"""The cases in several processes at a time, each of which starts targets of its own."""

import multiprocessing
import signal
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from vfio_user_conformance.case import Case
from vfio_user_conformance.driver import Bench
from vfio_user_conformance.verdict import Result

Tell = Callable[[Result], None]
_HELD = (signal.SIGINT, signal.SIGTERM)


class Run(Protocol):
    """Runs cases on a bench, and tells each result."""

    def __call__(self, bench: Bench, chosen: list[Case], tell: Tell, /) -> None: ...


def run(work: Run, bench: Bench, chosen: list[Case], workers: int, tell: Tell) -> str:
    """Deal the cases out to ``workers`` forks of this process, and tell the results as they come, in any order.

    ``bench`` has been surveyed, and its target is closed. An interrupt ends the workers: what they had is told, their targets
    are stopped; a second one is KeyboardInterrupt. Returns why a target can no longer be reached, or "".
    """
    context = multiprocessing.get_context("fork")
    readers: list[Connection[Any, Any]] = []
    processes: list[multiprocessing.process.BaseProcess] = []

    def stop(_number: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, before)
        for process in processes:
            process.terminate()

    before = signal.signal(signal.SIGINT, stop)
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)  # until everybody knows what to do about them
        try:
            for number in range(min(workers, len(chosen))):
                reader, writer = context.Pipe(duplex=False)
                readers.append(reader)
                part = chosen[number::workers]
                processes.append(context.Process(target=_work, args=(work, bench, part, writer), daemon=True))
                processes[-1].start()
                writer.close()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)
        lost = _listen(readers, tell)
        for process in processes:
            process.join()
    finally:
        signal.signal(signal.SIGINT, before)
    return lost


def _listen(readers: "list[Connection[Any, Any]]", tell: Tell) -> str:
    """Take what the workers say until each has ended: results, and at last why its target can no longer be reached."""
    lost = ""
    while readers:
        for reader in wait(readers):
            assert isinstance(reader, Connection)
            try:
                said = reader.recv()
            except (EOFError, OSError):
                readers.remove(reader)
                reader.close()
                continue
            if isinstance(said, Result):
                tell(said)
            else:
                lost = lost or said
    return lost


def _work(work: Run, bench: Bench, chosen: list[Case], writer: "Connection[Any, Any]") -> None:
    """One worker; it leaves the interrupts of the terminal to the parent, which ends it by SIGTERM."""
    signal.signal(signal.SIGINT, lambda _number, _frame: None)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    own = replace(bench)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)
        work(own, chosen, writer.send)
        writer.send(own.unreachable)
    except KeyboardInterrupt:
        pass
    finally:
        own.close()
