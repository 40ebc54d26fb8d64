"""How a device is made ready, made to act, and shows that: [[setup]], [[dma]], [[irq]] and [[doorbell]] of a target file."""

import ast
import operator
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from vfio_user_proto.messages import RegionWriteRequest

# What stands in a step for the transfer's place in client memory.
IOVA, LENGTH = "{iova}", "{length}"
ALGORITHMS: Final[Mapping[str, Callable[[bytes], int]]] = {"crc32": zlib.crc32}
_WIDTHS: Final = (1, 2, 4, 8)
_OPERATIONS: Final[Mapping[type[ast.operator], Callable[[int, int], int]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
}
# The longest pattern, in characters, and the numbers that it is computed in.
_LONGEST: Final = 200
_WORD: Final = (1 << 64) - 1


@dataclass(frozen=True)
class Register:
    """``width`` bytes at ``offset`` of a region; little endian."""

    region: int
    offset: int
    width: int

    def write(self, data: bytes) -> RegionWriteRequest:
        """The command that stores ``data`` there."""
        return RegionWriteRequest(region=self.region, offset=self.offset, data=data)


@dataclass(frozen=True)
class Poke:
    """One write: a number, or ``IOVA`` or ``LENGTH`` of the transfer."""

    register: Register
    value: int | str

    def data(self, iova: int = 0, length: int = 0) -> bytes:
        """What to write. Raises ValueError where the register is too narrow for it."""
        value = {IOVA: iova, LENGTH: length}.get(self.value, self.value) if isinstance(self.value, str) else self.value
        assert isinstance(value, int)
        if value >> 8 * self.register.width:
            raise ValueError(f"{value:#x} does not fit into {self.register.width} bytes")
        return value.to_bytes(self.register.width, "little")


@dataclass(frozen=True)
class Dma:
    """A transfer: its steps are done in order, and ``completion`` reads as ``done`` when all bytes have moved.

    A device that writes ("write") stores ``pattern``; one that reads shows ``algorithm`` of the bytes in ``result``.
    """

    operation: str
    steps: tuple[Poke, ...]
    completion: Register
    done: int
    pattern: "Pattern | None" = None
    result: Register | None = None
    algorithm: str = ""


@dataclass(frozen=True)
class Interrupt:
    """One interrupt, which the steps raise once."""

    index: int
    vector: int
    steps: tuple[Poke, ...]


@dataclass(frozen=True)
class Doorbell:
    """A place of a region, at ``offset``, that is also reached through a descriptor.

    Each store there, of the value ``match`` alone where that is given, adds 1 to ``count``, and ``value`` then reads as what
    was stored. One of both may be missing; a place that is memory is its own ``value``.
    """

    region: int
    offset: int
    match: int | None
    count: Register | None
    value: Register | None

    def __str__(self) -> str:
        only = "" if self.match is None else f" for {self.match:#x}"
        return f"the doorbell at {self.offset:#x} of region {self.region}{only}"


class Pattern:
    """Bytes by their number: an expression over i of whole numbers, + - * & | ^ << >> and brackets.

    It is computed in numbers of 64 bits, of which each byte has the lowest 8. Raises ValueError for anything else.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        if len(text) > _LONGEST:
            raise ValueError(f"the pattern is longer than {_LONGEST} characters")
        try:
            self._value = _expression(ast.parse(text.strip(), mode="eval").body)
        except SyntaxError:
            raise ValueError(f"the pattern {text!r} is no expression") from None

    def bytes(self, count: int, first: int = 0) -> bytes:
        """``count`` bytes from number ``first`` on."""
        value = self._value
        return bytes(value(i) & 0xFF for i in range(first, first + count))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"


def _expression(node: ast.expr) -> Callable[[int], int]:
    match node:
        case ast.Name(id="i"):
            return lambda i: i
        case ast.Constant(value=int() as value) if type(value) is int and value <= _WORD:
            return lambda i: value
        case ast.BinOp(left=left, op=ast.LShift() | ast.RShift() as op, right=ast.Constant(value=int() as distance)):
            if type(distance) is not int or distance > 63:
                raise ValueError("a pattern shifts by 0 to 63")
            shift, shifted = _OPERATIONS[type(op)], _expression(left)
            return lambda i: shift(shifted(i), distance) & _WORD
        case ast.BinOp(left=left, op=ast.LShift() | ast.RShift()):
            raise ValueError("a pattern shifts by a number, not by an expression")
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATIONS:
            compute, one, other = _OPERATIONS[type(op)], _expression(left), _expression(right)
            return lambda i: compute(one(i), other(i)) & _WORD
        case _:
            raise ValueError(
                f"a pattern has i, whole numbers below 2^64, + - * & | ^ << >>, and no {ast.unparse(node)!r}"
            )


# The tables. What is wrong with one raises ValueError with a sentence.


def dma(tables: Any) -> tuple[Dma, ...]:
    """The tables [[dma]], at most one per operation."""
    found = tuple(_dma(each) for each in list_of_tables("[[dma]]", tables))
    if len({each.operation for each in found}) < len(found):
        raise ValueError(f"there are two [[dma]] for {found[0].operation!r}")
    return found


def irqs(tables: Any) -> tuple[Interrupt, ...]:
    """The tables [[irq]], at most one per interrupt."""
    found = tuple(_irq(each) for each in list_of_tables("[[irq]]", tables))
    places = [(each.index, each.vector) for each in found]
    if twice := [place for place in places if places.count(place) > 1]:
        raise ValueError(f"there are two [[irq]] for index {twice[0][0]}, vector {twice[0][1]}")
    return found


def setup(tables: Any) -> tuple[Poke, ...]:
    """The tables [[setup]], each of which is one write."""
    return _pokes("[[setup]]", list_of_tables("[[setup]]", tables), ())


def doorbells(tables: Any) -> tuple[Doorbell, ...]:
    """The tables [[doorbell]], at most one for each place and value."""
    found = tuple(_doorbell(each) for each in list_of_tables("[[doorbell]]", tables))
    places = [str(each) for each in found]
    if twice := [place for place in places if places.count(place) > 1]:
        raise ValueError(f"there are two [[doorbell]] for {twice[0].removeprefix('the ')}")
    return found


def _dma(table: dict[str, Any]) -> Dma:
    operation = table.get("operation")
    if operation not in ("write", "read"):
        raise ValueError('[[dma]] needs an operation, "write" or "read"')
    tells = "pattern" if operation == "write" else "result"
    check(table, "[[dma]]", ("operation", "steps", "completion", tells))
    completion = a_table("completion", table["completion"])
    check(completion, "completion", ("region", "offset", "width", "value"))
    steps, register = _steps("[[dma]]", table["steps"], (IOVA, LENGTH)), _register("completion", completion)
    done = a_number("completion", "value", completion["value"], 8 * register.width)
    if operation == "write":
        if not isinstance(table["pattern"], str):
            raise ValueError("[[dma]] has a pattern that is no text")
        return Dma(operation, steps, register, done, pattern=Pattern(table["pattern"]))
    result = a_table("result", table["result"])
    check(result, "result", ("region", "offset", "width", "algorithm"))
    if not isinstance(result["algorithm"], str) or result["algorithm"] not in ALGORITHMS:
        raise ValueError(f"result has the algorithm {result['algorithm']!r}, which is none of {', '.join(ALGORITHMS)}")
    return Dma(operation, steps, register, done, result=_register("result", result), algorithm=result["algorithm"])


def _irq(table: dict[str, Any]) -> Interrupt:
    check(table, "[[irq]]", ("index", "vector", "steps"))
    index, vector = (a_number("[[irq]]", name, table[name]) for name in ("index", "vector"))
    return Interrupt(index, vector, _steps("[[irq]]", table["steps"], ()))


def _doorbell(table: dict[str, Any]) -> Doorbell:
    name = "[[doorbell]]"
    check(table, name, ("region", "offset"), ("match", "count", "value"))
    shows: dict[str, Register | None] = {"count": None, "value": None}
    for key in shows.keys() & table.keys():
        check(a_table(key, table[key]), key, ("region", "offset", "width"))
        shows[key] = _register(key, table[key])
    if shows == {"count": None, "value": None}:
        raise ValueError(f"{name} has neither a count nor a value")
    match = a_number(name, "match", table["match"], 64) if "match" in table else None
    return Doorbell(
        a_number(name, "region", table["region"]), a_number(name, "offset", table["offset"], 64), match, **shows
    )


def _steps(name: str, tables: Any, filled: Sequence[str]) -> tuple[Poke, ...]:
    steps = _pokes(f"a step of {name}", list_of_tables(f"steps of {name}", tables), filled)
    if not steps:
        raise ValueError(f"{name} has no steps")
    return steps


def _pokes(name: str, tables: Sequence[dict[str, Any]], filled: Sequence[str]) -> tuple[Poke, ...]:
    pokes = list[Poke]()
    for table in tables:
        check(table, name, ("region", "offset", "width", "value"))
        register = _register(name, table)
        value = table["value"]
        pokes.append(Poke(register, value if value in filled else a_number(name, "value", value, 8 * register.width)))
    return tuple(pokes)


def _register(name: str, table: dict[str, Any]) -> Register:
    if type(table["width"]) is not int or table["width"] not in _WIDTHS:
        raise ValueError(f"{name} has the width {table['width']!r}, which is none of 1, 2, 4, 8")
    return Register(
        a_number(name, "region", table["region"]), a_number(name, "offset", table["offset"], 64), table["width"]
    )


def a_number(name: str, key: str, value: Any, bits: int = 32) -> int:
    """A whole number of so many bits. Raises ValueError."""
    if type(value) is not int or not 0 <= value < 1 << bits:
        raise ValueError(f"{name} has the {key} {value!r}, which is no whole number of {bits} bits")
    return value


def list_of_tables(name: str, value: Any) -> list[dict[str, Any]]:
    """What [[name]] is. Raises ValueError."""
    if not isinstance(value, list):
        raise ValueError(f"{name} is no list of tables")
    return [a_table(name, each) for each in value]


def a_table(name: str, value: Any) -> dict[str, Any]:
    """What [name] is. Raises ValueError."""
    if not isinstance(value, dict):
        raise ValueError(f"{name} is no table")
    return value


def check(table: dict[str, Any], name: str, required: Sequence[str] = (), optional: Sequence[str] = ()) -> None:
    """A table has what it must have, and nothing that nobody knows. Raises ValueError."""
    missing = [key for key in required if key not in table]
    unknown = [key for key in table if key not in (*required, *optional)]
    if missing or unknown:
        raise ValueError(f"{name} lacks {missing[0]}" if missing else f"{name} has an unknown {unknown[0]!r}")
