# Interrupts are held back while it matters, and not lost.
import os
import signal
import threading

import pytest

from vfio_user_conformance.shield import shielded


def test_an_interrupt_comes_at_the_end_of_the_block() -> None:
    done = []

    def block() -> None:
        with shielded():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("the rest of the block")

    with pytest.raises(KeyboardInterrupt):
        block()

    assert done
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_is_told_and_the_handlers_are_those_of_before() -> None:
    before = signal.getsignal(signal.SIGTERM)

    with pytest.raises(ValueError, match="x"), shielded():
        raise ValueError("x")

    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == (before, signal.default_int_handler)


def test_other_threads_are_let_be() -> None:
    entered = threading.Event()

    def work() -> None:
        with shielded():
            entered.set()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(5)

    assert entered.is_set()
