"""A cursor over the binary of a component: bytes, numbers, names and lists (specification: Binary.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn, TypeVar

from wasi_http.component.model.errors import MADE_FOR_WASI_0_3, InvalidComponent
from wasi_http.engine.binary.reader import Reader, Unreadable
from wasi_http.engine.errors import excerpt

__all__ = ["MAX_ITEMS", "MAX_NAME_LENGTH", "ComponentReader"]

MAX_ITEMS = 200_000
"""Entries of all lists of a binary together: definitions, declarations, fields, cases, labels, arguments, ..."""

MAX_NAME_LENGTH = 10_000
"""Bytes of a name."""

_T = TypeVar("_T")


class ComponentReader:
    """Reads ``data`` from ``position`` up to ``end``, the end of what is being read (a section, a component).

    ``what`` names the item in errors, which are `InvalidComponent` with the offset.
    """

    def __init__(self, data: bytes | memoryview) -> None:
        self.data = memoryview(data)
        self.reader = Reader(data)
        self.items = 0
        self.names: dict[bytes, str] = {}

    @property
    def position(self) -> int:
        return self.reader.at

    @property
    def end(self) -> int:
        return self.reader.end

    def fail(self, message: str, offset: int | None = None) -> NoReturn:
        raise InvalidComponent(excerpt(message), self.position if offset is None else offset)

    def refuse(self, what: str, offset: int, reason: str = MADE_FOR_WASI_0_3) -> NoReturn:
        self.fail(f"{what} is not supported yet{reason and ': '}{reason}", offset)

    @contextmanager
    def part(self, size: int) -> Iterator[None]:
        """Restricts reading to the next ``size`` bytes, which must exist."""
        outer, self.reader = self.reader, self.reader.part(size)
        yield
        self.reader = outer

    def skip(self, size: int) -> None:
        self.reader.skip(size)

    def byte(self, what: str) -> int:
        try:
            return self.reader.byte()
        except Unreadable as error:
            self.fail(error.about(what), error.offset)

    def u32(self, what: str) -> int:
        try:
            return self.reader.u32()
        except Unreadable as error:
            self.fail(error.about(what), error.offset)

    def s33(self, what: str) -> int:
        try:
            return self.reader.s33()
        except Unreadable as error:
            self.fail(error.about(what), error.offset)

    def name(self, what: str) -> str:
        start = self.position
        length = self.u32(what)
        if length > self.end - self.position:
            self.fail(f"the length of {what} is {length}, and only {self.end - self.position} bytes are left", start)
        if length > MAX_NAME_LENGTH:
            self.fail(f"{what} has {length} bytes, more than {MAX_NAME_LENGTH}", start)
        raw = bytes(self.data[self.position : self.position + length])
        text = self.names.get(raw)
        if text is None:
            try:
                text = str(raw, "utf-8")
            except UnicodeDecodeError as error:
                self.fail(f"{what} is not UTF-8", self.position + error.start)
            self.names[raw] = text
        self.skip(length)
        return text

    def count(self, what: str) -> int:
        """Reads the length of a list; every entry takes at least a byte."""
        start = self.position
        count = self.u32(f"the number of {what}")
        if count > self.end - self.position:
            self.fail(f"{count} {what} cannot fit into the {self.end - self.position} bytes that are left", start)
        self.items += count
        if self.items > MAX_ITEMS:
            self.fail(f"more than {MAX_ITEMS} items; these are {count} {what}", start)
        return count

    def many(self, what: str, read: Callable[[], _T]) -> list[_T]:
        return [read() for _ in range(self.count(what))]

    def flag(self, what: str) -> bool:
        start = self.position
        value = self.byte(what)
        if value > 1:
            self.fail(f"{what} must be 0 or 1, not 0x{value:02x}", start)
        return value == 1

    def zero(self, what: str) -> None:
        start = self.position
        value = self.byte(what)
        if value:
            self.fail(f"{what} must be 0, not 0x{value:02x}", start)
