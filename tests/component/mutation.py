"""Damage to components, repeatable: what `mutant` makes depends on the random generator alone.

Bytes are changed anywhere, or inside a section whose length is then set right, nested components included: otherwise
most damage ends at the first length that no longer fits, and what is behind it is never read.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

__all__ = ["mutant"]

_HEADER = 8
_COMPONENT, _MODULE = 4, 1
_CORE = b"\1\0\0\0"
_DULL = (0, 10, 11)  # of the sections of a core module: custom ones, code and data

#: Bytes that mean something almost everywhere: ends of ranges, tags, long numbers.
_TELLING = (
    b"\0",
    b"\1",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\x7b",
    b"\x70",
    b"\x40",
    b"\x41",
    b"\x42",
    b"\xff\xff\xff\xff\x0f",
    b"\x80\x80\0",
)


def _leb(number: int) -> bytes:
    encoded = b""
    while number > 0x7F:
        encoded += bytes([number & 0x7F | 0x80])
        number >>= 7
    return encoded + bytes([number])


def _sections(data: bytes) -> list[tuple[int, bytes]] | None:
    """The sections of a component or module by their numbers; None when they cannot be told apart."""
    sections = []
    at = _HEADER
    while at < len(data):
        number = data[at]
        at += 1
        size = shift = 0
        while True:
            if at >= len(data) or shift > 28:
                return None
            size |= (data[at] & 0x7F) << shift
            shift += 7
            at += 1
            if data[at - 1] < 0x80:
                break
        if at + size > len(data):
            return None
        sections.append((number, data[at : at + size]))
        at += size
    return sections


def _join(header: bytes, sections: Sequence[tuple[int, bytes]]) -> bytes:
    return header + b"".join(bytes([number]) + _leb(len(body)) + body for number, body in sections)


# What can happen to a run of bytes


def _flip(source: random.Random, data: bytearray, donor: bytes) -> None:
    data[source.randrange(len(data))] ^= 1 << source.randrange(8)


def _set(source: random.Random, data: bytearray, donor: bytes) -> None:
    place = source.randrange(len(data))
    data[place : place + source.randrange(3)] = source.choice(_TELLING)


def _count(source: random.Random, data: bytearray, donor: bytes) -> None:
    """Indices and counts are mostly small: a little more or less is another one."""
    place = source.randrange(len(data))
    data[place] = (data[place] + source.choice((-2, -1, 1, 2))) & 0xFF


def _cut(source: random.Random, data: bytearray, donor: bytes) -> None:
    del data[source.randrange(len(data)) :]


def _remove(source: random.Random, data: bytearray, donor: bytes) -> None:
    place = source.randrange(len(data))
    del data[place : place + source.choice((1, 1, 2, 4, 16))]


def _repeat(source: random.Random, data: bytearray, donor: bytes) -> None:
    place = source.randrange(len(data))
    length = source.choice((1, 2, 4, 16))
    data[place:place] = data[place : place + length]


def _splice(source: random.Random, data: bytearray, donor: bytes) -> None:
    if not donor:
        return
    start, place = source.randrange(len(donor)), source.randrange(len(data))
    length = source.choice((1, 2, 4, 16, 64))
    data[place : place + source.choice((0, length))] = donor[start : start + length]


_BYTES: tuple[Callable[[random.Random, bytearray, bytes], None], ...] = (
    _flip,
    _set,
    _count,
    _count,
    _cut,
    _remove,
    _repeat,
    _splice,
)


def _damage(source: random.Random, data: bytes, donor: bytes) -> bytes:
    damaged = bytearray(data)
    for _ in range(source.choice((1, 1, 1, 2, 3))):
        if damaged:
            source.choice(_BYTES)(source, damaged, donor)
    return bytes(damaged)


def _rearrange(source: random.Random, sections: list[tuple[int, bytes]], donor: list[tuple[int, bytes]]) -> None:
    place, other = source.randrange(len(sections)), source.randrange(len(sections))
    kind = source.randrange(4)
    if kind == 0:
        del sections[place]
    elif kind == 1:
        sections.insert(place, sections[other])
    elif kind == 2:
        sections[place], sections[other] = sections[other], sections[place]
    elif donor:
        sections.insert(place, source.choice(donor))


def mutant(source: random.Random, good: bytes, donor: bytes) -> bytes:
    """A damaged copy of a component, a few bytes of it taken from ``donor``."""
    sections = _sections(good)
    if not sections or source.random() < 0.15:
        return _damage(source, good, donor)
    if source.random() < 0.15:
        _rearrange(source, sections, _sections(donor) or [])
        return _join(good[:_HEADER], sections)
    # What instructions and data do is the engine's to check: damage there is rarely news.
    within_module = good[4:_HEADER] == _CORE
    dull = _DULL if within_module else (0,)
    weights = [0.05 if number in dull else 1.0 for number, _ in sections]
    place = source.choices(range(len(sections)), weights)[0]
    number, body = sections[place]
    if not within_module and number in (_COMPONENT, _MODULE) and len(body) > _HEADER:
        body = mutant(source, body, donor)
    elif body:
        alike = b"".join(part for other, part in _sections(donor) or [] if other == number)
        body = _damage(source, body, alike or donor)
    sections[place] = number, body
    return _join(good[:_HEADER], sections)
