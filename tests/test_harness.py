# The doorbell harness: what it finds out over the real paths, and how it says it.
import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace

import pytest
from guests import needs_kvm
from serving import Serving

from vfio_user_proto.client import Client
from vfio_user_proto.devices.doorbell import DoorbellDevice
from vfio_user_proto.devices.testdev import TestDevice
from vfio_user_proto.errors import TargetError
from vfio_user_proto.harness import Measurement, Result, as_json, measure, svg, table
from vfio_user_proto.harness.doorbell import BATCHES, SINGLES, WAYS
from vfio_user_proto.iofds import IoFdRegion
from vfio_user_proto.kvm import Via

pytestmark = pytest.mark.usefixtures("no_leak")


@pytest.fixture
def client() -> Iterator[Client]:
    with Serving(DoorbellDevice) as serving, Client.connect(serving.path) as made:
        yield made


def check(measurement: Measurement) -> None:
    """What is true wherever it runs: the order of the paths, nothing lost, which value arrives."""
    assert [result.name for result in measurement.results] == [way.name for way in WAYS]
    assert measurement.complete
    for result in measurement.results:
        assert result.value_arrives == (not result.name.startswith("ioeventfd"))
        assert result.writes == result.seen == 2 * BATCHES + SINGLES
        assert (len(result.cost), len(result.delay)) == (BATCHES, SINGLES)
        assert min(result.cost) > 0
        assert min(result.delay) > 0


def test_on_the_user_space_bus_every_path_works(client: Client) -> None:
    measurement = measure(client, count=2 * BATCHES, kvm=False)
    check(measurement)
    assert not measurement.on_kvm
    assert measurement.kernel == {}
    assert [result.via for result in measurement.results] == [Via.MESSAGE] * 2 + [Via.BUS] * 5
    assert {result.exits for result in measurement.results} == {None}


@needs_kvm
def test_on_kvm_every_path_works(client: Client) -> None:
    """What the kernel serves takes no exit, all else one for each write."""
    measurement = measure(client, count=2 * BATCHES)
    check(measurement)
    assert measurement.on_kvm
    assert measurement.kernel["KVM_CAP_IOEVENTFD"]
    assert [result.via for result in measurement.results[:4]] == [Via.MESSAGE] * 2 + [Via.KERNEL] * 2
    for result in measurement.results:
        assert result.exits == (0 if result.via is Via.KERNEL else result.writes)
    assert measurement.idle > 0


def test_another_device_is_no_target() -> None:
    with (
        Serving(TestDevice) as serving,
        Client.connect(serving.path) as client,
        pytest.raises(TargetError, match="not the doorbell device"),
    ):
        measure(client, count=1)


def test_writes_that_are_lost_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that never drains its eventfds: the run ends all the same, and says it."""
    monkeypatch.setattr(IoFdRegion, "_kicked", lambda self, key, eventfd: lambda: None)
    with Serving(DoorbellDevice) as serving, Client.connect(serving.path) as deaf:
        measurement = measure(deaf, count=BATCHES, kvm=False, timeout=0.5)
    assert not measurement.complete
    lost = [result.name for result in measurement.results if result.seen != result.writes]
    assert lost == ["ioeventfd, port", "ioeventfd, memory", "shadow ioeventfd"]
    assert "Writes were lost: ioeventfd, port; ioeventfd, memory; shadow ioeventfd." in " ".join(
        table(measurement).split()
    )
    assert [path["seen_after_us"] for path in as_json(measurement)["paths"]][2:5] == [None] * 3
    ET.fromstring(svg(measurement))


def test_a_value_that_is_another_did_not_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that finds something, but not what was written."""
    ring = DoorbellDevice._ring
    monkeypatch.setattr(
        DoorbellDevice, "_ring", lambda self, path, value, times: ring(self, path, value and value ^ 1, times)
    )
    with Serving(DoorbellDevice) as serving, Client.connect(serving.path) as confused:
        measurement = measure(confused, count=BATCHES, kvm=False)
    assert measurement.complete
    assert not any(result.value_arrives for result in measurement.results)


