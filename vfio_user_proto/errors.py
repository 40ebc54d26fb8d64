"""Every exception that the toolkit raises, one family."""

from typing import Self


class VfioUserError(Exception):
    """Root of the family; its text is one clear sentence."""


class WireError(VfioUserError, ValueError):
    """Bytes and values that do not fit the tables.

    ``path`` names the field ("VFIO_USER_REGION_WRITE command.RegionWriteRequest.data"), ``offset`` is the byte where it
    stands, counted from the start of what was decoded; None where there are no bytes yet.
    """

    def __init__(self, path: str, problem: str, offset: int | None = None) -> None:
        self.path, self.problem, self.offset = path, problem, offset
        where = path if offset is None else f"{path} at byte {offset}"
        super().__init__(f"{where}: {problem}")

    def inside(self, path: str, offset: int = 0) -> Self:
        """The same error seen from an outer structure whose part ``path`` begins at byte ``offset``."""
        moved = None if self.offset is None else self.offset + offset
        return type(self)(f"{path}.{self.path}" if self.path else path, self.problem, moved)


class DecodeError(WireError):
    """Bytes that are no message, or end too early."""


class EncodeError(WireError):
    """A value that its field cannot hold."""


class ProtocolError(VfioUserError):
    """A rule of the connection was broken."""


class LocalProtocolError(ProtocolError):
    """We tried to do what the protocol does not allow; nothing was sent."""


class RemoteProtocolError(ProtocolError):
    """The peer did what the protocol does not allow; the connection cannot go on."""


class ErrorReply(VfioUserError):
    """The peer answered a command with an error reply; ``errno`` is what it carried, 0 where it carried none."""

    def __init__(self, command: str, errno: int) -> None:
        import errno as names

        self.command, self.errno = command, errno
        super().__init__(f"{command} was refused with {names.errorcode.get(errno, f'errno {errno}')}")


class TransportError(VfioUserError, OSError):
    """The socket cannot be used: no such path, refused, closed, or past its deadline."""


class DescriptorError(TransportError):
    """The kernel does not pass the descriptors of a message. Nothing of it was sent, and the socket can be used as before."""


class KvmError(VfioUserError, OSError):
    """KVM is not there, refused a call, or cannot go on with a guest; ``errno`` is the kernel's, 0 where it gave none."""

    def __init__(self, problem: str, errno: int = 0) -> None:
        super().__init__(problem)
        self.errno = errno


class SpecError(VfioUserError):
    """A document that cannot be read as tables: ``file``, ``line`` (1-based, 0 where there is none) and the reason."""

    def __init__(self, file: str, line: int, problem: str) -> None:
        self.file, self.line, self.problem = file, line, problem
        super().__init__(f"{file}:{line}: {problem}" if line else f"{file}: {problem}")


class UsageError(VfioUserError):
    """Input of the user's that cannot be used; the command line ends with status 2."""


class TargetError(VfioUserError):
    """The program or socket under test could not be started or reached; the command line ends with status 3."""
