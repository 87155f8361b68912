"""wasi:io/error: errors of streams, for debugging and for other interfaces to downcast."""

from __future__ import annotations

from typing import Final

from wasi_http.component import Interface, Resource, method

__all__ = ["MAX_DEBUG_STRING", "Error", "IoError"]

#: The longest answer of ``to-debug-string``, in characters.
MAX_DEBUG_STRING: Final = 1024


class IoError(Resource, name="error"):
    """The resource ``error``. ``cause`` is an exception, an error code or a text.

    Interfaces that know the kind of cause downcast it (``wasi:http/types.http-error-code``,
    ``wasi:filesystem/types.filesystem-error-code``). Guests see the class and message of an exception, never the file
    name of an ``OSError``.
    """

    __slots__ = ("cause",)

    def __init__(self, cause: object = None) -> None:
        self.cause = cause

    @method
    def to_debug_string(self) -> str:
        cause = self.cause
        if isinstance(cause, OSError):
            text = f"{type(cause).__name__}: {cause.strerror or str(cause) or 'input/output error'}"
        elif isinstance(cause, BaseException):
            text = f"{type(cause).__name__}: {cause}"
        else:
            text = "input/output error" if cause is None else str(cause)
        # Lone surrogates cannot be passed to a guest.
        return text[:MAX_DEBUG_STRING].encode("utf-8", "replace").decode("utf-8")


class Error(Interface, name="wasi:io/error@0.2.12"):
    resources = (IoError,)
