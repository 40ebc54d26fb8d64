# Who may import whom: a module sees only what stands on a lower floor, and no modules see each other in a circle.
import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {
    "vfio_user_proto": ROOT / "vfio_user_proto",
    "vfio_user_conformance": ROOT / "conformance" / "vfio_user_conformance",
    "vfio_user_fuzz": ROOT / "fuzz" / "vfio_user_fuzz",
}
# From the ground up. A package stands for all its modules, which may see each other, unless they are named themselves; but
# no module sees itself by way of others, be it for types alone.
FLOORS = """\
    errors model closing activity obituary
    messages drafts
    wire specdoc
    events states craft capabilities loop regioncaps eventfds
    connection device unix
    channel memory dirty migration interrupts trace devices.pci
    features
    responder iofds spare
    straight
    session devices.minimal devices.testdev devices.doorbell devices.gpio devices.serial
    server client launch proxy kvm export devices
    probe program faults harness
    vfio_user_conformance vfio_user_fuzz
    cli
""".splitlines()
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names.split()}
# What only some may import: who, and everybody from which floor on.
RESERVED = {
    "docutils": ("specdoc", "nobody"),
    "socket": ("unix", "responder"),
    "pytest": ("", "vfio_user_fuzz"),
    "hypothesis": ("", "vfio_user_fuzz"),
}
FLOOR["nobody"] = len(FLOORS)


def unit(module: str) -> str:
    """The entry of FLOORS that a module belongs to; "" for none."""
    name = module.removeprefix("vfio_user_proto.")
    while name and name not in FLOOR:
        name = name.rpartition(".")[0]
    return name


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that a file imports; "from package import module" gives both."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def problems(packages: Mapping[str, Path]) -> Iterator[str]:
    for package, folder in packages.items():
        for path in sorted(folder.rglob("*.py")):
            parts = [package, *path.relative_to(folder).with_suffix("").parts]
            me = unit(".".join(part for part in parts if part not in ("__init__", "__main__")))
            if not me:
                if parts[1:] not in (["__init__"], ["__main__"]):
                    yield f"{path}: stands on no floor"
                continue
            for line, name in imports(path):
                other = unit(name) if name.partition(".")[0] in PACKAGES else ""
                if other not in ("", me) and FLOOR[other] >= FLOOR[me]:
                    yield f"{path}:{line}: {me} must not see {other}"
                who, above = RESERVED.get(name.partition(".")[0], (me, me))
                if me != who and FLOOR[me] < FLOOR[above]:
                    yield f"{path}:{line}: {me} must not import {name}"


def circle(packages: Mapping[str, Path]) -> list[str]:
    """Modules each of which imports the next, the first of them again at the end; nothing where there is no such circle."""
    files = {name: path for package, folder in packages.items() for name, path in modules(package, folder)}
    seen = {me: {module_of(name, files) for _, name in imports(path)} - {me, ""} for me, path in files.items()}
    try:
        TopologicalSorter(seen).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def modules(package: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """The modules of a package, and their files; the package itself has its own name."""
    for path in sorted(folder.rglob("*.py")):
        yield ".".join((package, *path.relative_to(folder).with_suffix("").parts)).removesuffix(".__init__"), path


def module_of(name: str, files: Mapping[str, Path]) -> str:
    """The module that a full name is in, or is; "" for none of ``files``."""
    while name and name not in files:
        name = name.rpartition(".")[0]
    return name


def test_modules_see_only_lower_floors() -> None:
    assert list(problems(PACKAGES)) == []


def test_what_breaks_the_rule_is_named_with_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "wire.py").write_text("import socket\n\nfrom vfio_user_proto import messages, unix\n", encoding="utf-8")
    (tmp_path / "unheard_of.py").touch()
    assert list(problems({"vfio_user_proto": tmp_path})) == [
        f"{tmp_path}/unheard_of.py: stands on no floor",
        f"{tmp_path}/wire.py:1: wire must not import socket",
        f"{tmp_path}/wire.py:3: wire must not see unix",
    ]


def test_no_module_sees_itself_by_way_of_others() -> None:
    assert circle(PACKAGES) == []


def test_a_circle_is_told_module_by_module(tmp_path: Path) -> None:
    for name, seen in (
        ("wire", "unix.Stream"),
        ("unix", "session.serve"),
        ("session", "wire.decode"),
        ("client", "wire.decode"),
    ):
        module, _, taken = seen.partition(".")
        (tmp_path / f"{name}.py").write_text(f"from vfio_user_proto.{module} import {taken}\n", encoding="utf-8")
    told = circle({"vfio_user_proto": tmp_path})
    assert told[0] == told[-1]
    assert {*pairwise(told)} == {
        ("vfio_user_proto.wire", "vfio_user_proto.unix"),
        ("vfio_user_proto.unix", "vfio_user_proto.session"),
        ("vfio_user_proto.session", "vfio_user_proto.wire"),
    }
