"""wasi:filesystem: fully declared, without files.

Guests have no access to the host's file system: ``get-directories`` lists no directory, so no guest ever holds a
descriptor. Guests still import these functions, through the standard libraries of their languages.

All methods of `Descriptor` return ``unsupported``; subclasses override what their file system supports, and an override
of `Preopens.get_directories` gives it to guests.
"""

from __future__ import annotations

import enum
import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeVar

from wasi_http.component import Borrow, Interface, Own, Resource, func, method, raises, u64
from wasi_http.component.model.values import Err, Variant, case
from wasi_http.wasi.clocks import Datetime
from wasi_http.wasi.io.error import IoError
from wasi_http.wasi.io.streams import InputStream, OutputStream

__all__ = [
    "Advice",
    "Descriptor",
    "DescriptorFlags",
    "DescriptorStat",
    "DescriptorType",
    "DirectoryEntry",
    "DirectoryEntryStream",
    "ErrorCode",
    "MetadataHashValue",
    "NewTimestamp",
    "OpenFlags",
    "PathFlags",
    "Preopens",
    "Types",
]

F = TypeVar("F", bound=Callable[..., Any])

ErrorCode = enum.Enum(
    "ErrorCode",
    "ACCESS WOULD_BLOCK ALREADY BAD_DESCRIPTOR BUSY DEADLOCK QUOTA EXIST FILE_TOO_LARGE ILLEGAL_BYTE_SEQUENCE "
    "IN_PROGRESS INTERRUPTED INVALID IO IS_DIRECTORY LOOP TOO_MANY_LINKS MESSAGE_SIZE NAME_TOO_LONG NO_DEVICE NO_ENTRY "
    "NO_LOCK INSUFFICIENT_MEMORY INSUFFICIENT_SPACE NOT_DIRECTORY NOT_EMPTY NOT_RECOVERABLE UNSUPPORTED NO_TTY "
    "NO_SUCH_DEVICE OVERFLOW NOT_PERMITTED PIPE READ_ONLY INVALID_SEEK TEXT_FILE_BUSY CROSS_DEVICE",
    module=__name__,
)

DescriptorType = enum.Enum(
    "DescriptorType",
    "UNKNOWN BLOCK_DEVICE CHARACTER_DEVICE DIRECTORY FIFO SYMBOLIC_LINK REGULAR_FILE SOCKET",
    module=__name__,
)

DescriptorFlags = enum.Flag(
    "DescriptorFlags",
    "READ WRITE FILE_INTEGRITY_SYNC DATA_INTEGRITY_SYNC REQUESTED_WRITE_SYNC MUTATE_DIRECTORY",
    module=__name__,
)

PathFlags = enum.Flag("PathFlags", "SYMLINK_FOLLOW", module=__name__)

OpenFlags = enum.Flag("OpenFlags", "CREATE DIRECTORY EXCLUSIVE TRUNCATE", module=__name__)

Advice = enum.Enum("Advice", "NORMAL SEQUENTIAL RANDOM WILL_NEED DONT_NEED NO_REUSE", module=__name__)


class NewTimestamp(Variant):
    """The variant ``new-timestamp``."""

    NO_CHANGE: ClassVar[NewTimestamp] = case("no-change")
    NOW: ClassVar[NewTimestamp] = case("now")
    Timestamp = case("timestamp", Datetime)


@dataclass(slots=True)
class DescriptorStat:
    """The record ``descriptor-stat``; ``size`` counts bytes."""

    type: DescriptorType
    link_count: u64
    size: u64
    data_access_timestamp: Datetime | None
    data_modification_timestamp: Datetime | None
    status_change_timestamp: Datetime | None


@dataclass(slots=True)
class DirectoryEntry:
    """The record ``directory-entry``."""

    type: DescriptorType
    name: str


@dataclass(slots=True)
class MetadataHashValue:
    """The record ``metadata-hash-value``."""

    lower: u64
    upper: u64


def _fallible(function: F) -> F:
    return method(raises(ErrorCode)(function))


def _unsupported() -> Err[ErrorCode]:
    return Err(ErrorCode.UNSUPPORTED)


