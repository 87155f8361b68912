"""Damaged components: loaded, linked, instantiated and called, they end in one of the host's own errors, or run."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

from tests.attack.campaign import Attack, Field, Round
from tests.component.decode.test_decoder import BINARIES
from tests.component.mutation import mutant
from tests.component.test_hostile_components import REFUSALS, View
from tests.guests.build import GUESTS, build, unavailable
from tests.guests.evil import COMPONENTS
from wasi_http.component import Component, InvalidComponent, Linker
from wasi_http.engine import Store
from wasi_http.http.linking import add_to_linker_async

__all__ = ["ATTACK"]

#: Guests small enough that a damaged one compiles in no time.
_SMALL = ("hello", "wat_hello", "c_hello", "c_echo", "c_sleep", "abi", "abi_utf16")

_MUTANTS = 20

#: In characters: errors do not repeat what they are about at length.
_LONGEST_ERROR = 50_000


@contextlib.contextmanager
def _open(field: Field) -> Iterator[Round]:
    linker = Linker(field.engine)
    add_to_linker_async(linker)
    good = [build(name).read_bytes() for name in _SMALL if name in GUESTS and unavailable(name) is None]
    good += BINARIES + [evil.binary() for evil in COMPONENTS.values() if len(evil.binary()) < 10_000]

    def attack(rnd: random.Random) -> None:
        for _ in range(_MUTANTS):
            binary = mutant(rnd, rnd.choice(good), rnd.choice(good))
            for _ in range(rnd.choice([0, 0, 0, 1, 3])):
                binary = mutant(rnd, binary, rnd.choice(good))
            _try(linker, binary)

    yield attack


def _try(linker: Linker, binary: bytes) -> None:
    refusal = _refusal(linker, binary)
    if isinstance(refusal, InvalidComponent):
        assert 0 <= refusal.offset <= len(binary)
    assert len(str(refusal)) < _LONGEST_ERROR


def _refusal(linker: Linker, binary: bytes) -> Exception | None:
    try:
        pre = linker.instantiate_pre(Component(linker.engine, binary))
        store = Store(linker.engine, View())
        try:
            pre.instantiate(store)
        finally:
            store.close()
    except REFUSALS as refusal:
        return refusal
    return None


ATTACK = Attack("components", _open, rounds=40, longest=60.0)
