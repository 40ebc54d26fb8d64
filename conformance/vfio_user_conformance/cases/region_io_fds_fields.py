"""VFIO_USER_DEVICE_GET_REGION_IO_FDS: fields that are not about descriptors, in the request, the reply and its records."""

from vfio_user_conformance.case import Case
from vfio_user_conformance.cases.region_io_fds import FLAGS_ZERO, ask, every_record, records
from vfio_user_conformance.expect import ANYTHING, Reply, Whole
from vfio_user_conformance.needs import WITH_IO_FDS, WITHOUT_IO_FDS
from vfio_user_conformance.peer import Received
from vfio_user_conformance.sending import Send
from vfio_user_proto.messages import DeviceGetRegionIoFdsRequest, IoeventfdFlags, IoregionfdSubRegion, IoregionFlags

IOEVENTFD = IoeventfdFlags.DATAMATCH | IoeventfdFlags.PIO | IoeventfdFlags.VIRTIO_CCW_NOTIFY
IOREGIONFD = IoregionFlags.PIO | IoregionFlags.POSTED_WRITES


def flags_problem(seen: Received) -> str:
    """Every record has no flags but those of its table."""
    for each in records(seen):
        if odd := int(each.flags) & ~int(IOREGIONFD if isinstance(each, IoregionfdSubRegion) else IOEVENTFD):
            return f"the record at {each.offset:#x} has the flags {odd:#x}, which its table lacks"
    return ""


CASES = [
    Case(
        ident="region-io-fds/index-echoed",
        requirement="get-region-info.index-echo",
        stimulus=ask(WITH_IO_FDS),
        expect=Reply(index=WITH_IO_FDS),
        catches=("region-io-fds-index-zero",),
    ),
    Case(
        ident="region-io-fds/flags-zero-without-records",
        requirement="region-io-fds.reply-flags",
        stimulus=ask(WITHOUT_IO_FDS),
        expect=Reply(whole=FLAGS_ZERO),
        catches=("region-io-fds-flags-set-when-empty",),
    ),
    Case(
        ident="region-io-fds/flags-zero-when-cut",
        requirement="region-io-fds.reply-flags",
        stimulus=ask(WITH_IO_FDS, 16),
        expect=Reply(whole=FLAGS_ZERO),
        catches=("region-io-fds-flags-set-when-cut",),
    ),
    Case(
        ident="region-io-fds/flags-of-the-table",
        requirement="region-io-fds.flags",
        stimulus="VFIO_USER_DEVICE_GET_REGION_IO_FDS for each region that has sub-regions",
        expect="records with no flags but those of their tables",
        script=every_record(lambda facts: Whole("no flags but those of the table", flags_problem)),
        catches=("region-io-fds-deassigns",),
    ),
    Case(
        ident="region-io-fds/request-not-zero",
        requirement="security.validate",
        stimulus=Send(DeviceGetRegionIoFdsRequest(argsz=0x1000, flags=0xFFFFFFFF, index=WITH_IO_FDS, count=0xFFFFFFFF)),
        expect=ANYTHING,
        catches=("region-io-fds-count-believed",),
    ),
]
