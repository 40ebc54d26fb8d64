# GENERATED from spec/vfio-user.rst by "vfio-user spec generate"; do not edit.
"""The requirements of the vfio-user document, which cases name and reports quote."""

from collections.abc import Mapping
from typing import NamedTuple


class Requirement(NamedTuple):
    """One requirement: ``level`` is must, should or info, ``side`` is server, client or both.

    ``section`` names the section of the published document that it rests on, "" where that is silent; ``erratum`` the entry
    of spec/errata.toml that it settles, or "".
    """

    ident: str
    level: str
    side: str
    section: str
    text: str
    erratum: str = ""


REQUIREMENTS: Mapping[str, Requirement] = {
    each.ident: each
    for each in (
        Requirement(
            "transport.descriptors-optional",
            "should",
            "both",
            "Introduction",
            "Each function that descriptors speed up also works by messages alone, so that a peer which neither sends "
            "nor accepts descriptors can use the whole device, but for its interrupts: no message tells of one.",
            "interrupts-in-band",
        ),
        Requirement(
            "region.mapped-bytes",
            "should",
            "server",
            "Region Information",
            "A mapping and the commands reach the same bytes of a region: what was stored into the mapping is read by "
            "a command, and what a command wrote is in the mapping.",
        ),
        Requirement(
            "region.sparse-when-partial",
            "should",
            "server",
            "Sparse Regions",
            "A region of which only parts can be mapped carries the sparse mmap capability, which lists those parts.",
        ),
        Requirement(
            "region.extra-has-type",
            "should",
            "server",
            "Device-Specific Regions",
            "A region with an index above the standard ones carries the type capability.",
        ),
        Requirement(
            "dma-map.export-needs-trust",
            "should",
            "client",
            "Client memory access",
            "A client passes descriptors of its memory only to a server that it trusts not to damage that memory; to "
            "others it announces memory without descriptors.",
        ),
        Requirement(
            "socket.one-session",
            "should",
            "both",
            "Socket",
            "A connection serves one client and one device; nothing else is multiplexed on it.",
        ),
        Requirement(
            "socket.no-stall",
            "must",
            "both",
            "Socket",
            "Neither side suspends the handling of commands or of replies without limit while it waits for a reply of "
            "the other side. A server that waits for the answer to VFIO_USER_DMA_READ still reads what the client "
            "sends, and a client that waits for a reply still answers the server's commands.",
        ),
        Requirement(
            "stream.cut-message",
            "must",
            "both",
            "Header",
            "A message that arrives in several pieces, cut at any byte including inside the header, is handled like "
            "one that arrives at once.",
            "stream-boundaries",
        ),
        Requirement(
            "stream.coalesced-messages",
            "must",
            "both",
            "Header",
            "Several messages that arrive with one read are each handled, in order.",
            "stream-boundaries",
        ),
        Requirement(
            "stream.descriptors-of-message",
            "info",
            "both",
            "",
            "Descriptors belong to the message whose bytes they accompany. A sender attaches them to the first byte "
            "of its message; whether a receiver also takes descriptors that come with a later byte is reported.",
            "stream-boundaries",
        ),
        Requirement(
            "stream.unexpected-descriptors",
            "info",
            "both",
            "",
            "A receiver closes the descriptors that a message carries beyond those it takes, and all descriptors of a "
            "command that it refuses. Whether it carries out a command with too many descriptors is reported.",
        ),
        Requirement(
            "concurrency.pipelining",
            "should",
            "server",
            "Command Concurrency",
            "A server accepts further commands while replies to earlier ones are outstanding.",
        ),
        Requirement(
            "concurrency.in-order",
            "should",
            "server",
            "Command Concurrency",
            "Commands take effect in the order of their arrival. When a command that asked for no reply is followed "
            "by one that is answered, the first has been carried out before that answer is sent.",
        ),
        Requirement(
            "concurrency.client-knows-device",
            "must",
            "client",
            "Command Concurrency",
            "A client has several commands in flight only where it knows that the device can take them concurrently. "
            "Accesses of its threads to a region keep the order and exclusion that the device asks for.",
        ),
        Requirement(
            "concurrency.interleaved",
            "should",
            "both",
            "Command Concurrency",
            "Where one socket carries both directions, a command of the peer may arrive between an own command and "
            "its reply. The receiver handles the command and goes on waiting.",
        ),
        Requirement(
            "concurrency.unbounded-latency",
            "should",
            "client",
            "Command Concurrency",
            "No limit of time is assumed for a reply, to a reset above all. A client keeps running what does not "
            "depend on the reply that it waits for.",
        ),
        Requirement(
            "disconnect.survived",
            "should",
            "both",
            "Socket Disconnection Behavior",
            "Each side copes with the loss of its peer at any byte of the stream: it neither crashes nor waits for "
            "ever, and it frees what the connection held.",
        ),
        Requirement(
            "disconnect.client-resets",
            "should",
            "client",
            "Server Disconnection",
            "A client that loses its server treats the device as reset and leaves recovery to the error handling of "
            "the guest. After it has connected anew, it sends its mappings and its eventfds again.",
            "disconnect-reset",
        ),
        Requirement(
            "disconnect.server-end",
            "info",
            "server",
            "Client Disconnection",
            "A server whose client has left either ends or waits for the next client. A server of several clients "
            "goes on.",
        ),
        Requirement(
            "disconnect.unmap-all",
            "should",
            "server",
            "Client Disconnection",
            "A server that goes on removes all mappings of the client that left, and closes their descriptors.",
        ),
        Requirement(
            "disconnect.close-irq-fds",
            "should",
            "server",
            "Client Disconnection",
            "A server that goes on closes the eventfds of the client that left.",
        ),
        Requirement(
            "disconnect.state-kept",
            "should",
            "server",
            "Client Disconnection",
            "Apart from mappings and eventfds the device stays as it was, and so the next client finds it.",
        ),
        Requirement(
            "security.validate",
            "should",
            "both",
            "Security Considerations",
            "No message of the peer, however wrong, makes the receiver crash, hang, overrun memory or use resources "
            "without limit. Sizes, counts, offsets and indexes are checked before use; a command that fails a check "
            "is answered with an error reply, or the connection is closed.",
        ),
        Requirement(
            "security.short-payload",
            "should",
            "both",
            "Security Considerations",
            "A command whose payload is shorter than its fixed part is refused with an error reply or by closing; no "
            "field is taken from beyond its end. If the connection stays open, the next command is answered as usual.",
        ),
        Requirement(
            "security.trailing-payload",
            "info",
            "both",
            "",
            "Bytes after the end of a complete payload are ignored or make the receiver refuse the command; it is "
            "reported which. They never count as the beginning of the next message.",
        ),
        Requirement(
            "argsz.request-minimum",
            "should",
            "client",
            "Message sizes",
            "The argsz of a request is not smaller than the fixed part of the reply payload.",
        ),
        Requirement(
            "argsz.reply-needed",
            "should",
            "server",
            "Message sizes",
            "The argsz of a reply is the size of the complete payload, whether or not all of it was sent. It may be "
            "smaller or larger than the one of the request.",
        ),
        Requirement(
            "argsz.too-small",
            "should",
            "server",
            "Message sizes",
            "No reply payload is longer than the argsz of the request. When only the fixed part fits, the reply "
            "succeeds and consists of that; the client sees the size to ask for and repeats the command.",
        ),
        Requirement(
            "argsz.below-fixed-part",
            "info",
            "server",
            "",
            "When not even the fixed part fits, the server refuses the command or sends the fixed part all the same.",
            "argsz-too-small",
        ),
        Requirement(
            "encoding.host-order",
            "must",
            "both",
            "Protocol Specification",
            "All integers have the byte order of the host.",
        ),
        Requirement(
            "commands.unknown-refused",
            "must",
            "both",
            "Header",
            "A command with a number that the receiver does not know is answered with an error reply, or the "
            "connection is closed.",
            "unknown-command",
        ),
        Requirement(
            "commands.unknown-in-step",
            "must",
            "both",
            "Header",
            "After the error reply to an unknown command, payload and all, the next command is read from its first "
            "byte and answered.",
            "unknown-command",
        ),
        Requirement(
            "commands.wrong-direction",
            "info",
            "both",
            "",
            "A command that only the other side may send is refused like an unknown one.",
        ),
        Requirement(
            "header.length",
            "must",
            "both",
            "Header",
            "A message begins with the 16 bytes of the header. The payload follows without a gap, and its offsets "
            "count from its own first byte.",
        ),
        Requirement(
            "header.echo",
            "must",
            "both",
            "Header",
            "A reply, an error reply too, carries the Message ID and the Command of its command.",
        ),
        Requirement(
            "header.message-id-any",
            "must",
            "both",
            "Header",
            "A receiver accepts any Message ID, also one that equals the ID of an earlier command or of one still in "
            "flight.",
        ),
        Requirement(
            "header.message-size",
            "must",
            "both",
            "Header",
            "Message size is 16 plus the number of payload bytes that follow.",
        ),
        Requirement(
            "header.message-size-bounds",
            "info",
            "both",
            "",
            "A Message size below 16 or above what the receiver is ready to take is answered with an error reply or "
            "by closing. No memory is reserved for it; where the next message would begin is open.",
        ),
        Requirement(
            "header.reply-to-each",
            "must",
            "both",
            "Header",
            "A command whose No_reply bit is clear gets exactly one reply.",
        ),
        Requirement(
            "header.no-reply",
            "must",
            "both",
            "Header",
            "A command whose No_reply bit is set gets no reply, neither when it succeeds nor when it fails. This "
            "holds for every command but VFIO_USER_VERSION, also for one that only asks for information.",
            "no-reply-scope",
        ),
        Requirement(
            "header.no-reply-version",
            "info",
            "server",
            "",
            "Whether a VFIO_USER_VERSION with the No_reply bit is answered is reported.",
            "no-reply-scope",
        ),
        Requirement(
            "header.error-bit",
            "must",
            "both",
            "Header",
            "The reply to a command that failed has the Error bit set; the reply to one that succeeded has not.",
        ),
        Requirement(
            "header.error-reply-empty",
            "must",
            "both",
            "Header",
            "An error reply consists of the header: Message size is 16 and no payload follows.",
        ),
        Requirement(
            "header.error-number",
            "info",
            "both",
            "Header",
            "The Error field of an error reply holds the reason or zero. Which value was sent is reported.",
        ),
        Requirement(
            "header.error-reserved",
            "should",
            "both",
            "Header",
            "A command is sent with zero in the Error field. A receiver ignores what is there.",
        ),
        Requirement(
            "header.undefined-flags",
            "info",
            "both",
            "",
            "Bits 6 to 31 of Flags are sent as zero. A message with other bits, with another type, or a reply that no "
            "command asked for is ignored or refused; how is reported.",
        ),
        Requirement(
            "header.type",
            "must",
            "both",
            "Header",
            "A command has the type 0. A reply, an error reply too, has the type 1.",
        ),
        Requirement(
            "version.first",
            "must",
            "client",
            "VFIO_USER_VERSION",
            "The first message on a new connection is this command.",
        ),
        Requirement(
            "version.out-of-order",
            "info",
            "server",
            "",
            "What a server does with another command before this one, or with a second one of these, is reported.",
        ),
        Requirement(
            "version.reply-major",
            "must",
            "server",
            "VFIO_USER_VERSION",
            "The reply carries the major version that was proposed.",
        ),
        Requirement(
            "version.refusal-closes",
            "should",
            "server",
            "Connection Initiation",
            "A server that lacks the proposed major version, or that needs a capability which the client did not "
            "name, closes the connection. An error reply before that is acceptable.",
            "version-refusal",
        ),
        Requirement(
            "version.reply-minor",
            "must",
            "server",
            "VFIO_USER_VERSION",
            "The minor version of the reply is not above the one that was proposed.",
        ),
        Requirement(
            "version.older-minors",
            "must",
            "both",
            "VFIO_USER_VERSION",
            "Whoever supports a minor version supports all lower ones of the same major version, down to 0.",
        ),
        Requirement(
            "version.capability-subset",
            "should",
            "server",
            "VFIO_USER_VERSION",
            "The reply names no capability that the client did not name.",
            "capability-subset",
        ),
        Requirement(
            "version.unknown-capability",
            "should",
            "both",
            "VFIO_USER_VERSION",
            "A receiver ignores members of the capability objects that it does not know.",
        ),
        Requirement(
            "version.data-optional",
            "should",
            "both",
            "VFIO_USER_VERSION / Request",
            "A message without version data, whose payload has 4 bytes, is valid; every capability then has its "
            "default.",
        ),
        Requirement(
            "version.data-form",
            "should",
            "both",
            "VFIO_USER_VERSION / Request",
            "Version data is a JSON object in UTF-8 with one zero byte after it, which Message size counts.",
        ),
        Requirement(
            "version.data-malformed",
            "info",
            "server",
            "",
            "Version data that is not JSON, not terminated, or has a member of a wrong type is refused or ignored; it "
            "is reported which.",
        ),
        Requirement(
            "version.max-msg-fds-default",
            "must",
            "both",
            "VFIO_USER_VERSION / Request",
            "Where a peer did not state max_msg_fds, the other side sends it one descriptor per message at the most.",
        ),
        Requirement(
            "version.max-msg-fds-kept",
            "should",
            "both",
            "VFIO_USER_VERSION / Request",
            "No message carries more descriptors than the receiver's max_msg_fds.",
        ),
        Requirement(
            "version.map-limits-kept",
            "should",
            "client",
            "VFIO_USER_VERSION / Request",
            "A client has no more mappings in force than the server's max_dma_maps, and makes them of pages of a size "
            "in the server's pgsizes. What was not stated has its default, 65535 or 4096.",
            "max-dma-maps-default",
        ),
        Requirement(
            "version.write-multiple",
            "should",
            "client",
            "VFIO_USER_VERSION / Request",
            "VFIO_USER_REGION_WRITE_MULTI is sent only to a server whose reply has write_multiple set to true.",
            "write-multiple-default",
        ),
        Requirement(
            "version.reply-layout",
            "must",
            "server",
            "VFIO_USER_VERSION / Reply",
            "The reply has two 2-byte version numbers and then, optionally, version data in the form of the request.",
        ),
        Requirement(
            "twin-socket.only-if-offered",
            "should",
            "server",
            "VFIO_USER_VERSION / Reply",
            "A server sets up a second socket only for a client that sent twin_socket.supported as true.",
        ),
        Requirement(
            "twin-socket.recommended",
            "should",
            "server",
            "VFIO_USER_VERSION / Reply",
            "A server that sends commands implements twin-socket mode.",
        ),
        Requirement(
            "twin-socket.reply",
            "should",
            "server",
            "VFIO_USER_VERSION / Reply",
            "The reply of a server that takes it up has supported set to true, the descriptor of the client's end as "
            "ancillary data, and the position of that descriptor in fd_index.",
        ),
        Requirement(
            "twin-socket.examined",
            "must",
            "client",
            "VFIO_USER_VERSION / Reply",
            "A client that offered twin-socket mode looks at twin_socket in the reply. When supported is true and "
            "fd_index names a descriptor of the message, it reads commands there; when supported is absent or false, "
            "it goes on with one socket or closes.",
        ),
        Requirement(
            "twin-socket.inconsistent",
            "must",
            "client",
            "VFIO_USER_VERSION / Reply",
            "When supported is true and fd_index is absent or names no descriptor of the message, the client closes "
            "the connection.",
        ),
        Requirement(
            "dma-map.before-access",
            "must",
            "server",
            "VFIO_USER_DMA_MAP",
            "The server makes no DMA access, neither by message nor through a descriptor, to an IOVA outside all "
            "mappings.",
        ),
        Requirement(
            "dma-map.any-time",
            "should",
            "server",
            "VFIO_USER_DMA_MAP",
            "A server accepts the command at any time after VFIO_USER_VERSION, as long as fewer mappings are in force "
            "than its max_dma_maps.",
        ),
        Requirement(
            "dma-map.descriptor",
            "must",
            "client",
            "VFIO_USER_DMA_MAP / Request",
            "A range that the server can map comes with its descriptor, on AF_UNIX as ancillary data of the type "
            "SCM_RIGHTS.",
        ),
        Requirement(
            "dma-map.no-descriptor",
            "must",
            "client",
            "VFIO_USER_DMA_MAP / Request",
            "A range that the server cannot map comes without any descriptor.",
            "dma-map-no-descriptor",
        ),
        Requirement(
            "dma-map.without-descriptor",
            "should",
            "server",
            "VFIO_USER_DMA_MAP / Request",
            "A command without descriptor succeeds, and later accesses to the range are messages.",
        ),
        Requirement(
            "dma-map.file-offset",
            "should",
            "server",
            "VFIO_USER_DMA_MAP / Request",
            "With a descriptor, an access to IOVA address + n reaches byte offset + n of the file.",
        ),
        Requirement(
            "dma-map.offset-zero",
            "should",
            "client",
            "VFIO_USER_DMA_MAP / Request",
            "offset is zero when there is no descriptor.",
        ),
        Requirement(
            "dma-map.access",
            "should",
            "server",
            "VFIO_USER_DMA_MAP / Request",
            "The device reads only from ranges that are readable and writes only to ranges that are writeable.",
        ),
        Requirement(
            "dma-map.unknown-flags",
            "info",
            "server",
            "",
            "Whether a command with a flag outside the table is refused, or the flag is ignored, is reported.",
            "dma-map-flags",
        ),
        Requirement(
            "dma-map.overlap",
            "must",
            "server",
            "VFIO_USER_DMA_MAP / Request",
            "A command whose range shares a byte with a mapping in force is answered with an error reply that carries "
            "EEXIST, and that mapping stays.",
            "dma-map-overlap",
        ),
        Requirement(
            "dma-map.adjacent",
            "should",
            "server",
            "VFIO_USER_DMA_MAP / Request",
            "A range that only touches the end or the beginning of a mapping does not overlap it and is accepted.",
        ),
        Requirement(
            "dma-map.bad-range",
            "info",
            "server",
            "",
            "A size of zero, or a range that goes past the highest address, is refused or accepted; it is reported "
            "which.",
        ),
        Requirement(
            "dma-map.reply-empty",
            "must",
            "server",
            "VFIO_USER_DMA_MAP / Reply",
            "The reply is a header alone.",
        ),
        Requirement(
            "dma-unmap.exact",
            "must",
            "client",
            "VFIO_USER_DMA_UNMAP / Request",
            "address and size are those of one mapping in force, neither a part of it nor several at once.",
        ),
        Requirement(
            "dma-unmap.mismatch",
            "should",
            "server",
            "VFIO_USER_DMA_UNMAP / Request",
            "A range that is not exactly one mapping is refused with an error reply, and no mapping changes.",
        ),
        Requirement(
            "dma-unmap.flags",
            "info",
            "server",
            "VFIO_USER_DMA_UNMAP / Request",
            "What a server does with non-zero flags is reported.",
            "dma-unmap-flags",
        ),
        Requirement(
            "dma-unmap.released",
            "must",
            "server",
            "VFIO_USER_DMA_UNMAP / Reply",
            "Before it replies, the server ends accesses in flight to the range, undoes its own mapping of the file "
            "and closes the descriptor. From then on the range counts as not mapped.",
        ),
        Requirement(
            "dma-unmap.reply",
            "must",
            "server",
            "VFIO_USER_DMA_UNMAP / Reply",
            "The reply payload has the 24 bytes of this layout.",
        ),
        Requirement(
            "dma-unmap.reply-echo",
            "should",
            "server",
            "VFIO_USER_DMA_UNMAP / Reply",
            "address and size of the reply are those of the request.",
        ),
        Requirement(
            "get-info.request-zero",
            "must",
            "client",
            "VFIO_USER_DEVICE_GET_INFO / Request",
            "Every field but argsz is zero.",
            "request-flag-bits",
        ),
        Requirement(
            "get-info.reply-layout",
            "must",
            "server",
            "VFIO_USER_DEVICE_GET_INFO / Reply",
            "The reply payload has the 16 bytes of this table.",
        ),
        Requirement(
            "get-info.pci",
            "should",
            "server",
            "VFIO_USER_DEVICE_GET_INFO / Reply",
            "VFIO_DEVICE_FLAGS_PCI is set, as no other kind of device is defined.",
        ),
        Requirement(
            "get-info.reset",
            "should",
            "server",
            "VFIO_USER_DEVICE_GET_INFO / Reply",
            "A device with VFIO_DEVICE_FLAGS_RESET carries out VFIO_USER_DEVICE_RESET.",
        ),
        Requirement(
            "get-info.counts",
            "should",
            "server",
            "VFIO_USER_DEVICE_GET_INFO / Reply",
            "VFIO_USER_DEVICE_GET_REGION_INFO succeeds for each index below num_regions, "
            "VFIO_USER_DEVICE_GET_IRQ_INFO for each index below num_irqs.",
        ),
        Requirement(
            "get-info.standard-regions",
            "should",
            "server",
            "Device-Specific Regions",
            "num_regions of a PCI device counts the 9 standard regions, whether the device has them or not.",
            "device-info-struct",
        ),
        Requirement(
            "get-region-info.absent-region",
            "info",
            "server",
            "",
            "A standard region that the device lacks is described with a size of zero, a standard interrupt type that "
            "it lacks with a count of zero.",
            "pci-indexes",
        ),
        Requirement(
            "get-region-info.request-zero",
            "must",
            "client",
            "VFIO_USER_DEVICE_GET_REGION_INFO / Request",
            "Every field but argsz and index is zero.",
            "region-info-only-field",
        ),
        Requirement(
            "get-region-info.index-range",
            "info",
            "server",
            "",
            "An index that is not below num_regions is refused with an error reply. The same is true of "
            "VFIO_USER_DEVICE_GET_REGION_IO_FDS and, with num_irqs, of VFIO_USER_DEVICE_GET_IRQ_INFO.",
        ),
        Requirement(
            "get-region-info.reply-layout",
            "must",
            "server",
            "VFIO_USER_DEVICE_GET_REGION_INFO / Reply",
            "The reply payload begins with the 32 bytes of this table.",
        ),
        Requirement(
            "get-region-info.reply-argsz",
            "must",
            "server",
            "VFIO_USER_DEVICE_GET_REGION_INFO / Reply",
            "argsz of the reply is the size of structure and capabilities together.",
        ),
        Requirement(
            "get-region-info.argsz-too-small",
            "must",
            "server",
            "Message sizes",
            "When the capabilities do not fit into the client's argsz, the reply succeeds with the 32-byte structure, "
            "and its argsz tells the size with which a second attempt gets everything.",
            "argsz-too-small",
        ),
        Requirement(
            "get-region-info.index-echo",
            "should",
            "server",
            "VFIO_USER_DEVICE_GET_REGION_INFO / Reply",
            "index of the reply is the one that was asked for, here and in the replies to "
            "VFIO_USER_DEVICE_GET_REGION_IO_FDS and VFIO_USER_DEVICE_GET_IRQ_INFO.",
        ),
        Requirement(
            "get-region-info.access-flags",
            "should",
            "server",
            "VFIO_USER_DEVICE_GET_REGION_INFO / Reply",
            "A region with the read flag answers reads within its size, one with the write flag answers writes, "
            "without error.",
        ),
        Requirement(
            "get-region-info.mmap-descriptor",
            "should",
            "server",
            "VFIO_USER_DEVICE_GET_REGION_INFO / Reply",
            "A reply with the mmap flag carries one descriptor, also when several areas of the region can be mapped.",
        ),
        Requirement(
            "get-region-info.mmap-flag-when-cut",
            "should",
            "server",
            "VFIO_USER_DEVICE_GET_REGION_INFO / Reply",
            "A reply that leaves out the capabilities for want of room has both the mmap flag and the descriptor, or "
            "neither.",
            "mmap-flag-without-descriptor",
        ),
        Requirement(
            "get-region-info.caps-flag",
            "should",
            "server",
            "VFIO_USER_DEVICE_GET_REGION_INFO / Reply",
            "A reply that includes capabilities has the caps flag, and no other complete reply has it.",
        ),
        Requirement(
            "get-region-info.caps-flag-when-cut",
            "info",
            "server",
            "",
            "Whether the caps flag and cap_offset are set in a reply that leaves out the capabilities for want of "
            "room is reported. A client looks for capabilities only within the payload that it received.",
            "caps-flag-when-cut",
        ),
        Requirement(
            "get-region-info.mmap-offset",
            "should",
            "client",
            "VFIO_USER_DEVICE_GET_REGION_INFO / Reply",
            "A client maps a region at offset of the file, and a sparse area at offset plus the offset of the area.",
        ),
        Requirement(
            "region-caps.chain",
            "must",
            "server",
            "VFIO_USER_DEVICE_GET_REGION_INFO / Reply / VFIO cap header format",
            "cap_offset and next count from the first byte of the reply payload, and every capability lies within "
            "argsz.",
        ),
        Requirement(
            "region-caps.end",
            "must",
            "server",
            "VFIO_USER_DEVICE_GET_REGION_INFO / Reply / VFIO cap header format",
            "next of the last capability is zero, and no capability is reached twice.",
            "capability-list-end",
        ),
        Requirement(
            "region-caps.sparse-areas",
            "must",
            "server",
            "VFIO_USER_DEVICE_GET_REGION_INFO / Reply / VFIO region info cap sparse mmap",
            "Exactly nr_areas pairs follow the first 8 bytes of the record.",
        ),
        Requirement(
            "region-caps.sparse-version",
            "should",
            "server",
            "VFIO_USER_DEVICE_GET_REGION_INFO / Reply / VFIO sparse mmap cap header",
            "The sparse mmap capability has the version 1.",
        ),
        Requirement(
            "region-caps.sparse-within-region",
            "should",
            "server",
            "VFIO_USER_DEVICE_GET_REGION_INFO / Reply / VFIO region info cap sparse mmap",
            "An area lies within the region, and its pages can be mapped with the descriptor of the reply.",
        ),
        Requirement(
            "region-io-fds.configure",
            "should",
            "client",
            "VFIO_USER_DEVICE_GET_REGION_IO_FDS",
            "A client sets up each sub-region that it wants to use with the mechanism named in its record, and leaves "
            "records of a mechanism that it does not know to messages. One reply may mix mechanisms, and several "
            "records may name one descriptor.",
        ),
        Requirement(
            "region-io-fds.same-effect",
            "should",
            "server",
            "VFIO_USER_DEVICE_GET_REGION_IO_FDS",
            "An access that arrives through a descriptor does what the same access does by message, as far as the "
            "descriptor tells what it was: a kick tells that there was a store, shadow memory the value of the last "
            "one, a record of an ioregionfd everything. It does so through each descriptor of each reply, until the "
            "client disconnects.",
        ),
        Requirement(
            "region-io-fds.kick-taken",
            "should",
            "server",
            "VFIO_USER_DEVICE_GET_REGION_IO_FDS",
            "A server takes each kick from its eventfd, whatever the counter has come to: it reads as zero again.",
        ),
        Requirement(
            "region-io-fds.former-client",
            "info",
            "server",
            "",
            "Whether descriptors that were given to a client still work for it after it has disconnected is open.",
        ),
        Requirement(
            "region-io-fds.request-zero",
            "must",
            "client",
            "VFIO_USER_DEVICE_GET_REGION_IO_FDS / Request",
            "index names a region; flags and count are zero.",
        ),
        Requirement(
            "region-io-fds.reply-flags",
            "must",
            "server",
            "VFIO_USER_DEVICE_GET_REGION_IO_FDS / Reply",
            "flags of the reply is zero.",
        ),
        Requirement(
            "region-io-fds.argsz",
            "must",
            "server",
            "VFIO_USER_DEVICE_GET_REGION_IO_FDS / Reply",
            "argsz of the reply is 16 plus count times the size of one record.",
            "io-fds-stride",
        ),
        Requirement(
            "region-io-fds.stride",
            "should",
            "client",
            "VFIO_USER_DEVICE_GET_REGION_IO_FDS / Reply",
            "A client computes the size of a record as (argsz - 16) / count, does not take it for granted, and "
            "chooses the layout by size and type.",
            "io-fds-stride",
        ),
        Requirement(
            "region-io-fds.argsz-too-small",
            "must",
            "server",
            "Message sizes",
            "When the records do not fit into the client's argsz, the reply succeeds with the first 16 bytes, and its "
            "argsz tells the size with which a second attempt gets everything.",
            "argsz-too-small",
        ),
        Requirement(
            "region-io-fds.descriptors",
            "should",
            "server",
            "VFIO_USER_DEVICE_GET_REGION_IO_FDS / Reply",
            "A reply that includes records brings the descriptors they refer to. A reply without records brings none, "
            "either because count is zero or because they did not fit.",
            "io-fds-at-least-one",
        ),
        Requirement(
            "region-io-fds.client-checks",
            "should",
            "client",
            "VFIO_USER_DEVICE_GET_REGION_IO_FDS / Reply",
            "A client checks each record before using it: that the span lies within the region and that the index "
            "names a descriptor.",
        ),
        Requirement(
            "region-io-fds.inside",
            "should",
            "server",
            "VFIO_USER_DEVICE_GET_REGION_IO_FDS / Reply / Sub-Region IO FD info format (ioeventfd)",
            "offset and size, in all kinds of records, lie within the region.",
        ),
        Requirement(
            "region-io-fds.type",
            "must",
            "server",
            "VFIO_USER_DEVICE_GET_REGION_IO_FDS / Reply",
            "type of a record is a value of the next table.",
            "io-fd-type-values",
        ),
        Requirement(
            "region-io-fds.fd-index",
            "must",
            "server",
            "VFIO_USER_DEVICE_GET_REGION_IO_FDS / Reply / Sub-Region IO FD info format (ioeventfd)",
            "fd_index, in all kinds of records, is below the number of descriptors that came with the reply.",
        ),
        Requirement(
            "region-io-fds.fd-kind",
            "should",
            "server",
            "VFIO_USER_DEVICE_GET_REGION_IO_FDS / Reply / Sub-Region IO FD info format (ioeventfd)",
            "The descriptor is what its record's mechanism needs: an eventfd; a socket; and for shadow memory a file "
            "that reaches as far as shadow_offset and size say.",
        ),
        Requirement(
            "region-io-fds.pio",
            "should",
            "server",
            "VFIO_USER_DEVICE_GET_REGION_IO_FDS / Reply / Sub-Region IO FD info format (ioeventfd)",
            "A record says that it is in the I/O port space, by KVM_IOEVENTFD_FLAG_PIO or KVM_IOREGION_PIO, where its "
            "region is there, and only there.",
        ),
        Requirement(
            "region-io-fds.datamatch",
            "should",
            "server",
            "VFIO_USER_DEVICE_GET_REGION_IO_FDS / Reply / Sub-Region IO FD info format (ioeventfd)",
            "Where only stores of one value count, the record has KVM_IOEVENTFD_FLAG_DATAMATCH and the value, and no "
            "store of another value counts by message either.",
        ),
        Requirement(
            "region-io-fds.flags",
            "should",
            "server",
            "VFIO_USER_DEVICE_GET_REGION_IO_FDS / Reply / Sub-Region IO FD info format (ioeventfd)",
            "flags, in all kinds of records, has no bit beside those of its table.",
        ),
        Requirement(
            "region-io-fds.size-zero",
            "should",
            "client",
            "VFIO_USER_DEVICE_GET_REGION_IO_FDS / Reply / Sub-Region IO FD info format (ioeventfd)",
            "A client takes a size of zero, in all kinds of records, for accesses of every width at offset.",
        ),
        Requirement(
            "region-io-fds.posted-writes",
            "must",
            "server",
            "VFIO_USER_DEVICE_GET_REGION_IO_FDS / Reply / Sub-Region IO FD info format (ioregionfd)",
            "A record of this kind with a size of zero has KVM_IOREGION_POSTED_WRITES set.",
        ),
        Requirement(
            "region-io-fds.user-data",
            "should",
            "client",
            "VFIO_USER_DEVICE_GET_REGION_IO_FDS / Reply / Sub-Region IO FD info format (ioregionfd)",
            "A client hands user_data on unchanged, so that the server finds it in the access records.",
        ),
        Requirement(
            "region-io-fds.shared-ioregionfd",
            "should",
            "server",
            "VFIO_USER_DEVICE_GET_REGION_IO_FDS / Reply / Sub-Region IO FD info format (ioregionfd)",
            "Where records share one descriptor, the server tells by user_data which of them a command is for.",
        ),
        Requirement(
            "region-io-fds.responses",
            "should",
            "server",
            "VFIO_USER_DEVICE_GET_REGION_IO_FDS / Reply / Sub-Region IO FD info format (ioregionfd)",
            "On an ioregionfd the server follows KVM's proposed protocol: a command that asks for a response gets one "
            "of 32 bytes, in turn and on the descriptor on which the command came, and every other command gets none.",
        ),
        Requirement(
            "get-irq-info.request-zero",
            "must",
            "client",
            "VFIO_USER_DEVICE_GET_IRQ_INFO / Request",
            "Every field but argsz and index is zero.",
            "request-flag-bits",
        ),
        Requirement(
            "get-irq-info.reply-layout",
            "must",
            "server",
            "VFIO_USER_DEVICE_GET_IRQ_INFO / Reply",
            "The reply payload has the 16 bytes of this table.",
        ),
        Requirement(
            "get-irq-info.flags",
            "should",
            "server",
            "VFIO_USER_DEVICE_GET_IRQ_INFO / Reply",
            "In VFIO_USER_DEVICE_SET_IRQS a type with the eventfd flag accepts eventfds, and one with the maskable "
            "flag accepts the mask and unmask actions.",
        ),
        Requirement(
            "get-irq-info.automasked",
            "must",
            "client",
            "VFIO_USER_DEVICE_GET_IRQ_INFO / Reply",
            "For a type with the automasked flag the client sends an unmask action after each interrupt that it "
            "handled; no further one comes before.",
        ),
        Requirement(
            "get-irq-info.masks-itself",
            "should",
            "server",
            "VFIO_USER_DEVICE_GET_IRQ_INFO / Reply",
            "An interrupt of a type with the automasked flag that was signalled is not signalled again before the "
            "client has unmasked it, and then is.",
        ),
        Requirement(
            "get-irq-info.noresize",
            "should",
            "client",
            "VFIO_USER_DEVICE_GET_IRQ_INFO / Reply",
            "For a type with the noresize flag the client disables the whole type before it enables further "
            "interrupts.",
        ),
        Requirement(
            "get-irq-info.set-anew",
            "should",
            "server",
            "VFIO_USER_DEVICE_GET_IRQ_INFO / Reply",
            "Once a type with the noresize flag is disabled, another set of its interrupts is enabled, more of them "
            "than before too.",
        ),
        Requirement(
            "get-irq-info.set-enlarged",
            "info",
            "server",
            "VFIO_USER_DEVICE_GET_IRQ_INFO / Reply",
            "Whether a type with the noresize flag takes eventfds for further interrupts while a set is enabled is "
            "reported.",
        ),
        Requirement(
            "set-irqs.client-knows",
            "must",
            "client",
            "VFIO_USER_DEVICE_SET_IRQS / Request",
            "A client uses only combinations of data and action that the description of the interrupt type allows.",
            "set-irqs-names",
        ),
        Requirement(
            "set-irqs.argsz",
            "should",
            "client",
            "VFIO_USER_DEVICE_SET_IRQS / Request",
            "argsz is the payload size of the request: 20, with data 20 + count.",
        ),
        Requirement(
            "set-irqs.one-each",
            "should",
            "client",
            "VFIO_USER_DEVICE_SET_IRQS / Request",
            "Exactly one data bit and one action bit are set.",
        ),
        Requirement(
            "set-irqs.refused",
            "info",
            "server",
            "VFIO_USER_DEVICE_SET_IRQS / Request",
            "An error reply refuses a combination that the interrupt type does not support, none or several bits of "
            "one group, an index or a range beyond what the device has, and data of a wrong length. Which of them a "
            "server lets pass is reported.",
        ),
        Requirement(
            "set-irqs.data-bool",
            "should",
            "server",
            "VFIO_USER_DEVICE_SET_IRQS / Request",
            "With VFIO_IRQ_SET_DATA_BOOL byte i decides for interrupt start + i; those whose byte is zero are not "
            "touched.",
        ),
        Requirement(
            "set-irqs.eventfd",
            "should",
            "server",
            "VFIO_USER_DEVICE_SET_IRQS / Request",
            "The server adds 1 to eventfd i of the message when the action occurs for interrupt start + i.",
        ),
        Requirement(
            "set-irqs.eventfd-count",
            "info",
            "server",
            "",
            "The number of eventfds is count. Another number, apart from none, is refused, or the first ones are used.",
            "set-irqs-eventfd-count",
        ),
        Requirement(
            "set-irqs.eventfd-none",
            "should",
            "server",
            "VFIO_USER_DEVICE_SET_IRQS / Request",
            "With VFIO_IRQ_SET_DATA_EVENTFD and no descriptor the interrupts of the range lose their eventfds. An "
            "eventfd that is lost or replaced is closed.",
        ),
        Requirement(
            "set-irqs.disable-all",
            "should",
            "both",
            "VFIO_USER_DEVICE_SET_IRQS / Request",
            "start and count of zero with VFIO_IRQ_SET_DATA_NONE disable all interrupts of the type. A client sets "
            "VFIO_IRQ_SET_ACTION_TRIGGER with it.",
            "set-irqs-disable-action",
        ),
        Requirement(
            "set-irqs.by-client",
            "should",
            "server",
            "VFIO_USER_DEVICE_SET_IRQS / Request",
            "With no data or with booleans, VFIO_IRQ_SET_ACTION_TRIGGER makes the server signal the eventfds of these "
            "interrupts, and the mask and unmask actions withhold and allow their signals where the type is maskable.",
        ),
        Requirement(
            "set-irqs.reply-empty",
            "must",
            "server",
            "VFIO_USER_DEVICE_SET_IRQS / Reply",
            "The reply is a header alone.",
        ),
        Requirement(
            "read-write.even-if-mapped",
            "must",
            "both",
            "VFIO_USER_DEVICE_SET_IRQS / Reply",
            "The commands work also on a region or on memory for which the other side holds a descriptor.",
            "region-access-when-mapped",
        ),
        Requirement(
            "read-write.limit",
            "must",
            "both",
            "VFIO_USER_DEVICE_SET_IRQS / Reply",
            "count of a command is not above the max_data_xfer_size that the receiver stated, or its default.",
        ),
        Requirement(
            "read-write.bad-range",
            "info",
            "both",
            "",
            "An access to a region or a range that does not exist, that goes beyond its end, or that its flags do not "
            "allow is refused with an error reply.",
        ),
        Requirement(
            "read-write.echo",
            "should",
            "both",
            "VFIO_USER_REGION_READ / Reply",
            "A reply repeats offset and region, or address, of its command and, when all data were moved, count. "
            "Whether a reply can have a lower count is reported.",
        ),
        Requirement(
            "read-write.reply-data",
            "must",
            "both",
            "VFIO_USER_REGION_READ / Reply",
            "The payload of the reply to a read has 16 + count bytes, with the count of the reply.",
        ),
        Requirement(
            "read-write.zero-count",
            "info",
            "both",
            "",
            "A count of zero is answered with the fixed part of the reply, with a header alone, or with an error; it "
            "is reported which.",
            "zero-count",
        ),
        Requirement(
            "region-write.data",
            "should",
            "both",
            "VFIO_USER_REGION_WRITE / Request",
            "The payload has 16 + count bytes. One that has not is refused with an error reply.",
        ),
        Requirement(
            "region-write.reply",
            "must",
            "server",
            "VFIO_USER_REGION_WRITE / Reply",
            "The payload has the 16 bytes of this table.",
        ),
        Requirement(
            "twin-socket.used",
            "should",
            "both",
            "VFIO_USER_DMA_READ",
            "In twin-socket mode the server sends its commands on the second socket and the client answers there, not "
            "on the first.",
        ),
        Requirement(
            "dma-read.mapped",
            "must",
            "server",
            "VFIO_USER_DMA_READ / Request",
            "The range of this command, and that of VFIO_USER_DMA_WRITE, lies in memory that the client has mapped.",
        ),
        Requirement(
            "dma-write.reply",
            "should",
            "both",
            "VFIO_USER_DMA_WRITE / Reply",
            "A client sends a payload of 16 bytes, with an 8-byte count. A server also accepts 12 bytes, with a "
            "4-byte count.",
            "dma-write-reply-count",
        ),
        Requirement(
            "reset.empty",
            "must",
            "both",
            "VFIO_USER_DEVICE_RESET",
            "Command and reply are a header alone.",
        ),
        Requirement(
            "reset.keeps",
            "info",
            "server",
            "",
            "Whether mappings and eventfds survive a reset is reported, and so is the answer of a device that lacks "
            "VFIO_DEVICE_FLAGS_RESET.",
        ),
        Requirement(
            "write-multi.count",
            "should",
            "both",
            "VFIO_USER_REGION_WRITE_MULTI / Request",
            "The payload has 8 + 24 times wr_cnt bytes, and no record has a count above 8. Another payload is refused "
            "with an error reply.",
        ),
        Requirement(
            "write-multi.reply",
            "must",
            "server",
            "VFIO_USER_REGION_WRITE_MULTI / Reply",
            "The payload is the 8 bytes of wr_cnt.",
        ),
        Requirement(
            "feature.one-operation",
            "should",
            "both",
            "VFIO_USER_DEVICE_FEATURE / Request",
            "Without the probe bit, exactly one of get and set is asked for. Anything else, and a feature or an "
            "operation that the server lacks, gets an error reply.",
        ),
        Requirement(
            "feature.probe",
            "should",
            "server",
            "VFIO_USER_DEVICE_FEATURE / Request",
            "A probe succeeds only if the feature exists and all operations named with it are possible; otherwise it "
            "gets an error reply.",
        ),
        Requirement(
            "feature.probe-no-data",
            "should",
            "client",
            "VFIO_USER_DEVICE_FEATURE / Request",
            "A probe has no data: its payload has 8 bytes. So has a get, but for "
            "VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT.",
        ),
        Requirement(
            "feature.reply-same",
            "must",
            "server",
            "VFIO_USER_DEVICE_FEATURE / Reply",
            "The payload of the reply to a set or a probe is the payload of the request. The one exception is the "
            "page size in the reply to VFIO_DEVICE_FEATURE_DMA_LOGGING_START.",
            "feature-set-reply",
        ),
        Requirement(
            "feature.reply-get",
            "must",
            "server",
            "VFIO_USER_DEVICE_FEATURE / Reply",
            "The reply to a get has flags of the request, then the complete data of the feature from offset 8 on.",
        ),
        Requirement(
            "feature.reply-get-argsz",
            "should",
            "server",
            "VFIO_USER_DEVICE_FEATURE / Reply",
            "argsz of the reply to a get is 8 plus the length of its data.",
            "feature-get-argsz",
        ),
        Requirement(
            "migration.stop-copy",
            "must",
            "server",
            "VFIO_DEVICE_FEATURE_MIGRATION",
            "When the get succeeds, VFIO_MIGRATION_STOP_COPY is set. RUNNING and ERROR need no flag.",
        ),
        Requirement(
            "mig-state.complete",
            "must",
            "server",
            "VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE",
            "A successful reply to a set is sent when the device is in the new state; a get sent after it returns "
            "that state.",
        ),
        Requirement(
            "mig-state.at-rest",
            "should",
            "server",
            "VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE",
            "In STOP, STOP_COPY and RESUMING the device writes no client memory and raises no interrupt, whatever it "
            "was told to do.",
        ),
        Requirement(
            "mig-state.at-work",
            "should",
            "server",
            "VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE",
            "In PRE_COPY the device works as in RUNNING, and in RUNNING it works again after it was at rest.",
        ),
        Requirement(
            "mig-state.unsupported",
            "should",
            "server",
            "VFIO_USER_DEVICE_FEATURE / Device Features / Direct State Transitions",
            "A set to state 5 or 7, and without VFIO_MIGRATION_PRE_COPY a set to PRE_COPY, is refused with an error "
            "reply.",
            "migration-p2p",
        ),
        Requirement(
            "mig-state.arcs",
            "should",
            "server",
            "VFIO_USER_DEVICE_FEATURE / Device Features / Direct State Transitions",
            "A server that supports the two states of an arc carries the arc out.",
        ),
        Requirement(
            "mig-state.bad-data",
            "should",
            "server",
            "VFIO_USER_DEVICE_FEATURE / Device Features / Direct State Transitions",
            "When the data written in RESUMING are not a whole and valid state, the set to STOP gets an error reply. "
            "The device may then be in ERROR.",
        ),
        Requirement(
            "mig-state.stop-copy-to-pre-copy",
            "should",
            "server",
            "VFIO_USER_DEVICE_FEATURE / Device Features / Direct State Transitions",
            "A set from STOP_COPY to PRE_COPY gets an error reply, even though a longer way exists.",
        ),
        Requirement(
            "mig-state.error-not-settable",
            "should",
            "server",
            "VFIO_USER_DEVICE_FEATURE / Device Features / Direct State Transitions",
            "A set to ERROR gets an error reply.",
        ),
        Requirement(
            "mig-state.to-error",
            "should",
            "server",
            "VFIO_USER_DEVICE_FEATURE / Device Features / Direct State Transitions",
            "A failed set ends in ERROR only when the server could neither make the transition nor bring the device "
            "into any valid state.",
        ),
        Requirement(
            "mig-state.reset-recovers",
            "must",
            "both",
            "VFIO_USER_DEVICE_FEATURE / Device Features / Direct State Transitions",
            "A device in ERROR leaves it by no set; the client sends VFIO_USER_DEVICE_RESET, after which the state is "
            "RUNNING.",
        ),
        Requirement(
            "mig-state.complex",
            "should",
            "server",
            "VFIO_USER_DEVICE_FEATURE / Device Features / Complex State Transitions",
            "One set carries out all arcs on the shortest way, and the reply comes at the end of it.",
        ),
        Requirement(
            "mig-state.no-saving-inside",
            "should",
            "server",
            "VFIO_USER_DEVICE_FEATURE / Device Features / Complex State Transitions",
            "A way passes through neither PRE_COPY nor STOP_COPY: these only begin or end it.",
        ),
        Requirement(
            "dma-logging.probe",
            "should",
            "server",
            "VFIO_DEVICE_FEATURE_DMA_LOGGING_START / VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP",
            "A probe of either feature tells whether the device can record its writes.",
        ),
        Requirement(
            "dma-logging.scope",
            "should",
            "server",
            "VFIO_DEVICE_FEATURE_DMA_LOGGING_START / VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP",
            "Writes by the device, and no reads, are recorded: within the given ranges at least and, with a "
            "num_ranges of zero, everywhere.",
        ),
        Requirement(
            "dma-logging.page-size",
            "should",
            "server",
            "VFIO_DEVICE_FEATURE_DMA_LOGGING_START / VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP",
            "The reply to a start is the request, with the page_size that the server uses. A size that the server "
            "cannot use does not make the command fail.",
            "feature-set-reply",
        ),
        Requirement(
            "dma-logging.stop-data",
            "info",
            "both",
            "",
            "A stop needs no data. Whether a server accepts one with the data of a start, and a second start without "
            "a stop, is reported.",
            "dma-logging-stop-data",
        ),
        Requirement(
            "dma-logging.report-needs-start",
            "should",
            "server",
            "VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT",
            "Without a start before it, the get is refused with an error reply.",
        ),
        Requirement(
            "dma-logging.report-page-size",
            "must",
            "client",
            "VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT",
            "page_size is a power of two.",
        ),
        Requirement(
            "dma-logging.report-any-page-size",
            "should",
            "server",
            "VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT",
            "A page_size that differs from the one of the start is accepted. Where it is finer, the bits of a "
            "recorded page are repeated; where it is coarser, a bit is set if any page under it was written.",
        ),
        Requirement(
            "dma-logging.report-reply",
            "must",
            "server",
            "VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT",
            "The data of the reply are the 24 bytes of the request and then the bitmap: one bit per page, filled up "
            "to a multiple of 8 bytes.",
        ),
        Requirement(
            "dma-logging.bitmap-order",
            "should",
            "server",
            "VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT",
            "Bit i, counted from the least significant one of the first number, is page i of the range.",
            "dirty-bitmap-formula",
        ),
        Requirement(
            "dma-logging.bitmap-outside",
            "must",
            "server",
            "VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT",
            "Bits beyond the last page of the range are zero.",
        ),
        Requirement(
            "dma-logging.report-clears",
            "info",
            "server",
            "",
            "Whether a page reported once is reported again without a new write is reported.",
        ),
        Requirement(
            "mig-data-read.state",
            "should",
            "server",
            "VFIO_USER_MIG_DATA_READ",
            "Outside PRE_COPY and STOP_COPY the command is refused with an error reply.",
        ),
        Requirement(
            "mig-data-read.to-the-end",
            "must",
            "client",
            "VFIO_USER_MIG_DATA_READ",
            "The client repeats the command until a reply marks the end of the data.",
        ),
        Requirement(
            "mig-data-read.data",
            "must",
            "server",
            "VFIO_USER_MIG_DATA_READ / Reply",
            "The first size bytes of data are the data.",
        ),
        Requirement(
            "mig-data-read.length",
            "should",
            "server",
            "VFIO_USER_MIG_DATA_READ / Reply",
            "The payload has argsz bytes, which is 8 + size; nothing follows the data.",
            "mig-data-read-length",
        ),
        Requirement(
            "mig-data-read.end",
            "should",
            "server",
            "VFIO_USER_MIG_DATA_READ / Reply",
            "A size lower than the one of the request means that no more data can be read.",
        ),
        Requirement(
            "mig-data-write.state",
            "should",
            "server",
            "VFIO_USER_MIG_DATA_WRITE",
            "Outside RESUMING the command is refused with an error reply.",
        ),
        Requirement(
            "mig-data-write.stream",
            "should",
            "server",
            "VFIO_USER_MIG_DATA_WRITE",
            "The data may be cut into messages in another way than they were read.",
        ),
        Requirement(
            "mig-data-write.argsz",
            "should",
            "both",
            "VFIO_USER_MIG_DATA_WRITE / Request",
            "argsz is sent as 8 + size. A server accepts every value.",
            "mig-data-write-argsz",
        ),
        Requirement(
            "mig-data-write.reply-empty",
            "must",
            "server",
            "VFIO_USER_MIG_DATA_WRITE / Reply",
            "The reply is a header alone.",
        ),
        Requirement(
            "backend.no-daemon",
            "must",
            "server",
            "Backend Program Conventions",
            "The program stays in the foreground: the process that was started is the one that serves.",
        ),
        Requirement(
            "backend.no-assumed-access",
            "must",
            "both",
            "Backend Program Conventions",
            "Nobody presumes that the program can reach a file, a network or a device that was not handed to it.",
        ),
        Requirement(
            "backend.standard-streams",
            "must",
            "both",
            "Backend Program Conventions",
            "Descriptors 0, 1 and 2 are open as standard input, output and error. They may point anywhere.",
        ),
        Requirement(
            "backend.sigterm",
            "must",
            "server",
            "Backend Program Conventions",
            "The program ends on SIGTERM.",
        ),
        Requirement(
            "backend.socket-path",
            "must",
            "server",
            "Backend Program Conventions",
            "--socket-path=PATH makes the program serve on the AF_UNIX socket at that path.",
        ),
        Requirement(
            "backend.fd",
            "must",
            "server",
            "Backend Program Conventions",
            "--fd=FDNUM makes the program serve on the socket that it inherited under that number. The program "
            "refuses to start when it is given both options.",
        ),
        Requirement(
            "backend.description",
            "must",
            "server",
            "Backend Program Conventions",
            "The program is installed together with a JSON file below /usr/share/vfio-user that describes it.",
            "backend-description",
        ),
    )
}
