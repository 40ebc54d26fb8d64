# Interrupts are held back while it matters, and not lost.
import contextlib
import gc
import os
import signal
import threading

import pytest

from vfio_user_conformance.shield import noted, shielded


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


def test_an_interrupt_that_the_interpreter_ignores_was_noted(capfd: pytest.CaptureFixture[str]) -> None:
    def callback(_phase: str, _info: dict[str, int]) -> None:
        gc.callbacks.remove(callback)
        signal.raise_signal(signal.SIGINT)

    with noted() as came:
        gc.callbacks.append(callback)
        gc.collect()

    assert came == [signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert capfd.readouterr().err == ""


def test_what_is_ignored_or_ends_the_process_is_left_as_it_is() -> None:
    """A shell ignores SIGINT in its background; what ends the process needs no note."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with noted() as came:
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
            signal.raise_signal(signal.SIGINT)
        assert came == []
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_one_that_comes_while_it_is_held_back_is_noted_afterwards() -> None:
    with noted() as came, contextlib.suppress(KeyboardInterrupt), shielded():
        signal.raise_signal(signal.SIGINT)
        assert came == []

    assert came == [signal.SIGINT]
