"""What a server keeps and gives up when its client leaves."""

from vfio_user_conformance.case import Case
from vfio_user_conformance.cases.dma_map import PAGE, request
from vfio_user_conformance.cases.mig_state import AT_HOME, HAZARDS, HOME, NEEDS, NOW, RESET, S, in_state, to
from vfio_user_conformance.cases.region_access import PATTERN, read, write
from vfio_user_conformance.checks import Released, under
from vfio_user_conformance.descriptors import Memfd
from vfio_user_conformance.expect import Reply
from vfio_user_conformance.needs import LARGEST, LARGEST_SIZE, SCRATCH, SCRATCH_KEEPS, SCRATCH_REGION
from vfio_user_conformance.sending import Send
from vfio_user_conformance.steps import Disconnect, Raw, Reconnect, Together, exchange
from vfio_user_conformance.story import story
from vfio_user_conformance.surroundings import Apart, Beside, LeaveBeside
from vfio_user_proto.craft import craft
from vfio_user_proto.messages import Command, DeviceGetInfoRequest, DeviceGetRegionInfoRequest

MEMORY = Memfd()
# While the memory is held the server has not noticed that its client left, or keeps what it has mapped.
MAPPED = Send(request(0x10000, PAGE), fds=(MEMORY,))
LET_GO = under("disconnect.unmap-all", Released(MEMORY))

INFO = Send(DeviceGetInfoRequest())
CONFIG = Send(DeviceGetRegionInfoRequest(argsz=0x1000, index=7))
# Replies of 4 KiB to all of these do not fit into any socket: some are still due when the client leaves.
_MANY = 1024

CASES = [
    Case(
        ident="connection/client-gone",
        requirement="disconnect.server-end",
        stimulus=Disconnect(),
        expect=(),
        catches=("client-gone-crash",),
        note="Whether the program ends then, or serves the next client, is told with what came.",
    ),
    Case(
        ident="connection/next-client",
        requirement="disconnect.survived",
        stimulus=(Reconnect(), Reconnect(), Send(DeviceGetInfoRequest())),
        expect=Reply(),
        catches=("second-client-hangs",),
    ),
    story(
        "connection/second-beside",
        "socket.one-session",
        exchange(INFO, Reply()),
        exchange((Beside(), INFO), (Reply(), Apart())),
        exchange((LeaveBeside(), CONFIG), Reply()),
        catches=("second-client-ends-the-first", "second-client-beside-crash"),
    ),
    Case(
        ident="connection/silent-client",
        requirement="disconnect.survived",
        stimulus=Disconnect(),
        expect=(),
        greet=False,
        catches=("silent-client-crash",),
        note="The samples of libvfio-user efd091b end with status 1, as they may; a probe that only connects stops them.",
    ),
    Case(
        ident="connection/cut-in-header",
        requirement="disconnect.survived",
        given=(MAPPED,),
        stimulus=(Raw(craft(Command.DEVICE_GET_INFO, DeviceGetInfoRequest())[:9]), Disconnect()),
        expect=LET_GO,
        catches=("client-lost-in-header-crash",),
    ),
    Case(
        ident="connection/cut-in-payload",
        requirement="disconnect.survived",
        given=(MAPPED,),
        stimulus=(Raw(craft(Command.DMA_MAP, request(0x20000))[:30]), Disconnect()),
        expect=LET_GO,
        catches=("client-lost-in-payload-crash",),
    ),
    Case(
        ident="connection/lost-with-replies-due",
        requirement="disconnect.survived",
        given=(MAPPED,),
        stimulus=(Together((read(LARGEST, 0, LARGEST_SIZE),) * _MANY), Disconnect()),
        expect=LET_GO,
        catches=("client-lost-with-replies-due-crash",),
    ),
    Case(
        ident="connection/mappings-removed",
        requirement="disconnect.unmap-all",
        given=(Send(request(0x10000)),),
        stimulus=(Reconnect(), Send(request(0x10000))),
        expect=Reply(),
        catches=("mappings-outlive-client",),
    ),
    Case(
        ident="connection/memory-closed",
        requirement="disconnect.unmap-all",
        given=(MAPPED,),
        stimulus=Disconnect(),
        expect=Released(MEMORY),
        catches=("memory-outlives-client",),
    ),
    Case(
        ident="connection/migration-state-kept",
        requirement="disconnect.state-kept",
        needs=NEEDS,
        given=(RESET, to(S.STOP)),
        stimulus=(Reconnect(), NOW, *HOME),
        expect=(in_state(S.STOP), *AT_HOME),
        hazards=HAZARDS,
        catches=("migration-state-of-each-client",),
    ),
    Case(
        ident="connection/state-kept",
        requirement="disconnect.state-kept",
        needs=(SCRATCH_KEEPS,),
        given=(write(PATTERN),),
        stimulus=(Reconnect(), read(SCRATCH_REGION, SCRATCH, 8)),
        expect=Reply(data=PATTERN[:8]),
        catches=("client-lost-resets-device",),
    ),
]
