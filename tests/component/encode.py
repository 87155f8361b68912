"""Binaries of components and core modules, put together by hand: large ones are made faster than from text."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["component", "item", "module", "name", "nested", "part", "s33", "section", "u32", "vector"]


def u32(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def s33(number: int) -> bytes:
    """The index of a type where a value type stands."""
    encoded = u32(number)
    return encoded if encoded[-1] < 0x40 else encoded[:-1] + bytes([encoded[-1] | 0x80, 0])


def name(text: str) -> bytes:
    return u32(len(text.encode())) + text.encode()


def item(text: str, what: bytes) -> bytes:
    """An import or export of a component, or its declaration."""
    return b"\0" + name(text) + what


def vector(items: Iterable[bytes]) -> bytes:
    items = list(items)
    return u32(len(items)) + b"".join(items)


def part(number: int, content: bytes) -> bytes:
    """A section with any content."""
    return bytes([number]) + u32(len(content)) + content


def section(number: int, items: Iterable[bytes]) -> bytes:
    return part(number, vector(items))


def component(*sections: bytes) -> bytes:
    return b"\0asm\x0d\0\1\0" + b"".join(sections)


def nested(*sections: bytes) -> bytes:
    """The section of a component in a component."""
    return part(4, component(*sections))


def module(*sections: bytes) -> bytes:
    """The section of a core module in a component."""
    return part(1, b"\0asm\1\0\0\0" + b"".join(sections))
