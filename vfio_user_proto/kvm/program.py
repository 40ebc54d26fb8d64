"""Machine code for a guest in real mode: the few instructions that access a device."""

from typing import Final, Self

# What stands before an instruction: operands of 4 instead of 2 bytes, addresses likewise, the segment of ES instead of DS.
_WIDE: Final = b"\x66"
_WIDE_ADDRESS: Final = b"\x67"
_ES: Final = b"\x26"
# 8 bytes of guest memory, of which the last four are zero.
_SCRATCH: Final = 0x0FF8


class Program:
    """Instructions in a row, each method adding one; ``code`` ends with HLT. There is no jump but ``repeat``: it ends.

    The value that is stored, or was loaded, is in EAX. Accesses to memory are at an offset of 16 bits from ``segment``.
    """

    def __init__(self) -> None:
        self._code = b""
        self._loops = False

    @property
    def code(self) -> bytes:
        """The bytes, with HLT at the end."""
        return self._code + b"\xf4"  # hlt

    def segment(self, address: int) -> Self:
        """Let the data segment begin at ``address``, a multiple of 16 below 1 MiB."""
        if address % 16 or not 0 <= address < 1 << 20:
            raise ValueError(f"no segment begins at {address:#x}")
        self._code += b"\xbb" + _word(address // 16)  # mov bx, address / 16
        self._code += b"\x8e\xdb"  # mov ds, bx
        return self

    def value(self, number: int) -> Self:
        """Set the value, at most 4 bytes."""
        self._code += _WIDE + b"\xb8" + number.to_bytes(4, "little")  # mov eax, number
        return self

    def add_one(self) -> Self:
        """Count the value up."""
        self._code += _WIDE + b"\x40"  # inc eax
        return self

    def port(self, number: int) -> Self:
        """Choose the port of ``out`` and ``load_port``."""
        self._code += b"\xba" + _word(number)  # mov dx, number
        return self

    def out(self, size: int) -> Self:
        """Write the value to the port, as 1, 2 or 4 bytes."""
        self._code += _of(size, b"\xee", b"\xef")  # out dx, al / ax / eax
        return self

    def load_port(self, size: int) -> Self:
        """Read the value from the port, as 1, 2 or 4 bytes."""
        self._code += _of(size, b"\xec", b"\xed")  # in al / ax / eax, dx
        return self

    def store(self, offset: int, size: int) -> Self:
        """Write the value to memory, as 1, 2, 4 or 8 bytes."""
        if size == 8:
            # KVM may have to emulate what a guest does in real mode, and does not know movd.
            self._code += _ES + _WIDE + b"\xa3" + _word(_SCRATCH)  # mov es:[scratch], eax
            self._code += _ES + b"\x0f\x6f\x06" + _word(_SCRATCH)  # movq mm0, es:[scratch]
            self._code += b"\x0f\x7f\x06" + _word(offset)  # movq [offset], mm0
        else:
            self._code += _of(size, b"\xa2", b"\xa3") + _word(offset)  # mov [offset], al / ax / eax
        return self

    def load(self, offset: int, size: int) -> Self:
        """Read the value from memory, as 1, 2 or 4 bytes."""
        self._code += _of(size, b"\xa0", b"\xa1") + _word(offset)  # mov al / ax / eax, [offset]
        return self

    def keep(self, address: int) -> Self:
        """Put the value, 4 bytes, at a guest address below 64 KiB, where whoever runs the guest finds it."""
        self._code += _ES + _WIDE + b"\xa3" + _word(address)  # mov es:[address], eax
        return self

    def repeat(self, count: int, body: "Program") -> Self:
        """Do ``body`` ``count`` times. The count is in ECX: a body cannot have a ``repeat`` of its own."""
        if count < 1 or body._loops or len(body._code) > 120:
            raise ValueError(f"no loop of {len(body._code)} bytes for {count} times")
        self._loops = True
        self._code += _WIDE + b"\xb9" + count.to_bytes(4, "little")  # mov ecx, count
        self._code += body._code
        back = -(len(body._code) + 3)
        self._code += _WIDE_ADDRESS + b"\xe2" + back.to_bytes(1, "little", signed=True)  # loop back, counting in ecx
        return self


def _word(number: int) -> bytes:
    return number.to_bytes(2, "little")


def _of(size: int, one: bytes, more: bytes) -> bytes:
    """The instruction for operands of that size."""
    forms = {1: one, 2: more, 4: _WIDE + more}
    if size not in forms:
        raise ValueError(f"no instruction for {size} bytes")
    return forms[size]
