"""``fields``: headers and trailers, and every rule about them.

Names are kept in lower case, values as bytes; order and repetition are preserved. The rules:

- a name is a token, a value has no control characters but tab (bytes 0x80-0xFF are allowed);
- a *forbidden* name (one that the host owns) can neither be set by a guest nor seen in what arrives;
- ``content-length`` is digits, at most 2^64 - 1, and never two different ones: equal ones collapse;
- an *immutable* collection (of a request or response that exists) refuses changes, its `clone` allows them again;
- size: a collection that grows beyond the limit traps, as 0.2 has no error for it. So does one call that gives
  more than the limit, even if the entries would collapse. What arrived may be larger: it is bounded by the limits of
  the wire. All that a guest makes is charged to its resource table, which has a limit, too.

A call takes time linear in what it is given and in what the collection holds, and that limit bounds both.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Final

from wasi_http.component import Err, Own, Resource, State, Variant, case, constructor, method, raises, static
from wasi_http.engine import Trap
from wasi_http.http.context import HttpState
from wasi_http.http1.abnf import is_token, is_value, parse_length

__all__ = ["ENTRY_OVERHEAD", "Field", "Fields", "HeaderError", "content_length"]

Field = tuple[bytes, bytes]

#: What an entry counts beyond its name and value, so that many small ones are not free.
ENTRY_OVERHEAD: Final = 32


class HeaderError(Variant):
    """``wasi:http/types.header-error``."""

    InvalidSyntax: ClassVar[HeaderError] = case("invalid-syntax")
    Forbidden: ClassVar[HeaderError] = case("forbidden")
    Immutable: ClassVar[HeaderError] = case("immutable")


_INVALID: Final = HeaderError.InvalidSyntax
_CONTENT_LENGTH: Final = b"content-length"


def content_length(entries: Iterable[Field]) -> int | None:
    """The length that a message declares, None if none; Err(invalid-syntax) for a malformed or conflicting one."""
    declared: int | None = None
    for name, value in entries:
        if name == _CONTENT_LENGTH:
            length = _length_of(value)
            if declared is not None and length != declared:
                raise Err(_INVALID)
            declared = length
    return declared


def _length_of(value: bytes) -> int:
    length = parse_length(value)
    if length is None:
        raise Err(_INVALID)
    return length


def _count(entries: Iterable[tuple[bytes | str, bytes]]) -> int:
    return sum(len(name) + len(value) + ENTRY_OVERHEAD for name, value in entries)


class Fields(Resource, name="fields"):
    """A collection of fields; ``entries_`` is what goes on the wire."""

    __slots__ = ("_mutable", "_original", "_size", "entries_", "view")

    def __init__(self, view: HttpState, entries: list[Field], mutable: bool = True, size: int = -1) -> None:
        """``size`` is what the entries count; -1 has them counted."""
        self.view = view
        self.entries_ = entries
        self._mutable = mutable
        self._original: Fields | None = None
        self._size = _count(entries) if size < 0 else size

    @classmethod
    def received(cls, view: HttpState, entries: Iterable[Field]) -> Fields:
        """What arrived, as guests may see it: immutable, without what is forbidden."""
        forbidden = view.is_forbidden_header
        seen = [(name, value) for n, value in entries if not forbidden((name := n.lower()).decode("latin-1"))]
        return cls(view, seen, False, 0)

    def freeze(self) -> Fields:
        """An immutable view of the same entries."""
        frozen = Fields(self.view, self.entries_, False, self._size)
        # Who is charged for them is so for as long as there is a view.
        frozen._original = self._original or self
        return frozen

    def charge_received(self) -> None:
        """Charges the guest for what arrived: it may keep that for as long as it likes, and let more arrive."""
        self.charge(self.view.table, _count(self.entries_))

    def _writable(self, name: str) -> bytes:
        self._admit(len(name))
        key = name.encode("utf-8").lower()
        if not is_token(key):
            raise Err(_INVALID)
        if self.view.is_forbidden_header(key.decode()):
            raise Err(HeaderError.Forbidden)
        if not self._mutable:
            raise Err(HeaderError.Immutable)
        return key

    def _checked(self, key: bytes, values: list[bytes], declared: int | None = None) -> list[Field]:
        """The entries to add; ``declared`` is the content-length that is there already."""
        for value in values:
            if not is_value(value):
                raise Err(_INVALID)
        if key == _CONTENT_LENGTH and values:
            lengths = {_length_of(value) for value in values}
            if declared is not None:
                lengths.add(declared)
            if len(lengths) > 1:
                raise Err(_INVALID)
            return [] if declared is not None else [(key, b"%d" % lengths.pop())]
        return [(key, value) for value in values]

    def _admit(self, size: int) -> None:
        """Traps when that exceeds the limit: for what a guest gives before any work is done on it."""
        limit = self.view.http.field_size_limit
        if size > limit:
            raise Trap(f"fields of {size} bytes exceed the limit of {limit}")

    def _grow(self, size: int, added: list[Field]) -> None:
        """Takes what `_checked` gave; ``size`` is what the entries count without it."""
        size += _count(added)
        self._admit(size)
        self._resize(size)
        self.entries_ += added

    def _resize(self, size: int) -> None:
        """Charges the guest for what the entries count: it may have as many collections as it has handles."""
        self.charge(self.view.table, size - self._size)
        self._size = size

    def _remove(self, key: bytes) -> None:
        kept = [entry for entry in self.entries_ if entry[0] != key]
        if len(kept) < len(self.entries_):
            self.entries_ = kept
            self._resize(_count(kept))

    @constructor
    def new(state: State[HttpState]) -> Own[Fields]:
        return Fields(state, [], True, 0)

    @static
    @raises(HeaderError)
    def from_list(state: State[HttpState], entries: list[tuple[str, bytes]]) -> Own[Fields]:
        fields = Fields(state, [], True, 0)
        fields._admit(len(entries) * ENTRY_OVERHEAD)
        fields._admit(_count(entries))
        declared: int | None = None
        added: list[Field] = []
        for name, value in entries:
            key = fields._writable(name)
            checked = fields._checked(key, [value], declared)
            if key == _CONTENT_LENGTH and checked:
                declared = int(checked[0][1])
            added += checked
        fields._grow(0, added)
        return fields

    @method
    def get(self, name: str) -> list[bytes]:
        key = name.encode().lower()  # of bytes, so that no other letter becomes one of ASCII's
        return [v for n, v in self.entries_ if n == key]

    @method
    def has(self, name: str) -> bool:
        key = name.encode().lower()
        return any(n == key for n, _ in self.entries_)

    @method
    @raises(HeaderError)
    def set(self, name: str, value: list[bytes]) -> None:
        key = self._writable(name)
        self._admit(len(value) * (len(key) + ENTRY_OVERHEAD))
        self._admit(_count([(key, one) for one in value]))
        added = self._checked(key, value)
        self._remove(key)
        self._grow(self._size, added)

    @method
    @raises(HeaderError)
    def delete(self, name: str) -> None:
        self._remove(self._writable(name))

    @method
    @raises(HeaderError)
    def append(self, name: str, value: bytes) -> None:
        key = self._writable(name)
        self._admit(len(key) + len(value) + ENTRY_OVERHEAD)
        declared = content_length(self.entries_) if key == _CONTENT_LENGTH else None
        self._grow(self._size, self._checked(key, [value], declared))

    @method
    def entries(self) -> list[tuple[str, bytes]]:
        return [(n.decode("latin-1"), v) for n, v in self.entries_]

    @method
    def clone(self) -> Own[Fields]:
        copy = Fields(self.view, [], True, 0)
        copy._resize(_count(self.entries_))
        copy.entries_ += self.entries_
        return copy
