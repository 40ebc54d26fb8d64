"""Numbers at which programs go wrong: ends of ranges, powers of two and their neighbours, and the protocol's limits."""

from functools import cache
from typing import Final

# Page and transfer sizes, the default max_data_xfer_size with its neighbours, and the room that a message may take.
LIMITS: Final = (4095, 4096, 4097, 65535, 65536, 1048575, 1048576, 1048577, 1048576 + 4096 - 16)
_POWERS: Final = (1, 2, 3, 4, 5, 6, 7, 8, 12, 15, 16, 20, 24, 31, 32, 33, 47, 48, 52, 62, 63, 64)


@cache
def interesting(size: int) -> tuple[int, ...]:
    """Edge values of an unsigned number of ``size`` bytes, in rising order.

    Both neighbours of a power of two are there: 0 and 2^n - 1, the largest and the ones just below it, which wrap when
    something is added to them.
    """
    top = 1 << 8 * size
    values = {0, top - 2, top - 8, top - 16, top - 4096}
    for power in _POWERS:
        values |= {(1 << power) - 1, 1 << power}
    return tuple(sorted(value for value in values.union(LIMITS) if 0 <= value < top))


def around(truth: int, size: int) -> tuple[int, ...]:
    """Lies about a size or count of ``size`` bytes that is really ``truth``: just off, far off, none, all."""
    top = 1 << 8 * size
    values = {0, 1, truth - 1, truth + 1, truth - 4, truth + 4, truth // 2, truth * 2, truth + 4096, top - 1, top >> 1}
    return tuple(sorted(value for value in values if 0 <= value < top and value != truth))
