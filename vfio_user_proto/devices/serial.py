"""A serial port, a 16550A with FIFOs, as the generic PCI card that every system has a driver for.

Regions: BAR0, the 8 I/O ports of the chip; 7, configuration space. Interrupts: INTx, a level.

The line ends at a terminal: whoever connects to a listening UNIX socket. What the guest sends while nobody is connected, or
faster than is read, waits; of more than 64 KiB the oldest bytes are lost. What the terminal sends waits in its socket until
the guest has read what is in the FIFO. Speed and parity change nothing, and the modem is always ready. The chip migrates at
rest, its terminal does not: who was connected stays where the device came from, with what was not sent yet.
"""

import contextlib
import itertools
import select
import socket
from collections import deque
from collections.abc import Callable
from typing import Final

from vfio_user_proto.device import Host, Region
from vfio_user_proto.devices.pci import BAR0, CONFIG, ConfigSpace, PinDevice

PORTS: Final = 8
# The ports; with DLAB set in LCR the first two are the halves of the divisor.
DATA, IER, IIR, LCR, MCR, LSR, MSR, SCRATCH = range(PORTS)
FCR: Final = IIR

# Bits of IER, of LCR, of FCR, of MCR, of LSR.
ON_DATA, ON_EMPTY, ON_MODEM = 1, 2, 8
DLAB: Final = 0x80
FIFO_ENABLE, FIFO_CLEAR = 1, 2
LOOP: Final = 0x10
DATA_READY, EMPTY = 0x01, 0x60

# What IIR says, beside the bits of the FIFO.
IS_NOTHING, IS_MODEM, IS_EMPTY, IS_DATA = 1, 0, 2, 4
IIR_FIFO: Final = 0xC0
FIFO: Final = 16
# MSR of a line that is there: carrier, data set ready, clear to send; and where the outputs of MCR arrive in a loop.
MODEM_READY: Final = 0xB0
_LOOPED: Final = ((0x01, 0x20), (0x02, 0x10), (0x04, 0x40), (0x08, 0x80))
BOUND: Final = 65536


class SerialDevice(PinDevice):
    """See the head of this file. The socket stays the caller's; devices that share it get one terminal each."""

    def __init__(self, listener: socket.socket | None = None) -> None:
        config = ConfigSpace(vendor=0x5646, device=0x5350, class_code=0x070002, ports={0: PORTS}, interrupt_pin=1)
        super().__init__(config, {BAR0: Region(PORTS)})
        self._terminal = Terminal(listener, self._room, self._receive)
        self.reset()

    def rest(self, resting: bool) -> None:
        super().rest(resting)
        self._terminal.renew()

    def attach(self, host: Host) -> None:
        host.watch(self._terminal.fileno(), self._terminal.ready)
        super().attach(host)

    def region_read(self, index: int, offset: int, count: int) -> bytes:
        if index == CONFIG:
            return self.config.read(offset, count)
        data = bytes(self._read(port) for port in range(offset, offset + count))
        self._update()
        return data

    def region_write(self, index: int, offset: int, data: bytes) -> None:
        if index == CONFIG:
            self.config.write(offset, data)
            self._pin.renew()
        else:
            for port, value in enumerate(data, offset):
                self._write(port, value)
            self._update()

    def reset(self) -> None:
        self.config.reset()
        self._registers = bytearray(PORTS)  # those that keep what is written
        self._divisor = bytearray((1, 0))
        self._received = deque[int]()
        self._fifo = False
        self._emptied = False  # the interrupt that says so is due
        self._modem = MODEM_READY
        self._update()

    def close(self) -> None:
        self._terminal.close()

    def save(self) -> bytes:
        config = self.config.read(0, self.config.size)
        flags = bytes((self._fifo, self._emptied, self._modem))
        return config + self._registers + self._divisor + flags + bytes(self._received)

    def load(self, state: bytes) -> None:
        ends = list(itertools.accumulate((self.config.size, PORTS, len(self._divisor), 3)))
        config, registers, divisor, flags = (state[begin:end] for begin, end in itertools.pairwise((0, *ends)))
        received = state[ends[-1] :]
        if (
            len(flags) != 3
            or len(received) > (FIFO if flags[0] else 1)
            or registers[IER] > 0x0F
            or registers[MCR] > 0x1F
        ):
            raise ValueError("no state of a serial port")
        self.config.load(config)
        self._registers, self._divisor = bytearray(registers), bytearray(divisor)
        self._fifo, self._emptied, self._modem = bool(flags[0]), bool(flags[1]), flags[2]
        self._received = deque(received)
        self._update()

    def _read(self, port: int) -> int:
        if port in (DATA, IER) and self._registers[LCR] & DLAB:
            return self._divisor[port]
        if port == DATA:
            return self._received.popleft() if self._received else 0
        if port == IIR:
            reason = self._reason()
            if reason == IS_EMPTY:
                self._emptied = False
            return reason | (IIR_FIFO if self._fifo else 0)
        if port == LSR:
            return EMPTY | (DATA_READY if self._received else 0)
        if port == MSR:
            modem, self._modem = self._modem, self._modem & 0xF0
            return modem
        return self._registers[port]

    def _write(self, port: int, value: int) -> None:
        if port in (DATA, IER) and self._registers[LCR] & DLAB:
            self._divisor[port] = value
        elif port == DATA:
            self._send(value)
        elif port == FCR:
            if value & FIFO_CLEAR or bool(value & FIFO_ENABLE) != self._fifo:
                self._received.clear()
            self._fifo = bool(value & FIFO_ENABLE)
        elif port == IER:
            self._emptied = self._emptied or bool(value & ~self._registers[IER] & ON_EMPTY)
            self._registers[IER] = value & 0x0F
        elif port == MCR:
            self._registers[MCR] = value & 0x1F
            self._change_modem(sum(there for here, there in _LOOPED if value & here) if value & LOOP else MODEM_READY)
        elif port in (LCR, SCRATCH):
            self._registers[port] = value

    def _send(self, byte: int) -> None:
        self._emptied = True
        if not self._registers[MCR] & LOOP:
            self._terminal.send(byte)
        elif self._room():
            self._received.append(byte)

    def _change_modem(self, now: int) -> None:
        """Set the lines from the modem; what changed is told, of the ring indicator only its end."""
        changed = (self._modem ^ now) & (0xB0 if now & 0x40 else 0xF0)
        self._modem = now | self._modem & 0x0F | changed >> 4

    def _room(self) -> int:
        """How many bytes may be received now; at rest none."""
        return 0 if self.at_rest else (FIFO if self._fifo else 1) - len(self._received)

    def _receive(self, data: bytes) -> None:
        self._received.extend(data)
        self._update()

    def _reason(self) -> int:
        """The most urgent interrupt that is enabled, as IIR tells it. There is never an error of the line."""
        enabled = self._registers[IER]
        if enabled & ON_DATA and self._received:
            return IS_DATA
        if enabled & ON_EMPTY and self._emptied:
            return IS_EMPTY
        return IS_MODEM if enabled & ON_MODEM and self._modem & 0x0F else IS_NOTHING

    def _update(self) -> None:
        self._terminal.renew()
        self._pin.set(self._reason() != IS_NOTHING)


