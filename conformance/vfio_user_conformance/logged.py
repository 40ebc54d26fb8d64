"""Cases about the log of writes: what the device wrote while there was one, and the bits that a report has to have then."""

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass

from vfio_user_conformance.acting import Completed, Transfer
from vfio_user_conformance.case import Case
from vfio_user_conformance.cases.dma_logging import STOP, K, data_of, layout, report, start
from vfio_user_conformance.expect import Is, Reply, Whole
from vfio_user_conformance.facts import Fact, Facts
from vfio_user_conformance.needs import DMA_LOGGING, DMA_WRITE
from vfio_user_conformance.peer import Received, Seen
from vfio_user_conformance.sending import Send
from vfio_user_conformance.steps import Exchange, Step, exchange
from vfio_user_conformance.words import listed
from vfio_user_proto import wire
from vfio_user_proto.messages import (
    DeviceFeatureRequest,
    DmaLoggingRange,
    FeatureDmaLoggingReport,
    FeatureDmaLoggingStart,
)

HEAD = FeatureDmaLoggingReport.fixed_size


@dataclass(frozen=True)
class Start:
    """Start the log with pages of ``page_size`` bytes, in ``ranges`` of (IOVA, length), or everywhere."""

    page_size: int = K
    ranges: tuple[tuple[int, int], ...] = ()

    @property
    def message(self) -> Send:
        ranges = tuple(DmaLoggingRange(iova=iova, length=length) for iova, length in self.ranges)
        return start(wire.encode_record(FeatureDmaLoggingStart(page_size=self.page_size, ranges=ranges)))

    def __str__(self) -> str:
        inside = f" in {', '.join(f'{length:#x} bytes at {iova:#x}' for iova, length in self.ranges)}"
        return f"start a log of {self.page_size:#x}-byte pages{inside if self.ranges else ''}"


@dataclass(frozen=True)
class Report:
    """Ask for the bitmap of a range; ``dirty`` are the writes of (address, length) that it has to show, and no others.

    With ``silent`` the text does not say what it shows.
    """

    iova: int
    length: int
    page_size: int = K
    dirty: tuple[tuple[int, int], ...] = ()
    silent: bool = False

    @property
    def message(self) -> Send:
        return report(self.wanted, 8 + HEAD + self.size + 64)

    @property
    def wanted(self) -> FeatureDmaLoggingReport:
        return FeatureDmaLoggingReport(iova=self.iova, length=self.length, page_size=self.page_size)

    @property
    def size(self) -> int:
        """Bytes of the bitmap."""
        return -(-self.length // self.page_size // 64) * 8

    @property
    def pages(self) -> int:
        return -(-self.length // self.page_size)

    def expected(self, logged: int) -> Reply:
        """What the reply has to be where the log has pages of ``logged`` bytes."""
        must, may = set(self._pages(1)), set(self._pages(logged))

        def test(came: bytes) -> bool:
            bits = {bit for bit in _bits(came[HEAD:]) if bit < self.pages}
            return must <= bits and bits <= may

        words = f"with {self.shows}"
        whole = (
            layout(self.wanted, self.size),
            Whole("no bits behind them", self._outside, "dma-logging.bitmap-outside"),
        )
        return Reply() if self.silent else Reply(data=Is(words, test), whole=whole)

    @property
    def shows(self) -> str:
        """The bits that are due, in words."""
        pages = set(self._pages(1))
        return "any bits" if self.silent else f"the bits {_listed(pages)}" if pages else "no bit"

    def _outside(self, seen: Received) -> str:
        bits = [bit for bit in _bits(data_of(seen)[HEAD:]) if bit >= self.pages]
        return f"the bits {_listed(bits)} are set, and the range has {self.pages} pages" if bits else ""

    def _pages(self, grain: int) -> Iterator[int]:
        """The pages that the writes touch, when each counts as a whole number of ``grain`` bytes."""
        for address, length in self.dirty:
            begin, end = address // grain * grain, -(-(address + length) // grain) * grain
            if begin < self.iova + self.length and end > self.iova:
                first = max(begin - self.iova, 0) // self.page_size
                yield from range(first, min((end - 1 - self.iova) // self.page_size + 1, self.pages))

    def __str__(self) -> str:
        return f"ask for {self.length:#x} bytes at {self.iova:#x} in {self.page_size:#x}-byte pages"


def _bits(bitmap: bytes) -> Iterator[int]:
    number = int.from_bytes(bitmap, "little")
    while number:
        yield (number & -number).bit_length() - 1
        number &= number - 1


def _listed(pages: Iterable[int]) -> str:
    ordered = sorted(pages)
    return ", ".join(map(str, ordered[:20])) + (" …" if len(ordered) > 20 else "")


Act = Start | Report | Step


def logged(
    what: str,
    requirement: str,
    *acts: Act,
    fault: str,
    given: tuple[Send, ...],
    needs: tuple[Fact, ...] = (DMA_WRITE,),
) -> Case:
    """Writes of the device while there is a log, and reports of them; the log is stopped at the end."""

    def script(_facts: Facts) -> Generator[Exchange, Seen, None]:
        grain = K
        for act in acts:
            match act:
                case Start():
                    grain = _page_size((yield exchange(act.message, Reply())))
                case Report():
                    yield exchange(act.message, act.expected(grain))
                case Transfer():
                    yield exchange(act, (Reply(), Completed(act.operation)))
                case Send():
                    yield exchange(act, Reply())
                case _:
                    yield Exchange((act,), ())
        yield exchange(STOP, Reply())

    shown = [act.shows for act in acts if isinstance(act, Report)]
    return Case(
        ident=f"dirty-writes/{what}",
        requirement=requirement,
        given=given,
        stimulus=listed(acts, "; then "),
        expect=f"success; in the reports {listed(shown, '; then ')}, and none behind the range",
        script=script,
        needs=(DMA_LOGGING, *needs),
        hazards=frozenset({"migration"}),
        catches=(fault,),
    )


def _page_size(seen: Seen) -> int:
    """The page size that the log has, by the reply to its start."""
    payload = seen.message.payload if isinstance(seen, Received) else None
    data = payload.data if isinstance(payload, DeviceFeatureRequest) else b""
    return int.from_bytes(data[:8], "little") or K
