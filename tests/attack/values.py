"""Guests that pass anything: pointers, lengths, discriminants, handles, and allocators that lie."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

from tests.attack.campaign import Attack, Field, Round
from tests.component.abi_world import INTERFACES, Guest, Thing, World
from tests.guests.abi import SENT, TYPES
from tests.guests.evil import CALLS, MEMORY
from wasi_http.component import Err, ResourceTable
from wasi_http.engine import Trap

__all__ = ["ATTACK"]

#: Numbers that mean something: ends of memory, signs, alignments, tags of encodings, surrogates.
_TELLING = (
    0, 1, 2, 3, 4, 7, 8, 255, 256, 1024, MEMORY - 8, MEMORY - 1, MEMORY, MEMORY + 1, 0xD800, 0xDFFF, 0x10FFFF,
    0x110000, 1 << 28, (1 << 28) - 1, 1 << 29, 1 << 30, 1 << 31, (1 << 31) + 1, 0xFFFFFFF0, 0xFFFFFFFF,
)  # fmt: skip
_SLICES = 3
_CALLS = 30


def _number(rnd: random.Random, bits: int = 32) -> int:
    kind = rnd.randrange(4)
    if kind == 0:
        return rnd.getrandbits(bits)
    number = rnd.choice(_TELLING) + (rnd.randrange(-4, 5) if kind == 1 else 0)
    return number % (1 << bits)


def _image(rnd: random.Random) -> bytes:
    """Bytes that a value is read from: mostly small words, some of which are pointers or counts."""
    words = [rnd.choice([rnd.randrange(8), rnd.randrange(4096), _number(rnd)]) for _ in range(rnd.randrange(12))]
    return b"".join(word.to_bytes(4, "little") for word in words) + rnd.randbytes(rnd.randrange(4))


def _call(rnd: random.Random, guest: Guest, things: list[Thing]) -> tuple[str, str, list[Any]]:
    kind = rnd.randrange(6)
    if kind == 0:
        name, core = rnd.choice(list(SENT.items()))
        return "raw", f"send-{name}", [_number(rnd, int(width[1:])) for width in core.split()]
    if kind == 1:
        name = rnd.choice(list(TYPES))
        return "images", f"{name}-at", [_number(rnd), _number(rnd)]
    if kind == 2:
        name = rnd.choice(list(TYPES))
        return "images", f"{name}-of-image", [_image(rnd), rnd.choice([0, 1, 2, 100, _number(rnd)])]
    if kind == 3:
        return "raw", "string-of-raw", [_number(rnd), _image(rnd)]
    if kind == 4:
        return "raw", rnd.choice(["set-realloc", "set-post-return"]), []
    things.append(Thing(len(things)))
    number = rnd.choice([0, 1, 2, 3, _number(rnd)])
    return rnd.choice(
        [
            ("handles", "stash", [things[-1]]),
            ("handles", "take", [things[-1]]),
            ("handles", "keep-borrow", [things[-1]]),
            ("handles", "drop-borrow-twice", [things[-1]]),
            ("handles", "give-twice", [things[-1]]),
            ("handles", "lend-and-give", [things[-1]]),
            ("handles", "unstash", [number]),
            ("handles", "drop-number", [number]),
            ("handles", "drop-number-as-other", [number]),
            ("handles", "value-of-number", [number]),
            ("handles", "give-number", [number]),
        ]
    )


def _carry_out(rnd: random.Random, guest: Guest, things: list[Thing]) -> bool:
    """One call; whether the instance lives on."""
    interface, function, arguments = _call(rnd, guest, things)
    if function == "set-realloc":
        arguments = [rnd.randrange(6), _number(rnd), rnd.randrange(4)]
    elif function == "set-post-return":
        arguments = [rnd.randrange(4)]
    call = guest.start(interface, function, *arguments)
    try:
        if not any(call.poll() for _ in range(_SLICES)):
            call.close()
            return False
    except Trap:
        return False
    except Err:
        pass  # a result whose outcome is bad
    return True


@contextlib.contextmanager
def _open(field: Field) -> Iterator[Round]:
    assert {step.interface for case in CALLS.values() for step in case.steps} <= set(INTERFACES)
    world = World(field.engine)

    def attack(rnd: random.Random) -> None:
        things: list[Thing] = []
        guest = rnd.choice(["abi", "abi_utf16", "abi_latin1"])
        with world.guest(guest, ResourceTable(10_000)) as instance:
            for _ in range(_CALLS):
                if not _carry_out(rnd, instance, things):
                    break
        assert all(thing.drops <= 1 for thing in things)

    yield attack
    world.close()


ATTACK = Attack("values", _open, rounds=1500, longest=20.0)