def made(*, on_kvm: bool = True, ioeventfd: float = 2.0) -> Measurement:
    """A measurement of round figures."""
    costs = dict(zip([way.name for way in WAYS], (40.0, 20.0, ioeventfd, ioeventfd * 2, 10.0, 12.5, 32.0), strict=True))
    results = tuple(
        Result(
            name,
            Via.KERNEL if on_kvm and name.startswith("ioeventfd") else Via.BUS,
            "",
            (cost * 0.9, cost, cost * 1.5),
            (50.0, 60.0, 70.0),
            1000,
            1000,
            not name.startswith("ioeventfd"),
            (0 if name.startswith("ioeventfd") else 1000) if on_kvm else None,
        )
        for name, cost in costs.items()
    )
    kernel = {"KVM_CAP_IOEVENTFD": True, "KVM_SET_IOREGION": False} if on_kvm else {}
    return Measurement(on_kvm, "" if on_kvm else "/dev/kvm: No such file or directory", kernel, 0.5, results)


def test_the_factor_is_that_of_the_dearer_ioeventfd() -> None:
    assert made().ioeventfd_factor == 10.0
    assert [made().times_cheaper(result) for result in made().results][:3] == [1.0, 2.0, 20.0]


def test_the_table_has_a_row_for_each_path() -> None:
    lines = table(made()).splitlines()
    assert " ".join(lines[3].split()) == (
        "message with reply user space 36.00 40.00 25,000 1.0 50.0 60.0 yes 1.00 1000/1000"
    )
    assert " ".join(lines[5].split()) == "ioeventfd, port kernel 1.80 2.00 500,000 20.0 50.0 60.0 no 0.00 1000/1000"
    assert len({len(line) for line in lines[1:10]}) == 1


@pytest.mark.parametrize(
    ("measurement", "said"),
    [
        (made(), "A message with reply costs the vCPU 10.0 times as much as an ioeventfd: 4 is the least, good."),
        (made(ioeventfd=8.0), "costs the vCPU only 2.5 times as much as an ioeventfd: 4 is the least."),
        (made(on_kvm=False), "costs 10.0 times as much as an ioeventfd here; on KVM 4 is the least."),
        (made(), "This kernel has no KVM_SET_IOREGION, so these are exits to this program: message with reply;"),
        (made(), "A round of the guest's loop without a write takes 0.50 µs"),
        (made(on_kvm=False), "Ran on the user-space bus, without a guest (/dev/kvm: No such file or directory)"),
        (
            made(),
            "2009: exit to QEMU, memory 110,000; 2009: iosignalfd, memory 200,100; 2009: iosignalfd, port 367,300",
        ),
        (made(), "In 2022 a shadow ioeventfd in the kernel was 4 times cheaper than messages."),
    ],
)
def test_what_the_figures_mean_is_said(measurement: Measurement, said: str) -> None:
    assert said in " ".join(table(measurement).split())


def test_the_json_has_every_figure() -> None:
    document = json.loads(json.dumps(as_json(made())))
    assert (document["vfio-user-bench"], document["what"], document["bus"]) == (1, "doorbell", "kvm")
    assert document["paths"][2] == {
        "path": "ioeventfd, port",
        "served_by": "kernel",
        "reason": "",
        "vcpu_us": {"min": 1.8, "median": 2.0, "max": 3.0},
        "seen_after_us": {"min": 50.0, "median": 60.0, "max": 70.0},
        "times_cheaper_than_message": 20.0,
        "value_arrives": False,
        "written": 1000,
        "seen": 1000,
        "exits": 0,
    }
    assert document["ioeventfd"] == {"factor": 10.0, "least": 4.0, "binding": True}
    assert document["references"]["writes_per_second"]["2009: iosignalfd, port"] == 367_300


@pytest.mark.parametrize("scale", [0.001, 1.0, 1000.0])
def test_the_picture_shows_every_path_inside_its_frame(scale: float) -> None:
    """Bars that are in proportion on a logarithmic scale, however fast or slow the machine is."""
    results = tuple(replace(r, cost=tuple(scale * each for each in r.cost)) for r in made().results)
    root = ET.fromstring(svg(replace(made(), results=results)))
    space = "{http://www.w3.org/2000/svg}"
    words = [text.text for text in root.iter(f"{space}text")]
    assert {result.name for result in results} <= set(words)
    assert {"2009: iosignalfd, port", "is lost", "arrives", "kernel", "user space"} <= set(words)
    bars = [float(bar.get("width", "0")) for bar in root.iter(f"{space}rect") if bar.get("height") == "18"]
    assert len(bars) == len(results) + 3
    assert bars[0] - bars[1] == pytest.approx(bars[3] - bars[2], abs=0.3)  # 40 to 20 is as 4 to 2
    assert all(0 < bar <= 530.1 for bar in bars)
    dots = [float(dot.get("cx", "0")) for dot in root.iter(f"{space}circle")]
    assert len(dots) == len(results) + 1
    assert all(210 <= dot <= 740 for dot in dots)
