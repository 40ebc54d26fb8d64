# Mistakes in the code of a device: who is told, with what errno, and that server, session and the other clients go on.
import contextlib
import errno
import itertools
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import Client, Serving, eventfds, rung

from vfio_user_proto import unix
from vfio_user_proto.device import Description, Device, Host, Region
from vfio_user_proto.devices import testdev
from vfio_user_proto.devices.minimal import MinimalDevice
from vfio_user_proto.messages import (
    Command,
    DeviceGetInfoRequest,
    DeviceGetRegionInfoRequest,
    DeviceSetIrqsRequest,
    IrqSetFlags,
    RegionReadRequest,
    RegionWriteRequest,
)

INFO = Command.DEVICE_GET_INFO
SET_EVENTFD = IrqSetFlags.DATA_EVENTFD | IrqSetFlags.ACTION_TRIGGER
pytestmark = pytest.mark.usefixtures("no_leak")


def failing(method: str, result: Any = None) -> type[testdev.TestDevice]:
    """A test device whose ``method`` returns ``result``, or raises it."""

    def wrong(self: testdev.TestDevice, *_: object) -> Any:
        if isinstance(result, Exception):
            raise result
        return result

    return type("Failing", (testdev.TestDevice,), {method: wrong})


MASK = DeviceSetIrqsRequest(flags=IrqSetFlags.DATA_NONE | IrqSetFlags.ACTION_MASK, index=2, start=0, count=1)


@pytest.mark.parametrize(
    ("method", "wrong", "command", "request_"),
    [
        ("region_write", KeyError("a register"), Command.REGION_WRITE, RegionWriteRequest(data=b"x")),
        ("region_read", ZeroDivisionError(), Command.REGION_READ, RegionReadRequest(count=4)),
        ("region_read", None, Command.REGION_READ, RegionReadRequest(count=4)),
        ("irq_state", RuntimeError("later"), Command.DEVICE_SET_IRQS, MASK),
    ],
)
def test_command_at_which_a_device_fails_is_refused_with_eio_and_logged(
    caplog: pytest.LogCaptureFixture, method: str, wrong: Exception | None, command: Command, request_: Any
) -> None:
    with Serving(failing(method, wrong)) as serving:
        client = serving.client()
        assert client.refused(command, request_) == errno.EIO
        assert client.refused(command, request_) == errno.EIO
    first, _ = caplog.records
    assert first.getMessage() == f"the device failed at VFIO_USER_{command.name} command"
    assert first.exc_info is not None
    assert first.exc_info[0] is (TypeError if wrong is None else type(wrong))


def test_reply_with_a_descriptor_that_the_device_has_closed_is_refused_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Serving() as serving:
        client = serving.client()
        [device] = serving.devices
        region = next(index for index, each in device.description.regions.items() if each.fd is not None)
        fd = device.description.regions[region].fd
        assert fd is not None
        with closed_for_a_while(fd):
            request = DeviceGetRegionInfoRequest(argsz=4096, index=region)
            assert client.refused(Command.DEVICE_GET_REGION_INFO, request) == errno.EIO
        client.ask(Command.DEVICE_GET_REGION_INFO, request)
        unix.close_all(client.fds)
    [told] = caplog.records
    assert told.getMessage().startswith(
        "VFIO_USER_DEVICE_GET_REGION_INFO reply cannot be sent: sending failed: Bad file"
    )


def test_description_that_has_no_room_in_a_reply_is_refused_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Endless(MinimalDevice):
        def __init__(self) -> None:
            super().__init__()
            self.description = Description({0: Region(1 << 64)})

    with Serving(Endless) as serving:
        client = serving.client()
        request = DeviceGetRegionInfoRequest(argsz=4096)
        assert client.refused(Command.DEVICE_GET_REGION_INFO, request) == errno.EIO
    [told] = caplog.records
    assert told.getMessage() == "the device failed at VFIO_USER_DEVICE_GET_REGION_INFO command"
    assert told.exc_info is not None
    assert "DeviceGetRegionInfoReply.size at byte 16: 18446744073709551616 does not fit" in str(told.exc_info[1])


@contextlib.contextmanager
def closed_for_a_while(fd: int) -> Iterator[None]:
    """Nobody else is to open anything meanwhile: it would get the number."""
    copy = os.dup(fd)
    os.close(fd)
    yield
    os.dup2(copy, fd, inheritable=False)
    os.close(copy)


