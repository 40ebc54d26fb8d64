# Who may import whom: a module sees only what stands on a lower floor.
import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {
    "vfio_user_proto": ROOT / "vfio_user_proto",
    "vfio_user_conformance": ROOT / "conformance" / "vfio_user_conformance",
    "vfio_user_fuzz": ROOT / "fuzz" / "vfio_user_fuzz",
}
# From the ground up. A package stands for all its modules, which may see each other, unless they are named themselves.
FLOORS = """\
    errors model closing
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
