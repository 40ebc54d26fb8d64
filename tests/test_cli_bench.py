# `vfio-user bench`: what it prints and writes, which servers it takes, and its exit status.
import json
import shlex
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from serving import Serving

from vfio_user_proto.cli import main
from vfio_user_proto.devices.doorbell import DoorbellDevice
from vfio_user_proto.devices.testdev import TestDevice

pytestmark = pytest.mark.usefixtures("no_leak")
QUICK = ["bench", "doorbell", "--no-kvm", "--count", "20"]


def test_the_built_in_server_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures, picture = tmp_path / "out.json", tmp_path / "out.svg"
    assert main([*QUICK, "--json", str(figures), "--svg", str(picture)]) == 0
    out = capsys.readouterr().out
    assert "ioregionfd with reply" in out
    assert "Ran on the user-space bus, without a guest (KVM was not to be used)" in out
    document = json.loads(figures.read_text())
    assert document["bus"] == "user-space"
    assert [path["seen"] for path in document["paths"]] == [120] * 7
    assert ET.parse(picture).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_a_server_that_runs_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    with Serving(DoorbellDevice) as serving:
        assert main([*QUICK, "--socket", serving.path]) == 0
    assert "shadow ioeventfd" in capsys.readouterr().out


def test_a_server_is_started(capsys: pytest.CaptureFixture[str]) -> None:
    command = f"{shlex.quote(sys.executable)} -m vfio_user_proto serve --device doorbell --socket-path {{socket}}"
    assert main([*QUICK, "--spawn", command]) == 0
    assert "shadow ioeventfd" in capsys.readouterr().out


def test_another_device_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with Serving(TestDevice) as serving:
        assert main([*QUICK, "--socket", serving.path]) == 3
    assert capsys.readouterr().err == (
        "vfio-user: the server's device is not the doorbell device (vfio-user serve --device doorbell)\n"
    )


def test_a_server_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "former").write_text("figures")
    files = ["--json", str(tmp_path / "former"), "--svg", str(tmp_path / "new")]
    assert main([*QUICK, "--socket", str(tmp_path / "none"), *files]) == 3
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("former", "figures")]
    assert capsys.readouterr().err == f"vfio-user: {tmp_path}/none: No such file or directory\n"


def test_a_file_that_cannot_be_written_is_told_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*QUICK, "--json", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", f"vfio-user: {tmp_path}: Is a directory\n")


@pytest.mark.parametrize(
    "arguments", [["--count", "0"], ["--count", "many"], ["--timeout", "0"], ["--socket", "a", "--spawn", "b {socket}"]]
)
def test_wrong_options_are_told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["bench", "doorbell", *arguments])
    assert end.value.code == 2
    assert capsys.readouterr().err.endswith("; see vfio-user bench doorbell --help\n")


def test_lost_writes_end_with_status_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(DoorbellDevice, "_ring", lambda self, path, value, times: None)
    with Serving(DoorbellDevice) as serving:
        assert main([*QUICK, "--socket", serving.path, "--timeout", "0.5"]) == 1
    assert "Writes were lost" in capsys.readouterr().out