@pytest.mark.parametrize("where", ["attach", "watch"])
def test_mistake_that_no_command_led_to_ends_its_session_alone(caplog: pytest.LogCaptureFixture, where: str) -> None:
    class Failing(MinimalDevice):
        def attach(self, host: Host) -> None:
            host.watch(doorbell, self._fail)
            if where == "attach":
                self._fail()

        def _fail(self) -> None:
            raise KeyError("a register")

    devices: list[Callable[[], Device]] = [MinimalDevice, Failing]
    with eventfds(1) as (doorbell,), Serving(lambda: devices.pop(0)()) as serving:
        other, client = serving.client(), serving.client(None)
        os.eventfd_write(doorbell, 1)
        assert client.is_closed()
        serving.wait_left()
        other.ask(INFO, DeviceGetInfoRequest())
    assert [record.getMessage() for record in caplog.records] == ["the session failed, its client is dropped"]


def test_device_that_fails_when_its_client_leaves_serves_the_next(caplog: pytest.LogCaptureFixture) -> None:
    with Serving(failing("detach", KeyError("a host"))) as serving:
        serving.client().close()
        serving.client().ask(INFO, DeviceGetInfoRequest())
    assert {record.getMessage() for record in caplog.records} == {"the device failed when its client left"}


def test_device_that_cannot_be_made_turns_only_its_client_away(caplog: pytest.LogCaptureFixture) -> None:
    made: list[testdev.TestDevice] = []

    def factory() -> Device:
        if made:
            raise KeyError("a line")
        made.append(testdev.TestDevice())
        return made[0]

    with Serving(factory) as serving:
        first, second = serving.client(), serving.client(None)
        assert second.is_closed()
        first.ask(INFO, DeviceGetInfoRequest())
    assert [record.getMessage() for record in caplog.records] == ["no device could be made for a client"]


def test_device_that_fails_at_its_end_leaves_the_others_to_theirs(caplog: pytest.LogCaptureFixture) -> None:
    class Last(testdev.TestDevice):
        def close(self) -> None:
            super().close()
            raise KeyError("a file")

    devices: list[type[testdev.TestDevice]] = [Last, testdev.TestDevice]
    with Serving(lambda: devices.pop(0)()) as serving:
        serving.client(), serving.client()
    assert [record.getMessage() for record in caplog.records] == ["a device failed at its end"]


def test_author_sees_the_traceback_on_stderr(tmp_path: Path) -> None:
    """Nothing has to be configured for that."""
    program = tmp_path / "mydevice.py"
    program.write_text(
        textwrap.dedent("""\
            import socket, sys
            from vfio_user_proto.devices.testdev import TestDevice
            from vfio_user_proto.server import Server

            class Mine(TestDevice):
                def region_read(self, index, offset, count):
                    return self.registers[offset]

            server = Server(Mine)
            server.add(socket.socket(fileno=int(sys.argv[1])))
            server.run()
            server.close()
            """)
    )
    ours, theirs = unix.pair()
    with subprocess.Popen(
        [sys.executable, program, str(theirs.fileno())],
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=[theirs.fileno()],
    ) as process:
        theirs.close()
        client = Client(ours)
        assert client.refused(Command.REGION_READ, RegionReadRequest(count=4)) == errno.EIO
        client.close()
        _, said = process.communicate(timeout=20)
    assert process.returncode == 0
    assert said.startswith("the device failed at VFIO_USER_REGION_READ command\nTraceback (most recent call last):\n")
    assert said.endswith("AttributeError: 'Mine' object has no attribute 'registers'\n")
    assert f'File "{program}", line 7, in region_read' in said


def test_devices_of_several_clients_may_share_what_the_factory_gives_them() -> None:
    """One count for all; interrupts stay each client's own."""

    class Shared(MinimalDevice):
        def region_read(self, index: int, offset: int, count: int) -> bytes:
            with lock:
                self.count = next(common)
                return super().region_read(index, offset, count)

    lock, common = threading.Lock(), itertools.count()
    wanted = DeviceSetIrqsRequest(flags=SET_EVENTFD, index=2, count=1)
    with Serving(Shared) as serving, eventfds(2) as events:
        clients = serving.client(), serving.client()
        for client, event in zip(clients, events, strict=True):
            client.ask(Command.DEVICE_SET_IRQS, wanted, [event])
        assert [clients[n % 2].read(0, 0, 1)[0] for n in range(10)] == list(range(1, 11))
        assert [rung(event) for event in events] == [0, 1]
