# Machine code: the bytes of each instruction, and what cannot be written down.
import pytest

from vfio_user_proto.kvm import Program


@pytest.mark.parametrize(
    ("program", "code"),
    [
        (Program(), "f4"),
        (Program().segment(0xD0000), "bb00d0 8edb f4"),
        (Program().value(0x12345678), "66b878563412 f4"),
        (Program().add_one(), "6640 f4"),
        (Program().port(0x510), "ba1005 f4"),
        (Program().out(1).out(2).out(4), "ee ef 66ef f4"),
        (Program().load_port(1).load_port(2).load_port(4), "ec ed 66ed f4"),
        (Program().store(4, 1).store(4, 2).store(4, 4), "a20400 a30400 66a30400 f4"),
        (Program().store(8, 8), "2666a3f80f 260f6f06f80f 0f7f060800 f4"),
        (Program().load(4, 1).load(4, 2).load(4, 4), "a00400 a10400 66a10400 f4"),
        (Program().keep(0x3000), "2666a30030 f4"),
        (Program().repeat(3, Program().out(4)), "66b903000000 66ef 67e2fb f4"),
    ],
)
def test_an_instruction_is_these_bytes(program: Program, code: str) -> None:
    assert program.code == bytes.fromhex(code)


def test_what_no_instruction_does_is_refused() -> None:
    """Widths that there are not, segments that do not begin there, loops that are empty or too long to jump back."""
    for wrong in (
        lambda: Program().out(8),
        lambda: Program().load(0, 8),
        lambda: Program().store(0, 3),
        lambda: Program().segment(0xD0008),
        lambda: Program().segment(1 << 20),
        lambda: Program().repeat(0, Program().out(1)),
        lambda: Program().repeat(1, Program().repeat(1, Program().value(0))),
    ):
        with pytest.raises(ValueError):
            wrong()
