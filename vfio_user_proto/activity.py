"""What the processes of a group are doing at this moment: working, or asleep in which system call."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

# The calls that a server is likely to wait in; the kernel tells their numbers, which differ from machine to machine.
_WAITING: Final[Mapping[str, Mapping[int, str]]] = {
    "x86_64": {
        0: "read", 1: "write", 7: "poll", 16: "ioctl", 19: "readv", 20: "writev", 23: "select", 34: "pause", 35: "nanosleep",
        42: "connect", 43: "accept", 44: "sendto", 45: "recvfrom", 46: "sendmsg", 47: "recvmsg", 61: "wait4", 72: "fcntl",
        73: "flock", 128: "rt_sigtimedwait", 130: "rt_sigsuspend", 202: "futex", 230: "clock_nanosleep", 232: "epoll_wait",
        247: "waitid", 270: "pselect6", 271: "ppoll", 281: "epoll_pwait", 288: "accept4", 299: "recvmmsg",
        426: "io_uring_enter", 441: "epoll_pwait2",
    },
    "aarch64": {
        22: "epoll_pwait", 25: "fcntl", 29: "ioctl", 32: "flock", 63: "read", 64: "write", 65: "readv", 66: "writev",
        72: "pselect6", 73: "ppoll", 95: "waitid", 98: "futex", 101: "nanosleep", 115: "clock_nanosleep",
        133: "rt_sigsuspend", 137: "rt_sigtimedwait", 202: "accept", 203: "connect", 206: "sendto", 207: "recvfrom",
        211: "sendmsg", 212: "recvmsg", 242: "accept4", 243: "recvmmsg", 260: "wait4", 426: "io_uring_enter",
        441: "epoll_pwait2",
    },
}  # fmt: skip
_OF_CHILDREN: Final = frozenset({"wait4", "waitid"})
_WITH_DESCRIPTOR: Final = re.compile(r"(accept4?|connect|fcntl|flock|ioctl|p?(read|write)v?|(recv|send)\w+)$")
_WORKING, _STOPPED = "R", "Tt"


def of_group(group: int) -> str:
    """What the processes of a group do, in words: "is busy", "sleeps in recvmsg on a socket"; "" where nobody can tell.

    A process that only waits for its children, such as a shell, says nothing where there are others.
    """
    doing = [each for pid in _members(group) for each in _threads(pid)]
    states = [state for state, _ in doing]
    if _WORKING in states:
        return "is busy"
    if any(state in _STOPPED for state in states):
        return "is stopped"
    calls = list(dict.fromkeys(call for _, call in doing if call))
    return f"sleeps in {', '.join([call for call in calls if call not in _OF_CHILDREN] or calls)}" if calls else ""


def _members(group: int) -> Iterator[int]:
    for entry in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        if (fields := _stat(f"/proc/{entry}")) and int(fields[2]) == group:
            yield entry


def _threads(pid: int) -> Iterator[tuple[str, str]]:
    """State and system call of each thread, the first of the process first; "" for what cannot be read."""
    try:
        tasks = sorted(map(int, os.listdir(f"/proc/{pid}/task")))
    except OSError:
        return
    for task in tasks:
        folder = f"/proc/{pid}/task/{task}"
        if fields := _stat(folder):
            yield fields[0], _call(folder)


def _call(folder: str) -> str:
    """The system call that a thread is in, and on what; where it is not told, the place in the kernel; or ""."""
    words = _text(f"{folder}/syscall").split()
    name = _WAITING.get(os.uname().machine, {}).get(int(words[0])) if words and words[0].isdigit() else None
    if name is None:
        place = _text(f"{folder}/wchan")
        return place if place != "0" else ""
    kind = _kind(f"{folder}/fd/{int(words[1], 16)}") if _WITH_DESCRIPTOR.match(name) else ""
    return f"{name} on {kind}" if kind else name


def _kind(link: str) -> str:
    """What a descriptor of another process is, as far as its link tells."""
    try:
        target = os.readlink(link)
    except OSError:
        return ""
    for kind in ("socket", "pipe", "eventfd", "memfd", "timerfd", "signalfd"):
        if kind in target.partition(" ")[0] and not target.startswith(f"/{kind}/"):
            return f"an {kind}" if kind == "eventfd" else f"a {kind}"
    return target if target.startswith("/") else ""


def _stat(folder: str) -> list[str]:
    """The fields of a stat file behind the name of the program, which may hold anything: state, parent, group, …"""
    return _text(f"{folder}/stat").rpartition(")")[2].split()


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""