class Descriptor(Resource, name="descriptor"):
    """The resource ``descriptor``: an open file or directory. This one supports nothing."""

    __slots__ = ()

    @_fallible
    def read_via_stream(self, offset: u64) -> Own[InputStream]:
        raise _unsupported()

    @_fallible
    def write_via_stream(self, offset: u64) -> Own[OutputStream]:
        raise _unsupported()

    @_fallible
    def append_via_stream(self) -> Own[OutputStream]:
        raise _unsupported()

    @_fallible
    def advise(self, offset: u64, length: u64, advice: Advice) -> None:
        raise _unsupported()

    @_fallible
    def sync_data(self) -> None:
        raise _unsupported()

    @_fallible
    def get_flags(self) -> DescriptorFlags:
        raise _unsupported()

    @_fallible
    def get_type(self) -> DescriptorType:
        raise _unsupported()

    @_fallible
    def set_size(self, size: u64) -> None:
        raise _unsupported()

    @_fallible
    def set_times(self, data_access_timestamp: NewTimestamp, data_modification_timestamp: NewTimestamp) -> None:
        raise _unsupported()

    @_fallible
    def read(self, length: u64, offset: u64) -> tuple[bytes, bool]:
        raise _unsupported()

    @_fallible
    def write(self, buffer: bytes, offset: u64) -> u64:
        raise _unsupported()

    @_fallible
    def read_directory(self) -> Own[DirectoryEntryStream]:
        raise _unsupported()

    @_fallible
    def sync(self) -> None:
        raise _unsupported()

    @_fallible
    def create_directory_at(self, path: str) -> None:
        raise _unsupported()

    @_fallible
    def stat(self) -> DescriptorStat:
        raise _unsupported()

    @_fallible
    def stat_at(self, path_flags: PathFlags, path: str) -> DescriptorStat:
        raise _unsupported()

    @_fallible
    def set_times_at(
        self,
        path_flags: PathFlags,
        path: str,
        data_access_timestamp: NewTimestamp,
        data_modification_timestamp: NewTimestamp,
    ) -> None:
        raise _unsupported()

    @_fallible
    def link_at(
        self, old_path_flags: PathFlags, old_path: str, new_descriptor: Borrow[Descriptor], new_path: str
    ) -> None:
        raise _unsupported()

    @_fallible
    def open_at(
        self, path_flags: PathFlags, path: str, open_flags: OpenFlags, flags: DescriptorFlags
    ) -> Own[Descriptor]:
        raise _unsupported()

    @_fallible
    def readlink_at(self, path: str) -> str:
        raise _unsupported()

    @_fallible
    def remove_directory_at(self, path: str) -> None:
        raise _unsupported()

    @_fallible
    def rename_at(self, old_path: str, new_descriptor: Borrow[Descriptor], new_path: str) -> None:
        raise _unsupported()

    @_fallible
    def symlink_at(self, old_path: str, new_path: str) -> None:
        raise _unsupported()

    @_fallible
    def unlink_file_at(self, path: str) -> None:
        raise _unsupported()

    @method
    def is_same_object(self, other: Borrow[Descriptor]) -> bool:
        return self is other

    @_fallible
    def metadata_hash(self) -> MetadataHashValue:
        raise _unsupported()

    @_fallible
    def metadata_hash_at(self, path_flags: PathFlags, path: str) -> MetadataHashValue:
        raise _unsupported()


class DirectoryEntryStream(Resource, name="directory-entry-stream"):
    """The resource ``directory-entry-stream``. This one has no entries."""

    __slots__ = ()

    @_fallible
    def read_directory_entry(self) -> DirectoryEntry | None:
        return None


#: By name, because platforms differ in the numbers they define.
_CODES: Final = {
    "EACCES": ErrorCode.ACCESS,
    "EAGAIN": ErrorCode.WOULD_BLOCK,
    "EALREADY": ErrorCode.ALREADY,
    "EBADF": ErrorCode.BAD_DESCRIPTOR,
    "EBUSY": ErrorCode.BUSY,
    "EDEADLK": ErrorCode.DEADLOCK,
    "EDQUOT": ErrorCode.QUOTA,
    "EEXIST": ErrorCode.EXIST,
    "EFBIG": ErrorCode.FILE_TOO_LARGE,
    "EILSEQ": ErrorCode.ILLEGAL_BYTE_SEQUENCE,
    "EINPROGRESS": ErrorCode.IN_PROGRESS,
    "EINTR": ErrorCode.INTERRUPTED,
    "EINVAL": ErrorCode.INVALID,
    "EISDIR": ErrorCode.IS_DIRECTORY,
    "ELOOP": ErrorCode.LOOP,
    "EMLINK": ErrorCode.TOO_MANY_LINKS,
    "EMSGSIZE": ErrorCode.MESSAGE_SIZE,
    "ENAMETOOLONG": ErrorCode.NAME_TOO_LONG,
    "ENODEV": ErrorCode.NO_DEVICE,
    "ENOENT": ErrorCode.NO_ENTRY,
    "ENOLCK": ErrorCode.NO_LOCK,
    "ENOMEM": ErrorCode.INSUFFICIENT_MEMORY,
    "ENOSPC": ErrorCode.INSUFFICIENT_SPACE,
    "ENOSYS": ErrorCode.UNSUPPORTED,
    "ENOTDIR": ErrorCode.NOT_DIRECTORY,
    "ENOTEMPTY": ErrorCode.NOT_EMPTY,
    "ENOTRECOVERABLE": ErrorCode.NOT_RECOVERABLE,
    "ENOTSUP": ErrorCode.UNSUPPORTED,
    "ENOTTY": ErrorCode.NO_TTY,
    "ENXIO": ErrorCode.NO_SUCH_DEVICE,
    "EOPNOTSUPP": ErrorCode.UNSUPPORTED,
    "EOVERFLOW": ErrorCode.OVERFLOW,
    "EPERM": ErrorCode.NOT_PERMITTED,
    "EPIPE": ErrorCode.PIPE,
    "EROFS": ErrorCode.READ_ONLY,
    "ESPIPE": ErrorCode.INVALID_SEEK,
    "ETXTBSY": ErrorCode.TEXT_FILE_BUSY,
    "EXDEV": ErrorCode.CROSS_DEVICE,
}


class Types(Interface, name="wasi:filesystem/types@0.2.12"):
    resources = (Descriptor, DirectoryEntryStream)

    @func
    def filesystem_error_code(err: Borrow[IoError]) -> ErrorCode | None:
        """Returns the code of an error caused by a code of this interface or an ``OSError``, None for others."""
        if isinstance(err.cause, ErrorCode):
            return err.cause
        if isinstance(err.cause, OSError):
            return _CODES.get(errno.errorcode.get(err.cause.errno or 0, ""), ErrorCode.IO)
        return None


class Preopens(Interface, name="wasi:filesystem/preopens@0.2.12"):
    @func
    def get_directories() -> list[tuple[Own[Descriptor], str]]:
        return []
