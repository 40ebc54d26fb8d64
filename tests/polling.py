"""The two sides of a register without a server: a host that looks at descriptors when it is told to, and a device."""

import select
from collections.abc import Callable


class Poll:
    """A host that calls whoever has something to read."""

    def __init__(self) -> None:
        self.calls: dict[int, Callable[[], None]] = {}

    def watch(self, fd: int, ready: Callable[[], None]) -> None:
        self.calls[fd] = ready

    def unwatch(self, fd: int) -> None:
        del self.calls[fd]

    def read(self, address: int, count: int) -> bytes:
        raise NotImplementedError

    def write(self, address: int, data: bytes) -> None:
        raise NotImplementedError

    def trigger(self, index: int, vector: int) -> None:
        raise NotImplementedError

    def turn(self) -> int:
        """Call each that is ready, once; returns how many were."""
        poll = select.poll()
        for fd in self.calls:
            poll.register(fd, select.POLLIN)
        ready = poll.poll(0)
        for fd, _ in ready:
            self.calls[fd]()
        return len(ready)


class Log:
    """A device: what it was told, and registers that read as their offset."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def ring(self, name: str) -> Callable[[int | None, int], None]:
        return lambda value, times: self.told.append((name, value, times))

    def read_register(self, offset: int, size: int) -> int:
        return offset

    def write_register(self, offset: int, size: int, value: int) -> None:
        self.told.append((offset, size, value))
