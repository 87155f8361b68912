from __future__ import annotations

import errno
import inspect
from typing import Any

import pytest

from wasi_http.component.model.values import Err
from wasi_http.wasi.filesystem import Descriptor, DirectoryEntryStream, ErrorCode, Preopens, Types
from wasi_http.wasi.io import IoError


def test_no_directory_is_given() -> None:
    assert Preopens.get_directories() == []


METHODS = [
    function
    for function in Types().functions().values()
    if function.name.startswith("[method]descriptor.") and not function.name.endswith(".is-same-object")
]


@pytest.mark.parametrize("function", METHODS, ids=lambda function: function.name)
def test_a_descriptor_can_do_nothing(function: Any) -> None:
    arguments = [2**64 - 1] * (len(inspect.signature(function.call).parameters) - 1)
    with pytest.raises(Err) as caught:
        function.call(Descriptor(), *arguments)
    assert caught.value.value is ErrorCode.UNSUPPORTED


def test_every_method_was_tried() -> None:
    assert len(METHODS) == 26


def test_the_rest() -> None:
    descriptor = Descriptor()
    assert descriptor.is_same_object(descriptor)
    assert not descriptor.is_same_object(Descriptor())
    assert DirectoryEntryStream().read_directory_entry() is None


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (None, None),
        ("text", None),
        (ValueError(), None),
        (ErrorCode.QUOTA, ErrorCode.QUOTA),
        (OSError(errno.EPIPE, ""), ErrorCode.PIPE),
        (FileNotFoundError(errno.ENOENT, ""), ErrorCode.NO_ENTRY),
        (OSError(errno.ENOSPC, ""), ErrorCode.INSUFFICIENT_SPACE),
        (OSError(errno.EAGAIN, ""), ErrorCode.WOULD_BLOCK),
        (OSError(errno.EIO, ""), ErrorCode.IO),
        (OSError(99_999, ""), ErrorCode.IO),
        (OSError(), ErrorCode.IO),
    ],
)
def test_error_code(cause: object, expected: ErrorCode | None) -> None:
    assert Types.filesystem_error_code(IoError(cause)) is expected
