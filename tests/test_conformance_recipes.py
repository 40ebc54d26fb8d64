# The tables of a target file that say how to make its device do DMA and raise interrupts, and where its doorbells show.
from pathlib import Path

import pytest

from vfio_user_conformance.profile import load
from vfio_user_conformance.recipes import IOVA, LENGTH, Dma, Doorbell, Interrupt, Pattern, Poke, Register
from vfio_user_proto.devices.testdev import pattern
from vfio_user_proto.errors import UsageError

STEP = '{region = 0, offset = 256, width = 8, value = "{iova}"}'
DONE = "{region = 1, offset = 4, width = 4, value = 1}"
SHOWN = '{region = 1, offset = 8, width = 4, algorithm = "crc32"}'
WRITE = f'[[dma]]\noperation = "write"\npattern = "i"\nsteps = [{STEP}]\ncompletion = {DONE}\n'
READ = f'[[dma]]\noperation = "read"\nsteps = [{STEP}]\ncompletion = {DONE}\nresult = {SHOWN}\n'
IRQ = "[[irq]]\nindex = 2\nvector = 1\nsteps = [{region = 0, offset = 8, width = 4, value = 9}]\n"
BELL = "[[doorbell]]\nregion = 4\noffset = 16\nmatch = 7\ncount = {region = 0, offset = 8, width = 4}\n"
READY = "[[setup]]\nregion = 7\noffset = 4\nwidth = 2\nvalue = 6\n"


def test_the_tables_become_registers_and_what_to_write_there(tmp_path: Path) -> None:
    path = tmp_path / "target.toml"
    path.write_text(WRITE + READ + IRQ + BELL + READY)

    profile = load(str(path))

    step, done = Poke(Register(0, 256, 8), IOVA), Register(1, 4, 4)
    assert profile.dma == (
        Dma("write", (step,), done, 1, pattern=Pattern("i")),
        Dma("read", (step,), done, 1, result=Register(1, 8, 4), algorithm="crc32"),
    )
    assert profile.irqs == (Interrupt(2, 1, (Poke(Register(0, 8, 4), 9),)),)
    assert profile.doorbells == (Doorbell(4, 16, 7, Register(0, 8, 4), None),)
    assert profile.setup == (Poke(Register(7, 4, 2), 6),)


def test_a_step_is_filled_in_with_the_place_of_the_transfer() -> None:
    assert Poke(Register(0, 0, 8), IOVA).data(0x123456789, 16) == bytes.fromhex("8967452301000000")
    assert Poke(Register(0, 0, 4), LENGTH).data(0x123456789, 16) == bytes.fromhex("10000000")
    assert Poke(Register(0, 0, 2), 0x102).data() == b"\2\1"
    with pytest.raises(ValueError, match="0x123456789 does not fit into 4 bytes"):
        Poke(Register(0, 0, 4), IOVA).data(0x123456789)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("i", [0, 1, 2, 255, 0]),
        ("(i*7+3)&0xff", [3, 10, 17, 252, 3]),
        ("i - 1", [255, 0, 1, 254, 255]),
        ("(i >> 8) | (i & 1) ^ 3 << 1", [6, 7, 6, 7, 7]),
        ("(i - 1) >> 63", [1, 0, 0, 0, 0]),
        (" 300 ", [44] * 5),
    ],
)
def test_a_pattern_gives_each_byte_by_its_number(text: str, expected: list[int]) -> None:
    made = Pattern(text)

    assert [made.bytes(1, i)[0] for i in (0, 1, 2, 255, 256)] == expected
    assert made.bytes(3) == bytes(expected[:3])


def test_the_pattern_of_the_built_in_target_is_that_of_its_device() -> None:
    (made,) = [each.pattern for each in load("builtin").dma if each.pattern]

    assert made.bytes(1000) == pattern(1000, 3)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "j",
        "i +",
        "i ** 99999999",
        "1 << i",
        "1 << 64",
        "1 << -1",
        "-i",
        "i / 2",
        "True",
        "i()",
        "1.5",
        "__import__('os')",
        "i if i else 0",
        "(" * 90 + "i" + ")" * 90 + "\0",
        "i" + " + i" * 60,
        "18446744073709551616",
    ],
)
def test_a_pattern_that_is_more_than_arithmetic_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"pattern|null|nested"):
        Pattern(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("dma = 3", r"\[\[dma\]\] is no list of tables"),
        ("dma = [3]", r"\[\[dma\]\] is no table"),
        ("[[dma]]", "needs an operation"),
        (WRITE.replace('"write"', '"swim"'), "needs an operation"),
        (WRITE.replace('pattern = "i"', ""), "lacks pattern"),
        (WRITE.replace('"i"', '"k"'), "a pattern has i"),
        (WRITE.replace('"i"', "7"), "a pattern that is no text"),
        (READ.replace("result", "pattern"), "lacks result"),
        (WRITE + WRITE, "two .* for 'write'"),
        (WRITE.replace(STEP, ""), "has no steps"),
        (WRITE.replace(STEP, "7"), "is no table"),
        (WRITE.replace("{iova}", "{where}"), "the value '{where}', which is no whole number of 64 bits"),
        (WRITE.replace("width = 8", "width = 3"), "the width 3, which is none of 1, 2, 4, 8"),
        (WRITE.replace("width = 8", "width = true"), "the width True"),
        (WRITE.replace("offset = 256", "offset = -1"), "the offset -1"),
        (WRITE.replace("value = 1}", "value = 0x100000000}"), "completion has the value 4294967296"),
        (WRITE.replace(", value = 1}", "}"), "completion lacks value"),
        (READ.replace("crc32", "md5"), "the algorithm 'md5', which is none of crc32"),
        (READ.replace(SHOWN, "5"), "result is no table"),
        (READY.replace("value = 6", ""), r"\[\[setup\]\] lacks value"),
        (READY.replace("6", "0x10000"), "no whole number of 16 bits"),
        (READY.replace("6", "'{iova}'"), "no whole number of 16 bits"),
        (IRQ.replace("value = 9", 'value = "{iova}"'), "no whole number of 32 bits"),
        (IRQ.replace("index = 2\n", ""), "lacks index"),
        (IRQ + IRQ, "two .* for index 2, vector 1"),
        (BELL + BELL, "two .* for doorbell at 0x10 of region 4 for 0x7"),
        (BELL.replace("count", "sum"), "unknown 'sum'"),
        ("[[doorbell]]\nregion = 4\noffset = 16", "neither a count nor a value"),
        (BELL.replace("match = 7", "match = true"), "the match True"),
        (BELL.replace(", width = 4", ""), "count lacks width"),
    ],
)
def test_a_wrong_table_is_one_sentence(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "target.toml"
    path.write_text(text)

    with pytest.raises(UsageError, match=f"target.toml: .*{problem}"):
        load(str(path))