class Terminal:
    """The far end of the line: one who connected to ``listener``, and, when that one has left, the next.

    ``fileno`` can be read when ``ready`` has something to do. ``received`` gets what comes, at most ``room()`` bytes. Who has
    nothing more to say is still sent to, and what was said is heard even when nobody is there any more for an answer.
    """

    def __init__(
        self, listener: socket.socket | None, room: Callable[[], int], received: Callable[[bytes], None]
    ) -> None:
        self._listener, self._room, self._received = listener, room, received
        self._peer: socket.socket | None = None
        self._silent = self._deaf = False  # the peer says, hears nothing more
        self._unsent = bytearray()
        self._poll = select.epoll()
        self._waiting_for: tuple[socket.socket, int] | None = None
        if listener is not None:
            listener.setblocking(False)

    def fileno(self) -> int:
        """A descriptor that stands for all the sockets."""
        return self._poll.fileno()

    def ready(self) -> None:
        """Do what can be done without blocking."""
        for _, events in self._poll.poll(0):
            if self._peer is None:
                self._accept()
            elif events & select.EPOLLOUT:
                self._flush(self._peer)
            elif not self._silent:
                self._read(self._peer)
            else:
                self._deaf = True
        if self._silent and self._deaf:
            self._hang_up()
        self.renew()

    def send(self, byte: int) -> None:
        """One byte for the terminal; ``renew`` is to be called then."""
        self._unsent.append(byte)
        del self._unsent[:-BOUND]

    def renew(self) -> None:
        """Wait for what matters now: somebody to come, something to read while there is room, room for what is unsent."""
        wanted = None
        if self._peer is not None:
            events = select.EPOLLIN if self._room() and not self._silent else 0
            events |= select.EPOLLOUT if self._unsent and not self._deaf else 0
            # That both sides have hung up comes unasked, but must not come before everything is read.
            wanted = (self._peer, events) if events or self._silent else None
        elif self._listener is not None:
            wanted = (self._listener, select.EPOLLIN)
        if wanted != self._waiting_for:
            self._forget()
            if wanted is not None:
                self._poll.register(*wanted)
            self._waiting_for = wanted

    def close(self) -> None:
        """Hang up."""
        self._hang_up()
        self._poll.close()

    def _accept(self) -> None:
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._peer, _ = self._listener.accept()
                self._peer.setblocking(False)
                self._silent = self._deaf = False

    def _read(self, peer: socket.socket) -> None:
        try:
            data = peer.recv(self._room())
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._received(data)
        else:
            self._silent = True

    def _flush(self, peer: socket.socket) -> None:
        try:
            del self._unsent[: peer.send(self._unsent, socket.MSG_NOSIGNAL)]
        except BlockingIOError:
            return
        except OSError:
            self._deaf = True

    def _forget(self) -> None:
        if self._waiting_for is not None:
            self._poll.unregister(self._waiting_for[0])
            self._waiting_for = None

    def _hang_up(self) -> None:
        self._forget()
        if self._peer is not None:
            self._peer.close()
            self._peer = None
